//! A session that is played from a script.

use std::io::ErrorKind;
use std::time::Duration;

use pgdeadline_tests::scripted::{CancelAnswer, Expect, Net, STEP_BOUND, Script, message};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::{KEY, PID, connect, panic_of};

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
