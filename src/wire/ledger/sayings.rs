//! What a client says to the session itself, in the place of a request.
//!
//! 1. It counts in its place in the client's stream: everything before it is in
//!    the ledger when it is heard, and nothing behind it is looked at before it
//!    is answered.
//! 2. It is answered in the client's order, as any request is, but only when the
//!    machine says so.

use super::{Ledger, Request, Stage, Status};
use crate::wire::request::Class;
use crate::wire::saying::Saying;
use crate::wire::statement::Verb;

impl Ledger {
    /// From now on the session is spoken to.
    pub(crate) fn listen(&mut self) {
        self.listens = true;
    }

    /// Has something been said to the session, to the end, that is not
    /// answered?
    pub(crate) fn is_spoken_to(&self) -> bool {
        self.requests.back().is_some_and(|last| {
            last.class == Class::Said && last.synced && last.stage != Stage::Done
        })
    }

    /// What was said last, if it is not answered.
    pub(crate) fn saying(&self) -> Option<Saying> {
        let last = self.requests.back()?;
        match last.verb {
            Verb::Said(saying) if self.is_spoken_to() => Some(saying),
            _ => None,
        }
    }

    /// The same, once everything before it has been answered to the client.
    pub(crate) fn due_saying(&self) -> Option<Saying> {
        let saying = self.saying()?;
        let waits = |request: &Request| match request.stage {
            Stage::Done => false,
            Stage::InFlight => !request.answered,
            Stage::Queued | Stage::Refused => true,
        };
        let mut before = self.requests.iter().rev().skip(1);
        let last = self.requests.back()?;
        let dropped = last.stage == Stage::Refused && last.unwritten == 0;
        (dropped && !self.mid_message_up() && !before.any(waits)).then_some(saying)
    }

    /// An operation was told as ended, or will be: that fails the transaction that
    /// it was part of, whatever the server made of it.
    pub(crate) fn fail_transaction(&mut self) {
        if self.client == Status::InTransaction {
            self.client = Status::Failed;
        }
    }

    /// Has the client begun something that nobody but itself can end: a message,
    /// or a request?
    pub(crate) fn is_half_asked(&self) -> bool {
        self.open.is_some() || self.tail_sync_due || !self.frontend.at_boundary()
    }

    /// Has it said Terminate?
    pub(crate) fn terminates(&self) -> bool {
        self.terminates
    }

    /// It says nothing more: a COPY of its own it won't end.
    pub(crate) fn hang_up(&mut self) {
        self.client_copies = false;
    }

    /// Takes a request of which too little has come to know what it is for work.
    /// `false`: there is none, or there will be room for the rest of it when what
    /// stands before it is written.
    pub(crate) fn decide_class(&mut self) -> bool {
        let last = self.next_request().wrapping_sub(1);
        if self.parts.front().is_some_and(|part| part.request != last) {
            return false;
        }
        match self.requests.back_mut() {
            Some(last) if last.class == Class::Undecided => {
                last.class = Class::Work;
                true
            }
            _ => false,
        }
    }

    /// What was said last has been answered, or nobody waits for that.
    pub(crate) fn answered_saying(&mut self) {
        if self.is_spoken_to()
            && let Some(last) = self.requests.back_mut()
        {
            last.stage = Stage::Done;
        }
        self.sweep();
    }

    /// Whoever has asked for what is `meant` is gone. `false`: the client may have
    /// been left at a point from where nobody knows how many ReadyForQuery it
    /// counts on, a COPY of the simple protocol that has not begun; so none goes
    /// up any more.
    pub(crate) fn leave(&mut self, meant: impl Fn(&Request) -> bool) -> bool {
        let left = |request: &Request| {
            let open = request.stage != Stage::Done && !request.ready_up;
            request.class != Class::Said && open && meant(request)
        };
        let mut all = self.requests.iter();
        let known = !all.any(|request| left(request) && request.may_be_miscounted());
        for request in self.requests.iter_mut().filter(|request| left(request)) {
            request.unheard = true;
            request.hushed = !known;
        }
        known
    }
}
