//! Decides what a session does: let run, cancel, drain, clean up, retire.
//!
//! The machine is pure: no clock, no socket, no task, no context. Events go in
//! by `handle_*`, each with `now`; what is to be done comes out of
//! [`poll_output`](Machine::poll_output), [`next_write`](Machine::next_write)
//! and [`poll_timeout`](Machine::poll_timeout). After any event all three may
//! have changed, and are asked until they have no more.
//!
//! ```text
//!                     lease ends, its work in flight
//!   ┌────────┐  ─────────────────────────────────────►  ┌──────────┐
//!   │ open   │                                          │ draining │ dial, EOF, dial again;
//!   │        │  ◄─────────────────────────────────────  │ (holds)  │ answers dropped
//!   └────────┘   nothing of it in flight, attempt over  └──────────┘
//!     │    ▲                                                  │
//!     │    │ ROLLBACK answered, all taken up                  │ grace over, no proof,
//!     ▼    │                                                  │ impossible message
//!   ┌──────────┐            grace over                  ┌─────▼────┐
//!   │ cleaning │  ─────────────────────────────────────►│ retired  │
//!   └──────────┘                                        └──────────┘
//! ```
//!
//! # Rules
//!
//! Numbers are those of the design.
//!
//! 1. *Prompt*: [`settle`](Machine::settle) answers for the server as soon as
//!    a lease has ended, at the next message boundary.
//! 2. *Bounded*: [`Timer::Grace`] runs while anything is to be done after an
//!    end; when it fires the session is retired.
//! 3. *Aimed*: [`may_dial`](Machine::may_dial), asked again right before the
//!    bytes; while draining nothing new is written; clean-up is written alone
//!    and never cancelled.
//! 4. *Proven*: [`is_clean`](Machine::is_clean).
//! 5. *Persistent*: [`Timer::Resend`].
//! 6. *Nothing queued is missed*: [`marks`](Machine::mark) and
//!    [`handle_polled`](Machine::handle_polled); what is unwritten when its
//!    lease ends is refused.
//! 7. *No collateral*: [`collateral`](Machine::collateral).
//! 10. *No storm*: one attempt at a time.
//! 13. *Never a success*: ended work was answered with an error by rule 1, and
//!     nothing of it goes up afterwards.
//! 14. *Asked for*: [`handle_finished`](Machine::handle_finished) and
//!     [`handle_released`](Machine::handle_released).

mod decide;
mod leases;
mod timers;
mod writing;

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::settings::Settings;
use crate::wire::backend::Status;
use crate::wire::framer::Malformed;
use crate::wire::ledger::Ledger;
use crate::wire::request::{Class, LeaseId, Request, Stage};
pub(crate) use leases::{LeaseKind, LeaseState, Leases, Why};
pub(crate) use timers::{Timer, Timers};
pub(crate) use writing::NextWrite;

/// See the [module](self).
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(super) ledger: Ledger,
    pub(super) leases: Leases,
    settings: Settings,
    timers: Timers,
    outputs: VecDeque<Output>,
    /// Bytes of the session's own that are to be written next.
    inject: Vec<u8>,
    /// From an end with work in flight until that work is drained and every
    /// attempt is over: no new request is written.
    draining: bool,
    attempt: Attempt,
    /// The number of the last attempt; a report of an earlier one is ignored.
    attempts: u32,
    /// A cancel of this drain was written.
    tried: bool,
    /// How often a cancel of this drain was sent or could not be.
    sends: usize,
    /// An attempt broke off after its bytes were written: a signal may still
    /// be on its way, and nothing will tell when it is not.
    unproven: bool,
    /// Does EOF prove that the server has handled a cancel?
    eof_proves: bool,
    /// Counts ends and releases; see [`Machine::handle_polled`].
    mark: u64,
    polled: u64,
    /// After the last byte that went up, the client asked for more and was
    /// told to wait.
    taken_up: bool,
    /// The check-out that is over was never ended, so nothing of it can be on
    /// its way but clean-up.
    quiet: bool,
    /// Exclusive operations that are over, and keep their place until the
    /// connection has been polled (rule 6).
    leaving: Vec<LeaseId>,
    /// The request for which the sweep timer was started.
    sweeping: Option<u64>,
    client_gone: bool,
    retired: Option<Retired>,
}

/// Something for the driver to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Dial a cancel; report as attempt of this number.
    Dial(u32),
    /// This lease's deadline has passed: end its context.
    Expire(LeaseId),
    /// A request has been in flight for longer than the sweep interval.
    Busy,
    /// Ended work is drained; the session goes on.
    Drained,
    /// Close the socket.
    Retire(Retired),
}

