use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use pgdeadline::dial::Address;
use pgdeadline::{Connector, Context, EofProof, Phase};
use pgdeadline_tests::scripted::{
    CancelAnswer, DialOutcome, Expect, Frontend, Net, STEP_BOUND, Script, message,
};
use pgdeadline_tests::server::Certificates;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use tokio_postgres::{Client, NoTls};

const PID: i32 = 42;
const KEY: i32 = 7;

/// A stock client on the network, its connection driven by a task.
async fn connect(net: &Net) -> Client {
    let stream = net.connect().await.unwrap();
    let (client, connection) = net.config().connect_raw(stream, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// What a task's panic said.
async fn panic_of<T>(task: impl Future<Output = T>) -> String {
    let outcome = std::panic::AssertUnwindSafe(task).catch_unwind().await;
    match outcome {
        Ok(_) => panic!("that should have panicked"),
        Err(panic) => match panic.downcast::<String>() {
            Ok(formatted) => *formatted,
            Err(panic) => (*panic.downcast::<&str>().expect("a panic with a text")).to_owned(),
        },
    }
}

#[tokio::test(start_paused = true)]
async fn a_stock_client_holds_a_conversation() {
    let net = Net::new();
    let played = net.serve(
        Script::new()
            .authenticate(PID, KEY)
            .expect(Expect::query("SELECT 1"))
            .send([
                message::row_description(&[("n", message::TEXT)]),
                message::rows(2),
                message::command_complete("SELECT 2"),
                message::ready_for_query(b'I'),
            ])
            .wait_close(),
    );
    let client = connect(&net).await;
    let messages = client.simple_query("SELECT 1").await.unwrap();
    assert_eq!(messages.len(), 4, "{messages:?}");
    drop(client);
    let played = played.finish().await;
    let backend = played.backend.expect("not closed by the script");
    assert_eq!(backend.parameters()["user"], "postgres");
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_prepared_statement_is_answered() {
    let net = Net::new();
    let far = tokio::spawn({
        let net = net.clone();
        async move {
            let mut backend = net.backend().await;
            backend.authenticate(PID, KEY).await;
            backend
                .answer_prepare("SELECT $1", &[message::TEXT], &[("t", message::TEXT)])
                .await;
            backend.expect_execution().await;
            backend
                .send([
                    message::bind_complete(),
                    message::data_row(&[Some(b"hello")]),
                    message::command_complete("SELECT 1"),
                    message::ready_for_query(b'I'),
                ])
                .await;
            backend
        }
    });
    let client = connect(&net).await;
    let statement = client.prepare("SELECT $1").await.unwrap();
    let row = client.query_one(&statement, &[&"hello"]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "hello");
    far.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_cancel_is_told_from_a_session_and_answered_as_the_script_says() {
    for answer in [CancelAnswer::Eof, CancelAnswer::Hold, CancelAnswer::Reset] {
        let net = Net::new();
        let played = net.serve(Script::new().authenticate(PID, KEY).cancel(answer));
        let client = connect(&net).await;

        let mut request = vec![0, 0, 0, 16];
        request.extend(80_877_102_u32.to_be_bytes());
        request.extend(PID.to_be_bytes());
        request.extend(KEY.to_be_bytes());
        let mut stream = net.connect().await.unwrap();
        stream.write_all(&request).await.unwrap();
        let played = played.finish().await;
        assert_eq!(played.held.len(), usize::from(answer == CancelAnswer::Hold));

        let mut end = [0];
        let read = tokio::time::timeout(Duration::from_secs(60), stream.read(&mut end)).await;
        match answer {
            CancelAnswer::Eof => assert_eq!(read.unwrap().unwrap(), 0),
            CancelAnswer::Reset => {
                assert_eq!(
                    read.unwrap().unwrap_err().kind(),
                    ErrorKind::ConnectionReset
                );
            }
            CancelAnswer::Hold => assert!(read.is_err(), "held open"),
        }
        drop(client);
        assert_eq!(net.dials(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_for_somebody_else_fails_the_script() {
    let net = Net::new();
    let played = net.serve(
        Script::new()
            .authenticate(PID, KEY)
            .cancel(CancelAnswer::Eof),
    );
    let _client = connect(&net).await;
    let mut stream = net.connect().await.unwrap();
    let request = [0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 1, 0, 0, 0, 2];
    stream.write_all(&request).await.unwrap();
    let message = panic_of(played.finish()).await;
    assert!(
        message.contains("a CancelRequest for another session"),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_surprise_is_named_with_what_was_expected() {
    let net = Net::new();
    let played = net.serve(
        Script::new()
            .authenticate(PID, KEY)
            .expect(Expect::query("SELECT 1")),
    );
    let client = connect(&net).await;
    // A client that is not answered is not to be waited for.
    let query = tokio::spawn(async move { client.batch_execute("SELECT 2").await });
    let message = panic_of(played.finish()).await;
    query.abort();
    assert_eq!(
        message,
        r#"expected Query "SELECT 1", got Query "SELECT 2""#
    );
}

#[tokio::test(start_paused = true)]
async fn a_step_does_not_wait_for_ever() {
    let net = Net::new();
    let played = net.serve(Script::new().authenticate(PID, KEY).expect(Expect::sync()));
    let _client = connect(&net).await;
    let began = Instant::now();
    let message = panic_of(played.finish()).await;
    assert_eq!(message, "expected Sync, but nothing came within 150s");
    assert!(began.elapsed() >= STEP_BOUND);
}

#[tokio::test(start_paused = true)]
async fn a_stall_takes_exactly_as_long_as_it_says() {
    let net = Net::new();
    let _played = net.serve(
        Script::new()
            .authenticate(PID, KEY)
            .expect(Expect::query("SELECT 1"))
            .stall(Duration::from_secs(3))
            .send(message::command_complete("SELECT 0"))
            .send(message::ready_for_query(b'I'))
            .wait_close(),
    );
    let client = connect(&net).await;
    let began = Instant::now();
    client.batch_execute("SELECT 1").await.unwrap();
    assert_eq!(began.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_no_message_reach_the_client_as_they_are() {
    let net = Net::new();
    let mut stream = net.connect().await.unwrap();
    stream
        .write_all(&[0, 0, 0, 9, 0, 3, 0, 0, 0])
        .await
        .unwrap();
    let mut backend = net.backend().await;
    let whole = message::error("57014", "stop");
    backend.send(whole.first(3)).await;
    backend.send(message::raw(&b"\xff"[..])).await;
    backend.close();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, [&whole.bytes()[..3], b"\xff"].concat());
    assert_eq!(whole.rest(3).bytes().len() + 3, whole.bytes().len());
}

#[tokio::test(start_paused = true)]
async fn a_reset_is_no_end() {
    let net = Net::new();
    let mut stream = net.connect().await.unwrap();
    stream
        .write_all(&[0, 0, 0, 9, 0, 3, 0, 0, 0])
        .await
        .unwrap();
    let mut backend = net.backend().await;
    backend.send(message::notice("last words")).await;
    backend.reset();
    let mut got = Vec::new();
    let error = stream.read_to_end(&mut got).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(
        got,
        message::notice("last words").bytes().to_vec(),
        "what came before is read first"
    );
    let error = stream.write_all(b"X").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn silence_is_broken_by_a_whole_message_or_a_part() {
    for (bytes, said) in [
        (&b""[..], None),
        (b"S\0\0\0\x04", Some("got Sync")),
        (b"S\0", Some("got part of a message")),
    ] {
        let net = Net::new();
        let mut stream = net.connect().await.unwrap();
        stream
            .write_all(&[0, 0, 0, 9, 0, 3, 0, 0, 0])
            .await
            .unwrap();
        let mut backend = net.backend().await;
        stream.write_all(bytes).await.unwrap();
        let silence = backend.expect_silence(Duration::from_secs(1));
        match said {
            None => silence.await,
            Some(said) => {
                let message = panic_of(silence).await;
                assert!(message.contains(said), "{message}");
            }
        }
    }
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
    stream
        .write_all(&[0, 0, 0, 9, 0, 3, 0, 0, 0])
        .await
        .unwrap();
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
    stream
        .write_all(&[0, 0, 0, 9, 0, 3, 0, 0, 0])
        .await
        .unwrap();
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
    stream
        .write_all(&[0, 0, 0, 8, 4, 210, 22, 47])
        .await
        .unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'N');
    stream
        .write_all(&[0, 0, 0, 9, 0, 3, 0, 0, 0])
        .await
        .unwrap();
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
            stream
                .write_all(&[0, 0, 0, 8, 4, 210, 22, 47])
                .await
                .unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), b'S');
        }
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&config));
        let name = "localhost".try_into().unwrap();
        let mut tls = connector.connect(name, stream).await.unwrap();
        tls.write_all(&[0, 0, 0, 9, 0, 3, 0, 0, 0]).await.unwrap();
        let mut backend = net.backend().await;
        assert!(backend.is_encrypted());
        tls.write_all(b"X\0\0\0\x04").await.unwrap();
        assert_eq!(backend.read().await, Frontend::Terminate);
        backend.reset();
        let error = tls.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

fn over(net: &Net) -> Connector {
    let builder = Connector::builder(net.config(), NoTls);
    // Else it would ask the server, once, whether a pooler is in between.
    let builder = builder.eof_proof(EofProof::Proof);
    builder.dial(net.clone()).build().unwrap()
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
