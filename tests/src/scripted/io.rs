//! The two ends of a connection: the client's in memory, the server's on
//! either kind of network, with TLS or without.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// The client's end of a connection in memory.
///
/// As on a socket, what was sent before the server closed can still be read,
/// and after a reset reading and writing fail with `ConnectionReset`.
pub struct NetStream {
    duplex: DuplexStream,
    reset: Arc<AtomicBool>,
}

/// The server's end of any connection.
pub(super) enum ServerIo {
    Memory {
        duplex: DuplexStream,
        reset: Arc<AtomicBool>,
    },
    Tcp(TcpStream),
    Tls(Box<TlsStream<Rewound>>),
}

/// A server's end of which the first bytes have been read already.
pub(super) struct Rewound {
    first: Vec<u8>,
    io: ServerIo,
}

/// A connection in memory that holds at most `capacity` bytes each way.
pub(super) fn pair(capacity: usize) -> (NetStream, ServerIo) {
    let (near, far) = tokio::io::duplex(capacity);
    let reset = Arc::new(AtomicBool::new(false));
    let client = NetStream {
        duplex: near,
        reset: Arc::clone(&reset),
    };
    (client, ServerIo::Memory { duplex: far, reset })
}

impl ServerIo {
    /// Closes with a reset (RST) in place of an orderly end.
    pub(super) fn reset(self) {
        match self {
            // The flag goes up before the drop that wakes the reader.
            ServerIo::Memory { reset, .. } => reset.store(true, Ordering::Release),
            ServerIo::Tcp(stream) => stream.set_zero_linger().expect("an open socket"),
            ServerIo::Tls(stream) => stream.into_inner().0.io.reset(),
        }
    }

    pub(super) fn is_encrypted(&self) -> bool {
        matches!(self, ServerIo::Tls(_))
    }
}

impl Rewound {
    pub(super) fn new(first: Vec<u8>, io: ServerIo) -> Rewound {
        Rewound { first, io }
    }
}

impl NetStream {
    fn after_reset<T>(&self, result: Poll<io::Result<T>>, ended: bool) -> Poll<io::Result<T>> {
        if ended && self.reset.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        result
    }
}

impl AsyncRead for NetStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.duplex).poll_read(cx, buffer);
        let end = matches!(result, Poll::Ready(Ok(()))) && buffer.filled().len() == before;
        self.after_reset(result, end && buffer.remaining() > 0)
    }
}

impl AsyncWrite for NetStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.duplex).poll_write(cx, bytes);
        let ended = matches!(result, Poll::Ready(Err(_)));
        self.after_reset(result, ended)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.duplex).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.duplex).poll_shutdown(cx)
    }
}

impl AsyncRead for ServerIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ServerIo::Memory { duplex, .. } => Pin::new(duplex).poll_read(cx, buffer),
            ServerIo::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            ServerIo::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for ServerIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            ServerIo::Memory { duplex, .. } => Pin::new(duplex).poll_write(cx, bytes),
            ServerIo::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            ServerIo::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ServerIo::Memory { duplex, .. } => Pin::new(duplex).poll_flush(cx),
            ServerIo::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            ServerIo::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ServerIo::Memory { duplex, .. } => Pin::new(duplex).poll_shutdown(cx),
            ServerIo::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            ServerIo::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let length = self.first.len().min(buffer.remaining());
        buffer.put_slice(&self.first[..length]);
        self.first.drain(..length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
