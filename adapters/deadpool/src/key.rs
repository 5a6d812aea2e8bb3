//! The process id and secret key that a stock client holds.
//!
//! tokio-postgres shows them to nobody, but writes them into a CancelRequest,
//! to any stream. Here that stream is a piece of memory: nothing is sent.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Client;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

/// By what the two sides of a connection are matched; see
/// [`Session::client_key`](pgdeadline::Session::client_key).
pub(crate) type ClientKey = (i32, i32);

/// Costs a few hundred nanoseconds: to be asked once a client.
pub(crate) fn of(client: &Client) -> Option<ClientKey> {
    let mut written = Vec::new();
    if !write_cancel_request(client, Memory(&mut written)) {
        return None;
    }
    let (rest, key) = written.split_last_chunk()?;
    let (_, process_id) = rest.split_last_chunk()?;
    Some((i32::from_be_bytes(*process_id), i32::from_be_bytes(*key)))
}

/// Memory makes nobody wait, so one poll is enough; `false`: it was not.
fn write_cancel_request(client: &Client, memory: Memory<'_>) -> bool {
    let token = client.cancel_token();
    let request = pin!(token.cancel_query_raw(memory, HandOver));
    let done = request.poll(&mut Context::from_waker(Waker::noop()));
    matches!(done, Poll::Ready(Ok(())))
}

/// Keeps what is written, and says yes to an SSLRequest.
struct Memory<'a>(&'a mut Vec<u8>);

impl AsyncWrite for Memory<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Memory<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        buf.put_slice(b"S");
        Poll::Ready(Ok(()))
    }
}

impl TlsStream for Memory<'_> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

/// TLS that there is none of: a client of a connection under TLS insists on it
/// for its cancels too.
struct HandOver;

impl<'a> TlsConnect<Memory<'a>> for HandOver {
    type Stream = Memory<'a>;
    type Error = Infallible;
    type Future = Ready<Result<Memory<'a>, Infallible>>;

    fn connect(self, stream: Memory<'a>) -> Self::Future {
        ready(Ok(stream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_postgres::Config;
    use tokio_postgres::config::{SslMode, SslNegotiation};

    /// A client of a server that says no more than it must.
    async fn client(ssl_mode: SslMode, negotiation: SslNegotiation, key: ClientKey) -> Client {
        let (near, mut far) = tokio::io::duplex(1024);
        let server = tokio::spawn(async move {
            let mut start_up = [0; 8];
            if negotiation == SslNegotiation::Postgres && ssl_mode == SslMode::Require {
                far.read_exact(&mut start_up).await.unwrap();
                far.write_all(b"S").await.unwrap();
            }
            far.read_exact(&mut start_up).await.unwrap();
            let mut greeting = b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c".to_vec();
            greeting.extend(key.0.to_be_bytes());
            greeting.extend(key.1.to_be_bytes());
            greeting.extend(b"Z\0\0\0\x05I");
            far.write_all(&greeting).await.unwrap();
            far
        });
        let mut config = Config::new();
        config
            .user("me")
            .ssl_mode(ssl_mode)
            .ssl_negotiation(negotiation);
        let (client, _) = config.connect_raw(near, Same).await.unwrap();
        server.await.unwrap();
        client
    }

    #[derive(Clone)]
    struct Same;

    impl TlsConnect<tokio::io::DuplexStream> for Same {
        type Stream = Plain;
        type Error = Infallible;
        type Future = Ready<Result<Plain, Infallible>>;

        fn connect(self, stream: tokio::io::DuplexStream) -> Self::Future {
            ready(Ok(Plain(stream)))
        }
    }

    struct Plain(tokio::io::DuplexStream);

    impl TlsStream for Plain {
        fn channel_binding(&self) -> ChannelBinding {
            ChannelBinding::none()
        }
    }

    impl AsyncRead for Plain {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Plain {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    #[tokio::test]
    async fn the_key_is_read_from_clients_with_tls_and_without() {
        for (mode, negotiation) in [
            (SslMode::Disable, SslNegotiation::Postgres),
            (SslMode::Require, SslNegotiation::Postgres),
            (SslMode::Require, SslNegotiation::Direct),
        ] {
            let client = client(mode, negotiation, (4242, -7)).await;
            assert_eq!(of(&client), Some((4242, -7)), "{mode:?} {negotiation:?}");
        }
    }

    #[tokio::test]
    async fn a_client_whose_server_sent_no_key_has_zeros_or_what_a_session_put_there() {
        let client = client(SslMode::Disable, SslNegotiation::Postgres, (0, 1)).await;
        assert_eq!(of(&client), Some((0, 1)));
    }
}
