//! From and to tokio-util's `CancellationToken`, for code that speaks it.

use super::cause::{Cause, End, Reason};
use super::node::Node;
use super::observer::{Observer, Progress};
use super::{Context, Over};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{self, Wake, Waker};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

impl Context {
    /// A context that is cancelled when `token` is. Needs no task.
    ///
    /// ```
    /// use pgdeadline::{Cause, Context};
    /// use tokio_util::sync::CancellationToken;
    ///
    /// let shutdown = CancellationToken::new();
    /// let ctx = Context::from_token(shutdown.clone());
    /// assert!(!ctx.is_ended());
    /// shutdown.cancel();
    /// assert!(matches!(ctx.end().unwrap().cause(), Cause::Cancelled(_)));
    /// ```
    pub fn from_token(token: CancellationToken) -> Context {
        let context = Context::background();
        Follower::follow(&context, token);
        context
    }

    /// A token that is cancelled when this context ends, and not when it
    /// finishes.
    ///
    /// The token can't bring a timer. So for a context with a deadline this
    /// spawns a task, which ends with the context and no later than the
    /// deadline; without a deadline none is needed. The context is kept until
    /// it is over: cancel the guard of a context that would live for ever.
    ///
    /// ```
    /// use pgdeadline::Context;
    ///
    /// let ctx = Context::background().child();
    /// let token = ctx.to_token();
    /// ctx.cancel();
    /// assert!(token.is_cancelled());
    /// ```
    ///
    /// # Panics
    ///
    /// If the context has a deadline, outside a tokio runtime.
    pub fn to_token(&self) -> CancellationToken {
        let token = CancellationToken::new();
        if self.deadline().is_some() && !self.is_ended() {
            let over = self.clone().over();
            let to_cancel = token.clone();
            tokio::spawn(async move {
                if let Over::Ended(_) = over.await {
                    to_cancel.cancel();
                }
            });
            return token;
        }
        let leader: Arc<dyn Observer> = Arc::new(Leader {
            token: token.clone(),
            context: Mutex::new(Some(self.clone())),
        });
        if let Err(Over::Ended(_)) = self.observe(&leader, 0) {
            token.cancel();
        }
        token
    }
}

/// Ends a context when a token is cancelled: the token's wake-up looks again.
struct Follower {
    node: Weak<Node>,
    /// `None` once the token was cancelled.
    cancelled: Mutex<Option<Pin<Box<WaitForCancellationFutureOwned>>>>,
}

impl Follower {
    /// The context keeps its follower, and with it the place in the token's
    /// list of waiters. Neither of these keeps the context, or the follower.
    fn follow(context: &Context, token: CancellationToken) -> Weak<Follower> {
        let follower = Arc::new(Follower {
            node: Arc::downgrade(&context.node),
            cancelled: Mutex::new(Some(Box::pin(token.cancelled_owned()))),
        });
        let weak = Arc::downgrade(&follower);
        let observer: Arc<dyn Observer> = follower.clone();
        if context.observe(&observer, 0).is_ok() {
            follower.look();
        }
        weak
    }

    fn look(self: &Arc<Follower>) {
        let waker = Waker::from(Arc::new(Look(Arc::downgrade(self))));
        let mut cancelled = self
            .cancelled
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(future) = cancelled.as_mut() else {
            return;
        };
        let mut cx = task::Context::from_waker(&waker);
        if future.as_mut().poll(&mut cx).is_pending() {
            return;
        }
        *cancelled = None;
        drop(cancelled);
        if let Some(node) = self.node.upgrade() {
            let reason = "the cancellation token was cancelled";
            node.end(Cause::Cancelled(Reason::new(reason.into())));
        }
    }
}

impl Observer for Follower {
    fn ended(&self, _key: u64, _end: &End) {}

    fn finished(&self, _key: u64) {}

    fn progress(&self, _key: u64) -> Option<Progress> {
        None
    }
}

/// The waker that a follower leaves with the token. Weak: it is kept by the
/// future that the follower holds.
struct Look(Weak<Follower>);

impl Wake for Look {
    fn wake(self: Arc<Look>) {
        if let Some(follower) = self.0.upgrade() {
            follower.look();
        }
    }
}

/// Cancels a token when a context ends. Keeps that context until it is over,
/// since one that nobody holds would not be reached by its ancestors.
struct Leader {
    token: CancellationToken,
    context: Mutex<Option<Context>>,
}

impl Leader {
    fn let_go(&self) {
        let context = self
            .context
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(context);
    }
}

impl Observer for Leader {
    fn ended(&self, _key: u64, _end: &End) {
        self.token.cancel();
        self.let_go();
    }

    fn finished(&self, _key: u64) {
        self.let_go();
    }

    fn progress(&self, _key: u64) -> Option<Progress> {
        None
    }
}

#[cfg(all(test, not(pgdeadline_loom)))]
mod tests {
    use super::*;

    #[test]
    fn follower_goes_with_its_context_and_not_before() {
        let token = CancellationToken::new();
        let context = Context::background();
        let follower = Follower::follow(&context, token.clone());
        assert!(follower.upgrade().is_some());
        drop(context);
        assert!(follower.upgrade().is_none());
        token.cancel();
    }
}
