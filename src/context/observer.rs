//! What a context knows of the layers below it: who wants to hear of its end,
//! and who can tell how far the work under it has come.
//!
//! 1. An observer is told of an end or of a finish, of one of them, at most
//!    once per registration, outside every lock of the tree.
//! 2. It stays registered after that, until it takes itself off: an error is
//!    made after the end, and asks it then how far the request had come.
//! 3. The latest registration is asked first.
//!
//! Sessions, connectors and pools register; code outside this crate marks
//! where it waits with [`Context::enter_phase`].

use super::Context;
use super::cause::End;
use super::node::{Node, Over};
use crate::error::Phase;
use std::fmt;
use std::sync::{Arc, LazyLock};

/// Whoever is bound to a context: a session's lease, a connector, a pool.
pub(crate) trait Observer: Send + Sync {
    /// The context of the registration `key` ended. Called in the thread that
    /// ended it.
    fn ended(&self, key: u64, end: &End);

    /// The context of the registration `key` finished: its work returned its
    /// own result.
    fn finished(&self, key: u64);

    /// How far the work under the registration `key` has come; `None` from an
    /// observer that has nothing to do with requests, and the next is asked.
    fn progress(&self, key: u64) -> Option<Progress>;
}

/// How far the work under a context has come, for the error that tells of its
/// end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) phase: Phase,
    /// Whether the request was handed to a client; `None` where nobody knows.
    pub(crate) sent: Option<bool>,
    pub(crate) commit_in_doubt: bool,
}

impl Progress {
    /// Nobody below has anything to do with it.
    pub(crate) const OUTSIDE: Progress = Progress::before_request(Phase::Outside);

    /// Nobody below is bound, so nobody can tell what the future did: it may
    /// have asked a client that was bound elsewhere.
    pub(crate) const UNKNOWN: Progress = Progress {
        sent: None,
        ..Progress::OUTSIDE
    };

    /// In a phase in which no request can have been sent yet.
    pub(crate) const fn before_request(phase: Phase) -> Progress {
        Progress {
            phase,
            sent: Some(false),
            commit_in_doubt: false,
        }
    }
}

impl Node {
    pub(super) fn observe(
        self: &Arc<Node>,
        observer: &Arc<dyn Observer>,
        key: u64,
    ) -> Result<(), Over> {
        // Not by the clock: to notice a deadline is to tell everybody, and who
        // registers may hold a lock that they take. Its own timer notices.
        let mut state = self.state.lock();
        if let Some(over) = state.over() {
            return Err(over);
        }
        state.observers.add(observer.clone(), key);
        Ok(())
    }

    pub(super) fn unobserve(&self, observer: &Arc<dyn Observer>, key: u64) {
        let removed = self.state.lock().observers.remove(observer, key);
        drop(removed);
    }

    /// What the latest observer knows, of this node or else of the nearest
    /// ancestor that has one with something to say.
    pub(super) fn progress(&self) -> Option<Progress> {
        std::iter::once(self)
            .chain(self.ancestors())
            .find_map(|node| {
                let observers = node.state.lock().observers.clone();
                observers.progress()
            })
    }
}

/// The registrations of one node, the first of which needs no allocation.
#[derive(Clone, Default)]
pub(super) struct Observers {
    first: Option<Registration>,
    rest: Vec<Registration>,
}

#[derive(Clone)]
pub(super) struct Registration {
    observer: Arc<dyn Observer>,
    key: u64,
}

impl Observers {
    pub(super) fn add(&mut self, observer: Arc<dyn Observer>, key: u64) {
        let registration = Registration { observer, key };
        // Only an empty list may use the first place: the order is the order
        // of the registrations.
        if self.is_empty() {
            self.first = Some(registration);
        } else {
            self.rest.push(registration);
        }
    }

