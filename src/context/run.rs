//! Doing something until its context ends.
//!
//! 1. `run` works in a child of its context, made when first needed: by who
//!    asks for the ambient context, or by the first poll that has to wait. A
//!    future that is ready at once costs no node.
//! 2. Before the first poll an end wins, also during the turn that `run` gives
//!    first ([`unread`](super::unread)), and the future is not polled at all.
//!    After that the future is polled first, and its result wins.
//! 3. The future is dropped before the error is returned, and how far it had
//!    come is asked before that. Whatever drops with it finds the child
//!    ambient and ended.
//! 4. The future's own result *finishes* the child. Dropping `run` half-way
//!    ends the child as dropped, first of all, and never the context.

use super::Context;
use super::ambient::{Ambient, enter};
use super::cause::{Cause, End};
use super::node::Over;
use super::observer::Progress;
use super::unread::Turn;
use super::watch::Watch;
use crate::error::Error;
use pin_project_lite::pin_project;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{self, Poll, ready};

pin_project! {
    /// The future that [`Context::run`] returns.
    #[must_use = "futures do nothing unless polled"]
    pub struct Run<F> {
        ambient: Option<Ambient>,
        turn: Turn,
        polled: bool,
        #[pin]
        watch: Watch,
        // `None` once it is over.
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for Run<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.future.is_some() {
                if let Some(child) = child(this.ambient) {
                    child.node.end(Cause::Dropped);
                }
                enter(this.ambient, || this.future.set(None));
            }
        }
    }
}

impl Context {
    /// Does something until this context ends: returns what `future` returns,
    /// or an error that tells of the end.
    ///
    /// Like `tokio::time::timeout`, except that the end reaches the database:
    /// what `future` has in flight on a connection of this crate's is
    /// cancelled on the server, and the connection is proven clean before it
    /// is used again, or closed.
    ///
    /// ```
    /// use pgdeadline::Context;
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let ctx = Context::background().with_timeout(Duration::from_millis(200));
    /// assert_eq!(ctx.run(async { 42 }).await.unwrap(), 42);
    ///
    /// let error = ctx.run(std::future::pending::<()>()).await.unwrap_err();
    /// assert!(error.is_deadline());
    /// # }
    /// ```
    ///
    /// A session often answers in the server's place before this is polled
    /// again; then the result is `Ok` with the client's own error, in which
    /// [`Error::find`](crate::Error::find) finds the end.
    /// [`try_run`](Context::try_run) makes one error of the two.
    ///
    /// # Fairness
    ///
    /// On a context that has ended already, the error is returned and `future`
    /// is not polled. After that `future` is polled first: if it has a result
    /// in the same poll in which the end is noticed, the result wins.
    ///
    /// If something was just asked of a connection whose task has not run
    /// since, the first poll lets that task run: it returns pending once, with
    /// `future` not polled yet, also where `future` would be ready.
    ///
    /// # Errors
    ///
    /// An [`Error`] for which [`is_end`](Error::is_end) is true. `future` has
    /// been dropped by then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the returned future drops `future`, and what that has in
    /// flight ends as *dropped*. The context itself goes on: a `select!` that
    /// loses does not end its siblings.
    ///
    /// # Panics
    ///
    /// When polled outside a tokio runtime with time enabled, if the context
    /// has a deadline.
    pub fn run<F: IntoFuture>(&self, future: F) -> Run<F::IntoFuture> {
        Run {
            ambient: Some(Ambient::Run {
                context: self.clone(),
                child: None,
            }),
            turn: Turn::default(),
            polled: false,
            watch: Watch::default(),
            future: Some(future.into_future()),
        }
    }
}

impl<F> Run<F> {
    /// The end of the context that this works in, if it has ended, as those
    /// see it who see the context from outside.
    pub(super) fn end(self: Pin<&mut Self>) -> Option<End> {
        match self.project().ambient {
            Some(Ambient::Run { context, child }) => child.as_ref().unwrap_or(context).end(),
            _ => None,
        }
    }
}

impl<F: Future> Future for Run<F> {
    type Output = Result<F::Output, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        if !self.polled {
            if let Some(end) = self.as_mut().end() {
                let mut this = self.project();
                enter(this.ambient, || this.future.set(None));
                return Poll::Ready(Err(Error::end(&end, Progress::OUTSIDE)));
            }
            let this = self.as_mut().project();
            ready!(this.turn.poll_given(cx));
            *this.polled = true;
        }
        let mut this = self.project();
        let output = enter(this.ambient, || {
            let future = this.future.as_mut().as_pin_mut();
            future.expect("`Run` polled after completion").poll(cx)
        });
        if let Poll::Ready(output) = output {
            if let Some(child) = child(this.ambient) {
                child.node.finish();
            }
            enter(this.ambient, || this.future.set(None));
            return Poll::Ready(Ok(output));
        }
        let Some(ambient) = this.ambient else {
            return Poll::Pending;
        };
        let child = ambient.current();
        let end = match ready!(this.watch.poll_over(&child.node, cx)) {
            Over::Ended(end) => end,
            // Only this finishes it.
            Over::Finished => return Poll::Pending,
        };
        let progress = child.node.progress().unwrap_or(Progress::UNKNOWN);
        enter(this.ambient, || this.future.set(None));
        Poll::Ready(Err(Error::end(&end, progress)))
    }
}

/// The child that a run works in, if it was needed.
fn child(ambient: &Option<Ambient>) -> Option<&Context> {
    match ambient {
        Some(Ambient::Run { child, .. }) => child.as_ref(),
        _ => None,
    }
}

impl<F> std::fmt::Debug for Run<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(pgdeadline_loom)))]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Waker;

    #[test]
    fn future_that_is_ready_costs_no_node() {
        let ctx = Context::background().child();
        let mut run = pin!(ctx.run(std::future::ready(42)));
        let mut cx = task::Context::from_waker(Waker::noop());
        assert!(matches!(run.as_mut().poll(&mut cx), Poll::Ready(Ok(42))));
        assert!(child(run.project().ambient).is_none());
    }

    #[test]
    fn future_that_is_ready_after_a_turn_costs_no_node() {
        let unread = crate::context::Unread::default();
        unread.raise();
        let ctx = Context::background().child();
        let mut run = pin!(ctx.run(std::future::ready(42)));
        let mut cx = task::Context::from_waker(Waker::noop());
        assert!(run.as_mut().poll(&mut cx).is_pending());
        assert!(matches!(run.as_mut().poll(&mut cx), Poll::Ready(Ok(42))));
        assert!(child(run.project().ambient).is_none());
    }

    #[test]
    fn run_that_is_never_polled_costs_no_node() {
        let ctx = Context::background().child();
        let mut run = pin!(ctx.run(std::future::pending::<()>()));
        assert!(child(run.as_mut().project().ambient).is_none());
    }
}
