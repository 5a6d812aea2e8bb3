//! What tokio-postgres's `Connection` reads from and writes to.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsStream};

use super::core::Core;
use super::shared::Shared;

/// The client's end of a session.
///
/// The waker that it is polled with belongs to the client; the socket is
/// polled with the driver's (rule 7), once there is a driver.
pub(crate) struct SessionStream {
    pub(super) shared: Arc<Shared>,
}

impl SessionStream {
    fn with<T>(
        &self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Core, &mut Context<'_>) -> T,
    ) -> T {
        let mut core = self.shared.lock();
        // Taken out and put back, which is cheaper than a clone.
        match core.task.take() {
            Some(task) => {
                let result = poll(&mut core, &mut Context::from_waker(&task));
                core.task = Some(task);
                result
            }
            None => poll(&mut core, cx),
        }
    }
}

impl AsyncRead for SessionStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with(cx, |core, cx| core.poll_read(cx, buf))
    }
}

impl AsyncWrite for SessionStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with(cx, |core, cx| core.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(cx, |core, cx| core.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(cx, |core, cx| core.poll_shutdown(cx))
    }
}

impl TlsStream for SessionStream {
    fn channel_binding(&self) -> ChannelBinding {
        let core = self.shared.lock();
        core.transport()
            .map_or_else(ChannelBinding::none, |transport| {
                transport.channel_binding()
            })
    }
}
