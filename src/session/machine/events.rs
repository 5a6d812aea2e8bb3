//! What the client, the server, the attempts and the clock tell.

use super::{
    Attempt, Instant, LeaseId, LeaseKind, LeaseState, Machine, Malformed, Outcome, Output, Retired,
    Rule, Timer, timers,
};

impl Machine {
    /// Takes in bytes of the client that were not seen before, and says how
    /// many: behind what is said to the session nothing is. `seen` is the
    /// lease of the first request out of a poll, where a wake told (rule 7);
    /// all others count as the check-out's.
    pub(crate) fn handle_queued(
        &mut self,
        bytes: &[u8],
        seen: &mut Option<LeaseId>,
        now: Instant,
    ) -> Result<usize, Malformed> {
        let Machine {
            ledger,
            leases,
            settings,
            quiet,
            ..
        } = self;
        // Whoever has left checks nothing out.
        let listens = self.listens && !self.client_gone;
        let mut resumed = false;
        let taken = ledger.scan(bytes, &mut || {
            // Nobody said whose it is: a check-out under no context.
            if listens && leases.released {
                leases.check_out(None, false);
                *quiet = true;
                resumed = true;
            }
            let lease = seen.take().unwrap_or_else(|| leases.base());
            let unbound = leases
                .get(lease)
                .is_some_and(|lease| !lease.has_context && lease.state == LeaseState::Live);
            match settings.default_deadline {
                Some(after) if unbound => {
                    leases.add(LeaseKind::Default, Some(timers::far(now, after)), false)
                }
                _ => lease,
            }
        })?;
        if resumed {
            self.ledger.keep_holder();
        }
        if self.listens {
            self.hear(now);
        } else if self.leases.released {
            // What comes out after its check-out was released was abandoned
            // in the client's queue.
            self.abandon(now);
        }
        self.decide(now);
        Ok(taken)
    }

    /// The number that the next request of the client's will have.
    pub(crate) fn next_request(&self) -> u64 {
        self.ledger.next_request()
    }

    /// Takes in bytes of the server, and says how many: the rest after the
    /// next [`settle`](Machine::settle). See [`Ledger::receive`](crate::wire::ledger::Ledger::receive).
    pub(crate) fn handle_received(
        &mut self,
        bytes: &[u8],
        mut up: Option<&mut Vec<u8>>,
        now: Instant,
    ) -> Result<usize, Malformed> {
        let own = self.ledger.own();
        let before = up.as_deref().map(Vec::len);
        let taken = self.ledger.receive(bytes, up.as_deref_mut())?;
        // What was dropped, nobody has to take up.
        self.taken_up &= up.as_deref().map(Vec::len) == before && before.is_some();
        if let (Some(own), None) = (own, self.ledger.own()) {
            self.own_answered(own);
        }
        self.decide(now);
        Ok(taken)
    }

    /// The client asked for more and was told to wait (rule 4).
    pub(crate) fn handle_taken_up(&mut self, now: Instant) {
        if !self.taken_up {
            self.taken_up = true;
            self.decide(now);
        }
    }

    /// Asked right before an attempt's first byte: is it still wanted?
    pub(crate) fn handle_attempt_connected(&mut self, attempt: u32, now: Instant) -> bool {
        let current = self.attempt == Attempt::Dialing && self.attempts == attempt;
        if !current || !self.aimed() && self.with(Rule::AimAgain) {
            return false;
        }
        self.attempt = Attempt::Written;
        self.tried = true;
        self.decide(now);
        true
    }

    /// An attempt is over.
    pub(crate) fn handle_attempt_over(&mut self, attempt: u32, outcome: Outcome, now: Instant) {
        if self.attempts != attempt || self.attempt == Attempt::None {
            return;
        }
        self.attempt = Attempt::None;
        self.unproven |= outcome == Outcome::BrokenOff && self.with(Rule::HeedBreakOff);
        let pause = self.settings.resend[self.sends.min(self.settings.resend.len() - 1)];
        self.sends += 1;
        self.timers
            .set(Timer::Resend, Some(timers::far(now, pause)));
        self.decide(now);
    }

    /// Time has passed.
    pub(crate) fn handle_time(&mut self, now: Instant) {
        if self.timers.take_expired(Timer::Grace, now) {
            self.retire(Retired::Grace);
        }
        if self.timers.take_expired(Timer::Stall, now)
            && self.ledger.mid_message_up()
            && self.taken_up
        {
            self.retire(Retired::Stalled);
        }
        self.timers.take_expired(Timer::Hush, now);
        if self.timers.take_expired(Timer::Sweep, now) {
            if self
                .ledger
                .oldest_in_flight()
                .is_some_and(|oldest| Some(oldest) == self.sweeping)
            {
                self.outputs.push_back(Output::Busy);
            }
            self.sweeping = None;
        }
        if self.timers.take_expired(Timer::Expiry, now) {
            self.expire(now);
        }
        // Whether there is a cancel to send is decided below; if there is not,
        // a timer in the past would go off for ever.
        self.timers.take_expired(Timer::Resend, now);
        self.decide(now);
    }

    /// Sets whether EOF proves that a cancel was handled.
    pub(crate) fn set_eof_proves(&mut self, proves: bool) {
        self.eof_proves = proves;
    }

    /// Somebody sent what no protocol allows.
    pub(crate) fn handle_malformed(&mut self, malformed: Malformed) {
        self.retire(Retired::Protocol(malformed));
    }
}
