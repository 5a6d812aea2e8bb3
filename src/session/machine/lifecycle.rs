//! When leases begin, end, and are forgotten (rules 6, 7 and 14).

use super::{
    Instant, LeaseId, LeaseKind, LeaseState, Leases, Machine, Output, Request, Rule, Why, timers,
};

impl Machine {
    /// A check-out begins on a session that [`is_clean`](Machine::is_clean),
    /// or with a lease that has ended already.
    pub(crate) fn handle_check_out(
        &mut self,
        deadline: Option<Instant>,
        has_context: bool,
        now: Instant,
    ) -> LeaseId {
        let id = self.leases.check_out(deadline, has_context);
        self.ledger.change_holder();
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

    /// It is known only now whose a request is (rule 7).
    pub(crate) fn handle_attributed(&mut self, request: u64, lease: LeaseId, now: Instant) {
        let owner = self.ledger.request(request).map(|request| request.lease);
        let base = self.leases.base();
        // Its check-out may be over by now, or it may have ended otherwise:
        // then it is what it was found as.
        let open = owner
            .and_then(|owner| self.leases.get(owner))
            .is_some_and(|owner| {
                owner.state == LeaseState::Live
                    && (owner.id == base || owner.kind == LeaseKind::Default)
            });
        if open {
            self.ledger.attribute(request, lease);
        }
        self.decide(now);
    }

    /// A lease's context ended.
    pub(crate) fn handle_ended(&mut self, id: LeaseId, now: Instant) {
        self.end(id, Why::Context, now);
        self.decide(now);
    }

    /// A lease's context finished: what is in flight runs on, for as long as
    /// the deadline says (rule 14).
    pub(crate) fn handle_finished(&mut self, id: LeaseId, now: Instant) {
        if self.without(Rule::LetFinishedRun) {
            return self.handle_ended(id, now);
        }
        let bound = timers::far(now, self.settings.finish_bound);
        let Some(lease) = self.leases.get_mut(id) else {
            return;
        };
        if lease.state != LeaseState::Live {
            return;
        }
        let until = lease.deadline.unwrap_or(bound);
        // What comes later comes outside any context.
        lease.has_context = false;
        if lease.kind == LeaseKind::Seen {
            lease.kind = LeaseKind::Detached;
            lease.deadline = Some(until);
        } else {
            lease.deadline = None;
            self.detach(until, |request, _| request.lease == id);
        }
        self.decide(now);
    }

    /// A check-out, or an operation that borrowed the client, is over.
    pub(crate) fn handle_released(&mut self, id: LeaseId, now: Instant) {
        if self.leases.check_out_id() != id {
            // What it has queued and nobody has seen yet is known by its wake;
            // what comes without one may be the caller's next request, which
            // must not be told of an end that is not its own. The next
            // operation begins only after a poll.
            self.mark += 1;
            self.leases.end_exclusive(id);
            self.unhear(id);
        } else if !self.leases.released {
            self.leases.released = true;
            self.mark += 1;
            self.quiet &= !self.leases.ended(id);
            self.abandon(now);
        }
        self.decide(now);
    }

    /// The client was dropped: the session lives on only as long as what it
    /// must still do (rule 8).
    pub(crate) fn handle_client_gone(&mut self, now: Instant) {
        self.client_gone = true;
        self.handle_released(self.leases.check_out_id(), now);
    }

    /// Somebody asks for what is in flight to be cancelled. `false`: there is
    /// nothing.
    pub(crate) fn handle_cancel(&mut self, now: Instant) -> bool {
        let id = self.reassign(LeaseKind::Default, None, |request, _| request.works());
        if let Some(id) = id {
            self.end(id, Why::Cancelled, now);
        }
        self.decide(now);
        id.is_some()
    }

    /// Counts ends and releases. To be read before a poll of the connection.
    pub(crate) fn mark(&self) -> u64 {
        self.mark
    }

    /// A poll of the connection that began at `mark` returned Pending with its
    /// flush complete: everything queued before is in the ledger (rule 6).
    pub(crate) fn handle_polled(&mut self, mark: u64, now: Instant) {
        let mark = match self.with(Rule::AwaitWholePoll) {
            true => mark,
            false => self.mark,
        };
        if self.polled < mark {
            self.polled = mark;
            self.decide(now);
        }
    }

    /// Has the connection been polled since the last end or release?
    pub(crate) fn is_polled(&self) -> bool {
        self.polled >= self.mark || self.without(Rule::AwaitPoll)
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
            self.end(id, why, now);
            if why == Why::Context {
                self.outputs.push_back(Output::Expire(id));
            }
        }
    }

