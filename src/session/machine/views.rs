//! What others may know of the machine: questions, none of which changes it.

use super::{
    Instant, LeaseId, LeaseKind, LeaseState, Machine, Request, Rule, Stage, Timer, timers,
};
use crate::wire::ledger::Facts;
use crate::wire::statement::Verb;

impl Machine {
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

    pub(crate) fn facts(&self) -> &Facts {
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

    /// The rest of the grace, for whatever may take that long.
    pub(crate) fn grace_ends(&self, now: Instant) -> Instant {
        self.timers
            .get(Timer::Grace)
            .unwrap_or_else(|| timers::far(now, self.settings.grace))
    }

    /// Does the end of a cancel's connection prove anything, so that there is
    /// no pooler in between (rule 4)?
    pub(crate) fn eof_proves(&self) -> bool {
        self.eof_proves
    }

    /// Was a cancel written in this drain already?
    pub(crate) fn has_tried(&self) -> bool {
        self.tried
    }

    /// Would dropping the session now leave work behind that nobody wants
    /// (rule 8)?
    pub(crate) fn leaves_work(&self) -> bool {
        self.ledger.requests().any(|request| {
            let detached = self.leases.get(request.lease).is_some_and(|lease| {
                lease.kind == LeaseKind::Detached && lease.state == LeaseState::Live
            });
            request.works() && !detached && self.with(Rule::TellWorkLeft)
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
            commit: mine().any(|r| r.in_flight() && r.verb == Verb::Commit),
        }
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
