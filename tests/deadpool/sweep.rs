//! Work that somebody abandoned, with no context to tell of it.

use std::time::Duration;

use pgdeadline::Context;
use pgdeadline_tests::scripted::{Expect, Net, message};
use tokio::time::{Instant, timeout};

use super::{LONG, SHORT, SLEEP, Shared, pid, scripted_pool};

#[tokio::test]
async fn a_query_abandoned_by_a_timeout_is_cancelled_without_a_check_out() {
    let shared = Shared::pool(2).await;
    let client = shared.pool.get().await.unwrap();
    let before = pid(&client).await;
    assert!(timeout(SHORT, client.batch_execute(SLEEP)).await.is_err());
    drop(client);
    // Nobody checks out; the server is idle all the same.
    shared.server.wait_idle(before, LONG).await;
    assert_eq!(shared.next_pid().await, before);
}

#[tokio::test]
async fn so_is_one_that_a_timeout_abandoned_inside_a_context() {
    let shared = Shared::pool(2).await;
    let ctx = Context::background().with_timeout(10 * LONG);
    let before = ctx
        .run(async {
            let client = shared.pool.get().await.unwrap();
            let before = pid(&client).await;
            assert!(timeout(SHORT, client.batch_execute(SLEEP)).await.is_err());
            drop(client);
            shared.server.wait_idle(before, LONG).await;
            before
        })
        .await
        .unwrap();
    assert_eq!(shared.next_pid().await, before);
}

#[tokio::test]
async fn a_pool_of_one_serves_at_once_after_an_abandoned_query() {
    let shared = Shared::pool(1).await;
    let client = shared.pool.get().await.unwrap();
    let before = pid(&client).await;
    assert!(timeout(SHORT, client.batch_execute(SLEEP)).await.is_err());
    drop(client);
    let next = timeout(LONG, shared.next_pid()).await.unwrap();
    assert_eq!(next, before);
}

#[tokio::test(start_paused = true)]
async fn it_is_found_within_one_interval_and_not_while_the_client_is_held() {
    let net = Net::new();
    let pool = scripted_pool(&net, |builder| builder.max_size(1));
    let server = async {
        let mut backend = net.backend().await;
        backend.authenticate(7, 7).await;
        backend.expect(Expect::query("SELECT slow()")).await;
        backend
    };
    let work = async {
        let client = pool.get().await.unwrap();
        let query = client.batch_execute("SELECT slow()");
        assert!(timeout(Duration::from_millis(10), query).await.is_err());
        client
    };
    let (client, mut backend) = tokio::join!(work, server);
    backend.expect_silence(Duration::from_secs(5)).await;
    assert!(net.try_cancel().is_none(), "somebody may still want it");

    let returned = Instant::now();
    drop(client);
    let cancel = net.cancel().await;
    assert!(returned.elapsed() <= Duration::from_millis(100));
    backend
        .send([
            message::error("57014", "stopped"),
            message::ready_for_query(b'I'),
        ])
        .await;
    drop(cancel);

    let (client, ()) = tokio::join!(pool.get(), async {});
    drop(client.unwrap());
    drop(pool);
    backend.wait_close().await;
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn what_has_sent_rows_runs_on() {
    let net = Net::new();
    let pool = scripted_pool(&net, |builder| builder.max_size(1));
    let server = async {
        let mut backend = net.backend().await;
        backend.authenticate(7, 7).await;
        backend.expect(Expect::query("UPDATE slow")).await;
        backend
            .send([
                message::row_description(&[("n", message::TEXT)]),
                message::rows(1),
            ])
            .await;
        backend
    };
    let work = async {
        let client = pool.get().await.unwrap();
        let query = client.simple_query("UPDATE slow");
        assert!(timeout(Duration::from_millis(10), query).await.is_err());
    };
    let ((), mut backend) = tokio::join!(work, server);
    backend.expect_silence(Duration::from_secs(5)).await;
    assert!(net.try_cancel().is_none());
    backend
        .send([
            message::command_complete("UPDATE 1"),
            message::ready_for_query(b'I'),
        ])
        .await;
    let client = pool.get().await.unwrap();
    assert!(!client.is_closed());
    assert_eq!(net.dials(), 1);
}
