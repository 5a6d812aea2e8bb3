//! The pool itself: waiting for a place, and what comes back in which state.

use std::pin::pin;

use pgdeadline::{Context, Phase};
use pgdeadline_deadpool::PoolExt;
use pgdeadline_tests::eventually;
use pgdeadline_tests::proxy::{Answers, Proxy};
use pgdeadline_tests::server::Server;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Bench, LATE, SHORT, SLEEP, found, in_time, pid, works};

/// 4. Waiting for a free connection, ended by deadline, by cancel, and by a
/// dropped future; nobody's permit is lost.
#[tokio::test]
async fn a_waiter_that_leaves_takes_no_permit_with_it() {
    const SIZE: usize = 2;
    let bench = Bench::pool(SIZE).await;
    let held = [bench.get().await, bench.get().await];

    for _ in 0..3 {
        let ctx = Context::background().with_timeout(SHORT / 3);
        let error = in_time(bench.pool.acquire(&ctx)).await.unwrap_err();
        let error = found(&error);
        assert!(error.is_deadline(), "{error}");
        assert_eq!(error.phase(), Some(Phase::PoolWait));
        assert_eq!(error.was_sent(), Some(false));

        let ctx = Context::background().child();
        let (error, ()) = tokio::join!(in_time(bench.pool.acquire(&ctx)), async {
            tokio::task::yield_now().await;
            ctx.cancel_with("no longer wanted");
        });
        let error = found(&error.unwrap_err());
        assert_eq!(error.reason().unwrap().to_string(), "no longer wanted");
        assert_eq!(error.phase(), Some(Phase::PoolWait));

        let ctx = Context::background().child();
        let waiter = timeout(SHORT / 3, bench.pool.acquire(&ctx)).await;
        assert!(waiter.is_err());
        let waiter = timeout(SHORT / 3, ctx.scope(bench.pool.get())).await;
        assert!(waiter.is_err());

        let ctx = Context::background().with_timeout(SHORT / 3);
        let error = in_time(ctx.run(bench.pool.get())).await.unwrap_err();
        assert!(error.is_deadline(), "{error}");
    }
    assert_eq!(bench.pool.status().waiting, 0);
    drop(held);
    bench.assert_full().await;
    bench.wait_quiet(SIZE).await;
}

/// 5. A connection that comes up after its waiter left goes into the pool or
/// is closed, never lost.
#[tokio::test]
async fn a_connection_whose_waiter_left_is_never_lost() {
    let proxy = Proxy::before(Server::shared().await).await;
    let bench = Bench::behind(&proxy, 4).await;
    for _ in 0..3 {
        // Stuck in start-up, every one; then their waiters leave.
        bench.pool.retain(|_, _| false);
        proxy.answers(Answers::First(1));
        let mut waiters = JoinSet::new();
        for waiter in 0..8 {
            let pool = bench.pool.clone();
            waiters.spawn(async move {
                let ctx = Context::background().with_timeout(SHORT);
                if waiter % 2 == 0 {
                    in_time(pool.acquire(&ctx)).await.is_err()
                } else {
                    let ctx = Context::background().child();
                    timeout(SHORT, pool.acquire(&ctx)).await.is_err()
                }
            });
        }
        assert!(waiters.join_all().await.into_iter().all(|left| left));
        proxy.answers(Answers::Pass);
        bench.assert_full().await;
    }
    // What the server has is what the pool has.
    bench.wait_quiet(bench.pool.status().size).await;
}

/// 6. Returned while busy: abandoned, and cancelled when it is found.
#[tokio::test]
async fn a_client_returned_while_busy_is_not_waited_for() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    for _ in 0..3 {
        let client = bench.get().await;
        let abandoned = timeout(SHORT, client.query(SLEEP, &[])).await;
        assert!(abandoned.is_err());
        drop(client);
        assert_eq!(bench.next_pid().await, before);
    }
    // Nobody checks it out: the sweep finds it.
    let client = bench.get().await;
    assert!(timeout(SHORT, client.query(SLEEP, &[])).await.is_err());
    drop(client);
    bench.wait_quiet(1).await;
}

