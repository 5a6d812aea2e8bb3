//! The relay between that client and the session: what it reads of whom, and when
//! it answers.

use std::time::Duration;

use super::super::*;
use super::truth::Verb;
use super::world::{Segment, World};
use crate::wire::saying::Saying;
use crate::wire::testing::server;

impl World {
    /// The session reads what the client has written, at most so many bytes.
    pub(super) fn read_client(&mut self, mut limit: usize) {
        if self.client().left_copy {
            limit = usize::MAX;
        }
        // What stands behind something said to the session waits, as in a relay.
        while limit > 0 && !self.pair.machine.ledger.is_spoken_to() {
            let Some((number, bytes)) = self.client().socket.front_mut() else {
                break;
            };
            let (number, len) = (*number, bytes.len().min(limit));
            let read: Vec<u8> = bytes.drain(..len).collect();
            let whole = bytes.is_empty();
            limit -= len;
            if whole {
                self.client().socket.pop_front();
            }
            let said = self.requests[number].verb == Verb::Said;
            if !said && self.requests[number].counts_as.is_none() {
                self.count_relayed(number);
            }
            if said && whole && self.client().over_at.contains(&number) {
                self.check_out_is_over();
            }
            self.pair.buffer.extend_from_slice(&read);
            self.segments.push_back(Segment { whose: number, len });
            self.pair.write(&mut None, 0);
            self.look();
        }
    }

    fn count_relayed(&mut self, number: usize) {
        let Some(holder) = self.operation.or(self.check_out) else {
            // Whoever asked for it has left.
            self.requests[number].counts_as = Some(0);
            self.requests[number].cancelled = true;
            return;
        };
        self.requests[number].counts_as = Some(holder);
        self.requests[number].holder = holder;
        let state = &self.holders[holder];
        if !state.bound || state.finished {
            let default = self.settings.default_deadline;
            self.requests[number].default = default.map(|after| self.now() + after);
        }
    }

    /// One poll of the relay: both directions, and what was said to the session.
    pub(super) fn poll_relayed(&mut self, limit: usize) {
        self.note("poll", limit);
        let mark = self.pair.machine.mark();
        self.read_client(limit);
        self.pair.write(&mut None, limit);
        self.look();
        if !self.held_up {
            self.pair.up.clear();
            self.heard.taken();
            self.pair.machine.handle_taken_up(self.pair.now);
            self.look();
        }
        self.pair.machine.handle_polled(mark, self.pair.now);
        self.pair.settle();
        self.look();
        while self.answer_client() {}
    }

    fn answer_client(&mut self) -> bool {
        let Some(saying) = self.pair.machine.due_saying() else {
            return false;
        };
        let (front, now) = (self.unanswered.front().copied(), self.pair.now);
        let front = front.expect("somebody who has said so");
        assert_eq!(
            self.requests[front].verb,
            Verb::Said,
            "answered out of order"
        );
        let mut refused = false;
        match saying {
            Saying::Return => {
                self.note("came back", front);
                self.assert_clean();
                self.client().left_copy = false;
                self.client().came_back += 1;
                self.heard.change_holder();
            }
            Saying::CheckOut(_) => {
                self.assert_clean();
                let deadline = self.random.chance(40).then(|| {
                    let after = u64::try_from(self.random.below(200)).unwrap() + 1;
                    now + Duration::from_millis(after)
                });
                let lease = self.pair.machine.handle_check_out(deadline, true, now);
                let holder = self.hold(None, Some(lease), deadline, true);
                self.note("check-out", holder);
                self.check_out = Some(holder);
                self.heard.change_holder();
                self.may_run(holder, lease);
            }
            Saying::Operation(_) => {
                let outer = self.check_out.expect("a check-out");
                refused = self.has_ended(outer);
                if !refused {
                    let lease = self.pair.machine.handle_begin(None, now);
                    let holder = self.hold(Some(outer), Some(lease), None, true);
                    self.note("operation", holder);
                    self.operation = Some(holder);
                    self.may_run(holder, lease);
                }
            }
        }
        let status = self.pair.machine.begin_answer();
        if refused {
            let error = server::error("ERROR", "told");
            self.pair.up.extend_from_slice(&error);
        }
        let ready = server::ready(status);
        self.pair.up.extend_from_slice(&ready);
        self.pair.machine.answered(now);
        self.pair.settle();
        self.look();
        true
    }

    fn may_run(&mut self, holder: usize, lease: LeaseId) {
        if self.random.chance(50) {
            self.pair.machine.set_runs(lease);
            self.client().runs.push((holder, None));
        }
    }

    // ---- the end --------------------------------------------------------------------------

    /// The client closes its socket, in which what it has written may still be.
    /// `false`: it was in the middle of something, and so is its session, which is
    /// closed at once.
    pub(super) fn leave(&mut self) -> bool {
        self.note("leaves", 0);
        if self.random.chance(50) {
            self.read_client(usize::MAX);
        }
        self.client().gone = true;
        if self.pair.machine.is_half_asked() {
            return false;
        }
        self.check_out_is_over();
        self.pair.machine.handle_left(self.pair.now);
        self.pair.settle();
        self.look();
        true
    }

    pub(super) fn is_lost(&self) -> bool {
        self.relayed.as_ref().is_some_and(|client| client.lost)
    }

    pub(super) fn has_left(&self) -> bool {
        self.relayed.as_ref().is_some_and(|client| client.gone)
    }

    /// Nothing that a client who has left asked for goes on.
    #[track_caller]
    pub(super) fn assert_left_well(&self) {
        let flying = (0..self.requests.len()).find(|number| self.in_flight(*number));
        assert_eq!(flying, None, "something is in flight");
        assert!(self.attempts.is_empty() && self.late_signals == 0);
        assert!(self.segments.is_empty());
    }

    /// Before anybody binds anything.
    pub(super) fn take_unheld(&mut self) {
        self.take_unbound();
    }

    /// Is it in its pool, with all that it counts on?
    pub(super) fn is_back(&self) -> bool {
        let client = self.relayed.as_ref().expect("a relay's client");
        client.returns && client.pending == 0 && client.socket.is_empty()
    }

    /// Has it got the answer that it waits for?
    pub(super) fn is_served(&self, number: usize) -> bool {
        let asked = &self.requests[number];
        asked.answers == 1 && !asked.error_up
    }

    /// The next one who takes it from its pool asks for something.
    pub(super) fn take_again(&mut self) -> usize {
        match self.pair.machine.ledger.was_told_open() {
            true => {
                self.say_check_out();
                self.poll_relayed(usize::MAX);
                self.read_client(usize::MAX);
            }
            false => self.take_unbound(),
        }
        self.ask_for("work")
    }
}
