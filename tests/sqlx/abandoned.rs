//! What a future leaves behind that is dropped half-way.
//!
//! Each of these on a bare sqlx pool of one leaves the next caller to wait
//! until the server has done what nobody wants any more. Here he is served at
//! once, by the same backend.

use pgdeadline::Context;
use pgdeadline_sqlx::{ConnectionExt, PoolExt};
use tokio::time::{sleep, timeout};

use super::{Bench, LATE, SHORT, SLEEP, asleep, asleep_on, ended, found, in_time, pid, works};

/// Without any context.
#[tokio::test]
async fn a_time_out_round_a_query_leaves_the_connection_to_the_next() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    for _ in 0..3 {
        assert!(timeout(SHORT, asleep(&bench.pool)).await.is_err());
        bench.assert_free(before).await;
    }
}

/// The same where the statement has been prepared before, so that it is its
/// Execute that is abandoned, and where it is a simple query.
#[tokio::test]
async fn a_time_out_round_a_query_of_either_protocol_is_the_same() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let seconds = "SELECT pg_sleep($1)";
    let prepared = sqlx::query(seconds).bind(0.0).execute(&bench.pool);
    in_time(prepared).await.unwrap();
    let prepared = sqlx::query(seconds).bind(600.0).execute(&bench.pool);
    assert!(timeout(SHORT, prepared).await.is_err());
    bench.assert_free(before).await;
    let simple = sqlx::raw_sql(SLEEP).execute(&bench.pool);
    assert!(timeout(SHORT, simple).await.is_err());
    bench.assert_free(before).await;
    // Of several statements the rest is not carried out either.
    let table = bench.table("n int").await;
    let several = super::sql(format!("{SLEEP}; INSERT INTO {table} VALUES (1)"));
    let several = sqlx::raw_sql(several).execute(&bench.pool);
    assert!(timeout(SHORT, several).await.is_err());
    bench.assert_free(before).await;
    assert_eq!(bench.count(&table).await, 0);
}

#[tokio::test]
async fn a_query_that_loses_a_select_leaves_the_connection_to_the_next() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    tokio::select! {
        result = asleep(&bench.pool) => panic!("{result:?}"),
        () = sleep(SHORT) => {}
    }
    bench.assert_free(before).await;
}

#[tokio::test]
async fn a_task_that_is_aborted_leaves_the_connection_to_the_next() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let pool = bench.pool.clone();
    let task = tokio::spawn(async move { asleep(&pool).await });
    bench.server.wait_state(before, "active", LATE).await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    bench.assert_free(before).await;
}

#[tokio::test]
async fn a_run_that_ends_leaves_the_connection_to_the_next() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let ctx = Context::background().with_timeout(SHORT);
    let result = in_time(ctx.run(asleep(&bench.pool))).await;
    assert!(ended(result).is_deadline());
    bench.assert_free(before).await;

    // Or is dropped itself.
    let ctx = Context::background().child();
    let run = ctx.run(asleep(&bench.pool));
    assert!(timeout(SHORT, run).await.is_err());
    bench.assert_free(before).await;
}

#[tokio::test]
async fn a_scope_that_ends_leaves_the_connection_to_the_next() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let ctx = Context::background().with_timeout(SHORT);
    let error = in_time(ctx.scope(asleep(&bench.pool))).await.unwrap_err();
    assert!(found(&error).is_deadline());
    bench.assert_free(before).await;

    let ctx = Context::background().child();
    let scope = ctx.scope(asleep(&bench.pool));
    assert!(timeout(SHORT, scope).await.is_err());
    bench.assert_free(before).await;
}

#[tokio::test]
async fn an_acquired_connection_that_is_dropped_is_left_to_the_next() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let ctx = Context::background().with_timeout(LATE);
    let mut connection = bench.pool.acquire_under(&ctx).await.unwrap();
    assert!(timeout(SHORT, asleep_on(&mut connection)).await.is_err());
    drop(connection);
    bench.assert_free(before).await;
}

#[tokio::test]
async fn a_default_deadline_leaves_the_connection_to_the_next() {
    let bench = Bench::with(1, |connector| connector.default_deadline(SHORT)).await;
    let before = bench.next_pid().await;
    let error = in_time(asleep(&bench.pool)).await.unwrap_err();
    assert!(found(&error).is_deadline());
    bench.assert_free(before).await;

    // Dropped by its caller, sooner than that.
    let bench = Bench::with(1, |connector| connector.default_deadline(LATE * 2)).await;
    let before = bench.next_pid().await;
    assert!(timeout(SHORT, asleep(&bench.pool)).await.is_err());
    bench.assert_free(before).await;
}

/// A `within` that ends, or is dropped, gives the connection back to its
/// holder at once.
#[tokio::test]
async fn a_within_that_ends_leaves_the_connection_to_its_holder() {
    let bench = Bench::pool(1).await;
    let mut connection = bench.acquire().await;
    let before = pid(&mut connection).await;
    for _ in 0..3 {
        let ctx = Context::background().with_timeout(SHORT);
        let work = connection.within(&ctx, asleep_on);
        let error = in_time(work).await.unwrap_err();
        assert!(found(&error).is_deadline());
        works(&mut connection).await;

        let ctx = Context::background().child();
        let work = connection.within(&ctx, asleep_on);
        assert!(timeout(SHORT, work).await.is_err());
        works(&mut connection).await;
    }
    drop(connection);
    bench.assert_free(before).await;
}

/// Whoever keeps the connection after his own time-out gives no sign: there it
/// is the end of its context that ends the work, and that of the whole lease.
#[tokio::test]
async fn a_connection_that_is_kept_after_a_time_out_waits_for_its_context() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let ctx = Context::background().with_timeout(SHORT * 3);
    let mut connection = ctx.scope(bench.pool.acquire()).await.unwrap();
    assert!(timeout(SHORT, asleep_on(&mut connection)).await.is_err());
    let error = sqlx::query("SELECT 1").execute(&mut *connection);
    let error = in_time(error).await.unwrap_err();
    assert!(found(&error).is_deadline(), "{error}");
    drop(connection);
    bench.assert_free(before).await;
}

/// Many at once, on a small pool, by two threads: whoever comes after them is
/// served by the backends that are there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_are_abandoned_at_once_leave_a_pool_that_serves() {
    let bench = Bench::pool(4).await;
    bench.assert_full().await;
    let mut before: Vec<i32> = bench.backends().await.iter().map(|b| b.pid).collect();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let pool = bench.pool.clone();
        callers.spawn(async move { timeout(SHORT * 2, asleep(&pool)).await.is_err() });
    }
    assert!(callers.join_all().await.into_iter().all(|left| left));
    bench.assert_full().await;
    bench.wait_quiet(4).await;
    let mut after: Vec<i32> = bench.backends().await.iter().map(|b| b.pid).collect();
    before.sort_unstable();
    after.sort_unstable();
    assert_eq!(after, before);
}
