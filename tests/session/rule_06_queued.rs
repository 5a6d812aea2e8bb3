//! Rule 6, nothing queued is missed: what is unwritten when its lease ends is
//! never written, and is answered.

use pgdeadline::{Context, Error, Phase};
use pgdeadline_tests::scripted::{Expect, Net};
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use crate::stage::*;

/// A Query message of exactly so many bytes.
fn query_of(bytes: usize) -> String {
    format!("{:<width$}", "SELECT 1", width = bytes - 6)
}

#[tokio::test(start_paused = true)]
async fn a_request_of_which_no_byte_was_written_is_never_written_and_is_answered() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::on(Net::with_capacity(64), |builder| builder).await;
    let (began, ctx) = (Instant::now(), deadline(200));
    check_out(&session, &ctx).await;
    // The first fills the network to the last byte.
    let first = query_of(64);
    let (sent, unsent) = tokio::join!(
        client.batch_execute(&first),
        client.batch_execute("INSERT INTO unsent VALUES (1)"),
    );
    assert_at(began, 200);
    let (sent, unsent) = (told(sent.unwrap_err()), told(unsent.unwrap_err()));
    assert_eq!(
        (sent.phase(), sent.was_sent()),
        (Some(Phase::Read), Some(true))
    );
    assert_eq!(
        (unsent.phase(), unsent.was_sent()),
        (Some(Phase::Write), Some(false))
    );
    assert!(unsent.is_retry_safe() && !sent.is_retry_safe());

    net.cancel().await.close();
    backend.expect(Expect::query(&first)).await;
    backend.expect_silence(ms(20)).await;
    backend.send(canceled(b'I')).await;
    backend.expect_silence(ms(1000)).await;
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_request_that_has_begun_is_written() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::on(Net::with_capacity(64), |builder| builder).await;
    let ctx = deadline(200);
    let long = query_of(100);
    let error = ctx.scope(client.batch_execute(&long)).await.unwrap_err();
    let error = told(error);
    assert_eq!(
        (error.phase(), error.was_sent()),
        (Some(Phase::Write), Some(true))
    );
    let cancel = net.cancel().await;
    backend.expect(Expect::query(&long)).await;
    backend.send(canceled(b'I')).await;
    cancel.close();
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
}

/// Nothing of this is written, and each is told the end.
async fn everything_is_answered(client: &Client) {
    let answers = [
        client.batch_execute("UPDATE t SET n = 1").await.err(),
        client.prepare("SELECT 1").await.err(),
        client.query("SELECT 1", &[]).await.err(),
        client.simple_query("SELECT 1").await.err(),
        client.batch_execute("").await.err(),
        client.batch_execute("COMMIT").await.err(),
    ];
    for answer in answers {
        let error = told(answer.expect("it has ended"));
        assert!(error.is_deadline(), "{error}");
        assert_eq!(error.was_sent(), Some(false), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_outs_lease_that_has_ended_answers_everything_until_the_next_check_out() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let ctx = deadline(200);
    check_out(&session, &ctx).await;
    serves_on(&client, &mut backend).await;
    sleep(ms(201)).await;
    everything_is_answered(&client).await;
    // Also after the caller has given it back, by whoever holds a reference.
    session.check_in();
    everything_is_answered(&client).await;
    backend.expect_silence(ms(1000)).await;
    session.check_out(None).await.unwrap();
    serves_on(&client, &mut backend).await;
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_check_out_under_a_context_that_has_ended_answers_everything() {
    let Stage {
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let ctx = deadline(200);
    sleep(ms(201)).await;
    check_out(&session, &ctx).await;
    everything_is_answered(&client).await;
    backend.expect_silence(ms(1000)).await;
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn an_operation_on_a_check_out_that_has_ended_is_refused() {
    let Stage {
        session,
        client: _client,
        backend: _backend,
        ..
    } = Stage::new().await;
    let ctx = Context::background().child();
    check_out(&session, &ctx).await;
    ctx.cancel();
    let inner = Context::background();
    let error: Error = session.operation(&inner).await.unwrap_err();
    assert!(error.is_cancelled(), "{error}");
    assert_eq!(error.was_sent(), Some(false));
}

#[tokio::test(start_paused = true)]
async fn what_an_operation_queued_is_its_own_although_it_is_dropped() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let (first, second) = (Context::background().child(), Context::background().child());
    {
        let operation = session.operation(&first).await.unwrap();
        // Queued in this poll, and dropped before the connection is polled.
        let query = first.scope(client.batch_execute(SLEEP));
        assert!(futures_util::FutureExt::now_or_never(query).is_none());
        drop(operation);
    }
    let operation = session.operation(&second).await.unwrap();
    first.cancel();
    net.cancel().await.close();
    backend.expect(Expect::query(SLEEP)).await;
    backend.send(canceled(b'I')).await;
    serves_on(&client, &mut backend).await;
    drop(operation);
    serves_on(&client, &mut backend).await;
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn an_operations_end_answers_it_and_spares_what_comes_after() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let (began, ctx) = (Instant::now(), deadline(200));
    let operation = session.operation(&ctx).await.unwrap();
    let error = told(client.batch_execute(SLEEP).await.unwrap_err());
    assert_at(began, 200);
    assert!(error.is_deadline(), "{error}");
    drop(operation);
    is_made_to_cancel(&net, &mut backend, SLEEP, canceled(b'I')).await;
    serves_on(&client, &mut backend).await;
    is_clean(&session).await;
    net.assert_quiet().await;
}