/// Why a session is not used again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Retired {
    /// It did not become clean within the grace.
    Grace,
    /// A cancel was written and broke off before its EOF.
    Unproven,
    /// A cancel was sent through a proxy whose EOF proves nothing.
    NoProof,
    /// The server stopped in the middle of a message.
    Stalled,
    /// The session's own clean-up failed.
    CleanUp,
    /// Somebody sent what no protocol allows.
    Protocol(Malformed),
}

/// One CancelRequest, from dial to EOF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Attempt {
    None,
    /// Not a byte is written: it may be forgotten.
    Dialing,
    /// Over at EOF only.
    Written,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// The other side closed in order after the request was written.
    Eof,
    /// It came to nothing before a byte was written.
    NotWritten,
    /// It was reset, or timed out, after a byte was written.
    BrokenOff,
}

impl Machine {
    /// The machine of a connection on which nothing was said yet.
    pub(crate) fn new(settings: Settings, invented_key: i32) -> Self {
        Machine {
            ledger: Ledger::new(invented_key),
            leases: Leases::new(),
            settings,
            timers: Timers::default(),
            outputs: VecDeque::new(),
            inject: Vec::new(),
            draining: false,
            attempt: Attempt::None,
            attempts: 0,
            tried: false,
            sends: 0,
            unproven: false,
            eof_proves: true,
            mark: 0,
            polled: 0,
            taken_up: true,
            quiet: true,
            leaving: Vec::new(),
            sweeping: None,
            client_gone: false,
            retired: None,
        }
    }

    // ---- leases -----------------------------------------------------------

    /// A check-out begins on a session that [`is_clean`](Machine::is_clean),
    /// or with a lease that has ended already.
    pub(crate) fn handle_check_out(
        &mut self,
        deadline: Option<Instant>,
        has_context: bool,
        now: Instant,
    ) -> LeaseId {
        let id = self.leases.check_out(deadline, has_context);
        self.quiet = true;
        self.decide(now);
        id
    }

    /// An operation takes the place of the lease below it.
    pub(crate) fn handle_begin(&mut self, deadline: Option<Instant>, now: Instant) -> LeaseId {
        let id = self.leases.begin_exclusive(deadline);
        self.decide(now);
        id
    }

    /// An operation was told from the others by its wake.
    pub(crate) fn handle_seen(&mut self, deadline: Option<Instant>) -> LeaseId {
        let id = self.leases.add(LeaseKind::Seen, deadline, true);
        self.set_expiry();
        id
    }

    /// A lease's context ended.
    pub(crate) fn handle_ended(&mut self, id: LeaseId, now: Instant) {
        self.end(id, Why::Context);
        self.decide(now);
    }

    /// A lease's context finished: what is in flight runs on, for as long as
    /// the deadline says (rule 14).
    pub(crate) fn handle_finished(&mut self, id: LeaseId, now: Instant) {
        let Some(lease) = self.leases.get_mut(id) else {
            return;
        };
        if lease.state != LeaseState::Live {
            return;
        }
        let until = lease
            .deadline
            .unwrap_or_else(|| timers::far(now, self.settings.finish_bound));
        if lease.kind == LeaseKind::Seen {
            lease.kind = LeaseKind::Detached;
            lease.deadline = Some(until);
        } else {
            // What comes later on this check-out comes outside any context.
            lease.deadline = None;
            lease.has_context = false;
            self.detach(until, |request| request.lease == id);
        }
        self.decide(now);
    }

    /// A check-out, or an operation that borrowed the client, is over.
    pub(crate) fn handle_released(&mut self, id: LeaseId, now: Instant) {
        if self.leases.check_out_id() != id {
            self.mark += 1;
            self.leaving.push(id);
            self.decide(now);
            return;
        }
        if self.leases.released {
            return;
        }
        self.leases.released = true;
        self.mark += 1;
        self.quiet &= !self.leases.ended(id);
        self.abandon(now);
        self.decide(now);
    }

    /// The client was dropped: the session lives on only as long as what it
    /// must still do (rule 8).
    pub(crate) fn handle_client_gone(&mut self, now: Instant) {
        self.client_gone = true;
        self.handle_released(self.leases.check_out_id(), now);
    }

    // ---- client and server --------------------------------------------------

