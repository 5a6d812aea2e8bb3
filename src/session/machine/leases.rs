//! The leases on one session: whose requests may be what.

use tokio::time::Instant;

use crate::wire::request::LeaseId;

/// A context's hold on the session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    pub(crate) id: LeaseId,
    pub(crate) kind: LeaseKind,
    pub(crate) state: LeaseState,
    /// The time at which it ends, whoever notices.
    pub(crate) deadline: Option<Instant>,
    /// A request of it was written.
    pub(crate) sent: bool,
    /// A context is bound; else the default deadline applies to each request.
    pub(crate) has_context: bool,
    /// `run` brings its caller back when it ends.
    pub(crate) runs: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LeaseKind {
    /// From check-out to check-in.
    CheckOut,
    /// One operation, for which the client is borrowed mutably: takes the
    /// place of the one below it (rule 7).
    Exclusive,
    /// One operation, told from the others by who woke the connection task.
    Seen,
    /// One request under the default deadline.
    Default,
    /// What runs on after its context finished (rule 14).
    Detached,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LeaseState {
    Live,
    Ended(Why),
}

/// Why a lease ended, as far as the session decides by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Why {
    /// Its context ended; which way, the context tells.
    Context,
    /// A time passed for which there is no context to end: a default deadline,
    /// or the bound of work that ran on.
    Time,
    /// Somebody asked for what is in flight to be cancelled.
    Cancelled,
    /// It was found released with work in flight (rule 14).
    Abandoned,
}

/// The table. Few are ever live at once: it is searched from end to end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Leases {
    all: Vec<Lease>,
    /// The check-out's lease, and upon it those that take its place.
    stack: Vec<LeaseId>,
    next: u32,
    /// The check-out is over; nobody has checked out since.
    pub(crate) released: bool,
}

impl Leases {
    /// A session that nobody has checked out: one lease without a context.
    pub(crate) fn new() -> Self {
        let mut leases = Leases {
            all: Vec::new(),
            stack: Vec::new(),
            next: 0,
            released: false,
        };
        leases.check_out(None, false);
        leases
    }

    /// Begins a check-out; all leases before it are forgotten once nothing
    /// belongs to them.
    pub(crate) fn check_out(&mut self, deadline: Option<Instant>, has_context: bool) -> LeaseId {
        self.stack.clear();
        self.released = false;
        // Operations that were seen on the last check-out: forgotten as soon
        // as nothing belongs to them.
        for lease in &mut self.all {
            if lease.kind == LeaseKind::Seen && lease.state == LeaseState::Live {
                lease.kind = LeaseKind::Detached;
            }
        }
        let id = self.add(LeaseKind::CheckOut, deadline, has_context);
        self.stack.push(id);
        id
    }

    /// Begins an operation that takes the place of the lease below it.
    pub(crate) fn begin_exclusive(&mut self, deadline: Option<Instant>) -> LeaseId {
        let id = self.add(LeaseKind::Exclusive, deadline, true);
        self.stack.push(id);
        id
    }

    pub(crate) fn add(
        &mut self,
        kind: LeaseKind,
        deadline: Option<Instant>,
        has_context: bool,
    ) -> LeaseId {
        self.next = self.next.wrapping_add(1);
        let id = LeaseId(self.next);
        self.all.push(Lease {
            id,
            kind,
            state: LeaseState::Live,
            deadline,
            sent: false,
            has_context,
            runs: false,
        });
        id
    }

    /// The lease to which a request belongs of which nothing else is known.
    pub(crate) fn base(&self) -> LeaseId {
        self.stack.last().copied().unwrap_or(LeaseId(0))
    }

    pub(crate) fn check_out_id(&self) -> LeaseId {
        self.stack.first().copied().unwrap_or(LeaseId(0))
    }

    /// Takes an exclusive operation, and what stands upon it, off the stack.
    pub(crate) fn end_exclusive(&mut self, id: LeaseId) {
        if let Some(at) = self.stack.iter().skip(1).position(|each| *each == id) {
            self.stack.truncate(at + 1);
        }
    }

    pub(crate) fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.all.iter().find(|lease| lease.id == id)
    }

    pub(crate) fn get_mut(&mut self, id: LeaseId) -> Option<&mut Lease> {
        self.all.iter_mut().find(|lease| lease.id == id)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Lease> {
        self.all.iter_mut()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.all.iter()
    }

    /// Has this lease ended? One that is not known any more has.
    pub(crate) fn ended(&self, id: LeaseId) -> bool {
        self.get(id)
            .is_none_or(|lease| matches!(lease.state, LeaseState::Ended(_)))
    }

    /// Has any lease ended that something still depends on?
    pub(crate) fn any_ended(&self) -> bool {
        self.all.iter().any(|lease| lease.state != LeaseState::Live)
    }

    /// The earliest deadline of a lease that lives.
    pub(crate) fn earliest(&self) -> Option<Instant> {
        let live = self
            .all
            .iter()
            .filter(|lease| lease.state == LeaseState::Live);
        live.filter_map(|lease| lease.deadline).min()
    }

    /// Is there no lease but those that stand upon each other?
    pub(crate) fn only_stack(&self) -> bool {
        self.all.len() == self.stack.len()
    }

    /// Forgets leases that are neither on the stack nor `used`.
    pub(crate) fn retain(&mut self, used: impl Fn(&Lease) -> bool) {
        let stack = &self.stack;
        self.all
            .retain(|lease| stack.contains(&lease.id) || used(lease));
    }
}

/// For a model, in which names that differ by history only are the same.
#[cfg(test)]
impl Leases {
    /// Counts all leases from one; says what became of each.
    pub(crate) fn renumber(&mut self) -> Vec<(LeaseId, LeaseId)> {
        let mut renamed = Vec::with_capacity(self.all.len());
        for (index, lease) in self.all.iter_mut().enumerate() {
            let id = LeaseId(u32::try_from(index + 1).expect("few leases"));
            renamed.push((lease.id, id));
            lease.id = id;
        }
        self.next = u32::try_from(self.all.len()).expect("few leases");
        for id in &mut self.stack {
            *id = renumbered(&renamed, *id);
        }
        renamed
    }
}

/// What became of `id`; nobody, if nobody knows it any more.
#[cfg(test)]
pub(crate) fn renumbered(renamed: &[(LeaseId, LeaseId)], id: LeaseId) -> LeaseId {
    let known = renamed.iter().find(|(old, _)| *old == id);
    known.map_or(LeaseId(0), |(_, new)| *new)
}