    /// A lease ends, and with a check-out all that was seen on it.
    fn end(&mut self, id: LeaseId, why: Why, now: Instant) {
        let whole = id == self.leases.check_out_id();
        let (mut any, mut runs) = (false, false);
        for lease in self.leases.iter_mut() {
            let within = whole
                && matches!(
                    lease.kind,
                    LeaseKind::Default | LeaseKind::Seen | LeaseKind::Exclusive
                );
            if (lease.id == id || within) && lease.state == LeaseState::Live {
                lease.state = LeaseState::Ended(why);
                any = true;
                // Its own `run` has not ended, and brings nobody back.
                lease.runs &= lease.id == id;
                runs |= lease.runs;
            }
        }
        if any {
            self.mark += 1;
            self.quiet = false;
        }
        if runs && self.listens {
            self.begin_hush(now);
        }
    }

    /// Work of a check-out that is over: what has sent rows may be a statement
    /// with effects of which the first row was all that the caller wanted, and
    /// runs on; the rest is cancelled (rule 14).
    pub(super) fn abandon(&mut self, now: Instant) {
        let check_out = self.leases.get(self.leases.check_out_id());
        let until = check_out
            .and_then(|lease| lease.deadline)
            .unwrap_or_else(|| timers::far(now, self.settings.finish_bound));
        if self.without(Rule::CancelAbandoned) {
            return;
        }
        let rows = self.with(Rule::LetRowsRun);
        self.detach(until, |request, leases| {
            let lease = leases.get(request.lease);
            rows && request.rows_up && lease.is_none_or(|lease| lease.kind != LeaseKind::Detached)
        });
        let rest = self.reassign(LeaseKind::Default, None, |request, _| {
            !(rows && request.rows_up)
        });
        if let Some(id) = rest {
            self.end(id, Why::Abandoned, now);
        }
    }

    /// Moves open work to a lease that knows nothing but a time.
    fn detach(&mut self, until: Instant, which: impl Fn(&Request, &Leases) -> bool) {
        let until = self.with(Rule::BoundFinished).then_some(until);
        self.reassign(LeaseKind::Detached, until, which);
    }

    /// Moves open work that has not ended to a lease of its own, if there is
    /// any `which` is meant. Its caller may still be on the way back from `run`.
    fn reassign(
        &mut self,
        kind: LeaseKind,
        deadline: Option<Instant>,
        which: impl Fn(&Request, &Leases) -> bool,
    ) -> Option<LeaseId> {
        let Machine { ledger, leases, .. } = self;
        let mut id = None;
        for request in ledger.requests_mut() {
            if request.is_open_work() && !leases.ended(request.lease) && which(request, leases) {
                let runs = leases.get(request.lease).is_some_and(|lease| lease.runs);
                request.lease = *id.get_or_insert_with(|| leases.add(kind, deadline, false));
                if let Some(lease) = leases.get_mut(request.lease) {
                    lease.runs |= runs;
                }
            }
        }
        id
    }

    /// Nobody can ask for anything under this lease any more.
    pub(crate) fn handle_deserted(&mut self, id: LeaseId) {
        let idle = !self.ledger.requests().any(|request| request.lease == id);
        if let Some(lease) = self.leases.get_mut(id)
            && lease.kind == LeaseKind::Seen
            && idle
        {
            lease.kind = LeaseKind::Detached;
            self.forget_leases();
            self.set_expiry();
        }
    }

    pub(super) fn forget_leases(&mut self) {
        let Machine { ledger, leases, .. } = self;
        if leases.only_stack() {
            return;
        }
        let polled = self.polled >= self.mark;
        leases.retain(|lease| {
            ledger.requests().any(|request| request.lease == lease.id)
                || lease.kind == LeaseKind::Seen && (lease.state == LeaseState::Live || !polled)
        });
    }
}
