//! Waiting for a context to be over, with a timer only where nobody else keeps
//! the time.
//!
//! 1. Whoever waits brings the timer: a context has none of its own.
//! 2. The timer is made in the first poll that finds a deadline without a
//!    timekeeper. Until then a waiter relies on the timekeeper, and is woken
//!    when the last one leaves.
//! 3. The clock is compared before the timer is asked: a timer can stay
//!    pending although its time has come (a task that has spent its budget),
//!    and a timekeeper can be late.
//! 4. A timer that is made already is kept when a timekeeper comes: it fires
//!    late or for nothing, and neither does harm.

use super::Context;
use super::cause::End;
use super::node::{Node, Over};
use pin_project_lite::pin_project;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll, Waker, ready};
use tokio::time::{Instant, Sleep, sleep_until};

pin_project! {
    /// A wait for a node to be over.
    #[derive(Default)]
    pub(super) struct Watch {
        own: Option<Entry>,
        // At an ancestor whose timekeeper counts for the node.
        timekeeper: Option<Entry>,
        #[pin]
        timer: Option<Sleep>,
    }
}

impl Watch {
    /// Ready when `node` is over, the same node in every call.
    ///
    /// # Panics
    ///
    /// If the node has a deadline and nobody keeps its time, outside a tokio
    /// runtime with time enabled.
    pub(super) fn poll_over(
        self: Pin<&mut Self>,
        node: &Arc<Node>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Over> {
        let mut this = self.project();
        let own = this.own.get_or_insert_with(|| Entry::new(node));
        if let Err(over) = node.wait(&mut own.slot, cx.waker()) {
            return Poll::Ready(over);
        }
        let Some(deadline) = node.deadline() else {
            return Poll::Pending;
        };
        if Instant::now() < deadline {
            if this.timer.is_none() {
                if rely_on_timekeeper(this.timekeeper, node, cx.waker()) {
                    return Poll::Pending;
                }
                this.timer.set(Some(sleep_until(deadline)));
            }
            if let Some(timer) = this.timer.as_mut().as_pin_mut() {
                ready!(timer.poll(cx));
            }
        }
        node.expire();
        match node.wait(&mut own.slot, cx.waker()) {
            Err(over) => Poll::Ready(over),
            Ok(()) => Poll::Pending,
        }
    }
}

/// Whether somebody will end `node` at its deadline; if so, `waker` is woken
/// when he no longer will. It waits at the node itself already.
fn rely_on_timekeeper(entry: &mut Option<Entry>, node: &Arc<Node>, waker: &Waker) -> bool {
    if node.has_timekeeper() {
        *entry = None;
        return true;
    }
    for keeper in node.sharing_deadline().skip(1) {
        let mut new = None;
        let entered = entry
            .as_mut()
            .filter(|entry| Arc::ptr_eq(&entry.node, keeper));
        let slot = match entered {
            Some(entered) => &mut entered.slot,
            None => &mut new,
        };
        if !keeper.wait_on_timekeeper(slot, waker) {
            continue;
        }
        if new.is_some() {
            *entry = Some(Entry {
                node: keeper.clone(),
                slot: new,
            });
        }
        return true;
    }
    *entry = None;
    false
}

/// A place in the list of a node's waiters, given back when dropped.
struct Entry {
    node: Arc<Node>,
    slot: Option<u32>,
}

impl Entry {
    fn new(node: &Arc<Node>) -> Entry {
        Entry {
            node: node.clone(),
            slot: None,
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.node.stop_waiting(slot);
        }
    }
}

pin_project! {
    /// The future that [`Context::ended`] returns.
    #[must_use = "futures do nothing unless polled"]
    pub struct Ended {
        context: Context,
        #[pin]
        watch: Watch,
    }
}

impl Context {
    /// Waits until this context ends, and returns that end.
    ///
    /// A context that *finishes*, because the [`run`](Context::run) that made
    /// it returned its future's own result, never ends; nor does one whose
    /// guard was disarmed and that has neither deadline nor parent that ends.
    ///
    /// ```
    /// use pgdeadline::{Cause, Context};
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let ctx = Context::background().with_timeout(Duration::from_secs(1));
    /// assert!(matches!(ctx.ended().await.cause(), Cause::Deadline));
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future only stops the wait.
    ///
    /// # Panics
    ///
    /// When polled outside a tokio runtime with time enabled, if the context
    /// has a deadline.
    pub fn ended(&self) -> Ended {
        Ended {
            context: self.clone(),
            watch: Watch::default(),
        }
    }

    /// Like [`ended`](Context::ended), but a finish counts too.
    pub(super) async fn over(self) -> Over {
        let mut watch = std::pin::pin!(Watch::default());
        std::future::poll_fn(|cx| watch.as_mut().poll_over(&self.node, cx)).await
    }
}

impl Future for Ended {
    type Output = End;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<End> {
        let this = self.project();
        match ready!(this.watch.poll_over(&this.context.node, cx)) {
            Over::Ended(end) => Poll::Ready(end),
            Over::Finished => Poll::Pending,
        }
    }
}

impl std::fmt::Debug for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ended")
            .field("context", &self.context)
            .finish()
    }
}
