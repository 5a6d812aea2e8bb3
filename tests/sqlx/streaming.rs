//! Row streams: slow readers, readers that leave, servers that stall.

use std::pin::pin;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use pgdeadline::Context;
use pgdeadline_sqlx::{ConnectionExt, PoolExt};
use pgdeadline_tests::proxy::{Answers, Proxy};
use pgdeadline_tests::server::Server;
use tokio::time::{sleep, timeout};

use super::{Bench, LATE, SHORT, found, in_time, of_size, pid, sql, works};

/// More than all buffers between here and the server hold.
const ENDLESS: &str = "SELECT generate_series(1, 100000000), repeat('x', 1000)";

/// 18. A stream that is read slowly ends at the deadline, as an error and not
/// as its end, and the server is not held up by the reader.
#[tokio::test]
async fn a_stream_that_is_read_slowly_ends_as_an_error() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let ctx = Context::background().with_timeout(SHORT);
    let mut connection = ctx.scope(bench.pool.acquire()).await.unwrap();
    let mut rows = sqlx::query(ENDLESS).fetch(&mut *connection);
    rows.next().await.unwrap().unwrap();
    // Past the deadline, and nobody reads.
    sleep(SHORT).await;
    bench.server.wait_idle(before, LATE).await;
    let rest = in_time(async {
        loop {
            match rows.next().await {
                Some(Ok(_)) => {}
                other => return other,
            }
        }
    });
    let error = rest.await.expect("not the stream's end").map(drop);
    let error = error.unwrap_err();
    assert!(found(&error).is_deadline(), "{error}");
    drop(rows);
    drop(connection);
    bench.assert_free(before).await;
}

/// 18. The same under `run`, which drops the stream.
#[tokio::test]
async fn a_stream_under_run_ends_with_it() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let ctx = Context::background().with_timeout(SHORT);
    let work = async {
        let mut rows = sqlx::query(ENDLESS).fetch(&bench.pool);
        while let Some(row) = rows.next().await {
            row?;
            sleep(SHORT / 10).await;
        }
        Ok(())
    };
    let error = in_time(pgdeadline_sqlx::try_run(&ctx, work)).await;
    assert!(found(&error.unwrap_err()).is_deadline());
    bench.assert_free(before).await;
}

/// 18. A stream that is dropped half-way inside a check-out that goes on.
///
/// DIFFERENCE: others cancel it at once. Here only an end cancels, for it may
/// be a statement with effects whose first row was all that was wanted; what
/// follows on the connection waits behind it, until the context ends.
#[tokio::test]
async fn a_stream_dropped_half_way_ends_with_the_context() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let ctx = Context::background().with_timeout(SHORT * 2);
    let mut connection = ctx.scope(bench.pool.acquire()).await.unwrap();
    {
        let mut rows = sqlx::query(ENDLESS).fetch(&mut *connection);
        rows.next().await.unwrap().unwrap();
    }
    let next = sqlx::query("SELECT 1").execute(&mut *connection);
    let error = in_time(next).await.unwrap_err();
    assert!(found(&error).is_deadline(), "{error}");
    drop(connection);
    bench.assert_free(before).await;
}

/// 18. A stream whose connection goes back half-way, and nobody waits for the
/// rest: not even the context is needed, once it has ended or was dropped.
#[tokio::test]
async fn a_stream_whose_operation_is_dropped_leaves_the_connection_at_once() {
    let bench = Bench::pool(1).await;
    let mut connection = bench.acquire().await;
    let before = pid(&mut connection).await;
    let ctx = Context::background().child();
    let endless = connection.within(&ctx, async |c| {
        let rows = sqlx::query(ENDLESS).fetch(c);
        rows.try_for_each(async |_| Ok(())).await
    });
    assert!(timeout(SHORT, endless).await.is_err());
    works(&mut connection).await;
    drop(connection);

    let ctx = Context::background().child();
    let endless = ctx.run(async {
        let rows = sqlx::query(ENDLESS).fetch(&bench.pool);
        rows.try_for_each(async |_| Ok(())).await
    });
    assert!(timeout(SHORT, endless).await.is_err());
    bench.assert_free(before).await;
}

