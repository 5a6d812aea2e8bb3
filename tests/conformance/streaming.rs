//! Row streams: slow readers, readers that leave, servers that stall.

use std::pin::pin;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use pgdeadline::Context;
use pgdeadline_deadpool::{ClientExt, Error};
use pgdeadline_tests::proxy::{Answers, Proxy};
use pgdeadline_tests::server::Server;
use tokio::time::sleep;
use tokio_postgres::types::ToSql;

use super::{Bench, LATE, SHORT, found, in_time, pid, works};

/// More than all buffers between here and the server hold.
const ENDLESS: &str = "SELECT generate_series(1, 100000000), repeat('x', 1000)";

const NONE: [&(dyn ToSql + Sync); 0] = [];

/// 18. A stream that is read slowly ends at the deadline, as an error and not
/// as its end, and the server is not held up by the reader.
#[tokio::test]
async fn a_stream_that_is_read_slowly_ends_as_an_error() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let ctx = Context::background().with_timeout(SHORT);
    let client = ctx.scope(bench.pool.get()).await.unwrap();
    let rows = client.query_raw(ENDLESS, NONE).await.unwrap();
    let mut rows = pin!(rows);
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
    let error = rest.await.expect("not the stream's end").unwrap_err();
    assert!(found(&error).is_deadline(), "{error}");
    drop(client);
    assert_eq!(bench.next_pid().await, before);
}

/// 18. The same under `run`, which drops the stream.
#[tokio::test]
async fn a_stream_under_run_ends_with_it() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let ctx = Context::background().with_timeout(SHORT);
    let work = ctx.try_run(async {
        let client = bench.pool.get().await?;
        let mut rows = pin!(client.query_raw(ENDLESS, NONE).await?);
        while let Some(row) = rows.next().await {
            row?;
            sleep(SHORT / 10).await;
        }
        Ok::<_, Error>(())
    });
    assert!(found(&in_time(work).await.unwrap_err()).is_deadline());
    assert_eq!(bench.next_pid().await, before);
    bench.wait_quiet(1).await;
}

/// 18. A stream that is dropped half-way inside a check-out that goes on.
///
/// DIFFERENCE: others cancel it at once. Here only an end cancels, for it may
/// be a statement with effects whose first row was all that was wanted; what
/// follows on the client waits behind it, until the context ends.
#[tokio::test]
async fn a_stream_dropped_half_way_ends_with_the_context() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let ctx = Context::background().with_timeout(SHORT * 2);
    let client = ctx.scope(bench.pool.get()).await.unwrap();
    {
        let mut rows = pin!(client.query_raw(ENDLESS, NONE).await.unwrap());
        rows.next().await.unwrap().unwrap();
    }
    let error = in_time(client.query("SELECT 1", &[])).await.unwrap_err();
    assert!(found(&error).is_deadline(), "{error}");
    drop(client);
    assert_eq!(bench.next_pid().await, before);
    bench.wait_quiet(1).await;
}

/// 18. A stream whose operation ended as *dropped*: its client works on.
#[tokio::test]
async fn a_stream_of_an_operation_that_is_dropped_leaves_the_client_at_once() {
    let bench = Bench::pool(1).await;
    let mut client = bench.get().await;
    let before = pid(&client).await;
    let ctx = Context::background().child();
    let endless = client.within(&ctx, async |client| {
        let rows = client.query_raw(ENDLESS, NONE).await?;
        rows.try_for_each(async |_| Ok(())).await
    });
    assert!(tokio::time::timeout(SHORT, endless).await.is_err());
    works(&client).await;
    assert_eq!(pid(&client).await, before);
}

/// 18. A statement whose stream was left in time has its effects all the same.
#[tokio::test]
async fn a_statement_left_after_its_first_row_has_its_effects() {
    let bench = Bench::pool(1).await;
    let table = bench.table("n int").await;
    let insert = format!(
        "INSERT INTO {table} SELECT n FROM generate_series(1, 200000) n RETURNING repeat('x', 100)"
    );
    let ctx = Context::background().with_timeout(LATE);
    let first = ctx.try_run(async {
        let client = bench.pool.get().await?;
        let mut rows = pin!(client.query_raw(&insert, NONE).await?);
        let first = rows.try_next().await?;
        Ok::<_, Error>(first.is_some())
    });
    assert!(in_time(first).await.unwrap());
    bench.wait_quiet(1).await;
    assert_eq!(bench.count(&table).await, 200_000);
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
        let bench = Bench::of(server, proxy.config(), 1, |c| c.grace(grace));
        bench.assert_full().await;
        // Wherever that is: some hundred rows in, and in the middle of one.
        proxy.answers(Answers::First(100_003));
        let ctx = Context::background().with_timeout(SHORT * 2);
        let read = async {
            let client = bench.pool.get().await?;
            let rows = client.query_raw(ENDLESS, NONE).await?;
            rows.try_for_each(async |_| Ok(())).await?;
            Ok::<_, Error>(())
        };
        if by_scope {
            let error = in_time(ctx.scope(read)).await.unwrap_err();
            // Stuck in the middle of a row there is no boundary at which to
            // answer in the server's place: the connection ends instead, and
            // that is all that tokio-postgres then says to its callers.
            let error = found(&error);
            let closed = error.as_postgres().is_some_and(|e| e.is_closed());
            assert!(error.is_deadline() || closed, "{error}");
        } else {
            let error = in_time(ctx.try_run(read)).await.unwrap_err();
            assert!(found(&error).is_deadline());
        }
        proxy.answers(Answers::Pass);
        bench.assert_full().await;
        bench.wait_quiet(1).await;
    }
}
