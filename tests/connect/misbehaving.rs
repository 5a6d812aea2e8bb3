//! Servers that are none, that refuse, that hang: on TCP, without TLS.

use std::error::Error as _;

use pgdeadline::{Connector, Context, EofProof, Phase};
use pgdeadline_tests::black_hole::BlackHole;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_postgres::NoTls;

use crate::server::*;
use crate::{LONG, SHORT, failing, url};

async fn error_of<H, F>(handle: H) -> pgdeadline::Error
where
    H: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let address = listen(handle).await;
    failing(&Connector::from_url(&url(address, "password=x"), NoTls).unwrap()).await
}

#[tokio::test]
async fn a_web_server_is_named_as_what_it_is_not() {
    // It waits for a request, finds it a bad one, and keeps the connection.
    let error = error_of(|mut stream| async move {
        read_start_up(&mut stream).await?;
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: keep-alive\r\n\r\n")
            .await?;
        until_closed(stream).await
    })
    .await;
    assert_eq!(error.phase(), Some(Phase::StartUp));
    let text = error.to_string();
    assert!(
        text.contains("not a PostgreSQL server") && text.contains("HTTP/"),
        "{text}"
    );
}

#[tokio::test]
async fn garbage_of_every_kind_is_an_error_and_no_hang() {
    for garbage in [
        &[0u8; 64][..],
        &[0xff; 64],
        b"R\0\0\0\x08\0\0\0\x63",
        b"R\0\0\0\x05\0",
        b"Z",
    ] {
        let error = error_of(move |mut stream| async move {
            stream.write_all(garbage).await?;
            stream.shutdown().await?;
            until_closed(stream).await
        })
        .await;
        assert!(error.is_connect(), "{garbage:?}: {error}");
        assert_eq!(error.was_sent(), Some(false));
    }
}

#[tokio::test]
async fn a_server_that_closes_is_told_as_one() {
    for after_start_up in [false, true] {
        let error = error_of(move |mut stream| async move {
            if after_start_up {
                read_start_up(&mut stream).await?;
            }
            Ok(())
        })
        .await;
        assert_eq!(error.phase(), Some(Phase::StartUp));
    }
}

#[tokio::test]
async fn a_wrong_password_keeps_the_servers_error() {
    let error = error_of(|mut stream| async move {
        read_start_up(&mut stream).await?;
        send(&mut stream, b'R', &[0, 0, 0, 3]).await?;
        read_message(&mut stream).await?;
        let refusal = error_response("28P01", "password authentication failed for user \"me\"");
        send(&mut stream, b'E', &refusal).await
    })
    .await;
    let text = error.to_string();
    assert!(
        text.contains("password authentication failed for user \"me\" (28P01)"),
        "{text}"
    );
    assert!(text.contains("check user and password"), "{text}");
    let source = error
        .source()
        .unwrap()
        .downcast_ref::<tokio_postgres::Error>()
        .unwrap();
    assert_eq!(source.code().unwrap().code(), "28P01");
}

#[tokio::test]
async fn a_missing_password_is_told() {
    let address = listen(|mut stream| async move {
        read_start_up(&mut stream).await?;
        send(&mut stream, b'R', &[0, 0, 0, 3]).await?;
        until_closed(stream).await
    })
    .await;
    let error = failing(&Connector::from_url(&url(address, ""), NoTls).unwrap()).await;
    assert!(error.to_string().contains("password missing"), "{error}");
}

#[tokio::test]
async fn a_server_that_cannot_fork_is_understood() {
    let error = error_of(|mut stream| async move {
        stream
            .write_all(b"Ecould not fork new process for connection\n\0")
            .await
    })
    .await;
    assert!(
        error.to_string().contains("could not start a process"),
        "{error}"
    );
}

#[tokio::test]
async fn an_unknown_host_is_named() {
    let connector = Connector::from_url("postgres://me@no-such-host.invalid", NoTls).unwrap();
    let error = failing(&connector).await;
    assert_eq!(error.phase(), Some(Phase::Resolve));
    let text = error.to_string();
    assert!(
        text.contains("\"no-such-host.invalid\" could not be looked up"),
        "{text}"
    );
}

#[tokio::test]
async fn a_refused_connection_says_where() {
    let hole = BlackHole::open();
    let address = hole.address();
    drop(hole);
    let error = failing(&Connector::from_url(&url(address, ""), NoTls).unwrap()).await;
    assert_eq!(error.phase(), Some(Phase::Connect));
    let text = error.to_string();
    assert!(
        text.contains(&address.to_string()) && text.contains("refused"),
        "{text}"
    );
}

#[tokio::test]
async fn a_missing_unix_socket_says_where_it_looked() {
    let connector = Connector::from_url("host=/no/such/directory user=me", NoTls).unwrap();
    let text = failing(&connector).await.to_string();
    assert!(text.contains("/no/such/directory/.s.PGSQL.5432"), "{text}");
    assert!(text.contains("unix_socket_directories"), "{text}");
}

#[tokio::test]
async fn a_black_hole_is_left_for_the_next_host() {
    let hole = BlackHole::open();
    let well = listen(welcome).await;
    let hosts = format!(
        "host=127.0.0.1,127.0.0.1 port={},{} user=me",
        hole.address().port(),
        well.port()
    );
    let mut config: tokio_postgres::Config = hosts.parse().unwrap();
    config.connect_timeout(SHORT);
    let builder = Connector::builder(config, NoTls).eof_proof(EofProof::Proof);
    let connector = builder.build().unwrap();
    let ctx = Context::background().with_timeout(LONG);
    drop(connector.connect(&ctx).await.unwrap());
}

#[tokio::test]
async fn deadline_and_cancel_are_told_apart_in_each_phase_on_real_sockets() {
    let hole = BlackHole::open();
    let silent = listen(until_closed).await;
    for (address, phase) in [(hole.address(), Phase::Connect), (silent, Phase::StartUp)] {
        let connector = Connector::from_url(&url(address, ""), NoTls).unwrap();

        let ctx = Context::background().with_timeout(SHORT);
        let error = connector.connect(&ctx).await.err().unwrap();
        assert!(error.is_deadline(), "{error}");
        assert_eq!(error.phase(), Some(phase));

        let ctx = Context::background().with_timeout(LONG);
        let cancel = async {
            tokio::time::sleep(SHORT).await;
            ctx.cancel();
        };
        let (connected, ()) = tokio::join!(connector.connect(&ctx), cancel);
        let error = connected.err().unwrap();
        assert!(error.is_cancelled(), "{error}");
        assert_eq!(error.phase(), Some(phase));
    }
}
