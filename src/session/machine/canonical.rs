//! For a model: two machines that will behave alike are the same.
//!
//! Times are moved so that it is always the same time; numbers of attempts,
//! polls, leases and requests are counted anew, since only which is which
//! matters. Each field is named: a new one has to be thought of here.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use super::leases::renumbered;
use super::{Instant, LeaseId, Machine, Output};

/// How names have changed.
pub(super) struct Renamed {
    leases: Vec<(LeaseId, LeaseId)>,
    attempts: u32,
    polled: u64,
}

impl Renamed {
    pub(super) fn lease(&self, id: LeaseId) -> LeaseId {
        renumbered(&self.leases, id)
    }

    /// Earlier ones than the last are all alike: nobody listens to them.
    pub(super) fn attempt(&self, number: u32) -> u32 {
        if number == self.attempts { ATTEMPT } else { 0 }
    }

    pub(super) fn mark(&self, mark: u64) -> u64 {
        mark.saturating_sub(self.polled)
    }
}

impl Machine {
    /// Moves all times, as if that much had not passed. What is over is over,
    /// however long ago.
    pub(super) fn turn_back(&mut self, by: Duration, now: Instant) {
        self.timers.each(|at| *at = (*at - by).max(now));
        for lease in self.leases.iter_mut() {
            lease.deadline = lease.deadline.map(|at| (at - by).max(now));
        }
    }

    pub(super) fn rename(&mut self) -> Renamed {
        let renamed = Renamed {
            leases: self.leases.renumber(),
            attempts: self.attempts,
            polled: self.polled,
        };
        let request = self.ledger.renumber();
        for asked in self.ledger.requests_mut() {
            asked.lease = renamed.lease(asked.lease);
        }
        self.sweeping = self.sweeping.map(request);
        for output in &mut self.outputs {
            match output {
                Output::Dial(number) => *number = renamed.attempt(*number),
                Output::Expire(id) => *id = renamed.lease(*id),
                Output::Busy | Output::Drained | Output::Retire(_) => {}
            }
        }
        self.attempts = ATTEMPT;
        self.mark = renamed.mark(self.mark);
        self.polled = 0;
        // The pauses between resends do not grow any more.
        self.sends = self.sends.min(self.settings.resend.len() - 1);
        renamed
    }

    /// What is set for later than `far` is set for `never`.
    pub(super) fn forget_after(&mut self, far: Instant, never: Instant) {
        self.timers.each(|at| {
            if *at > far {
                *at = never;
            }
        });
    }
}

impl Hash for Machine {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Machine {
            ledger,
            leases,
            settings: _,
            timers,
            outputs,
            inject,
            draining,
            attempt,
            attempts,
            tried,
            sends,
            unproven,
            eof_proves: _,
            mark,
            polled,
            taken_up,
            listens,
            quiet,
            sweeping,
            client_gone,
            retired,
            off: _,
        } = self;
        (ledger, leases, timers, outputs, inject).hash(state);
        (draining, attempt, attempts, tried, sends, unproven).hash(state);
        (mark, polled, taken_up, listens, quiet).hash(state);
        (sweeping, client_gone, retired).hash(state);
    }
}

const ATTEMPT: u32 = 1;
