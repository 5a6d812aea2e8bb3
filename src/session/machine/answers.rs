//! What the session says in the server's place (rules 1, 6 and 13).

use super::{Instant, LeaseId, LeaseState, Machine, Request, Rule, Why};

impl Machine {
    /// Puts into `up` what the session says in the server's place.
    pub(crate) fn settle(
        &mut self,
        text: &mut dyn FnMut(&Request, &mut Vec<u8>),
        up: &mut Vec<u8>,
        now: Instant,
    ) {
        let before = up.len();
        match self.with(Rule::TellError) {
            true => self.ledger.settle(text, up),
            false => self.ledger.settle(&mut |_, _| {}, up),
        }
        if up.len() > before {
            self.taken_up = false;
            self.decide(now);
        }
    }

    /// Is there anything for [`settle`](Machine::settle) to say?
    pub(crate) fn has_answers(&self) -> bool {
        self.ledger.has_answers()
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
