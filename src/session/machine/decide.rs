//! The decisions: asked after every event, each in one function.

use super::{
    Attempt, Instant, LeaseKind, LeaseState, Machine, Output, Request, Retired, Stage, Timer, Why,
    timers,
};
use crate::wire::backend::Status;
use crate::wire::ledger::Own;
use crate::wire::message;
use crate::wire::request::{Class, Kind, LeaseId};

impl Machine {
    /// Looks at everything once more. Order matters only for speed: each
    /// decision is true or false of the state, whoever asks.
    pub(super) fn decide(&mut self, now: Instant) {
        if self.retired.is_some() {
            return;
        }
        self.begin_drain(now);
        self.end_copies();
        self.end_drain();
        self.clean_up();
        self.dial(now);
        self.watch(now);
        self.set_expiry();
        self.forget_leases();
        if self.spent() && self.all_answered() {
            self.retire(if self.unproven {
                Retired::Unproven
            } else {
                Retired::NoProof
            });
        }
    }

    /// Work of an ended lease is in flight, and nobody else's: hold, cancel,
    /// drain (rule 3).
    fn begin_drain(&mut self, now: Instant) {
        if !self.draining && self.ended_work_in_flight() && !self.collateral() {
            self.draining = true;
            self.tried = false;
            self.sends = 0;
            self.timers.set(Timer::Resend, None);
            if self.ledger.mid_message_up() {
                self.timers
                    .start(Timer::Stall, now, self.settings.checkout_wait);
            }
        }
    }

    fn end_drain(&mut self) {
        if !self.draining || self.ended_work_in_flight() || self.ledger.own() == Some(Own::Fence) {
            return;
        }
        if self.attempt == Attempt::Dialing {
            // Nothing of it was written: it is given up, and told so when it
            // asks for leave to write.
            self.attempt = Attempt::None;
        }
        if self.attempt == Attempt::None && !self.spent() && self.ledger.own().is_none() {
            self.draining = false;
            self.timers.set(Timer::Resend, None);
            self.timers.set(Timer::Stall, None);
            self.outputs.push_back(Output::Drained);
        }
    }

    /// A server that waits for COPY data does not act on a cancel: the session
    /// ends such a copy itself.
    fn end_copies(&mut self) {
        if let Some(number) = self.fence_or_copy_to_end() {
            if let Some(kind) = self.ledger.end_copy(number) {
                self.inject.extend_from_slice(message::COPY_FAIL);
                if kind == Kind::Extended {
                    self.inject.extend_from_slice(message::SYNC);
                }
            }
        }
        let settled = self.inject.is_empty() && self.ledger.may_inject() && !self.spent();
        if settled && self.ledger.wants_fence() {
            self.send_own(Own::Fence, message::EMPTY_QUERY);
        }
    }

    fn fence_or_copy_to_end(&self) -> Option<u64> {
        let (number, request) = self.ledger.waiting_copy()?;
        let ended = self.leases.ended(request.lease);
        (ended && self.draining && !self.spent()).then_some(number)
    }

    /// Puts the transaction in order once nothing is in flight: a check-out
    /// that is over leaves none open, and what was told as idle is idle.
    fn clean_up(&mut self) {
        if self.spent()
            || self.ledger.any_in_flight()
            || self.attempt == Attempt::Written
            || !self.inject.is_empty()
        {
            return;
        }
        let over = self.leases.released && self.is_polled();
        let told_idle = self.ledger.client_status() == Status::Idle;
        let queued = self
            .ledger
            .requests()
            .next()
            .is_some_and(|next| next.class == Class::CleanUp && next.stage == Stage::Queued);
        if self.ledger.server_status().open()
            && (over || told_idle)
            && !queued
            && !self.ledger.starting()
        {
            self.send_own(Own::Rollback, message::ROLLBACK);
        }
    }

    pub(super) fn send_own(&mut self, own: Own, bytes: &[u8]) {
        self.inject.extend_from_slice(bytes);
        self.ledger.sent_own(own);
    }

