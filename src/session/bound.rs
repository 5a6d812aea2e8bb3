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
        self.entry(lease).map(|entry| &entry.context)
    }

    /// How the context of a lease ended.
    pub(crate) fn end(&self, lease: LeaseId) -> Option<&End> {
        self.entry(lease)?.end.as_ref()
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
        self.retain_entries(observer, |entry| known(entry.lease));
    }

    /// How far the work of a lease had come when its context ended.
    pub(crate) fn progress(&self, lease: LeaseId) -> Option<Progress> {
        self.entry(lease)?.progress
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
        let may_be_asked_for = |entry: &Entry| entry.end.is_some() && !known(entry.lease);
        let ended = self.0.iter().filter(|entry| may_be_asked_for(entry));
        let mut too_many = ended.count().saturating_sub(REMEMBERED);
        self.retain_entries(observer, |entry| {
            if may_be_asked_for(entry) && too_many > 0 {
                too_many -= 1;
                return false;
            }
            entry.end.is_some() || known(entry.lease)
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

    fn entry(&self, lease: LeaseId) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.lease == lease)
    }

    fn retain_entries(
        &mut self,
        observer: &Arc<dyn Observer>,
        mut keep: impl FnMut(&Entry) -> bool,
    ) {
        self.0.retain(|entry| {
            let kept = keep(entry);
            if !kept {
                entry.forget(observer);
            }
            kept
        });
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

#[cfg(all(test, not(pgdeadline_loom)))]
mod tests {
    use super::*;

    /// Wants to know nothing.
    struct Idle;

    impl Observer for Idle {
        fn ended(&self, _key: u64, _end: &End) {}

        fn finished(&self, _key: u64) {}

        fn progress(&self, _key: u64) -> Option<Progress> {
            None
        }
    }

    #[test]
    fn of_leases_that_are_over_only_the_last_that_ended_are_remembered() {
        let observer: Arc<dyn Observer> = Arc::new(Idle);
        let mut bound = Bound::default();
        // The even ones end; the first two and the last two are known.
        let known = |lease: LeaseId| lease.0 < 2 || lease.0 >= 18;
        for number in 0..20 {
            let (lease, context) = (LeaseId(number), Context::background().child());
            bound.bind(lease, &context, &observer).unwrap();
            if number % 2 == 0 {
                context.cancel();
                bound.ended(lease, &context.end().unwrap(), Progress::UNKNOWN);
            }
        }
        bound.retain_ended(&observer, known);
        let left: Vec<u32> = bound.0.iter().map(|entry| entry.lease.0).collect();
        assert_eq!(left, [0, 1, 10, 12, 14, 16, 18, 19]);
        assert!(bound.end(LeaseId(16)).is_some() && bound.progress(LeaseId(16)).is_some());
        assert!(bound.context(LeaseId(8)).is_none());
    }
}
