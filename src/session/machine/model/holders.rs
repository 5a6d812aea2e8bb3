//! Those who check out, begin operations, end, finish and let go.

use super::super::*;
use super::words::{Kind, Message};
use super::world::{Holder, TICK, World};

impl World {
    fn hold(
        &mut self,
        parent: Option<u8>,
        lease: Option<LeaseId>,
        deadline: Option<Instant>,
    ) -> u8 {
        self.holders.push(Holder {
            parent,
            lease,
            deadline,
            ended: false,
            finished: false,
        });
        u8::try_from(self.holders.len() - 1).expect("few holders")
    }

    pub(super) fn check_out(&mut self) {
        let first = self.left.check_outs == self.plan.check_outs;
        if !first {
            self.rule_4_proven();
        }
        let deadline = (first && self.plan.deadline).then_some(self.now + 5 * TICK);
        let lease = self.machine.handle_check_out(deadline, true, self.now);
        self.check_out = Some(self.hold(None, Some(lease), deadline));
        self.told_failed = false;
        self.told_open = false;
        self.left.check_outs -= 1;
        self.left.requests = match first {
            true => self.plan.requests,
            false => self.plan.next_requests,
        };
        self.settle();
    }

    pub(super) fn may_begin_operation(&self) -> bool {
        let live = |holder: u8| !self.has_ended(holder) && !self.holder(holder).finished;
        self.left.operations > 0
            && self.operation.is_none()
            && self.check_out.is_some_and(live)
            && self.machine.is_polled()
    }

    pub(super) fn begin_operation(&mut self) {
        self.left.operations -= 1;
        let lease = self.machine.handle_begin(None, self.now);
        self.operation = Some(self.hold(self.check_out, Some(lease), None));
        self.settle();
    }

    /// `within` is `run`: dropped half-way its context ends, else it finishes.
    pub(super) fn leave_operation(&mut self) {
        let Some(operation) = self.operation.take() else {
            return;
        };
        let waits = |each: &super::world::Asked| each.holder == operation && !each.answered;
        match self.asked.iter().any(waits) {
            true => self.end(operation),
            false => self.finish(operation),
        }
        if let Some(lease) = self.holder(operation).lease {
            self.machine.handle_released(lease, self.now);
        }
        self.settle();
    }

    pub(super) fn child(&self) -> Option<u8> {
        let of = |holder: &Holder| holder.parent.is_some() && holder.parent == self.check_out;
        let at = self.holders.iter().rposition(of)?;
        u8::try_from(at).ok()
    }

    /// The child context of the check-out that asks, made when it is needed.
    pub(super) fn make_child(&mut self) -> u8 {
        match self.child() {
            Some(child) => child,
            None => self.hold(self.check_out, None, None),
        }
    }

    /// A context ends, and with it all that is below it.
    pub(super) fn end(&mut self, holder: u8) {
        for below in self.mark_ended(usize::from(holder)) {
            if let Some(lease) = self.holders[below].lease {
                self.machine.handle_ended(lease, self.now);
                self.settle();
            }
        }
        self.settle();
    }

    /// Those that ended with it.
    pub(super) fn mark_ended(&mut self, holder: usize) -> Vec<usize> {
        let mut ended = Vec::new();
        for (number, each) in self.holders.iter_mut().enumerate() {
            let within = number == holder || each.parent.map(usize::from) == Some(holder);
            if within && !each.ended && !each.finished {
                each.ended = true;
                ended.push(number);
            }
        }
        ended
    }

    /// A context's work has returned its result.
    pub(super) fn finish(&mut self, holder: u8) {
        let state = &mut self.holders[usize::from(holder)];
        if state.ended || state.finished {
            return;
        }
        state.finished = true;
        let bound = self.now + self.machine.settings.finish_bound;
        let until = state.deadline.unwrap_or(bound);
        for number in 0..self.asked.len() {
            let counts = self.asked[number].counts_as == Some(holder);
            if counts && self.is_open_work(number) && !self.is_over(number) {
                self.asked[number].until = Some(until);
            }
        }
        if let Some(lease) = self.holder(holder).lease {
            self.machine.handle_finished(lease, self.now);
        }
        self.settle();
    }

    /// The client is given back, whatever was asked; its drops may queue more.
    pub(super) fn release(&mut self, queues: Option<Kind>) {
        if let Some(lease) = self.let_go(queues) {
            self.machine.handle_released(lease, self.now);
        }
        self.settle();
    }

    /// Somebody asks for what is in flight to be cancelled.
    pub(super) fn cancel(&mut self) {
        self.left.cancels -= 1;
        for number in 0..self.asked.len() {
            if self.is_work(number) && self.in_flight(number) {
                self.asked[number].cancelled = true;
            }
        }
        self.machine.handle_cancel(self.now);
        self.settle();
    }

    /// The client itself is dropped.
    pub(super) fn drop_client(&mut self) {
        self.let_go(None);
        self.client_gone = true;
        self.machine.handle_client_gone(self.now);
        self.settle();
    }

    fn let_go(&mut self, queues: Option<Kind>) -> Option<LeaseId> {
        self.leave_operation();
        self.end_copy(Message::CopyFail);
        let holder = self.check_out?;
        if let Some(kind) = queues {
            self.ask(holder, kind);
        }
        self.check_out = None;
        self.left.requests = 0;
        let state = self.holder(holder).clone();
        let bound = self.now + self.machine.settings.finish_bound;
        let until = state.deadline.filter(|_| !state.finished).unwrap_or(bound);
        for number in 0..self.asked.len() {
            let seen = self.asked[number].counts_as.is_some();
            if seen && self.is_open_work(number) && !self.is_over(number) {
                let asked = &mut self.asked[number];
                match (asked.rows_up, asked.until) {
                    (true, None) => asked.until = Some(until),
                    (true, Some(_)) => {}
                    (false, _) => asked.cancelled = true,
                }
            }
        }
        state.lease
    }

    pub(super) fn holder(&self, holder: u8) -> &Holder {
        &self.holders[usize::from(holder)]
    }

    pub(super) fn has_ended(&self, holder: u8) -> bool {
        let state = self.holder(holder);
        state.ended || !state.finished && state.parent.is_some_and(|parent| self.has_ended(parent))
    }
}
