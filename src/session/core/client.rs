//! The client's side: what its polls of the stream do.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::Core;
use crate::session::machine::NextWrite;

impl Core {
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if self.up_from < self.up.len() {
                self.hand_up(buf);
                return Poll::Ready(Ok(()));
            }
            let Some(transport) = &mut self.transport else {
                return Poll::Ready(self.closing());
            };
            if self.machine.wants_filter() {
                // Whatever comes is looked at message by message.
                match self.poll_fill(cx) {
                    Poll::Ready(Ok(true)) => continue,
                    Poll::Ready(Ok(false)) => return Poll::Ready(Ok(())),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return self.no_more(),
                }
            }
            let before = buf.filled().len();
            match Pin::new(transport).poll_read(cx, buf) {
                Poll::Ready(Ok(())) => {
                    let now = self.now();
                    let result = self
                        .machine
                        .handle_received(&buf.filled()[before..], None, now);
                    self.settle(now);
                    return Poll::Ready(match result {
                        Ok(_) => Ok(()),
                        Err(malformed) => Err(self.malformed(malformed)),
                    });
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.no_more(),
            }
        }
    }

    /// Hands up what waits, and gives the buffer back once it is empty.
    fn hand_up(&mut self, buf: &mut ReadBuf<'_>) {
        let waiting = &self.up[self.up_from..];
        let len = waiting.len().min(buf.remaining());
        buf.put_slice(&waiting[..len]);
        self.up_from += len;
        if self.up_from == self.up.len() {
            self.up_from = 0;
            self.up.clear();
            if self.up.capacity() > KEPT {
                self.up = Vec::new();
            }
        }
    }

    fn no_more(&mut self) -> Poll<io::Result<()>> {
        self.reading = true;
        self.asked = true;
        self.machine.handle_taken_up(self.now());
        Poll::Pending
    }

    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let now = self.now();
        self.take_in(buf, now)?;
        loop {
            if self.transport.is_none() {
                return Poll::Ready(self.closing().map(|()| 0));
            }
            match self.machine.next_write() {
                NextWrite::Nothing => return Poll::Ready(Ok(0)),
                NextWrite::Own => ready!(self.poll_own(cx))?,
                NextWrite::Hold => {
                    self.held = true;
                    return Poll::Pending;
                }
                NextWrite::Drop(len) => {
                    self.machine.handle_dropped(len, now);
                    self.scanned -= len;
                    self.settle(now);
                    return Poll::Ready(Ok(len));
                }
                NextWrite::Client(len) => {
                    let Some(transport) = &mut self.transport else {
                        continue;
                    };
                    let len = ready!(Pin::new(transport).poll_write(cx, &buf[..len]))?;
                    if len == 0 {
                        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                    }
                    self.unflushed = true;
                    self.machine.handle_wrote(&buf[..len], now);
                    self.scanned -= len;
                    return Poll::Ready(Ok(len));
                }
            }
        }
    }

    /// Looks at those of the client's bytes that were not looked at before.
    pub(crate) fn take_in(&mut self, buf: &[u8], now: Instant) -> io::Result<()> {
        let Some(fresh) = buf.get(self.scanned..).filter(|fresh| !fresh.is_empty()) else {
            return Ok(());
        };
        // The tail of a COPY that stands before a request: its sink has woken,
        // and nobody knows who else (rule 7).
        if matches!(fresh[0], b'd' | b'c' | b'f') && self.machine.next_request() == self.first {
            self.seen = None;
            self.first_is_out = false;
        }
        let scanned = self.machine.handle_queued(fresh, &mut self.seen, now);
        self.scanned += scanned.map_err(|malformed| self.malformed(malformed))?;
        self.settle(now);
        Ok(())
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(transport) = &mut self.transport else {
            return Poll::Ready(self.closing());
        };
        ready!(Pin::new(transport).poll_flush(cx))?;
        self.unflushed = false;
        self.flushed = true;
        Poll::Ready(Ok(()))
    }

    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Some(transport) => Pin::new(transport).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

/// Room that is kept for answers; more is given back.
const KEPT: usize = 1024;
