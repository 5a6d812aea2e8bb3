//! Read and write deadlines on one byte stream.
//!
//! [`DeadlineStream`] wraps any stream; [`Deadlines`] is the handle that moves
//! its deadlines, from the same task or from another. Both mean what Go's
//! `net.Conn` means:
//!
//! 1. A deadline is absolute. It holds for every later operation, not for one.
//! 2. Past means at once: a read or write begun after its deadline fails
//!    without touching the stream, even where it could have succeeded.
//! 3. A deadline that is moved while an operation is pending counts for that
//!    operation.
//! 4. None means never.
//! 5. A deadline error breaks nothing: once the deadline is moved the stream
//!    works on.
//!
//! Only the connector and the session set deadlines here; why a context ended
//! is decided above, in `session`.
//!
//! # What it costs
//! Without a deadline a poll costs one atomic load. A timer exists only while
//! a deadline is set and an operation was found pending under it; reads and
//! writes share it.

mod deadlines;
mod timer;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

pub use self::deadlines::Deadlines;
use self::deadlines::{Direction, Waiting};
use self::timer::Timer;

pin_project! {
    /// A stream whose reads and writes can be given deadlines.
    ///
    /// The deadlines mean what those of Go's `net.Conn` mean; see
    /// [`set_deadline`](DeadlineStream::set_deadline). An operation that meets
    /// its deadline fails with [`io::ErrorKind::TimedOut`], and the stream can
    /// be used again once the deadline has been moved.
    ///
    /// # Cancel safety
    /// As that of the wrapped stream: the deadline adds nothing that could be
    /// lost.
    ///
    /// # Examples
    /// ```
    /// use pgdeadline::DeadlineStream;
    /// use tokio::io::AsyncReadExt;
    /// use tokio::time::{Duration, Instant};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let (near, _far) = tokio::io::duplex(64);
    /// let mut stream = DeadlineStream::new(near);
    /// stream.set_read_deadline(Some(Instant::now() + Duration::from_millis(5)));
    ///
    /// let error = stream.read_u8().await.unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    /// # }
    /// ```
    pub struct DeadlineStream<S> {
        #[pin]
        inner: S,
        deadlines: Deadlines,
        reading: Waiting,
        writing: Waiting,
        timer: Option<Timer>,
    }
}

impl<S> DeadlineStream<S> {
    /// Wraps a stream. No deadline is set.
    pub fn new(inner: S) -> Self {
        DeadlineStream {
            inner,
            deadlines: Deadlines::new(),
            reading: Waiting::new(),
            writing: Waiting::new(),
            timer: None,
        }
    }

    /// A handle that sets this stream's deadlines from anywhere.
    pub fn deadlines(&self) -> Deadlines {
        self.deadlines.clone()
    }

    /// Sets the deadline of reads.
    ///
    /// `None` means never; an instant that has passed means at once. It counts
    /// for a read that is pending, too.
    pub fn set_read_deadline(&self, deadline: Option<Instant>) {
        self.deadlines.set_read_deadline(deadline);
    }

    /// Sets the deadline of writes: as
    /// [`set_read_deadline`](DeadlineStream::set_read_deadline) does for reads.
    ///
    /// Flush and shutdown have it too, but only for their waiting: they are
    /// tried even after it.
    pub fn set_write_deadline(&self, deadline: Option<Instant>) {
        self.deadlines.set_write_deadline(deadline);
    }

    /// Sets both deadlines at once.
    pub fn set_deadline(&self, deadline: Option<Instant>) {
        self.deadlines.set_deadline(deadline);
    }

    /// The wrapped stream.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The wrapped stream. Reading or writing through it evades the deadlines.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }
}

impl<S> DeadlineStream<S> {
    /// Runs one operation under the deadline of its direction.
    ///
    /// `begin` says whether an operation whose deadline has passed is refused
    /// (rule 2) or is tried all the same.
    fn poll_under<T>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        direction: Direction,
        begin: Begin,
        operation: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let this = self.project();
        if this.deadlines.none_set() {
            // Rule 4. The timer of a deadline that was taken away goes with it.
            if this.timer.is_some() {
                *this.timer = None;
            }
        } else if begin == Begin::InTime && this.deadlines.passed(direction) {
            // Rule 2.
            return Poll::Ready(Err(direction.timed_out()));
        }

        if let Poll::Ready(result) = operation(this.inner, cx) {
            return Poll::Ready(result);
        }

        let waiting = match direction {
            Direction::Read => this.reading,
            Direction::Write => this.writing,
        };
        // Rule 3: from here on a moved deadline wakes this task. Whatever was
        // set before the waker was in place is seen by the lines below.
        this.deadlines.wait(direction, waiting, cx.waker());
        loop {
            let Some(deadline) = this.deadlines.get(direction) else {
                return Poll::Pending;
            };
            // The clock, not the timer, decides: a timer's poll can stay pending
            // past its time when the task's budget is spent.
            if Instant::now() >= deadline {
                return Poll::Ready(Err(direction.timed_out()));
            }
            // A timer that has fired says only that it is time to look: it may
            // have been set for the other direction, or before a move.
            let timer = this
                .timer
                .get_or_insert_with(|| Timer::new(this.deadlines.waker(), deadline));
            if timer.poll_until(deadline).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

/// What becomes of an operation whose deadline has passed before it began.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begin {
    /// It is refused.
    InTime,
    /// It is tried; only its waiting is bounded.
    Always,
}

impl<S: AsyncRead> AsyncRead for DeadlineStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_under(cx, Direction::Read, Begin::InTime, |inner, cx| {
            inner.poll_read(cx, buf)
        })
    }
}

impl<S: AsyncWrite> AsyncWrite for DeadlineStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_under(cx, Direction::Write, Begin::InTime, |inner, cx| {
            inner.poll_write(cx, buf)
        })
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_under(cx, Direction::Write, Begin::InTime, |inner, cx| {
            inner.poll_write_vectored(cx, bufs)
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_under(cx, Direction::Write, Begin::Always, |inner, cx| {
            inner.poll_flush(cx)
        })
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_under(cx, Direction::Write, Begin::Always, |inner, cx| {
            inner.poll_shutdown(cx)
        })
    }
}

#[cfg(test)]
mod tests;
