//! The driver's side: what the client's polls would not do.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Core;
use crate::session::machine::NextWrite;

impl Core {
    /// Does by itself what the client's polls would not: writes the session's
    /// own bytes, reads on while ended work drains, answers in the server's
    /// place. Says whether the client should be polled again.
    pub(in crate::session) fn poll_drive(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        while self.transport.is_some() && self.machine.next_write() == NextWrite::Own {
            if self.poll_own(cx)?.is_pending() {
                break;
            }
        }
        if let Some(transport) = &mut self.transport
            && self.unflushed
        {
            self.unflushed = Pin::new(transport).poll_flush(cx)?.is_pending();
        }
        while self.transport.is_some() && self.machine.drains() && self.up.len() < UP_LIMIT {
            match self.poll_fill(cx)? {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Poll::Pending => break,
            }
        }
        self.settle(self.now());
        Ok(self.wants_poll())
    }

    /// Is there something that a poll of the client would move?
    fn wants_poll(&mut self) -> bool {
        let news = self.reading && self.up_from < self.up.len();
        let may_write = self.held
            && !matches!(
                self.machine.next_write(),
                NextWrite::Hold | NextWrite::Nothing | NextWrite::Own
            );
        self.reading &= !news;
        self.held &= !may_write;
        news || may_write
    }

    /// Reads into a buffer of the session's own and keeps what is to go up.
    /// `false`: the server has closed.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let Some(transport) = &mut self.transport else {
            return Poll::Ready(self.closing().map(|()| false));
        };
        let mut scratch = [MaybeUninit::uninit(); SCRATCH];
        let mut buf = ReadBuf::uninit(&mut scratch);
        ready!(Pin::new(transport).poll_read(cx, &mut buf))?;
        if buf.filled().is_empty() {
            return Poll::Ready(Ok(false));
        }
        let now = self.now();
        let mut rest = buf.filled();
        while !rest.is_empty() {
            let taken = self
                .machine
                .handle_received(rest, Some(&mut self.up), now)
                .map_err(|malformed| self.malformed(malformed))?;
            rest = &rest[taken..];
            self.settle(now);
        }
        Poll::Ready(Ok(true))
    }

    pub(super) fn poll_own(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(transport) = &mut self.transport else {
            return Poll::Ready(Ok(()));
        };
        let len = ready!(Pin::new(&mut *transport).poll_write(cx, self.machine.own_bytes()))?;
        if len == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.unflushed = true;
        self.machine.injected(len);
        Poll::Ready(Ok(()))
    }
}

/// How much is read at once while filtering; on the stack, so it costs nothing
/// while nobody drains.
const SCRATCH: usize = 8 * 1024;
/// What may wait to go up before the drain waits for the reader.
const UP_LIMIT: usize = 16 * 1024;
