//! Stand-in for the session: passes everything through.
#![allow(dead_code)]

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsStream};

use crate::connect::{Connector, Peer, Transport};
use crate::error::Error;

pub(crate) struct SessionStream(Transport);

pub(crate) struct Shared {
    pub(crate) peer: Arc<Peer>,
    pub(crate) connector: Connector,
}

pub(crate) fn open(
    transport: Transport,
    peer: Arc<Peer>,
    connector: Connector,
) -> (SessionStream, Arc<Shared>) {
    (
        SessionStream(transport),
        Arc::new(Shared { peer, connector }),
    )
}

/// Drives a connection.
pub struct Connection {
    pub(crate) shared: Arc<Shared>,
    pg: tokio_postgres::Connection<SessionStream, SessionStream>,
}

impl Connection {
    pub(crate) fn new(
        shared: Arc<Shared>,
        pg: tokio_postgres::Connection<SessionStream, SessionStream>,
    ) -> Self {
        Connection { shared, pg }
    }
}

impl Future for Connection {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.pg).poll(cx).map_err(Error::from)
    }
}

impl AsyncRead for SessionStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for SessionStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl TlsStream for SessionStream {
    fn channel_binding(&self) -> ChannelBinding {
        self.0.channel_binding()
    }
}
