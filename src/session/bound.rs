//! The contexts behind the leases of one session.

use std::sync::Arc;

use crate::context::{Context, End, Observer, Over};
use crate::wire::request::LeaseId;

/// The table from lease to context.
#[derive(Default)]
pub(crate) struct Bound(Vec<Entry>);

struct Entry {
    lease: LeaseId,
    context: Context,
    end: Option<End>,
    keeps_time: bool,
}

impl Bound {
    /// The lease of a context that is bound already.
    pub(crate) fn lease_of(&self, context: &Context) -> Option<LeaseId> {
        self.0.iter().find(|entry| entry.context.id() == context.id()).map(|entry| entry.lease)
    }

    pub(crate) fn context(&self, lease: LeaseId) -> Option<&Context> {
        self.0.iter().find(|entry| entry.lease == lease).map(|entry| &entry.context)
    }

    /// How the context of a lease ended.
    pub(crate) fn end(&self, lease: LeaseId) -> Option<&End> {
        self.0.iter().find(|entry| entry.lease == lease).and_then(|entry| entry.end.as_ref())
    }

    /// Binds a context and promises to end it at its deadline (rule 12);
    /// `kept`: somebody has promised already and hands that over.
    ///
    /// # Errors
    /// The context is over: there is nothing to observe, and no promise is
    /// left behind.
    pub(crate) fn bind(&mut self, lease: LeaseId, context: &Context, observer: &Arc<dyn Observer>, kept: bool) -> Result<(), Over> {
        if !kept {
            context.keep_time();
        }
        let over = context.observe(observer, u64::from(lease.0));
        let end = match &over {
            Err(Over::Ended(end)) => Some(end.clone()),
            _ => None,
        };
        if over.is_err() {
            context.leave_time();
        }
        if !matches!(over, Err(Over::Finished)) {
            self.0.push(Entry { lease, context: context.clone(), end, keeps_time: over.is_ok() });
        }
        over
    }

    /// Notes that a context ended; the promise has been kept.
    pub(crate) fn ended(&mut self, lease: LeaseId, end: &End) {
        if let Some(entry) = self.0.iter_mut().find(|entry| entry.lease == lease) {
            entry.end.get_or_insert_with(|| end.clone());
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

    /// A lease's context finished: there is nothing more to observe.
    pub(crate) fn finished(&mut self, lease: LeaseId) {
        self.0.retain(|entry| {
            let this = entry.lease == lease;
            if this && entry.keeps_time {
                entry.context.leave_time();
            }
            !this
        });
    }

    /// Forgets all of them.
    pub(crate) fn clear(&mut self, observer: &Arc<dyn Observer>) {
        self.retain(observer, |_| false);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Entry {
    fn forget(&self, observer: &Arc<dyn Observer>) {
        if self.end.is_none() {
            self.context.unobserve(observer, u64::from(self.lease.0));
        }
        if self.keeps_time {
            self.context.leave_time();
        }
    }
}
