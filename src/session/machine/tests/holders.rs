//! Those who check out, begin operations, end, finish and let go.

use std::time::Duration;

use super::super::*;
use super::world::{Holder, World};

impl World {
    pub(super) fn hold(
        &mut self,
        parent: Option<usize>,
        lease: Option<LeaseId>,
        deadline: Option<Instant>,
        bound: bool,
    ) -> usize {
        self.holders.push(Holder {
            parent,
            lease,
            deadline,
            bound,
            ended: false,
            finished: false,
        });
        self.holders.len() - 1
    }

    /// A check-out, if the session may be had; `ended`: under a context that
    /// has ended, which may always.
    pub(super) fn begin_check_out(&mut self, ended: bool) -> bool {
        if !ended {
            if !self.pair.machine.is_clean() {
                return false;
            }
            self.assert_clean();
        }
        let bound = ended || self.random.chance(80);
        let deadline = (bound && self.random.chance(30)).then(|| {
            self.now() + Duration::from_millis(u64::try_from(self.random.below(200)).unwrap() + 1)
        });
        let lease = self
            .pair
            .machine
            .handle_check_out(deadline, bound, self.pair.now);
        let holder = self.hold(None, Some(lease), deadline, bound);
        self.check_out = Some(holder);
        self.heard.change_holder();
        self.note("check-out", holder);
        self.look();
        if ended {
            self.end(holder);
        }
        true
    }

    pub(super) fn begin_operation(&mut self) {
        let Some(outer) = self.check_out else { return };
        if self.operation.is_some() || self.has_ended(outer) || !self.pair.machine.is_polled() {
            return;
        }
        let lease = self.pair.begin();
        let holder = self.hold(Some(outer), Some(lease), None, true);
        self.operation = Some(holder);
        self.note("operation", holder);
        self.look();
    }

    pub(super) fn leave_operation(&mut self) {
        let Some(holder) = self.operation.take() else {
            return;
        };
        self.note("leave", holder);
        // `within` is `run`: dropped half-way its context ends, else finishes.
        if self.has_open_work(holder) {
            self.end(holder);
        } else {
            self.finish(holder);
        }
        if let Some(lease) = self.holders[holder].lease {
            self.pair.leave(lease);
        }
        self.look();
    }

    fn has_open_work(&self, holder: usize) -> bool {
        self.requests
            .iter()
            .any(|asked| asked.holder == holder && asked.answers == 0)
    }

    /// A context ends, and with it all that is below it.
    pub(super) fn end(&mut self, holder: usize) {
        let state = &self.holders[holder];
        if state.ended || state.finished || !state.bound {
            return;
        }
        self.note("end", holder);
        for below in 0..self.holders.len() {
            let within = below == holder || self.holders[below].parent == Some(holder);
            if within && !self.holders[below].ended && !self.holders[below].finished {
                self.holders[below].ended = true;
                if let Some(lease) = self.holders[below].lease {
                    self.pair.end(lease);
                }
            }
        }
        self.look();
    }

    /// A context's work has returned its result.
    pub(super) fn finish(&mut self, holder: usize) {
        let state = &self.holders[holder];
        let parent_of_live = self
            .holders
            .iter()
            .any(|below| below.parent == Some(holder) && !below.ended && !below.finished);
        if state.ended || state.finished || !state.bound || parent_of_live {
            return;
        }
        self.note("finish", holder);
        self.holders[holder].finished = true;
        let until = self.holders[holder]
            .deadline
            .unwrap_or(self.now() + self.settings.finish_bound);
        for number in 0..self.requests.len() {
            let counts = self.requests[number].counts_as == Some(holder);
            if counts && self.is_open_work(number) && !self.is_over_for_session(number) {
                self.requests[number].until = Some(until);
            }
        }
        if let Some(lease) = self.holders[holder].lease {
            self.pair.finish(lease);
        }
        self.look();
    }

    /// The check-out's holder gives the client back, whatever it has asked.
    pub(super) fn release(&mut self) {
        self.leave_operation();
        self.drop_sink();
        if std::mem::take(&mut self.in_transaction) && self.random.chance(70) {
            self.ask_text("ROLLBACK");
        }
        let Some(holder) = self.check_out.take() else {
            return;
        };
        self.note("release", holder);
        let state = &self.holders[holder];
        let deadline = state.deadline.filter(|_| !state.finished);
        let until = deadline.unwrap_or(self.now() + self.settings.finish_bound);
        for number in 0..self.requests.len() {
            let seen = self.requests[number].counts_as.is_some();
            if seen && self.is_open_work(number) && !self.is_over_for_session(number) {
                let asked = &mut self.requests[number];
                match (asked.rows_up, asked.until) {
                    (true, None) => asked.until = Some(until),
                    (true, Some(_)) => {}
                    (false, _) => asked.cancelled = true,
                }
            }
        }
        self.pair.release();
        self.look();
    }

    pub(super) fn cancel_on_demand(&mut self) {
        self.note("cancel", 0);
        for number in 0..self.requests.len() {
            if self.is_open_work(number) && self.requests[number].written {
                self.requests[number].cancelled = true;
            }
        }
        self.pair.machine.handle_cancel(self.pair.now);
        self.pair.settle();
        self.look();
    }
}