    /// Takes off the latest of the equal registrations. The caller drops it
    /// outside the lock: an observer's own drop may come with it.
    #[must_use]
    pub(super) fn remove(
        &mut self,
        observer: &Arc<dyn Observer>,
        key: u64,
    ) -> Option<Registration> {
        let is_it = |r: &Registration| r.key == key && Arc::ptr_eq(&r.observer, observer);
        if let Some(index) = self.rest.iter().rposition(is_it) {
            return Some(self.rest.remove(index));
        }
        self.first.take_if(|first| is_it(first))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none() && self.rest.is_empty()
    }

    pub(super) fn ended(&self, end: &End) {
        for registration in self.iter() {
            registration.observer.ended(registration.key, end);
        }
    }

    pub(super) fn finished(&self) {
        for registration in self.iter() {
            registration.observer.finished(registration.key);
        }
    }

    /// What the latest observer says that has anything to say (rule 3).
    pub(super) fn progress(&self) -> Option<Progress> {
        let mut latest_first = self.rest.iter().rev().chain(&self.first);
        latest_first.find_map(|r| r.observer.progress(r.key))
    }

    fn iter(&self) -> impl Iterator<Item = &Registration> {
        self.first.iter().chain(&self.rest)
    }
}

impl Context {
    /// Registers `observer` under a `key` of its own choice. Allocates nothing
    /// for the first observer of a context.
    ///
    /// An `Err` says that the context is over: nothing was registered, and
    /// nothing will be told.
    pub(crate) fn observe(&self, observer: &Arc<dyn Observer>, key: u64) -> Result<(), Over> {
        self.node.observe(observer, key)
    }

    /// Takes a registration off. An end that another thread is making just
    /// now may still be told afterwards.
    pub(crate) fn unobserve(&self, observer: &Arc<dyn Observer>, key: u64) {
        self.node.unobserve(observer, key);
    }

    /// Says, until the guard is dropped, in which phase the work under this
    /// context is. If the context ends meanwhile, the error of
    /// [`run`](Context::run) names that phase, and in the phases before a
    /// request can be sent it says that none was.
    ///
    /// For code that waits for something of its own, a pool for instance:
    ///
    /// ```
    /// use pgdeadline::{Context, Phase};
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let ctx = Context::background().with_timeout(Duration::from_millis(200));
    /// let waited = ctx.run(async {
    ///     let _waiting = Context::current().unwrap().enter_phase(Phase::PoolWait);
    ///     std::future::pending::<()>().await
    /// });
    /// let error = waited.await.unwrap_err();
    /// assert_eq!(error.phase(), Some(Phase::PoolWait));
    /// assert!(error.is_retry_safe());
    /// # }
    /// ```
    pub fn enter_phase(&self, phase: Phase) -> PhaseGuard {
        // A context that is over takes no registration; leaving the phase
        // then takes off none.
        let _ = self.observe(&PHASES, phase.code().into());
        PhaseGuard {
            context: self.clone(),
            phase,
        }
    }
}

/// Marks a phase of the work under a context until it is dropped; made by
/// [`Context::enter_phase`].
#[derive(Debug)]
#[must_use = "the phase is left when the guard is dropped"]
pub struct PhaseGuard {
    context: Context,
    phase: Phase,
}

impl Drop for PhaseGuard {
    fn drop(&mut self) {
        self.context.unobserve(&PHASES, self.phase.code().into());
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|r| r.key)).finish()
    }
}

/// The observer behind every [`PhaseGuard`]: the key is the phase, so none of
/// them needs an allocation.
struct Phases;

impl Observer for Phases {
    fn ended(&self, _key: u64, _end: &End) {}

    fn finished(&self, _key: u64) {}

    fn progress(&self, key: u64) -> Option<Progress> {
        let phase = Phase::from_code(u8::try_from(key).ok()?)?;
        let mut progress = Progress::before_request(phase);
        if !phase.is_before_request() {
            progress.sent = None;
        }
        Some(progress)
    }
}

static PHASES: LazyLock<Arc<dyn Observer>> = LazyLock::new(|| Arc::new(Phases));
