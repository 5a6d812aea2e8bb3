//! The one timer of a session (rule 12).
//!
//! It is moved only when something is due earlier than it is set for; what it
//! fires for is looked up when it does. So an operation that does not reach its
//! deadline leaves it where it is.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// See the [module](self).
#[derive(Default)]
pub(crate) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    /// Whom it wakes.
    waker: Option<Waker>,
}

impl Timer {
    /// Ready once `due` has come; `None`: nothing is due.
    pub(crate) fn poll(&mut self, due: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(due) = due else {
            return self.poll_nothing(cx);
        };
        let sleep = match &mut self.sleep {
            Some(sleep) => sleep,
            none => {
                self.waker = None;
                none.insert(Box::pin(sleep_until(due)))
            }
        };
        loop {
            if due < sleep.deadline() {
                sleep.as_mut().reset(due);
            } else if !sleep.is_elapsed() && wakes(&self.waker, cx) {
                return Poll::Pending;
            }
            self.waker = Some(cx.waker().clone());
            ready!(sleep.as_mut().poll(cx));
            if due <= Instant::now() {
                sleep.as_mut().reset(due + FAR);
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
        }
    }

    /// Nothing is due. A timer that is set stays: it costs less to let it fire
    /// once than to take it off and set it again with each operation.
    fn poll_nothing(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(sleep) = &mut self.sleep
            && (sleep.is_elapsed() || !wakes(&self.waker, cx))
        {
            self.waker = Some(cx.waker().clone());
            ready!(sleep.as_mut().poll(cx));
            self.sleep = None;
        }
        Poll::Pending
    }
}

fn wakes(waker: &Option<Waker>, cx: &Context<'_>) -> bool {
    waker
        .as_ref()
        .is_some_and(|waker| waker.will_wake(cx.waker()))
}

/// As good as never.
const FAR: Duration = Duration::from_secs(86_400 * 365);

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(timer: &mut Timer, due: Option<Instant>) -> Poll<()> {
        timer.poll(due, &mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_ready_when_due_and_not_before() {
        let (mut timer, now) = (Timer::default(), Instant::now());
        let second = Duration::from_secs(1);
        assert!(poll(&mut timer, None).is_pending());
        assert!(poll(&mut timer, Some(now + 2 * second)).is_pending());
        assert!(
            poll(&mut timer, Some(now + second)).is_pending(),
            "moved to an earlier time"
        );
        tokio::time::sleep(second).await;
        assert!(
            poll(&mut timer, Some(now + 3 * second)).is_pending(),
            "what it was set for is over"
        );
        tokio::time::sleep(2 * second).await;
        assert!(poll(&mut timer, Some(now + 3 * second)).is_ready());
        assert!(poll(&mut timer, None).is_pending());
    }

    #[tokio::test(start_paused = true)]
    async fn it_wakes_whoever_polled_last() {
        let (mut timer, now) = (Timer::default(), Instant::now());
        let due = Some(now + Duration::from_secs(1));
        assert!(poll(&mut timer, due).is_pending());
        std::future::poll_fn(|cx| timer.poll(due, cx)).await;
        assert_eq!(Some(Instant::now()), due);
    }
}
