//! The decisions: asked after every event, each in one function.

use super::{Attempt, Instant, Machine, Output, Retired, Rule, Stage, Timer, timers};
use crate::wire::backend::Status;
use crate::wire::ledger::Own;
use crate::wire::message;
use crate::wire::request::{Class, Kind, Request};

impl Machine {
    /// Looks at everything once more. Each decision is true or false of the
    /// state, whoever asks.
    pub(super) fn decide(&mut self, now: Instant) {
        if self.retired.is_some() {
            return;
        }
        if self.is_ordinary() {
            self.timers.set(Timer::Grace, None);
        } else {
            self.hush();
            self.begin_drain(now);
            self.end_copies();
            self.end_drain();
            self.clean_up();
            self.dial(now);
            self.watch_grace(now);
            self.give_up();
        }
        self.watch_requests(now);
        self.set_expiry();
        self.forget_leases();
    }

    /// Is the session checked out and nothing of what is decided below even
    /// possible? This is what every request costs (rule 12).
    fn is_ordinary(&self) -> bool {
        !self.draining
            && (!self.leases.released || self.is_returned())
            && !self.leases.any_ended()
            && self.inject.is_empty()
            && self.ledger.own().is_none()
            && self.ledger.client_status() == self.ledger.server_status()
            && !self.ledger.copies_in()
    }

    /// Has a client that says itself when it is done said so, with nothing left
    /// to put in order? What it has not taken up yet is its own affair: behind
    /// that stands the answer that it waits for.
    fn is_returned(&self) -> bool {
        self.listens && self.ledger.is_empty() && self.ledger.server_status() == Status::Idle
    }

    /// Work of an ended lease is in flight, and nobody else's: hold, cancel,
    /// drain (rule 3).
    fn begin_drain(&mut self, now: Instant) {
        if !self.draining && self.ended_work_in_flight() && !self.collateral() {
            self.draining = true;
            self.sends = 0;
            self.timers.set(Timer::Resend, None);
            if self.ledger.mid_message_up() {
                self.timers
                    .start(Timer::Stall, now, self.settings.checkout_wait);
            }
        }
        if self.draining && self.with(Rule::AnswerEnded) {
            let Machine { ledger, leases, .. } = self;
            for request in ledger.requests_mut() {
                request.ended |= request.works() && leases.ended(request.lease);
            }
        }
    }

    fn end_drain(&mut self) {
        if !self.draining || self.ended_work_in_flight() || self.ledger.own().is_some() {
            return;
        }
        if self.attempt == Attempt::Dialing || self.without(Rule::AwaitEof) {
            // Nothing of it was written: it is given up, and told so when it
            // asks for leave to write.
            self.attempt = Attempt::None;
        }
        if self.attempt == Attempt::None && !self.spent() {
            self.draining = false;
            self.tried = false;
            self.timers.set(Timer::Resend, None);
            self.timers.set(Timer::Stall, None);
            self.outputs.push_back(Output::Drained);
        }
    }

    /// A server that waits for COPY data does not act on a cancel: the session
    /// ends such a copy itself, and one that its client has left.
    pub(super) fn end_copies(&mut self) {
        if self.spent() || self.without(Rule::EndCopies) {
            return;
        }
        if let Some(kind) = self
            .copy_to_end()
            .and_then(|number| self.ledger.end_copy(number))
        {
            self.inject.extend_from_slice(message::COPY_FAIL);
            if kind == Kind::Extended {
                self.inject.extend_from_slice(message::SYNC);
            }
        }
        // A fence is clean-up: no signal may be on its way (rule 3).
        let settled = self.inject.is_empty() && self.attempt != Attempt::Written;
        if settled && self.ledger.may_inject() && self.ledger.wants_fence() {
            self.send_own(Own::Fence, message::EMPTY_QUERY);
        }
    }

    fn copy_to_end(&self) -> Option<u64> {
        let (number, request, left) = self.ledger.waiting_copy()?;
        let ended = self.draining && self.leases.ended(request.lease);
        (ended || left).then_some(number)
    }

    /// Puts the transaction in order once nothing is in flight: a check-out
    /// that is over leaves none open, and what was told as idle is idle.
    fn clean_up(&mut self) {
        if self.spent()
            || self.ledger.any_in_flight()
            || self.attempt == Attempt::Written && self.with(Rule::OwnAwaitsEof)
            || !self.inject.is_empty()
            || self.ledger.starting()
        {
            return;
        }
        let over = self.leases.released && self.is_polled();
        let told_idle = self.ledger.client_status() == Status::Idle;
        // The client's own will do.
        let queued = self
            .ledger
            .requests()
            .next()
            .is_some_and(|next| next.class == Class::CleanUp && next.stage == Stage::Queued);
        let open = self.ledger.server_status().is_open()
            && self.with(Rule::RollBack)
            && self.with(Rule::AwaitIdle);
        if open && (over || told_idle) && !queued {
            self.send_own(Own::Rollback, message::ROLLBACK);
        }
    }

    pub(super) fn send_own(&mut self, own: Own, bytes: &[u8]) {
        self.inject.extend_from_slice(bytes);
        self.ledger.sent_own(own);
    }

    /// The session's own request was answered: did it do what it was for?
    pub(super) fn own_answered(&mut self, own: Own) {
        let status = self.ledger.server_status();
        let well = match own {
            Own::Rollback => status == Status::Idle,
            Own::Fail => status == Status::Failed,
            Own::Fence | Own::FencePassed => true,
        };
        if !well {
            self.retire(Retired::CleanUp);
        }
    }

    fn dial(&mut self, now: Instant) {
        if self.may_dial(now) {
            self.timers.set(Timer::Resend, None);
            self.attempts = self.attempts.wrapping_add(1);
            self.attempt = Attempt::Dialing;
            self.outputs.push_back(Output::Dial(self.attempts));
        }
    }

