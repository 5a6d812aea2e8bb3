//! COPY TO STDOUT.
//!
//! sqlx counts no answer for a copy: once one is left half-way, what it reads
//! next on that connection is not what it takes it for, also without us. Such
//! a connection is replaced, so none of these asks for the same backend where
//! the stream was dropped.

use futures_util::{StreamExt, TryStreamExt};
use pgdeadline::Context;
use pgdeadline_sqlx::ConnectionExt;
use sqlx::postgres::PgPoolCopyExt;
use tokio::time::{sleep, timeout};

use super::{Bench, LATE, SHORT, found, in_time, works};

const ENDLESS: &str = "COPY (SELECT generate_series(1, 100000000), repeat('x', 1000)) TO STDOUT";

/// sqlx's own idiom, with nothing that ends.
#[tokio::test]
async fn a_copy_out_goes_on_working() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let ctx = Context::background().with_timeout(LATE);
    let copy = "COPY (SELECT generate_series(1, 20000), repeat('x', 1000)) TO STDOUT";
    let work = ctx.scope(async {
        let lines = bench.pool.copy_out_raw(copy).await?;
        let sum = async |sum, line: bytes::Bytes| Ok(sum + line.len());
        lines.try_fold(0, sum).await
    });
    let bytes = in_time(work).await.unwrap();
    assert_eq!(
        bytes,
        (9 + 2 * 90 + 3 * 900 + 4 * 9000 + 5 * 10001) + 20000 * 1002
    );
    bench.assert_free(before).await;
}

/// 20. COPY OUT, cancelled half-way.
#[tokio::test]
async fn a_copy_out_cancelled_half_way_is_an_error_and_no_end() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    for reads in [true, false] {
        let ctx = Context::background().child();
        let mut connection = ctx.scope(bench.pool.acquire()).await.unwrap();
        let mut out = connection.copy_out_raw(ENDLESS).await.unwrap();
        out.next().await.unwrap().unwrap();
        if !reads {
            sleep(SHORT).await;
        }
        ctx.cancel_with("half is enough");
        bench.server.wait_idle(before, LATE).await;
        let rest = in_time(out.as_mut().try_for_each(async |_| Ok(()))).await;
        let error = found(&rest.unwrap_err());
        assert_eq!(error.reason().unwrap().to_string(), "half is enough");
        drop(out);
        drop(connection);
        // It was read to the end of the answer: nothing is miscounted.
        bench.assert_free(before).await;
    }
}

/// 20. Dropped half-way, by `run`, by an operation, by a time-out of the
/// caller's own, and under a context that is dropped.
#[tokio::test]
async fn a_copy_out_that_is_dropped_half_way_ends() {
    let bench = Bench::pool(1).await;
    bench.next_pid().await;
    let all = async || {
        let out = bench.pool.copy_out_raw(ENDLESS).await?;
        out.try_for_each(async |_| Ok(())).await
    };
    for way in 0..4 {
        let ctx = Context::background().with_timeout(SHORT);
        match way {
            0 => {
                let error = in_time(pgdeadline_sqlx::try_run(&ctx, all())).await;
                assert!(found(&error.unwrap_err()).is_deadline());
            }
            1 => {
                let mut connection = bench.acquire().await;
                let work = connection.within(&ctx, async |c| {
                    let out = c.copy_out_raw(ENDLESS).await?;
                    out.try_for_each(async |_| Ok(())).await
                });
                let error = in_time(work).await.unwrap_err();
                assert!(found(&error).is_deadline());
            }
            2 => {
                let ctx = Context::background().child();
                assert!(timeout(SHORT, ctx.run(all())).await.is_err());
            }
            _ => {
                let ctx = Context::background().child();
                assert!(timeout(SHORT, ctx.scope(all())).await.is_err());
            }
        }
        bench.assert_full().await;
        bench.wait_quiet(1).await;
    }
}

/// 20. Whoever has nothing but a time-out of his own: part of it has been read,
/// so it runs on for `finish_bound`, and no longer.
#[tokio::test]
async fn a_copy_out_that_is_abandoned_is_bounded() {
    let bench = Bench::with(1, |connector| connector.finish_bound(SHORT)).await;
    let all = async {
        let out = bench.pool.copy_out_raw(ENDLESS).await?;
        out.try_for_each(async |_| Ok::<_, sqlx::Error>(())).await
    };
    assert!(timeout(SHORT, all).await.is_err());
    bench.assert_full().await;
    bench.wait_quiet(1).await;
}

/// 20. The consumer fails: what it returned stays its error, and the
/// connection is not lost.
#[tokio::test]
async fn the_error_of_a_consumer_of_a_copy_out_stays_its_own() {
    let bench = Bench::with(1, |connector| connector.finish_bound(SHORT)).await;
    let ctx = Context::background().child();
    let work = ctx.try_run(async {
        let out = bench.pool.copy_out_raw(ENDLESS).await?;
        out.map_err(anyhow::Error::from)
            .try_for_each(async |_| anyhow::bail!("the disk is full"))
            .await
    });
    let error = in_time(work).await.unwrap_err();
    assert_eq!(error.to_string(), "the disk is full");
    bench.assert_full().await;
    bench.wait_quiet(1).await;
}

/// One that the server refuses at once is its own error. sqlx leaves the end of
/// that answer unread, also without us; whoever comes next is well all the same.
#[tokio::test]
async fn what_comes_after_a_copy_out_that_was_refused_is_well() {
    let bench = Bench::pool(1).await;
    for _ in 0..5 {
        let refused = bench.pool.copy_out_raw("COPY nowhere TO STDOUT").await;
        assert_eq!(super::code(&refused.map(drop).unwrap_err()), "42P01");
        let mut connection = bench.acquire().await;
        works(&mut connection).await;
        works(&mut connection).await;
    }
    bench.wait_quiet(1).await;
}

/// A connection on which one was left half-way serves its next user well,
/// whichever backend that is: ten times over, with work of several kinds.
#[tokio::test]
async fn what_comes_after_a_copy_out_that_was_left_is_well() {
    let bench = Bench::pool(1).await;
    for _ in 0..10 {
        let copy = "COPY (SELECT generate_series(1, 50000)) TO STDOUT";
        let mut out = bench.pool.copy_out_raw(copy).await.unwrap();
        out.next().await.unwrap().unwrap();
        drop(out);
        let mut connection = bench.acquire().await;
        works(&mut connection).await;
        works(&mut connection).await;
        let mut transaction = sqlx::Connection::begin(&mut *connection).await.unwrap();
        works(&mut transaction).await;
        transaction.commit().await.unwrap();
    }
    bench.wait_quiet(1).await;
}
