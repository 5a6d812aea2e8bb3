//! COPY, in and out.

use std::pin::pin;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, TryStreamExt};
use pgdeadline::Context;
use pgdeadline_deadpool::Error;
use tokio::time::{sleep, timeout};

use super::{Bench, LATE, SHORT, found, in_time, pid, works};

const ENDLESS: &str = "COPY (SELECT generate_series(1, 100000000), repeat('x', 1000)) TO STDOUT";

/// 19. The caller stops writing: the server does not act on a cancel while it
/// waits for data, and is told that the copy failed.
#[tokio::test]
async fn a_copy_in_whose_caller_stops_writing_ends_at_the_deadline() {
    let bench = Bench::pool(1).await;
    let table = bench.table("n int").await;
    let copy = format!("COPY {table} FROM STDIN");
    let before = bench.next_pid().await;

    let ctx = Context::background().with_timeout(SHORT);
    let work = ctx.run(async {
        let client = bench.pool.get().await.unwrap();
        let mut sink = pin!(client.copy_in(&copy).await.unwrap());
        sink.send(Bytes::from_static(b"1\n")).await.unwrap();
        std::future::pending::<()>().await;
    });
    assert!(in_time(work).await.unwrap_err().is_deadline());
    assert_eq!(bench.next_pid().await, before);

    // Or it wakes up after the deadline, and goes on.
    let ctx = Context::background().with_timeout(SHORT);
    let client = ctx.scope(bench.pool.get()).await.unwrap();
    let mut sink = Box::pin(client.copy_in::<_, Bytes>(&copy).await.unwrap());
    sink.send(Bytes::from_static(b"1\n")).await.unwrap();
    sleep(SHORT * 2).await;
    bench.server.wait_idle(before, LATE).await;
    let result = in_time(async {
        sink.send(Bytes::from_static(b"2\n")).await?;
        sink.as_mut().finish().await
    });
    let error = result.await.unwrap_err();
    assert!(found(&error).is_deadline(), "{error}");
    drop(sink);
    drop(client);
    assert_eq!(bench.next_pid().await, before);
    assert_eq!(bench.count(&table).await, 0);
    bench.wait_quiet(1).await;
}

/// 19. The caller drops the sink: the copy fails, and the client works on.
#[tokio::test]
async fn a_copy_in_whose_sink_is_dropped_fails_and_leaves_the_client() {
    let bench = Bench::pool(1).await;
    let table = bench.table("n int").await;
    let copy = format!("COPY {table} FROM STDIN");
    let ctx = Context::background().with_timeout(LATE);
    let client = ctx.scope(bench.pool.get()).await.unwrap();
    let before = pid(&client).await;
    for _ in 0..3 {
        {
            let mut sink = pin!(client.copy_in(&copy).await.unwrap());
            sink.send(Bytes::from_static(b"1\n")).await.unwrap();
        }
        works(&client).await;
    }
    drop(client);
    assert_eq!(bench.next_pid().await, before);
    assert_eq!(bench.count(&table).await, 0);
}

/// 19. The server stops reading, because it waits for a lock: the caller, stuck
/// in `send`, is back at the deadline.
///
/// DIFFERENCE: under `scope` it is `finish` that tells. tokio-postgres's sink
/// takes what is sent without a look at what the server says.
#[tokio::test]
async fn a_copy_in_that_the_server_does_not_read_ends_at_the_deadline() {
    let bench = Bench::pool(1).await;
    let table = bench.table("n int PRIMARY KEY").await;
    let before = bench.next_pid().await;
    let mut admin = bench.server.admin().await;
    let holder = admin.transaction().await.unwrap();
    // The row that the copy will have to wait for.
    let insert = format!("INSERT INTO {table} VALUES (1)");
    holder.batch_execute(&insert).await.unwrap();

    for by_scope in [false, true] {
        let ctx = Context::background().with_timeout(SHORT * 2);
        let copying = async {
            let client = bench.pool.get().await?;
            let copy = format!("COPY {table} FROM STDIN");
            let mut sink = pin!(client.copy_in(&copy).await?);
            for n in 1.. {
                if by_scope && ctx.is_ended() {
                    break;
                }
                let lines: String = (n * 1000..).take(1000).map(|n| format!("{n}\n")).collect();
                let lines = if n == 1 {
                    "1\n".to_owned() + &lines
                } else {
                    lines
                };
                sink.send(Bytes::from(lines)).await?;
            }
            sink.finish().await?;
            Ok::<_, Error>(())
        };
        let error = if by_scope {
            in_time(ctx.scope(copying)).await.unwrap_err()
        } else {
            in_time(ctx.try_run(copying)).await.unwrap_err()
        };
        assert!(found(&error).is_deadline(), "{by_scope}: {error}");
        assert_eq!(bench.next_pid().await, before, "{by_scope}");
        bench.wait_quiet(1).await;
    }
    holder.rollback().await.unwrap();
    assert_eq!(bench.count(&table).await, 0);
}

/// 20. COPY OUT, cancelled half-way.
#[tokio::test]
async fn a_copy_out_cancelled_half_way_is_an_error_and_no_end() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    for reads in [true, false] {
        let ctx = Context::background().child();
        let client = ctx.scope(bench.pool.get()).await.unwrap();
        let mut out = pin!(client.copy_out(ENDLESS).await.unwrap());
        out.next().await.unwrap().unwrap();
        if !reads {
            sleep(SHORT).await;
        }
        ctx.cancel_with("half is enough");
        bench.server.wait_idle(before, LATE).await;
        let rest = in_time(out.try_for_each(async |_| Ok(()))).await;
        let error = found(&rest.unwrap_err());
        assert_eq!(error.reason().unwrap().to_string(), "half is enough");
        drop(client);
        assert_eq!(bench.next_pid().await, before);
    }
    bench.wait_quiet(1).await;
}

/// 20. COPY OUT, and the consumer fails: what it returned stays its error, and
/// the connection is not lost.
///
/// DIFFERENCE: others cancel at once. The consumer's error is the work's own
/// result, not an end: what is in flight runs on for `finish_bound` at the
/// most, and a check-out gets another connection instead.
#[tokio::test]
async fn the_error_of_a_consumer_of_a_copy_out_stays_its_own() {
    let bound = SHORT;
    let bench = Bench::with(1, |connector| connector.finish_bound(bound)).await;
    let ctx = Context::background().child();
    let work = ctx.try_run(async {
        let client = bench.pool.get().await?;
        let out = client.copy_out(ENDLESS).await?;
        out.map_err(anyhow::Error::from)
            .try_for_each(async |_| anyhow::bail!("the disk is full"))
            .await
    });
    let error = in_time(work).await.unwrap_err();
    assert_eq!(error.to_string(), "the disk is full");
    bench.assert_full().await;
    bench.wait_quiet(1).await;
}

/// 20. The same where the consumer is dropped by a time-out of its own.
#[tokio::test]
async fn a_consumer_of_a_copy_out_that_is_dropped_ends_the_copy() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let ctx = Context::background().child();
    let work = ctx.run(async {
        let client = bench.pool.get().await.unwrap();
        let out = client.copy_out(ENDLESS).await.unwrap();
        out.try_for_each(async |_| Ok(())).await
    });
    assert!(timeout(SHORT, work).await.is_err());
    assert_eq!(bench.next_pid().await, before);
    bench.wait_quiet(1).await;
}