    /// Rules 3, 5, 7 and 10.
    fn may_dial(&self, now: Instant) -> bool {
        self.draining
            && (self.attempt == Attempt::None || self.without(Rule::OneAttempt))
            && (!self.tried || self.with(Rule::Resend))
            && self.timers.get(Timer::Resend).is_none_or(|at| at <= now)
            && !self.unproven
            && self.aimed()
    }

    /// Would a signal that arrives now find ended work that can still be
    /// stopped, and nothing else?
    pub(super) fn aimed(&self) -> bool {
        let mut stoppable = false;
        for request in self.ledger.requests().filter(|request| request.in_flight()) {
            let spared = request.class == Class::CleanUp && self.with(Rule::SpareCleanUp);
            let others = !self.leases.ended(request.lease) && self.with(Rule::SpareOthers);
            if spared || others {
                return false;
            }
            // After its error the server only looks for the Sync.
            stoppable |= !request.failed;
        }
        stoppable && self.ledger.own().is_none() && !self.ledger.facts().key.is_empty()
    }

    /// Is somebody else's work in flight (rule 7), be it work that runs on
    /// (rule 14)?
    pub(super) fn collateral(&self) -> bool {
        self.with(Rule::SpareOthers)
            && self
                .ledger
                .requests()
                .any(|request| request.works() && !self.leases.ended(request.lease))
    }

    fn ended_work_in_flight(&self) -> bool {
        self.ledger
            .requests()
            .any(|request| request.works() && self.leases.ended(request.lease))
    }

    /// A cancel of this session can no longer be proven over: no request is
    /// written any more, and all that is left is to retire it (rule 4).
    pub(super) fn spent(&self) -> bool {
        self.unproven || self.tried && !self.eof_proves && self.with(Rule::HeedProxy)
    }

    fn give_up(&mut self) {
        if self.unproven && self.all_answered() {
            self.retire(Retired::Unproven);
        } else if self.spent() && self.is_let_go() && self.all_answered() {
            self.retire(Retired::NoProof);
        }
    }

    /// Is the ended work off the server, and no cancel on its way? A pooler
    /// knows a cancel by the connection of its client: once that is closed the
    /// cancel is nobody's there, and the work goes on.
    fn is_let_go(&self) -> bool {
        self.attempt == Attempt::None && !self.ended_work_in_flight()
    }

    /// Has everybody whom the session can still answer got that answer?
    fn all_answered(&self) -> bool {
        for request in self.ledger.requests() {
            match request.stage {
                Stage::Done => {}
                // It is told by the close.
                _ if request.class == Class::Said => {}
                Stage::InFlight if request.answered || request.class == Class::CleanUp => {}
                Stage::InFlight | Stage::Refused => return false,
                // Never written any more: work of an ended lease is refused.
                Stage::Queued if self.is_refusable(request) => return false,
                // All else is held for ever, and so is what comes behind it.
                Stage::Queued => break,
            }
        }
        self.taken_up
    }

    fn is_refusable(&self, request: &Request) -> bool {
        request.class != Class::CleanUp && self.leases.ended(request.lease)
    }

    /// May the next check-out have the session (rule 4)?
    pub(crate) fn is_clean(&self) -> bool {
        let rest = if self.quiet && !self.listens {
            // Nothing of this check-out ended, and nothing of it works: what
            // is left is clean-up, which the next one may queue behind. Who says
            // so itself when it ends is answered behind that, and waits no longer
            // for it than for anything else.
            let mut requests = self.ledger.requests();
            let clean_up = |request: &Request| request.class == Class::CleanUp;
            requests.all(clean_up) && !self.ledger.copying()
        } else {
            self.ledger.is_empty()
        };
        (rest || self.without(Rule::AwaitAnswers))
            && self.retired.is_none()
            && self.leases.released
            && self.is_polled()
            && (self.taken_up || self.without(Rule::AwaitTakingUp))
            && !self.draining
            && !self.spent()
            && self.attempt == Attempt::None
            && self.ledger.own().is_none()
            && self.inject.is_empty()
            && (self.ledger.server_status() == Status::Idle || self.without(Rule::AwaitIdle))
    }

    /// Rule 2: whatever is left to do after an end, and after a check-out, has
    /// one bound. Work that may run on has its own.
    fn watch_grace(&mut self, now: Instant) {
        if self.is_unfinished() && !self.collateral() && self.with(Rule::StartGrace) {
            self.timers.start(Timer::Grace, now, self.settings.grace);
        } else {
            self.timers.set(Timer::Grace, None);
        }
    }

    fn is_unfinished(&self) -> bool {
        let ended = |request: &Request| self.leases.ended(request.lease);
        let leaves = self.client_gone && self.ledger.is_empty();
        self.draining
            || self.ledger.own().is_some()
            || self.ledger.requests().any(ended)
            || self.leases.released && !leaves && !self.is_clean()
    }

    /// Starts the sweep's timer with the first request in flight.
    fn watch_requests(&mut self, now: Instant) {
        if self.sweeping.is_none() {
            self.sweeping = self.ledger.oldest_in_flight();
            if self.sweeping.is_some() {
                let at = timers::far(now, self.settings.sweep);
                self.timers.set(Timer::Sweep, Some(at));
            }
        }
    }

    pub(super) fn set_expiry(&mut self) {
        self.timers.set(Timer::Expiry, self.leases.earliest());
    }

    pub(super) fn retire(&mut self, why: Retired) {
        if self.retired.is_none() {
            self.outputs.push_back(Output::Retire(why.clone()));
            self.retired = Some(why);
        }
    }
}
