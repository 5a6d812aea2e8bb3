//! Bytes on their way from one side to the other.
//!
//! The relay holds no message: it passes on what has come, cut anywhere. So its
//! memory is two of these a connection, and what the session itself keeps.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::socket::ClientSocket;

/// A buffer of a fixed size.
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    from: usize,
    to: usize,
}

impl Buffer {
    pub(super) fn new(size: usize) -> Buffer {
        Buffer {
            bytes: vec![0; size].into_boxed_slice(),
            from: 0,
            to: 0,
        }
    }

    /// What is in it.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.from..self.to]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.from == self.to
    }

    /// Is there no room for more, even after moving?
    pub(super) fn is_full(&self) -> bool {
        self.to - self.from == self.bytes.len()
    }

    /// Forgets what is in it.
    pub(super) fn clear(&mut self) {
        (self.from, self.to) = (0, 0);
    }

    /// So many bytes at the front have gone on.
    pub(super) fn consume(&mut self, len: usize) {
        self.from += len;
        if self.is_empty() {
            (self.from, self.to) = (0, 0);
        }
    }

    /// Puts bytes behind what is in it, which must leave room for them.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.make_room();
        self.bytes[self.to..self.to + bytes.len()].copy_from_slice(bytes);
        self.to += bytes.len();
    }

    /// Lets `read` fill the room that is left. Says how much came: nothing means
    /// that there is no more to come.
    pub(super) fn poll_fill(
        &mut self,
        read: impl FnOnce(&mut ReadBuf<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<usize>> {
        self.make_room();
        let mut room = ReadBuf::new(&mut self.bytes[self.to..]);
        ready!(read(&mut room))?;
        let len = room.filled().len();
        self.to += len;
        Poll::Ready(Ok(len))
    }

    /// Reads what is there at this moment.
    pub(super) fn read_now_from(&mut self, socket: &mut impl ClientSocket) -> io::Result<usize> {
        self.make_room();
        let len = socket.read_now(&mut self.bytes[self.to..])?;
        self.to += len;
        Ok(len)
    }

    /// Reads from a stream.
    pub(super) fn poll_read_from(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.poll_fill(|room| Pin::new(stream).poll_read(cx, room))
    }

    /// Writes what is in it to a stream, until nothing is left.
    pub(super) fn poll_write_to(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let len = ready!(Pin::new(&mut *stream).poll_write(cx, self.bytes()))?;
            if len == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.consume(len);
        }
        Poll::Ready(Ok(()))
    }

    /// Moves what is in it to the front, where the end is reached.
    fn make_room(&mut self) {
        if self.to == self.bytes.len() && self.from > 0 {
            self.bytes.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_however_it_is_cut() {
        let mut buffer = Buffer::new(4);
        let (mut put, mut got) = (0u8, Vec::new());
        while got.len() < 100 {
            while !buffer.is_full() {
                let came = buffer.poll_fill(|room| {
                    let len = room.remaining().min(usize::from(put) % 3 + 1);
                    for _ in 0..len {
                        room.put_slice(&[put]);
                        put += 1;
                    }
                    Poll::Ready(Ok(()))
                });
                assert!(matches!(came, Poll::Ready(Ok(1..=3))));
            }
            let taken = got.len() % 3 + 1;
            got.extend_from_slice(&buffer.bytes()[..taken]);
            buffer.consume(taken);
        }
        assert!((0..).zip(&got).all(|(n, byte): (u8, _)| n == *byte));
    }
}