    /// Takes in bytes of the client that were not seen before. `seen` is the
    /// lease of the first request out of a poll, where a wake told (rule 7);
    /// all others count as the check-out's.
    pub(crate) fn handle_queued(
        &mut self,
        bytes: &[u8],
        seen: &mut Option<LeaseId>,
        now: Instant,
    ) -> Result<(), Malformed> {
        let Machine {
            ledger,
            leases,
            settings,
            ..
        } = self;
        ledger.scan(bytes, &mut || {
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
        // What comes out after its check-out was released was abandoned in
        // the client's queue.
        if self.leases.released {
            self.abandon(now);
        }
        self.decide(now);
        Ok(())
    }

    /// The number that the next request of the client's will have.
    pub(crate) fn next_request(&self) -> u64 {
        self.ledger.next_request()
    }

    /// It is known only now whose a request is (rule 7).
    pub(crate) fn handle_attributed(&mut self, request: u64, lease: LeaseId, now: Instant) {
        let base = self.leases.base();
        let kind = |id| self.leases.get(id).map(|lease| lease.kind);
        let owner = self.ledger.request(request).map(|request| request.lease);
        // Its check-out may be over by now: then it is what it was found as.
        if owner.is_some_and(|owner| owner == base || kind(owner) == Some(LeaseKind::Default)) {
            self.ledger.attribute(request, lease);
        }
        self.decide(now);
    }

    /// Takes in bytes of the server; see [`Ledger::receive`].
    pub(crate) fn handle_received(
        &mut self,
        bytes: &[u8],
        up: Option<&mut Vec<u8>>,
        now: Instant,
    ) -> Result<(), Malformed> {
        let own = self.ledger.own();
        self.taken_up = false;
        self.ledger.receive(bytes, up)?;
        if own.is_some() && self.ledger.own().is_none() {
            self.own_answered(own);
        }
        self.decide(now);
        Ok(())
    }

    /// Puts into `up` what the session says in the server's place.
    pub(crate) fn settle(
        &mut self,
        text: &mut dyn FnMut(&Request, &mut Vec<u8>),
        up: &mut Vec<u8>,
        now: Instant,
    ) {
        let before = up.len();
        let (leases, blocked) = (&self.leases, self.collateral());
        let told = |request: &Request| {
            if !blocked && leases.ended(request.lease) {
                crate::wire::ledger::Told::Ended
            } else {
                crate::wire::ledger::Told::Nothing
            }
        };
        self.ledger.settle(&told, text, up);
        if up.len() > before {
            self.taken_up = false;
            self.decide(now);
        }
    }

    /// Is there anything for [`settle`](Machine::settle) to say?
    pub(crate) fn has_answers(&self) -> bool {
        self.ledger.requests().any(|request| match request.stage {
            Stage::Refused => true,
            Stage::InFlight => {
                !request.answered
                    && request.class == Class::Work
                    && self.leases.ended(request.lease)
            }
            _ => false,
        })
    }

    /// Why those leases ended that have no context to tell it.
    pub(crate) fn whys(&self) -> Vec<(LeaseId, Why)> {
        let ended = self.leases.iter().filter_map(|lease| match lease.state {
            LeaseState::Ended(why) => Some((lease.id, why)),
            LeaseState::Live => None,
        });
        ended.collect()
    }

    /// The client asked for more and was told to wait (rule 4).
    pub(crate) fn handle_taken_up(&mut self, now: Instant) {
        if !self.taken_up {
            self.taken_up = true;
            self.decide(now);
        }
    }

    /// Counts ends and releases. To be read before a poll of the connection.
    pub(crate) fn mark(&self) -> u64 {
        self.mark
    }

    /// A poll of the connection that began at `mark` returned Pending with its
    /// flush complete: everything queued before is in the ledger (rule 6).
    pub(crate) fn handle_polled(&mut self, mark: u64, now: Instant) {
        if self.polled < mark {
            self.polled = mark;
            if self.is_polled() {
                for id in std::mem::take(&mut self.leaving) {
                    self.leases.end_exclusive(id);
                }
            }
            self.decide(now);
        }
    }

    /// Has the connection been polled since the last end or release?
    pub(crate) fn is_polled(&self) -> bool {
        self.polled >= self.mark
    }

    // ---- attempts and time --------------------------------------------------

    /// Asked right before an attempt's first byte: is it still wanted?
    pub(crate) fn handle_attempt_connected(&mut self, attempt: u32, now: Instant) -> bool {
        let current = self.attempt == Attempt::Dialing && self.attempts == attempt;
        if !current || !self.aimed() {
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
        self.unproven |= outcome == Outcome::BrokenOff;
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

    /// Somebody asks for what is in flight to be cancelled. `false`: there is
    /// nothing.
    pub(crate) fn handle_cancel(&mut self, now: Instant) -> bool {
        let Machine { ledger, leases, .. } = self;
        let mut id = None;
        for request in ledger.requests_mut() {
            if request.works() && !leases.ended(request.lease) {
                request.lease =
                    *id.get_or_insert_with(|| leases.add(LeaseKind::Default, None, false));
            }
        }
        if let Some(id) = id {
            self.end(id, Why::Cancelled);
        }
        self.decide(now);
        id.is_some()
    }

    /// What the driver has to do, one after the other.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`handle_time`](Machine::handle_time) is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.retired.is_some() {
            None
        } else {
            self.timers.next()
        }
    }

    // ---- what others may know -----------------------------------------------

    /// Must what the server says be looked at message by message?
    pub(crate) fn wants_filter(&self) -> bool {
        self.draining || self.ledger.wants_filter()
    }

    /// Is nothing under way that the driver would have to look after?
    pub(crate) fn is_idle(&self) -> bool {
        self.ledger.is_empty()
            && self.inject.is_empty()
            && self.outputs.is_empty()
            && !self.draining
    }

    pub(crate) fn facts(&self) -> &crate::wire::ledger::Facts {
        self.ledger.facts()
    }

    /// The lease to which a request belongs of which nothing else is known.
    pub(crate) fn base(&self) -> LeaseId {
        self.leases.base()
    }

    pub(crate) fn check_out_lease(&self) -> LeaseId {
        self.leases.check_out_id()
    }

    /// Does anything still depend on this lease?
    pub(crate) fn knows(&self, id: LeaseId) -> bool {
        self.leases.get(id).is_some()
    }

    /// The leases whose deadline has passed and that have not ended.
    pub(crate) fn due(&self, now: Instant) -> impl Iterator<Item = LeaseId> {
        let live = self
            .leases
            .iter()
            .filter(|lease| lease.state == LeaseState::Live && lease.has_context);
        live.filter(move |lease| lease.deadline.is_some_and(|at| at <= now))
            .map(|lease| lease.id)
    }

    /// Should the session read on by itself (rule 13)?
    pub(crate) fn drains(&self) -> bool {
        self.draining || self.ledger.own().is_some()
    }

    pub(crate) fn retired(&self) -> Option<&Retired> {
        self.retired.as_ref()
    }

    /// The rest of the grace, for whatever may take that long.
    pub(crate) fn grace_ends(&self, now: Instant) -> Instant {
        self.timers
            .get(Timer::Grace)
            .unwrap_or_else(|| timers::far(now, self.settings.grace))
    }

    /// Would dropping the session now leave work behind that nobody wants
    /// (rule 8)?
    pub(crate) fn leaves_work(&self) -> bool {
        self.ledger.requests().any(|request| {
            let detached = self.leases.get(request.lease).is_some_and(|lease| {
                lease.kind == LeaseKind::Detached && lease.state == LeaseState::Live
            });
            request.works() && !detached
        })
    }

    /// For an error: has a request of this lease gone out, is one still
    /// unwritten, is a COMMIT among those in flight?
    pub(crate) fn progress(&self, id: LeaseId) -> LeaseProgress {
        let mine = || self.ledger.requests().filter(|request| request.lease == id);
        LeaseProgress {
            sent: self.leases.get(id).is_some_and(|lease| lease.sent),
            in_flight: mine().any(|request| request.in_flight()),
            half_written: mine().any(Request::half_written),
            queued: mine().any(|request| request.stage == Stage::Queued),
            commit: mine().any(|r| r.in_flight() && r.verb == crate::wire::statement::Verb::Commit),
        }
    }

    fn grace(&self) -> Duration {
        self.settings.grace
    }
}

/// See [`Machine::progress`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeaseProgress {
    /// A request of it was written at some time.
    pub(crate) sent: bool,
    pub(crate) in_flight: bool,
    pub(crate) half_written: bool,
    pub(crate) queued: bool,
    pub(crate) commit: bool,
}

impl Status {
    fn open(self) -> bool {
        self != Status::Idle
    }
}

impl Request {
    /// The caller's, and not over.
    fn is_open_work(&self) -> bool {
        self.class != Class::CleanUp && matches!(self.stage, Stage::Queued | Stage::InFlight)
    }
}
