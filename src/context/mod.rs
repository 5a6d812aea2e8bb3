//! Deadline, cancellation and cause of all that is done for one request.
//!
//! Go's `context`, for Rust. A [`Context`] is a cheap handle into a tree: a
//! child has the earlier of its own and its parent's deadline, and ends when
//! its parent does.
//!
//! 1. A context ends once, for one [`Cause`]; the first one stays.
//! 2. Who derives a context gets a [`Guard`], which alone can cancel it, and
//!    ends it when dropped.
//! 3. No context has a task or a timer of its own: who waits brings the timer.
//! 4. A context whose work returned its own result is *finished*, which is not
//!    an end: nothing is cancelled for it, and no later end reaches it.
//!
//! This layer knows nothing of PostgreSQL. Layers below register as observers
//! of a context (`observer`), and promise to end it in time as its timekeepers.

mod ambient;
mod cause;
mod guard;
#[cfg(all(test, pgdeadline_loom))]
mod models;
mod node;
mod observer;
mod run;
mod slab;
mod spread;
mod sync;
#[cfg(all(test, not(pgdeadline_loom)))]
mod tests;
mod token;
mod try_run;
mod unread;
mod waiters;
mod watch;

pub use ambient::{Scope, spawn};
pub use cause::{Cause, End, Reason};
pub use guard::Guard;
pub(crate) use node::Over;
pub use observer::PhaseGuard;
pub(crate) use observer::{Observer, Progress};
pub use run::Run;
pub use try_run::TryRun;
pub(crate) use unread::Unread;
pub use watch::Ended;

use node::Node;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A deadline, a cancellation signal and the cause of the end, shared by all
/// that is done for one request.
///
/// Cloning gives another handle to the same context; two handles are equal if
/// they are of the same.
///
/// ```
/// use pgdeadline::Context;
/// use std::time::Duration;
///
/// let request = Context::background().with_timeout(Duration::from_secs(5));
/// let lookup = request.with_timeout(Duration::from_secs(1));
/// assert!(lookup.deadline() < request.deadline());
///
/// // The earlier deadline holds.
/// let report = request.with_timeout(Duration::from_secs(60));
/// assert_eq!(report.deadline(), request.deadline());
///
/// request.cancel_with("the client went away");
/// assert!(lookup.is_ended() && report.is_ended());
/// ```
#[derive(Clone)]
pub struct Context {
    node: Arc<Node>,
}

impl Context {
    /// A context that never ends: the root from which others are derived.
    ///
    /// Made ambient (with [`scope`](Context::scope)) it says that no deadline
    /// is wanted, also where a default deadline is set.
    pub fn background() -> Context {
        Context { node: Node::root() }
    }

    /// A child to cancel on its own, with the deadline of this context.
    pub fn child(&self) -> Guard {
        Guard::new(self.derive(None))
    }

    /// A child that ends at `deadline`, or at this context's own deadline if
    /// that is earlier. A deadline that has passed is one too: the child has
    /// ended.
    pub fn with_deadline(&self, deadline: Instant) -> Guard {
        Guard::new(self.derive(Some(deadline)))
    }

    /// A child that ends after `timeout`, or at this context's own deadline if
    /// that is earlier. A timeout too long for the clock means no deadline of
    /// its own.
    pub fn with_timeout(&self, timeout: Duration) -> Guard {
        Guard::new(self.derive(Instant::now().checked_add(timeout)))
    }

    /// When this context ends at the latest, `None` for never.
    pub fn deadline(&self) -> Option<Instant> {
        self.node.deadline()
    }

    /// The time left until the [`deadline`](Context::deadline), zero if it has
    /// passed; `None` where there is no deadline. Says nothing of a
    /// cancellation.
    pub fn remaining(&self) -> Option<Duration> {
        let deadline = self.deadline()?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    /// What ended this context; `None` while it lives, and when it finished.
    ///
    /// A context that is past its deadline has ended, though nobody waited
    /// for it.
    pub fn end(&self) -> Option<End> {
        match self.node.over()? {
            Over::Ended(end) => Some(end),
            Over::Finished => None,
        }
    }

    /// Whether this context has ended.
    pub fn is_ended(&self) -> bool {
        self.end().is_some()
    }

    /// Whether this context was derived from `other`, directly or not. Not
    /// true of a context and itself.
    pub fn is_descendant_of(&self, other: &Context) -> bool {
        self.node.is_descendant_of(&other.node)
    }

    /// Whether this context was derived from `other`, or from what `other`
    /// stands for if it is the child that a `run` works in.
    pub(crate) fn is_under(&self, other: &Context) -> bool {
        self.node.is_under(&other.node)
    }

    /// A child that nobody can end by itself; for tasks and hooks.
    pub(crate) fn derive(&self, deadline: Option<Instant>) -> Context {
        Context {
            node: self.node.child(deadline),
        }
    }

    /// The child that `run` works in.
    fn stand_in(&self) -> Context {
        Context {
            node: self.node.stand_in(),
        }
    }

    /// Is this the child that a `run` works in, so that `run` brings back who
    /// works under it?
    pub(crate) fn is_run(&self) -> bool {
        self.node.stands_for_parent()
    }

    /// The deadline has passed: ends this context and, if the deadline is an
    /// ancestor's, that ancestor. For timekeepers.
    pub(crate) fn expire(&self) {
        self.node.expire();
    }

    /// Promises to [`expire`](Context::expire) this context at its deadline.
    /// Counted; withdrawn by as many [`leave_time`](Context::leave_time).
    ///
    /// The promise counts for a descendant too, as long as it has no earlier
    /// deadline of its own.
    pub(crate) fn keep_time(&self) {
        self.node.keep_time();
    }

    /// Withdraws one promise. Those who relied on the last one are woken, and
    /// bring their own timers.
    pub(crate) fn leave_time(&self) {
        self.node.leave_time();
    }

    /// Is this the only handle, without a context derived from it?
    pub(crate) fn is_last_handle(&self) -> bool {
        Arc::strong_count(&self.node) == 1
    }

    /// Tells contexts apart for as long as one of the handles lives.
    pub(crate) fn id(&self) -> usize {
        Arc::as_ptr(&self.node).addr()
    }
}

impl PartialEq for Context {
    /// Whether both are handles to the same context.
    fn eq(&self, other: &Context) -> bool {
        Arc::ptr_eq(&self.node, &other.node)
    }
}

impl Eq for Context {}

impl Hash for Context {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.node).hash(state);
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("id", &format_args!("{:#x}", self.id()))
            .field("remaining", &self.remaining())
            .field("end", &self.end())
            .finish()
    }
}
