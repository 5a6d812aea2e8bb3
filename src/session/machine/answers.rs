//! What the session says in the server's place (rules 1, 6 and 13).

use super::{Class, Instant, LeaseId, LeaseState, Machine, Request, Stage, Why};
use crate::wire::ledger::Told;

impl Machine {
    /// Puts into `up` what the session says in the server's place.
    pub(crate) fn settle(
        &mut self,
        text: &mut dyn FnMut(&Request, &mut Vec<u8>),
        up: &mut Vec<u8>,
        now: Instant,
    ) {
        let before = up.len();
        let (leases, blocked) = (&self.leases, self.collateral());
        let told = |request: &Request| {
            if !blocked && leases.ended(request.lease) {
                Told::Ended
            } else {
                Told::Nothing
            }
        };
        self.ledger.settle(&told, text, up);
        if up.len() > before {
            self.taken_up = false;
            self.decide(now);
        }
    }

    /// Is there anything for [`settle`](Machine::settle) to say?
    pub(crate) fn has_answers(&self) -> bool {
        self.ledger.requests().any(|request| match request.stage {
            Stage::Refused => true,
            Stage::InFlight => {
                !request.answered
                    && request.class == Class::Work
                    && self.leases.ended(request.lease)
            }
            _ => false,
        })
    }

    /// Why those leases ended that have no context to tell it.
    pub(crate) fn whys(&self) -> Vec<(LeaseId, Why)> {
        let ended = self.leases.iter().filter_map(|lease| match lease.state {
            LeaseState::Ended(why) => Some((lease.id, why)),
            LeaseState::Live => None,
        });
        ended.collect()
    }
}
