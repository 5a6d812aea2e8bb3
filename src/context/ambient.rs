//! The context that a task works under without being handed it.
//!
//! 1. It is set for the length of one poll (or one drop) of a future that
//!    [`scope`](Context::scope) or [`run`](Context::run) owns, in the thread
//!    that polls, and put back afterwards, also when that panics.
//! 2. `run` works in a child that is made by the first who asks for it.
//! 3. A new task starts with none: [`spawn`] carries it over.

use super::Context;
use super::unread::Turn;
use pin_project_lite::pin_project;
use std::cell::RefCell;
use std::future::{Future, IntoFuture};
use std::mem;
use std::pin::Pin;
use std::task::{self, Poll, ready};
use tokio::task::JoinHandle;

/// What is ambient.
pub(super) enum Ambient {
    /// The context itself.
    Scope(Context),
    /// A child of it, made when first asked for (rule 2).
    Run {
        context: Context,
        child: Option<Context>,
    },
}

impl Ambient {
    /// The context to work under.
    pub(super) fn current(&mut self) -> &Context {
        match self {
            Ambient::Scope(context) => context,
            Ambient::Run { context, child } => child.get_or_insert_with(|| context.stand_in()),
        }
    }
}

/// Calls `f` with what is in `slot` as ambient, and puts it back there. A slot
/// is empty only meanwhile.
pub(super) fn enter<R>(slot: &mut Option<Ambient>, f: impl FnOnce() -> R) -> R {
    /// Swaps back on the way out, by whichever way that is.
    struct Entered<'a>(&'a mut Option<Ambient>);

    impl Drop for Entered<'_> {
        fn drop(&mut self) {
            swap(self.0);
        }
    }

    swap(slot);
    let _entered = Entered(slot);
    f()
}

/// Where the thread is past its end there is no ambient context any more, and
/// the slot keeps its own.
fn swap(slot: &mut Option<Ambient>) {
    let _ = AMBIENT.try_with(|ambient| mem::swap(&mut *ambient.borrow_mut(), slot));
}

thread_local! {
    static AMBIENT: RefCell<Option<Ambient>> = const { RefCell::new(None) };
}

pin_project! {
    /// The future that [`Context::scope`] returns.
    #[must_use = "futures do nothing unless polled"]
    pub struct Scope<F> {
        ambient: Option<Ambient>,
        turn: Turn,
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for Scope<F> {
        // What is dropped with the future queues its clean-up under the same
        // context.
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            enter(this.ambient, || this.future.set(None));
        }
    }
}

impl Context {
    /// The context that is ambient here: that of the innermost
    /// [`run`](Context::run), [`try_run`](Context::try_run),
    /// [`scope`](Context::scope) or [`spawn`] whose future is being polled.
    ///
    /// Under `run` it is the child that `run` works in.
    ///
    /// ```
    /// use pgdeadline::Context;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let ctx = Context::background().child();
    /// assert_eq!(Context::current(), None);
    /// ctx.scope(async {
    ///     assert_eq!(Context::current().as_ref(), Some(ctx.context()));
    /// })
    /// .await;
    /// # }
    /// ```
    pub fn current() -> Option<Context> {
        AMBIENT
            .try_with(|ambient| ambient.borrow_mut().as_mut().map(|a| a.current().clone()))
            .ok()
            .flatten()
    }

    /// Makes this context ambient while `future` is polled, and nothing more:
    /// the end of the context reaches what is bound to it, connections for
    /// instance, but `future` itself goes on. To be back when the context
    /// ends, use [`run`](Context::run). As there, the first poll may let the
    /// task of a connection run first.
    ///
    /// # Cancel safety
    ///
    /// As cancel safe as `future`.
    pub fn scope<F: IntoFuture>(&self, future: F) -> Scope<F::IntoFuture> {
        Scope {
            ambient: Some(Ambient::Scope(self.clone())),
            turn: Turn::default(),
            future: Some(future.into_future()),
        }
    }

    /// Spawns a task of tokio's that works under a child of this context.
    ///
    /// The task is not stopped when the context ends, as with
    /// [`scope`](Context::scope); spawn [`run`](Context::run) for that. It
    /// works in a child because the context may *finish* before the task does:
    /// the task is still reached by what ends an ancestor.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(self.derive(None).scope(future))
    }
}

/// Spawns a task of tokio's that goes on under the ambient context, which
/// `tokio::spawn` would lose; see [`Context::spawn`]. Without an ambient
/// context it is `tokio::spawn`.
///
/// ```
/// use pgdeadline::Context;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let request = Context::background().child();
/// let task = request.scope(async {
///     pgdeadline::spawn(async { Context::current().unwrap() })
/// });
/// let context_of_task = task.await.await.unwrap();
/// assert!(context_of_task.is_descendant_of(&request));
/// # }
/// ```
///
/// # Panics
///
/// Outside a tokio runtime.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    match Context::current() {
        Some(context) => context.spawn(future),
        None => tokio::spawn(future),
    }
}

impl<F: Future> Future for Scope<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        ready!(this.turn.poll_given(cx));
        enter(this.ambient, || {
            let future = this.future.as_mut().as_pin_mut();
            let output = future.expect("`Scope` polled after completion").poll(cx);
            if output.is_ready() {
                this.future.set(None);
            }
            output
        })
    }
}

impl<F> std::fmt::Debug for Scope<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scope").finish_non_exhaustive()
    }
}
