//! Rule 8, nothing left behind: whatever goes, the server's work goes too.

use futures_util::{FutureExt, TryStreamExt};
use pgdeadline::{Context, EofProof};
use pgdeadline_tests::scripted::{Expect, message};
use tokio::time::{Instant, sleep, timeout};

use crate::stage::*;

#[tokio::test(start_paused = true)]
async fn a_connection_task_that_is_aborted_with_work_in_flight_sends_a_cancel() {
    let Stage {
        net,
        client,
        connection,
        mut backend,
        ..
    } = Stage::new().await;
    let (result, ()) = tokio::join!(client.batch_execute(SLEEP), async {
        backend.expect(Expect::query(SLEEP)).await;
        connection.abort();
    });
    assert!(result.unwrap_err().is_closed());
    let cancel = net.cancel().await;
    assert_eq!((cancel.pid(), cancel.key()), (PID, &KEY.to_be_bytes()[..]));
    cancel.close();
    assert!(!backend.wait_close().await);
}

/// A pooler forgets whom a key is for when that client leaves.
#[tokio::test(start_paused = true)]
async fn behind_a_pooler_the_socket_stays_open_until_the_last_cancel_is_over() {
    let Stage {
        net,
        client,
        connection,
        mut backend,
        ..
    } = Stage::with(|builder| builder.eof_proof(EofProof::NoProof)).await;
    let (result, ()) = tokio::join!(client.batch_execute(SLEEP), async {
        backend.expect(Expect::query(SLEEP)).await;
        connection.abort();
    });
    assert!(result.unwrap_err().is_closed());
    let cancel = net.cancel().await;
    let closed = timeout(ms(500), backend.wait_close()).await;
    assert!(closed.is_err(), "it was closed before its cancel was over");
    cancel.close();
    assert!(!backend.wait_close().await);
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_that_is_dropped_sends_none() {
    let Stage {
        net,
        client,
        connection,
        mut backend,
        ..
    } = Stage::new().await;
    serves_on(&client, &mut backend).await;
    connection.abort();
    backend.wait_close().await;
    sleep(ms(1000)).await;
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_dropped_while_its_work_drains_sends_a_cancel() {
    let Stage {
        net,
        client,
        connection,
        mut backend,
        ..
    } = Stage::new().await;
    ended_at_200(&client, &mut backend).await;
    net.cancel().await.close();
    // That signal was lost; the next would have gone out 50 ms later.
    connection.abort();
    backend.wait_close().await;
    net.cancel().await.close();
    sleep(ms(5000)).await;
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_retired_with_work_in_flight_sends_a_last_cancel() {
    let Stage {
        net,
        client,
        mut backend,
        session,
        ..
    } = Stage::with(|builder| builder.grace(ms(40))).await;
    let began = ended_at_200(&client, &mut backend).await;
    net.cancel().await.close();
    session.closed().await;
    assert_at(began, 240);
    net.cancel().await.close();
    sleep(ms(5000)).await;
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn work_whose_client_was_dropped_is_cancelled_and_the_session_closes_in_order() {
    let Stage {
        net,
        client,
        session,
        connection,
        mut backend,
        ..
    } = Stage::new().await;
    assert!(client.batch_execute(SLEEP).now_or_never().is_none());
    backend.expect(Expect::query(SLEEP)).await;
    drop(client);
    session.client_dropped();
    net.cancel().await.close();
    backend.send(canceled(b'I')).await;
    assert!(backend.wait_close().await, "with a Terminate");
    connection.await.unwrap().unwrap();
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_dropped_with_work_that_never_stops_is_bounded_by_the_grace() {
    let Stage {
        net,
        client,
        session,
        connection,
        mut backend,
        ..
    } = Stage::new().await;
    answer_cancels(&net);
    assert!(client.batch_execute(SLEEP).now_or_never().is_none());
    backend.expect(Expect::query(SLEEP)).await;
    let began = Instant::now();
    drop(client);
    session.client_dropped();
    assert!(!backend.wait_close().await);
    assert_at(began, 2000);
    assert!(connection.await.unwrap().unwrap_err().is_retired());
}

#[tokio::test(start_paused = true)]
async fn a_client_dropped_with_work_that_has_sent_rows_lets_it_run_to_its_bound() {
    let Stage {
        net,
        client,
        session,
        connection,
        mut backend,
        ..
    } = Stage::with(|builder| builder.finish_bound(ms(1000))).await;
    let ctx = Context::background().child();
    let (first, ()) = tokio::join!(
        ctx.run(async {
            let stream = client.simple_query_raw("SELECT effects()").await?;
            std::pin::pin!(stream).try_next().await
        }),
        async {
            backend.expect(Expect::query("SELECT effects()")).await;
            backend
                .send([
                    message::row_description(&[("n", message::TEXT)]),
                    message::rows(1),
                ])
                .await;
        }
    );
    first.unwrap().unwrap().unwrap();
    let began = Instant::now();
    drop(client);
    session.client_dropped();
    backend.expect_silence(ms(990)).await;
    net.assert_quiet().await;
    net.cancel().await.close();
    assert_at(began, 1000);
    backend.send(canceled(b'I')).await;
    assert!(backend.wait_close().await);
    connection.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_dropped_with_a_transaction_open_closes_in_order() {
    let Stage {
        net,
        client,
        session,
        connection,
        mut backend,
        ..
    } = Stage::new().await;
    begin(&client, &mut backend).await;
    drop(client);
    session.client_dropped();
    // Either it rolls back first or it just goes: both end the transaction.
    match backend.read().await {
        pgdeadline_tests::scripted::Frontend::Query { query } => {
            assert_eq!(query, "ROLLBACK");
            backend.send(done("ROLLBACK", b'I')).await;
            assert!(backend.wait_close().await);
        }
        other => assert_eq!(other.name(), "Terminate"),
    }
    connection.await.unwrap().unwrap();
    net.assert_quiet().await;
}
