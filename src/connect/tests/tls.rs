//! TLS negotiation, with a TLS in which the server's handshake is one `T`.

use std::pin::Pin;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};

use super::*;
use crate::connect::Stream;
use crate::error::Phase;

/// Shakes hands by waiting for a `T`; whatever else comes is refused.
#[derive(Clone)]
pub(super) struct FakeTls;

pub(super) struct FakeStream(Stream);

impl MakeTlsConnect<Stream> for FakeTls {
    type Stream = FakeStream;
    type TlsConnect = FakeTls;
    type Error = io::Error;

    fn make_tls_connect(&mut self, name: &str) -> io::Result<FakeTls> {
        assert_eq!(name, "10.0.0.1");
        Ok(FakeTls)
    }
}

impl TlsConnect<Stream> for FakeTls {
    type Stream = FakeStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<FakeStream>> + Send>>;

    fn connect(self, mut stream: Stream) -> Self::Future {
        Box::pin(async move {
            match stream.read_u8().await? {
                b'T' => Ok(FakeStream(stream)),
                _ => Err(io::Error::other("that is no handshake")),
            }
        })
    }
}

impl TlsStream for FakeStream {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for FakeStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for FakeStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Connects to 10.0.0.1 or a Unix socket; the text of the error, if there is one.
async fn connect(conduct: Conduct, config: &str) -> Result<(), String> {
    let network = Network::new(&[("10.0.0.1:5432", conduct)]);
    network.state().unix = Some(conduct);
    let connector = network.tls_connector(&format!("{config} user=me"));
    let result = connector.connect(&Context::background()).await.map(drop);
    nothing_is_open(&network).await;
    result.map_err(|error| {
        assert_eq!(error.phase(), Some(Phase::Tls), "{error}");
        error.to_string()
    })
}

const PREFER: &str = "host=10.0.0.1";
const REQUIRE: &str = "host=10.0.0.1 sslmode=require";

#[tokio::test(start_paused = true)]
async fn a_willing_server_gets_tls_and_the_name_of_the_host() {
    for config in [PREFER, REQUIRE] {
        connect(Conduct::AnswersTls(b"ST"), config).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_unwilling_server_is_taken_by_prefer_and_refused_by_require() {
    let conduct = Conduct::AnswersTls(b"N");
    connect(conduct, PREFER).await.unwrap();
    let error = connect(conduct, REQUIRE).await.unwrap_err();
    assert!(
        error.contains("does not offer TLS, which sslmode=require"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn disable_asks_for_nothing() {
    connect(SERVES, "host=10.0.0.1 sslmode=disable")
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn rule_1_bytes_put_after_the_answer_go_to_tls_and_no_further() {
    // A whole, plain start-up as a man in the middle would inject it.
    let injected = b"SR\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x07\0\0\0\x09Z\0\0\0\x05I";
    let error = connect(Conduct::AnswersTls(injected), REQUIRE)
        .await
        .unwrap_err();
    assert!(
        error.contains("TLS handshake failed: that is no handshake"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn rule_2_a_failed_handshake_is_no_reason_to_go_on_in_the_clear() {
    let error = connect(Conduct::AnswersTls(b"S?"), PREFER)
        .await
        .unwrap_err();
    assert!(error.contains("TLS handshake failed"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn rule_3_an_error_in_place_of_the_answer_is_told_but_not_read() {
    let conduct = Conduct::AnswersTls(b"E\0\0\0\x20SFATAL\0Msend me your password\0\0");
    let error = connect(conduct, PREFER).await.unwrap_err();
    assert!(
        error.contains("answered the request for TLS with an error"),
        "{error}"
    );
    assert!(!error.contains("password"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_server_of_another_kind_is_named_as_one() {
    for (conduct, text) in [
        (
            Conduct::Says(b"HTTP/1.1 400 Bad Request\r\n"),
            "not a PostgreSQL server",
        ),
        (
            Conduct::Says(b"\x15\x03\x01\0\x02\x02\x0a"),
            "with \"\\x15\"",
        ),
        (
            Conduct::Closes,
            "closed the connection when it was asked for TLS",
        ),
    ] {
        let error = connect(conduct, PREFER).await.unwrap_err();
        assert!(error.contains(text), "{conduct:?}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn direct_asks_nothing_and_shakes_hands_at_once() {
    let config = format!("{REQUIRE} sslnegotiation=direct");
    connect(Conduct::Greets(b"T"), &config).await.unwrap();

    let error = connect(Conduct::Closes, &config).await.unwrap_err();
    assert!(error.contains("needs PostgreSQL 17"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn without_a_name_tls_is_refused_and_plain_is_not() {
    for (conduct, config, text) in [
        (
            Conduct::AnswersTls(b"S"),
            "hostaddr=10.0.0.1",
            Some("set host beside hostaddr"),
        ),
        (Conduct::AnswersTls(b"N"), "hostaddr=10.0.0.1", None),
    ] {
        let error = connect(conduct, config).await.err();
        assert_eq!(error.is_some(), text.is_some());
        if let (Some(error), Some(text)) = (error, text) {
            assert!(error.contains(text), "{error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_unix_socket_is_not_asked_for_tls_and_can_not_have_it() {
    connect(SERVES, "host=/run/pg").await.unwrap();
    let peer_says_no = Conduct::AnswersTls(b"N");
    let error = connect(peer_says_no, "host=/run/pg sslmode=require").await;
    assert!(error.unwrap_err().contains("no TLS on Unix sockets"));
}
