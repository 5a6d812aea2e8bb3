//! The contexts behind the leases of one session.

use std::sync::Arc;

use crate::context::{Context, End, Observer, Over, Progress};
use crate::wire::request::LeaseId;

/// The table from lease to context.
#[derive(Default)]
pub(crate) struct Bound(Vec<Entry>);

struct Entry {
    lease: LeaseId,
    context: Context,
    end: Option<End>,
    /// How far the work had come when the context ended.
    progress: Option<Progress>,
    keeps_time: bool,
}

impl Bound {
    /// The latest lease of a context that is bound already, if it is still
    /// `known`.
    pub(crate) fn lease_of(
        &self,
        context: &Context,
        known: impl Fn(LeaseId) -> bool,
    ) -> Option<LeaseId> {
        self.0
            .iter()
            .rev()
            .find(|entry| entry.context.id() == context.id() && known(entry.lease))
            .map(|entry| entry.lease)
    }

    pub(crate) fn context(&self, lease: LeaseId) -> Option<&Context> {
        self.0
            .iter()
            .find(|entry| entry.lease == lease)
            .map(|entry| &entry.context)
    }

    /// How the context of a lease ended.
    pub(crate) fn end(&self, lease: LeaseId) -> Option<&End> {
        self.0
            .iter()
            .find(|entry| entry.lease == lease)
            .and_then(|entry| entry.end.as_ref())
    }

    /// Binds a context and promises to end it at its deadline (rule 12).
    ///
    /// # Errors
    /// The context is over: there is nothing to observe, and no promise is
    /// left behind.
    pub(crate) fn bind(
        &mut self,
        lease: LeaseId,
        context: &Context,
        observer: &Arc<dyn Observer>,
    ) -> Result<(), Over> {
        context.keep_time();
        let over = context.observe(observer, u64::from(lease.0));
        let end = match &over {
            Err(Over::Ended(end)) => Some(end.clone()),
            _ => None,
        };
        if over.is_err() {
            context.leave_time();
        }
        if !matches!(over, Err(Over::Finished)) {
            self.0.push(Entry {
                lease,
                context: context.clone(),
                end,
                progress: None,
                keeps_time: over.is_ok(),
            });
        }
        over
    }

    /// Notes that a context ended, and how far its work had come; the promise
    /// has been kept.
    pub(crate) fn ended(&mut self, lease: LeaseId, end: &End, progress: Progress) {
        if let Some(entry) = self.0.iter_mut().find(|entry| entry.lease == lease) {
            entry.end.get_or_insert_with(|| end.clone());
            entry.progress.get_or_insert(progress);
            if std::mem::take(&mut entry.keeps_time) {
                entry.context.leave_time();
            }
        }
    }

    /// Forgets the leases that are not `known`.
    pub(crate) fn retain(&mut self, observer: &Arc<dyn Observer>, known: impl Fn(LeaseId) -> bool) {
        self.0.retain(|entry| {
            let keep = known(entry.lease);
            if !keep {
                entry.forget(observer);
            }
            keep
        });
    }

    /// How far the work of a lease had come when its context ended.
    pub(crate) fn progress(&self, lease: LeaseId) -> Option<Progress> {
        self.0
            .iter()
            .find(|entry| entry.lease == lease)
            .and_then(|entry| entry.progress)
    }

    /// A lease's context finished: there is nothing more to observe.
    pub(crate) fn finished(&mut self, lease: LeaseId, observer: &Arc<dyn Observer>) {
        self.retain(observer, |each| each != lease);
    }

    /// Forgets all of them.
    pub(crate) fn clear(&mut self, observer: &Arc<dyn Observer>) {
        self.retain(observer, |_| false);
    }

    /// Forgets those that are not `known`, but not the last that ended: an
    /// error may still be made of them.
    pub(crate) fn retain_ended(
        &mut self,
        observer: &Arc<dyn Observer>,
        known: impl Fn(LeaseId) -> bool,
    ) {
        let mut ended = self
            .0
            .iter()
            .filter(|entry| entry.end.is_some() && !known(entry.lease))
            .count();
        self.0.retain(|entry| {
            let over = !known(entry.lease);
            let remembered = over && entry.end.is_some() && ended <= REMEMBERED;
            ended -= usize::from(over && entry.end.is_some() && !remembered);
            if over && !remembered {
                entry.forget(observer);
            }
            !over || remembered
        });
    }

    /// Is nothing bound but the lease that is on top?
    pub(crate) fn is_only(&self, base: LeaseId) -> bool {
        match self.0.as_slice() {
            [] => true,
            [one] => one.lease == base,
            _ => false,
        }
    }

    /// The leases whose context nobody else holds any more: nobody can ask for
    /// anything under it, nor end it.
    pub(crate) fn deserted(&self) -> impl Iterator<Item = LeaseId> {
        let deserted = |entry: &&Entry| entry.end.is_none() && entry.context.is_last_handle();
        self.0.iter().filter(deserted).map(|entry| entry.lease)
    }

    /// Withdraws every promise to end a context at its deadline.
    pub(crate) fn leave_time(&mut self) {
        for entry in &mut self.0 {
            if std::mem::take(&mut entry.keeps_time) {
                entry.context.leave_time();
            }
        }
    }
}

impl Entry {
    fn forget(&self, observer: &Arc<dyn Observer>) {
        self.context.unobserve(observer, u64::from(self.lease.0));
        if self.keeps_time {
            self.context.leave_time();
        }
    }
}

/// How many contexts that ended are remembered for the errors made of them.
/// Each was let go by its caller within one poll, so few are ever asked for.
const REMEMBERED: usize = 4;