/// 18. An endless stream that is left without an end runs on for
/// `finish_bound`, and no longer.
#[tokio::test]
async fn a_stream_that_is_left_is_bounded() {
    let bench = Bench::with(1, |connector| connector.finish_bound(SHORT)).await;
    bench.next_pid().await;
    {
        let mut rows = sqlx::query(ENDLESS).fetch(&bench.pool);
        rows.next().await.unwrap().unwrap();
    }
    bench.assert_full().await;
    bench.wait_quiet(1).await;
}

/// 18. A statement whose stream was left in time has its effects all the same:
/// under a context, under none, and on an acquired connection.
#[tokio::test]
async fn a_statement_left_after_its_first_row_has_its_effects() {
    const ROWS: i64 = 300_000;
    let bench = Bench::pool(1).await;
    let table = bench.table("n int, round int").await;
    for round in 0..3 {
        let insert = sql(format!(
            "INSERT INTO {table} SELECT n, {round} FROM generate_series(1, {ROWS}) n \
             RETURNING repeat('x', 100)"
        ));
        let ctx = Context::background().with_timeout(LATE * 2);
        let first = async {
            let mut rows = sqlx::query(insert).fetch(&bench.pool);
            Ok(rows.try_next().await?.is_some())
        };
        let first = match round {
            0 => in_time(pgdeadline_sqlx::try_run(&ctx, first)).await,
            1 => in_time(first).await,
            _ => in_time(ctx.scope(first)).await,
        };
        assert!(first.unwrap());
        bench.wait_quiet(1).await;
        let all = format!("{table} WHERE round = {round}");
        assert_eq!(bench.count(&all).await, ROWS, "round {round}");
    }
    let insert = sql(format!(
        "INSERT INTO {table} SELECT n, 9 FROM generate_series(1, {ROWS}) n \
         RETURNING repeat('x', 100)"
    ));
    let ctx = Context::background().with_timeout(LATE * 2);
    let mut connection = bench.pool.acquire_under(&ctx).await.unwrap();
    let mut rows = sqlx::query(insert).fetch(&mut *connection);
    rows.try_next().await.unwrap().unwrap();
    drop(rows);
    // What follows on the same connection follows after it.
    works(&mut connection).await;
    let all = format!("{table} WHERE round = 9");
    assert_eq!(bench.count(&all).await, ROWS);
}

/// 18. The server stalls, in the middle of a row or of a header: the caller is
/// back at the deadline, and the pool serves on.
#[tokio::test]
async fn a_server_that_stalls_in_a_stream_holds_nobody_up() {
    let server = Server::shared().await;
    for by_scope in [false, true] {
        let proxy = Proxy::before(server).await;
        // Nothing but the grace ends what such a server has left half done.
        let grace = Duration::from_secs(2);
        let bench = Bench::of(server, proxy.config(), of_size(1), |c| c.grace(grace));
        bench.assert_full().await;
        // Wherever that is: some hundred rows in, and in the middle of one.
        proxy.answers(Answers::First(100_003));
        let ctx = Context::background().with_timeout(SHORT * 2);
        let read = async {
            let rows = pin!(sqlx::query(ENDLESS).fetch(&bench.pool));
            rows.try_for_each(async |_| Ok(())).await
        };
        if by_scope {
            let error = in_time(ctx.scope(read)).await.unwrap_err();
            // Stuck in the middle of a row there is no boundary at which to
            // answer in the server's place: the connection ends instead, and
            // that is all that sqlx can then say.
            let closed = matches!(error, sqlx::Error::Io(_));
            assert!(closed || found(&error).is_deadline(), "{error}");
        } else {
            let error = in_time(pgdeadline_sqlx::try_run(&ctx, read)).await;
            assert!(found(&error.unwrap_err()).is_deadline());
        }
        proxy.answers(Answers::Pass);
        bench.assert_full().await;
        bench.wait_quiet(1).await;
    }
}
