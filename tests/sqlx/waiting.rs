//! Waiting for a place in the pool.

use std::time::Duration;

use pgdeadline::{Context, Phase};
use pgdeadline_sqlx::PoolExt;
use sqlx::postgres::PgPoolOptions;
use tokio::time::{Instant, timeout};

use super::{Bench, LATE, SHORT, asleep, found, in_time};

/// 4. Waiting for a free connection, ended by deadline, by cancel, and by a
/// dropped future; nobody's permit is lost.
#[tokio::test]
async fn a_waiter_that_leaves_takes_no_permit_with_it() {
    const SIZE: u32 = 2;
    let bench = Bench::pool(SIZE).await;
    let held = [bench.acquire().await, bench.acquire().await];

    for _ in 0..3 {
        let ctx = Context::background().with_timeout(SHORT / 3);
        let error = in_time(bench.pool.acquire_under(&ctx)).await.unwrap_err();
        let error = found(&error);
        assert!(error.is_deadline(), "{error}");
        assert_eq!(error.phase(), Some(Phase::PoolWait));
        assert_eq!(error.was_sent(), Some(false));

        let ctx = Context::background().child();
        let acquire = in_time(bench.pool.acquire_under(&ctx));
        let (error, ()) = tokio::join!(acquire, async {
            tokio::task::yield_now().await;
            ctx.cancel_with("no longer wanted");
        });
        let error = found(&error.unwrap_err());
        assert_eq!(error.reason().unwrap().to_string(), "no longer wanted");
        assert_eq!(error.phase(), Some(Phase::PoolWait));

        let ctx = Context::background().child();
        let waiter = timeout(SHORT / 3, bench.pool.acquire_under(&ctx)).await;
        assert!(waiter.is_err());
        let waiter = timeout(SHORT / 3, ctx.scope(bench.pool.acquire())).await;
        assert!(waiter.is_err());

        let ctx = Context::background().with_timeout(SHORT / 3);
        let error = in_time(ctx.run(bench.pool.acquire())).await.unwrap_err();
        assert!(error.is_deadline(), "{error}");
    }
    drop(held);
    bench.assert_full().await;
    bench.wait_quiet(SIZE as usize).await;
}

/// 4. sqlx's own time-out is its own, and comes through.
#[tokio::test]
async fn sqlxs_own_acquire_timeout_comes_through() {
    let options = PgPoolOptions::new().max_connections(1);
    let bench = Bench::pooled(options.acquire_timeout(SHORT)).await;
    let held = bench.acquire().await;
    let ctx = Context::background().with_timeout(LATE);
    let error = in_time(bench.pool.acquire_under(&ctx)).await.unwrap_err();
    assert!(pgdeadline::Error::find(&error).is_none(), "{error}");
    let error = in_time(ctx.scope(bench.pool.acquire())).await.unwrap_err();
    assert!(matches!(error, sqlx::Error::PoolTimedOut), "{error}");
    drop(held);
    bench.assert_full().await;
}

/// 4. A waiter behind work that is abandoned gets the connection, and does not
/// wait for that work.
#[tokio::test]
async fn a_waiter_does_not_wait_for_what_is_abandoned_before_him() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let (abandoned, waiter) = tokio::join!(timeout(SHORT, asleep(&bench.pool)), async {
        tokio::task::yield_now().await;
        let mut connection = bench.acquire().await;
        super::pid(&mut connection).await
    });
    assert!(abandoned.is_err());
    assert_eq!(waiter, before);
    bench.wait_quiet(1).await;
}

/// A caller is never late, however many there are: 50 at once on a pool of
/// eight, each with the same deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_ends_at_once_leave_a_pool_that_serves() {
    let bench = Bench::pool(8).await;
    bench.assert_full().await;
    let deadline = Instant::now() + SHORT * 2;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let pool = bench.pool.clone();
        callers.spawn(async move {
            let ctx = Context::background().with_deadline(deadline);
            let work = pgdeadline_sqlx::try_run(&ctx, asleep(&pool));
            found(&in_time(work).await.unwrap_err())
        });
    }
    for error in callers.join_all().await {
        assert!(error.is_deadline(), "{error}");
    }
    bench.assert_full().await;
    bench.wait_quiet(8).await;
}

/// Time that was spent in the pool's queue counts.
#[tokio::test]
async fn time_in_the_pools_queue_counts() {
    let bench = Bench::pool(1).await;
    let table = bench.table("n int").await;
    let held = bench.acquire().await;
    let ctx = Context::background().with_timeout(SHORT);
    let insert = super::sql(format!("INSERT INTO {table} VALUES (1)"));
    let work = ctx.scope(sqlx::query(insert).execute(&bench.pool));
    let (error, ()) = tokio::join!(in_time(work), async {
        tokio::time::sleep(SHORT + Duration::from_millis(100)).await;
        drop(held);
    });
    let error = found(&error.unwrap_err());
    assert!(error.is_deadline(), "{error}");
    assert_eq!(error.was_sent(), Some(false), "{error}");
    assert_eq!(bench.count(&table).await, 0);
}
