//! What a relay's client says of its own check-outs, in its own stream.
//!
//! 1. A check-out ends where the client says so, in the stream: everything it
//!    has asked for stands before that, so no poll has to be waited for
//!    (rule 6).
//! 2. From there on its caller is known to be gone: of what is still to come only
//!    the ReadyForQuery goes up, alone (rule 13).
//! 3. The next check-out, and the end of this one, are answered once the session
//!    is clean (rule 4); the beginning of an operation at once.
//! 4. What the session has to say to a caller whom `run` brings back waits until
//!    that has happened: an answer that nobody reads would be taken for the next
//!    one's. Who isn't brought back within [`HUSH`] is told after all; an
//!    operation's caller always is.

use std::time::Duration;

use super::{
    Attempt, Instant, LeaseId, LeaseKind, LeaseState, Machine, Request, Retired, Timer, timers,
};
use crate::wire::saying::Saying;

impl Machine {
    /// The client says itself when a check-out begins and ends.
    pub(crate) fn listen(&mut self) {
        self.listens = true;
        self.ledger.listen();
    }

    /// Takes in what was said last, if that is new (rule 1).
    pub(super) fn hear(&mut self, now: Instant) {
        if self.client_gone {
            return self.hear_nobody(now);
        }
        let ends = matches!(
            self.ledger.saying(),
            Some(Saying::Return | Saying::CheckOut(_))
        );
        if ends && !self.leases.released {
            self.leave(|_| true);
            self.handle_released(self.leases.check_out_id(), now);
            self.polled = self.mark;
        }
    }

    /// What a client had said before it left, in vain.
    fn hear_nobody(&mut self, now: Instant) {
        self.ledger.answered_saying();
        self.ledger.leave(|_| true);
        self.abandon(now);
    }

    /// What is to be done now of what the client said; to be followed by
    /// [`begin_answer`](Machine::begin_answer).
    pub(crate) fn due_saying(&self) -> Option<Saying> {
        let saying = self.ledger.due_saying()?;
        match saying {
            Saying::Operation(_) => Some(saying),
            Saying::Return | Saying::CheckOut(_) => self.is_clean().then_some(saying),
        }
    }

    /// It was done, and is answered with this transaction status; to be followed
    /// by [`answered`](Machine::answered).
    pub(crate) fn begin_answer(&mut self) -> u8 {
        // What the last holder was told of its transaction is nothing to the
        // next one.
        if self.leases.released {
            self.ledger.forget_told();
        }
        self.ledger.client_status().byte()
    }

    /// The answer is among what goes up.
    pub(crate) fn answered(&mut self, now: Instant) {
        self.ledger.answered_saying();
        self.taken_up = false;
        self.decide(now);
    }

    /// The client is gone: it says nothing more and reads nothing more.
    pub(crate) fn handle_left(&mut self, now: Instant) {
        self.ledger.answered_saying();
        self.ledger.leave(|_| true);
        self.ledger.hang_up();
        self.handle_client_gone(now);
        self.polled = self.mark;
        self.decide(now);
    }

    /// Has the client said Terminate?
    pub(crate) fn terminates(&self) -> bool {
        self.ledger.terminates()
    }

    /// Is there nothing left that the server would have to be waited for?
    pub(crate) fn may_leave(&self) -> bool {
        self.ledger.is_empty() && !self.holds() && self.attempt == Attempt::None
    }

    /// Has the client begun something that nobody but itself can end?
    pub(crate) fn is_half_asked(&self) -> bool {
        self.ledger.is_half_asked()
    }

    /// There is no room for more of the client's bytes: what they are has to be
    /// decided by those that are there.
    pub(crate) fn handle_no_room(&mut self, now: Instant) {
        if self.ledger.decide_class() {
            self.decide(now);
        }
    }

    /// Is the client in the middle of a message that the server sends?
    pub(crate) fn is_mid_message(&self) -> bool {
        self.ledger.mid_message_up()
    }

    /// This lease's caller is brought back by `run` when it ends.
    pub(crate) fn set_runs(&mut self, id: LeaseId) {
        if let Some(lease) = self.leases.get_mut(id) {
            lease.runs = true;
        }
    }

    /// Whose answers have to wait (rule 4)?
    pub(super) fn hush(&mut self) {
        if !self.listens {
            return;
        }
        let waits = self.timers.get(Timer::Hush).is_some();
        let Machine { ledger, leases, .. } = self;
        for request in ledger.requests_mut() {
            let hushed = leases.get(request.lease).is_some_and(|lease| {
                lease.runs
                    && lease.state != LeaseState::Live
                    && (waits || lease.kind == LeaseKind::Exclusive)
            });
            request.hushed = hushed && !request.unheard;
        }
    }

    /// A caller that `run` will bring back is to be waited for.
    pub(super) fn begin_hush(&mut self, now: Instant) {
        self.timers.set(Timer::Hush, Some(timers::far(now, HUSH)));
    }

    /// An operation is over, and its caller with it.
    pub(super) fn unhear(&mut self, id: LeaseId) {
        if self.listens && self.leases.ended(id) {
            self.ledger.fail_transaction();
            self.leave(|request| request.lease == id);
        }
    }

    fn leave(&mut self, meant: impl Fn(&Request) -> bool) {
        if !self.ledger.leave(meant) {
            self.retire(Retired::OutOfStep);
        }
    }
}

/// `run` brings its caller back in the next poll of its task; a machine that
/// stalls longer than this costs a connection, no more.
pub(super) const HUSH: Duration = Duration::from_millis(200);
