//! Rule 1, in the middle of a message: nothing can be said before its end.

use pgdeadline_tests::scripted::{Expect, message};
use tokio::time::{Instant, sleep};

use crate::stage::*;

#[tokio::test(start_paused = true)]
async fn a_message_that_has_begun_is_passed_to_its_end_and_then_answered() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let cancels = answer_cancels(&net);
    let (began, ctx) = (Instant::now(), deadline(200));
    let row = message::data_row(&[Some(b"in two parts")]);
    let (result, ()) = tokio::join!(ctx.scope(client.simple_query(SLEEP)), async {
        backend.expect(Expect::query(SLEEP)).await;
        backend
            .send([
                message::row_description(&[("t", message::TEXT)]),
                row.first(9),
            ])
            .await;
        sleep(ms(230)).await;
        backend.send(row.rest(9)).await;
    });
    assert_at(began, 230);
    assert!(told(result.unwrap_err()).is_deadline());
    assert_eq!(cancels.load(std::sync::atomic::Ordering::SeqCst), 1);
    backend.send(canceled(b'I')).await;
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stalls_in_the_middle_of_a_message_gets_the_session_retired() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        connection,
        ..
    } = Stage::with(|builder| builder.checkout_wait(ms(50))).await;
    answer_cancels(&net);
    let (began, ctx) = (Instant::now(), deadline(200));
    let row = message::data_row(&[Some(b"in two parts")]);
    let (result, ()) = tokio::join!(ctx.scope(client.simple_query(SLEEP)), async {
        backend.expect(Expect::query(SLEEP)).await;
        backend
            .send([
                message::row_description(&[("t", message::TEXT)]),
                row.first(9),
            ])
            .await;
        assert!(!backend.wait_close().await, "retired, without farewell");
    });
    assert_at(began, 250);
    assert!(result.unwrap_err().is_closed());
    assert!(session.is_closed());
    let error = connection.await.unwrap().unwrap_err();
    assert!(error.is_retired(), "{error}");
    assert!(error.to_string().contains("in the middle of a message"));
}

#[tokio::test(start_paused = true)]
async fn run_is_back_in_time_although_a_message_has_begun() {
    let Stage {
        net,
        client,
        mut backend,
        session,
        ..
    } = Stage::new().await;
    answer_cancels(&net);
    let (began, ctx) = (Instant::now(), deadline(200));
    let row = message::data_row(&[Some(b"in two parts")]);
    let (result, ()) = tokio::join!(ctx.run(client.simple_query(SLEEP)), async {
        backend.expect(Expect::query(SLEEP)).await;
        backend
            .send([
                message::row_description(&[("t", message::TEXT)]),
                row.first(9),
            ])
            .await;
    });
    assert_at(began, 200);
    assert!(end_of(result).is_deadline());
    sleep(ms(20)).await;
    backend.send(row.rest(9)).await;
    backend.send(canceled(b'I')).await;
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
}