    /// The session's own request was answered: did it do what it was for?
    pub(super) fn own_answered(&mut self, own: Option<Own>) {
        let status = self.ledger.server_status();
        let well = match own {
            Some(Own::Rollback) => status == Status::Idle,
            Some(Own::Fail) => status == Status::Failed,
            _ => true,
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
    pub(super) fn may_dial(&self, now: Instant) -> bool {
        self.draining
            && self.attempt == Attempt::None
            && self.timers.get(Timer::Resend).is_none_or(|at| at <= now)
            && !self.spent()
            && self.aimed()
    }

    /// Would a signal that arrives now find ended work, and nothing else?
    pub(super) fn aimed(&self) -> bool {
        self.ended_work_in_flight()
            && !self.collateral()
            && self.ledger.own().is_none()
            && !self.ledger.facts().key.is_empty()
            && !self
                .ledger
                .requests()
                .any(|request| request.in_flight() && request.class == Class::CleanUp)
    }

    /// Is somebody else's work in flight (rule 7)?
    pub(super) fn collateral(&self) -> bool {
        self.ledger
            .requests()
            .any(|request| request.works() && !self.leases.ended(request.lease))
    }

    pub(super) fn ended_work_in_flight(&self) -> bool {
        self.ledger
            .requests()
            .any(|request| request.works() && self.leases.ended(request.lease))
    }

    /// A cancel of this session can no longer be proven over: nothing more is
    /// written, and all that is left is to retire it (rule 4).
    pub(super) fn spent(&self) -> bool {
        self.unproven || self.tried && !self.eof_proves
    }

    fn all_answered(&self) -> bool {
        self.taken_up
            && !self
                .ledger
                .requests()
                .any(|request| request.is_open_work() && !request.answered)
    }

    /// May the next check-out have the session (rule 4)?
    pub(crate) fn is_clean(&self) -> bool {
        let settled = self.retired.is_none()
            && self.leases.released
            && !self.draining
            && !self.spent()
            && self.attempt == Attempt::None
            && self.ledger.own().is_none()
            && self.inject.is_empty()
            && self.ledger.server_status() == Status::Idle;
        if self.quiet {
            // Nothing of this check-out ended, and nothing of it works: what
            // is left is clean-up, which the next one may queue behind.
            let clean_up_only = self
                .ledger
                .requests()
                .all(|request| request.class == Class::CleanUp);
            settled && self.taken_up && clean_up_only && !self.ledger.copying()
        } else {
            settled && self.is_polled() && self.taken_up && self.ledger.is_empty()
        }
    }

    /// May the session be waited for: is it draining or cleaning, or does work
    /// run on that nobody will cancel?
    pub(crate) fn runs_on(&self) -> bool {
        self.ledger
            .requests()
            .any(|request| request.works() && !self.leases.ended(request.lease))
    }

    /// The timers of rules 2 and 14.
    fn watch(&mut self, now: Instant) {
        let over = self.leases.released && !self.is_clean() && !self.runs_on();
        let busy = self.draining || self.ledger.own().is_some() || over && self.is_polled();
        if busy && !(self.client_gone && self.ledger.is_empty()) {
            self.timers.start(Timer::Grace, now, self.grace());
        } else {
            self.timers.set(Timer::Grace, None);
        }
        match self.ledger.oldest_in_flight() {
            Some(oldest) if self.sweeping.is_none() => {
                self.sweeping = Some(oldest);
                self.timers
                    .set(Timer::Sweep, Some(timers::far(now, self.settings.sweep)));
            }
            _ => {}
        }
    }

    pub(super) fn set_expiry(&mut self) {
        self.timers.set(Timer::Expiry, self.leases.earliest());
    }

    /// Ends the leases whose deadline has passed. Where there is a context the
    /// driver ends it, for everybody to see.
    pub(super) fn expire(&mut self, now: Instant) {
        let mut ended = Vec::new();
        for lease in self.leases.iter_mut() {
            let expired = lease.deadline.is_some_and(|at| at <= now);
            if expired && lease.state == LeaseState::Live {
                let why = if lease.has_context {
                    Why::Context
                } else {
                    Why::Time
                };
                ended.push((lease.id, why));
            }
        }
        for (id, why) in ended {
            self.end(id, why);
            if why == Why::Context {
                self.outputs.push_back(Output::Expire(id));
            }
        }
    }

    /// A lease ends, and with a check-out all that was seen on it.
    pub(super) fn end(&mut self, id: LeaseId, why: Why) {
        let whole = id == self.leases.check_out_id();
        let mut any = false;
        for lease in self.leases.iter_mut() {
            let within = whole
                && matches!(
                    lease.kind,
                    LeaseKind::Default | LeaseKind::Seen | LeaseKind::Exclusive
                );
            if (lease.id == id || within) && lease.state == LeaseState::Live {
                lease.state = LeaseState::Ended(why);
                any = true;
            }
        }
        if any {
            self.mark += 1;
            self.quiet = false;
        }
    }

    /// Work of a check-out that is over: what has sent rows may be a statement
    /// with effects of which the first row was all that the caller wanted, and
    /// runs on; the rest is cancelled (rule 14).
    pub(super) fn abandon(&mut self, now: Instant) {
        let check_out = self.leases.check_out_id();
        let until = self.leases.get(check_out).and_then(|lease| lease.deadline);
        let until = until.unwrap_or_else(|| timers::far(now, self.settings.finish_bound));
        let leases = &self.leases;
        let live = |request: &Request| request.is_open_work() && !leases.ended(request.lease);
        let any = self
            .ledger
            .requests()
            .any(|request| live(request) && !request.rows_up);
        let detached = |request: &Request| {
            leases
                .get(request.lease)
                .is_some_and(|lease| lease.kind == LeaseKind::Detached)
        };
        if self
            .ledger
            .requests()
            .any(|request| live(request) && request.rows_up && !detached(request))
        {
            self.detach(until, |request| request.rows_up);
        }
        if any {
            let idle: Vec<LeaseId> = self
                .ledger
                .requests()
                .filter(|r| r.is_open_work() && !r.rows_up)
                .map(|r| r.lease)
                .collect();
            for id in idle {
                self.end(id, Why::Abandoned);
            }
        }
    }

    /// Moves open work to a lease that knows nothing but a time.
    pub(super) fn detach(&mut self, until: Instant, which: impl Fn(&Request) -> bool) {
        let leases = &mut self.leases;
        let mut id = None;
        for request in self.ledger.requests_mut() {
            if request.is_open_work() && which(request) && !leases.ended(request.lease) {
                let id =
                    *id.get_or_insert_with(|| leases.add(LeaseKind::Detached, Some(until), false));
                request.lease = id;
            }
        }
    }

    fn forget_leases(&mut self) {
        let Machine { ledger, leases, .. } = self;
        let polled = self.polled >= self.mark;
        leases.retain(|lease| {
            ledger.requests().any(|request| request.lease == lease.id)
                || lease.kind == LeaseKind::Seen && (lease.state == LeaseState::Live || !polled)
        });
    }

    pub(super) fn retire(&mut self, why: Retired) {
        if self.retired.is_none() {
            self.outputs.push_back(Output::Retire(why.clone()));
            self.retired = Some(why);
        }
    }
}
