//! The server's side of one session, message by message.

use std::io::ErrorKind;
use std::time::Duration;

use pgdeadline_tests::scripted::{Net, message};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{KEY, PID, START_UP, connect, panic_of};

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
async fn bytes_that_are_no_message_reach_the_client_as_they_are() {
    let net = Net::new();
    let mut stream = net.connect().await.unwrap();
    stream.write_all(START_UP).await.unwrap();
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
    stream.write_all(START_UP).await.unwrap();
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
        stream.write_all(START_UP).await.unwrap();
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