/// 6. Returned inside a transaction, idle or failed: rolled back before the
/// next one has it.
#[tokio::test]
async fn a_client_returned_inside_a_transaction_is_rolled_back() {
    let bench = Bench::pool(1).await;
    let table = bench.table("n int").await;
    let before = bench.next_pid().await;
    for fails in [false, true] {
        let client = bench.get().await;
        let begin = format!("BEGIN; INSERT INTO {table} VALUES (1)");
        client.batch_execute(&begin).await.unwrap();
        if fails {
            client.batch_execute("SELECT 1/0").await.unwrap_err();
        }
        drop(client);
        let client = bench.get().await;
        // In the transaction of before this would fail, or store with it.
        let insert = format!("INSERT INTO {table} VALUES (2)");
        client.execute(&insert, &[]).await.unwrap();
        assert_eq!(pid(&client).await, before);
    }
    assert_eq!(bench.count(&format!("{table} WHERE n = 1")).await, 0);
    assert_eq!(bench.count(&format!("{table} WHERE n = 2")).await, 2);
}

/// 6. Returned closed: replaced.
#[tokio::test]
async fn a_client_returned_closed_is_replaced() {
    let bench = Bench::pool(1).await;
    let client = bench.get().await;
    let before = pid(&client).await;
    let admin = bench.server.admin().await;
    let terminate = "SELECT pg_terminate_backend($1)";
    admin.execute(terminate, &[&before]).await.unwrap();
    bench.server.wait_gone(before, LATE).await;
    eventually(LATE, "the client knows", async || {
        client.is_closed().then_some(())
    })
    .await;
    drop(client);
    bench.assert_full().await;
    assert_ne!(bench.next_pid().await, before);
}

/// 7. All connections lost at once, idle ones and busy ones.
#[tokio::test]
async fn all_connections_lost_at_once_are_replaced() {
    const SIZE: usize = 6;
    let bench = Bench::pool(SIZE).await;
    bench.assert_full().await;
    let ctx = Context::background().with_timeout(LATE);
    let mut busy = JoinSet::new();
    for _ in 0..SIZE / 2 {
        let (pool, ctx) = (bench.pool.clone(), ctx.context().clone());
        busy.spawn(async move {
            let client = ctx.scope(pool.get()).await.unwrap();
            in_time(ctx.run(client.query(SLEEP, &[]))).await
        });
    }
    let admin = bench.server.admin().await;
    eventually(LATE, "half of the pool is busy", async || {
        let backends = bench.server.backends_seen_by(&admin, &bench.name).await;
        let active = backends.iter().filter(|backend| backend.state == "active");
        (active.count() == SIZE / 2).then_some(())
    })
    .await;
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                     WHERE application_name = $1";
    admin.execute(terminate, &[&bench.name]).await.unwrap();
    for result in busy.join_all().await {
        let error = result.expect("no context ended").unwrap_err();
        assert_eq!(error.code().map(|code| code.code()), Some("57P01"));
    }
    eventually(LATE, "all are gone", async || {
        let backends = bench.server.backends_seen_by(&admin, &bench.name).await;
        backends.is_empty().then_some(())
    })
    .await;
    // An idle client may have to be told by its first query.
    eventually(LATE, "the pool serves again", async || {
        let client = bench.get().await;
        client.query("SELECT 1", &[]).await.ok()
    })
    .await;
    bench.assert_full().await;
    bench.wait_quiet(SIZE).await;
}

/// A check-out under a context that has ended takes no connection away from
/// the others, idle or not.
#[tokio::test]
async fn check_outs_under_an_ended_context_cost_no_connection() {
    let bench = Bench::pool(3).await;
    bench.assert_full().await;
    let mut before: Vec<i32> = bench.backends().await.iter().map(|b| b.pid).collect();
    let ended = Context::background().child();
    ended.cancel();
    for _ in 0..20 {
        let mut get = pin!(ended.scope(bench.pool.get()));
        if let Ok(client) = in_time(&mut get).await {
            let error = client.query("SELECT 1", &[]).await.unwrap_err();
            assert_eq!(found(&error).was_sent(), Some(false), "{error}");
        }
    }
    bench.assert_full().await;
    let mut after: Vec<i32> = bench.backends().await.iter().map(|b| b.pid).collect();
    before.sort_unstable();
    after.sort_unstable();
    assert_eq!(after, before);
    works(&bench.get().await).await;
}
