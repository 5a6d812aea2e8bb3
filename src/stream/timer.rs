//! The one timer that reads and writes of a stream share.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::time::{Instant, Sleep};

/// Fires at the earliest deadline it was asked for and then wakes both sides.
///
/// It never fires too late for anybody: it is only ever moved earlier, or
/// moved after it has fired, and firing makes both sides look and ask again.
pub(super) struct Timer {
    sleep: Pin<Box<Sleep>>,
    /// Wakes whoever waits, in either direction.
    waker: Waker,
    fired: bool,
}

impl Timer {
    pub(super) fn new(waker: Waker, deadline: Instant) -> Self {
        Timer {
            sleep: Box::pin(tokio::time::sleep_until(deadline)),
            waker,
            fired: false,
        }
    }

    /// Sees to it that both sides are woken by `deadline`; ready if the timer
    /// has just fired, which may be before it.
    pub(super) fn poll_until(&mut self, deadline: Instant) -> Poll<()> {
        // A deadline later than the one set is left alone: the early firing is
        // cheaper than registering the timer again for each move.
        if self.fired || deadline < self.sleep.deadline() {
            self.sleep.as_mut().reset(deadline);
            self.fired = false;
        }
        let poll = self
            .sleep
            .as_mut()
            .poll(&mut Context::from_waker(&self.waker));
        self.fired = poll.is_ready();
        poll
    }
}

impl std::fmt::Debug for Timer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timer")
            .field("deadline", &self.sleep.deadline())
            .field("fired", &self.fired)
            .finish()
    }
}
