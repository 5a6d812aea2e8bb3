//! The ready stream to a server, plain or under TLS: one type for both.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsStream};

use super::Stream;
use super::greeting::Greeting;
use crate::stream::Deadlines;

/// A TLS stream without its type.
pub(super) type TlsIo = Box<dyn TlsStream + Send + Unpin>;

/// A stream to a server, up to and without the start-up message.
///
/// Its deadlines are those of the socket, also under TLS.
pub(crate) struct Transport {
    io: Io,
    greeting: Greeting,
}

enum Io {
    Plain(Stream),
    Tls { io: TlsIo, deadlines: Deadlines },
}

impl Transport {
    pub(super) fn plain(stream: Stream) -> Transport {
        Transport {
            io: Io::Plain(stream),
            greeting: Greeting::default(),
        }
    }

    /// `deadlines` are those of the socket stream under `io`.
    pub(super) fn tls(io: TlsIo, deadlines: Deadlines) -> Transport {
        Transport {
            io: Io::Tls { io, deadlines },
            greeting: Greeting::default(),
        }
    }

    /// The handle that sets the socket's deadlines.
    pub(crate) fn deadlines(&self) -> Deadlines {
        match &self.io {
            Io::Plain(stream) => stream.deadlines(),
            Io::Tls { deadlines, .. } => deadlines.clone(),
        }
    }

    /// What binds SCRAM authentication to the TLS channel; none if plain.
    pub(crate) fn channel_binding(&self) -> ChannelBinding {
        match &self.io {
            Io::Plain(_) => ChannelBinding::none(),
            Io::Tls { io, .. } => io.channel_binding(),
        }
    }

    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.io, Io::Tls { .. })
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("tls", &self.is_tls())
            .finish()
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let poll = match &mut this.io {
            Io::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Tls { io, .. } => Pin::new(io).poll_read(cx, buf),
        };
        if !this.greeting.is_over() && matches!(poll, Poll::Ready(Ok(()))) {
            this.greeting
                .look(buf.filled().get(before..).unwrap_or_default())?;
        }
        poll
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Io::Tls { io, .. } => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Io::Tls { io, .. } => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(stream) => stream.is_write_vectored(),
            Io::Tls { io, .. } => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tls { io, .. } => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tls { io, .. } => Pin::new(io).poll_shutdown(cx),
        }
    }
}
