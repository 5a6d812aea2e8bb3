//! The network: what its dials, names, capacity and encryption do.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pgdeadline::dial::Address;
use pgdeadline::{Connector, Context, EofProof, Phase};
use pgdeadline_tests::scripted::{DialOutcome, Frontend, Net, Script};
use pgdeadline_tests::server::Certificates;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::NoTls;

use super::{KEY, PID, START_UP, panic_of};

const SSL_REQUEST: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];

fn over(net: &Net) -> Connector {
    let builder = Connector::builder(net.config(), NoTls);
    // Else it would ask the server, once, whether a pooler is in between.
    let builder = builder.eof_proof(EofProof::Proof);
    builder.dial(net.clone()).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn dials_fail_as_they_are_told_to() {
    let net = Net::new();
    net.next_dials([
        DialOutcome::Refuse,
        DialOutcome::BlackHole,
        DialOutcome::Unread,
    ]);
    let refused = net.connect().await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let hole = tokio::time::timeout(Duration::from_secs(3600), net.connect()).await;
    assert!(hole.is_err());
    let mut stream = net.connect().await.unwrap();
    stream.write_all(b"anything").await.unwrap();
    net.unread_connection().await.close();
    net.all_dials(DialOutcome::Refuse);
    assert!(net.connect().await.is_err());
    assert!(net.connect().await.is_err());
    assert_eq!(net.dials(), 5);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_took_is_noticed() {
    let net = Net::new();
    net.assert_quiet().await;
    let mut stream = net.connect().await.unwrap();
    stream.write_all(START_UP).await.unwrap();
    let message = panic_of(async { net.assert_quiet().await }).await;
    assert!(
        message.contains("a session that nobody expected"),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_writer_is_held_up_by_a_small_network() {
    let net = Net::with_capacity(64);
    let mut stream = net.connect().await.unwrap();
    stream.write_all(START_UP).await.unwrap();
    let mut backend = net.backend().await;
    let flood = vec![0; 1000];
    let held = tokio::time::timeout(Duration::from_secs(60), async {
        stream.write_all(b"d\0\0\x03\xec").await.unwrap();
        stream.write_all(&flood).await
    });
    assert!(held.await.is_err());
    stream.shutdown().await.unwrap();
    assert!(!backend.wait_close().await);
}

#[tokio::test]
async fn the_same_server_is_on_a_port() {
    let net = Net::new();
    let listener = net.listen().await;
    let played = net.serve(Script::new().authenticate(PID, KEY).reset());
    let mut config = net.config();
    config
        .hostaddr(listener.address().ip())
        .port(listener.address().port());
    let (client, connection) = config.connect(NoTls).await.unwrap();
    assert_eq!(played.finish().await.backend.map(drop), None);
    let error = connection.await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap();
    let source = source.downcast_ref::<std::io::Error>().unwrap();
    assert_eq!(source.kind(), ErrorKind::ConnectionReset);
    drop(client);
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn without_tls_the_answer_to_an_ssl_request_is_no() {
    let net = Net::new();
    let mut stream = net.connect().await.unwrap();
    stream.write_all(SSL_REQUEST).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'N');
    stream.write_all(START_UP).await.unwrap();
    assert!(!net.backend().await.is_encrypted());
}

#[tokio::test(start_paused = true)]
async fn tls_is_spoken_when_asked_for_and_at_once() {
    let certificates = Certificates::generate();
    let net = Net::with_tls(&certificates);
    let config = Arc::new(certificates.client_config());
    for direct in [false, true] {
        let mut stream = net.connect().await.unwrap();
        if !direct {
            stream.write_all(SSL_REQUEST).await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), b'S');
        }
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&config));
        let name = "localhost".try_into().unwrap();
        let mut tls = connector.connect(name, stream).await.unwrap();
        tls.write_all(START_UP).await.unwrap();
        let mut backend = net.backend().await;
        assert!(backend.is_encrypted());
        tls.write_all(b"X\0\0\0\x04").await.unwrap();
        assert_eq!(backend.read().await, Frontend::Terminate);
        backend.reset();
        let error = tls.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connector_dials_it() {
    let net = Net::new();
    let played = net.serve(Script::new().authenticate(PID, KEY).wait_close());
    let (client, connection) = over(&net).connect(&Context::background()).await.unwrap();
    let connection = tokio::spawn(connection);
    assert_eq!(
        net.dialled(),
        [Address::Tcp("192.0.2.1:5432".parse().unwrap())]
    );
    drop(client);
    connection.await.unwrap().unwrap();
    played.finish().await;
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn names_and_addresses_do_as_they_are_told() {
    let net = Net::new();
    net.name("scripted.test", []);
    let error = over(&net)
        .connect(&Context::background())
        .await
        .err()
        .unwrap();
    assert_eq!(error.phase(), Some(Phase::Resolve), "{error}");

    let (dead, live) = (
        "198.51.100.1:5432".parse().unwrap(),
        "198.51.100.2:5432".parse().unwrap(),
    );
    net.name(
        "scripted.test",
        [dead, live].map(|address: SocketAddr| address.ip()),
    );
    net.dials_to(dead, DialOutcome::Refuse);
    let _played = net.serve(Script::new().authenticate(PID, KEY).wait_close());
    let (_client, _connection) = over(&net).connect(&Context::background()).await.unwrap();
    assert_eq!(net.dialled(), [Address::Tcp(dead), Address::Tcp(live)]);
}
