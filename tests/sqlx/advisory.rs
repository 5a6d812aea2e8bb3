//! Advisory locks, sqlx's `PgAdvisoryLock`: taken, waited for, and given back.

use pgdeadline::Context;
use pgdeadline_sqlx::PoolExt;
use pgdeadline_tests::eventually;
use sqlx::Either;
use sqlx::postgres::PgAdvisoryLock;
use tokio::time::timeout;

use super::{Bench, LATE, SHORT, asleep_on, found, in_time};

/// Waits until somebody else can have the lock: nobody holds it any more.
async fn assert_free(bench: &Bench, lock: &PgAdvisoryLock) {
    let other = Bench::pool(1).await;
    eventually(LATE, "the lock is free", async || {
        let connection = other.acquire().await;
        match in_time(lock.try_acquire(connection)).await.unwrap() {
            Either::Left(guard) => {
                in_time(guard.release_now()).await.unwrap();
                Some(())
            }
            Either::Right(_) => None,
        }
    })
    .await;
    bench.assert_full().await;
}

#[tokio::test]
async fn an_advisory_lock_is_taken_and_given_back() {
    let bench = Bench::pool(2).await;
    let lock = PgAdvisoryLock::new(&bench.name);
    let ctx = Context::background().with_timeout(LATE);
    let work = ctx.scope(async {
        let guard = lock.acquire(bench.pool.acquire().await.unwrap());
        let guard = guard.await.unwrap();
        let other = bench.pool.acquire().await.unwrap();
        let other = lock.try_acquire(other).await.unwrap();
        assert!(matches!(other, Either::Right(_)));
        let connection = guard.release_now().await.unwrap();
        // Given back by a statement that its drop queues.
        drop(lock.acquire(connection).await.unwrap());
    });
    in_time(work).await;
    assert_free(&bench, &lock).await;
}

/// 8. One that is waited for is not taken later, when nobody wants it.
#[tokio::test]
async fn an_advisory_lock_is_not_waited_for_and_not_taken() {
    let bench = Bench::pool(1).await;
    let holders = Bench::pool(1).await;
    let lock = PgAdvisoryLock::new(&bench.name);
    let before = bench.next_pid().await;
    for way in 0..3 {
        let held = lock.acquire(holders.acquire().await).await.unwrap();
        let ctx = Context::background().with_timeout(SHORT);
        let waits = async { lock.acquire(bench.pool.acquire().await?).await.map(drop) };
        match way {
            0 => {
                let error = in_time(ctx.scope(waits)).await.unwrap_err();
                assert!(found(&error).is_deadline(), "{error}");
            }
            1 => {
                let error = in_time(pgdeadline_sqlx::try_run(&ctx, waits)).await;
                assert!(found(&error.unwrap_err()).is_deadline());
            }
            _ => assert!(timeout(SHORT, waits).await.is_err()),
        }
        bench.assert_free(before).await;
        in_time(held.release_now()).await.unwrap();
        assert_free(&bench, &lock).await;
    }
}

/// One that was held when its context ended: its guard's drop queues the
/// unlock, on a connection on which nothing more is written. Whatever becomes
/// of that, the pool does not keep the lock.
#[tokio::test]
async fn an_advisory_lock_does_not_outlive_an_ended_check_out() {
    for explicit in [false, true] {
        let bench = Bench::pool(1).await;
        let lock = PgAdvisoryLock::new(&bench.name);
        let ctx = Context::background().with_timeout(SHORT);
        let connection = if explicit {
            bench.pool.acquire_under(&ctx).await.unwrap()
        } else {
            ctx.scope(bench.pool.acquire()).await.unwrap()
        };
        let mut guard = in_time(lock.acquire(connection)).await.unwrap();
        let error = in_time(asleep_on(&mut guard)).await.unwrap_err();
        assert!(found(&error).is_deadline(), "{error}");
        drop(guard);
        assert_free(&bench, &lock).await;
    }
}

/// The same of one whose holder is dropped while he is busy.
#[tokio::test]
async fn an_advisory_lock_does_not_outlive_abandoned_work() {
    let bench = Bench::pool(1).await;
    let lock = PgAdvisoryLock::new(&bench.name);
    for run in [false, true] {
        let work = async {
            let mut guard = lock.acquire(bench.pool.acquire().await?).await?;
            asleep_on(&mut guard).await
        };
        if run {
            let ctx = Context::background().with_timeout(SHORT);
            assert!(in_time(ctx.run(work)).await.is_err());
        } else {
            assert!(timeout(SHORT, work).await.is_err());
        }
        assert_free(&bench, &lock).await;
    }
}
