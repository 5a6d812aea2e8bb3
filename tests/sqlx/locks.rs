//! Queries that wait for others: the server must stop waiting too. And ends
//! that are not ours.

use pgdeadline::Context;

use super::{Bench, LATE, SHORT, asleep, code, found, in_time, pid, sql};
use crate::query::ends_softly;

/// 8. A blocked `UPDATE` gives up its place in the queue for the lock.
#[tokio::test]
async fn a_blocked_update_stops_waiting_and_stores_nothing() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let table = bench.table("n int").await;
    let mut admin = bench.server.admin().await;
    let insert = format!("INSERT INTO {table} VALUES (0)");
    admin.batch_execute(&insert).await.unwrap();
    let holder = admin.transaction().await.unwrap();
    let first = format!("UPDATE {table} SET n = 1");
    holder.batch_execute(&first).await.unwrap();

    let ctx = Context::background().with_timeout(SHORT * 2);
    let update = sql(format!("UPDATE {table} SET n = 2"));
    let work = ctx.scope(sqlx::query(update).execute(&bench.pool));
    let (error, ()) = tokio::join!(
        in_time(work),
        bench.server.wait_event_type(before, "Lock", LATE)
    );
    ends_softly(&bench, found(&error.unwrap_err()), before).await;

    holder.commit().await.unwrap();
    let ones = format!("{table} WHERE n = 1");
    assert_eq!(bench.count(&ones).await, 1, "the update came to nothing");
}

/// A deadlock is the server's own error, and not taken for an end.
#[tokio::test]
async fn a_deadlock_is_told_as_the_servers() {
    let bench = Bench::pool(2).await;
    let ctx = Context::background().with_timeout(LATE);
    let work = ctx.scope(async {
        let mut one = bench.pool.begin().await?;
        let mut two = bench.pool.begin().await?;
        let key = i64::from(pid(&mut one).await) << 8;
        let lock = |key: i64| sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(key);
        lock(key).execute(&mut *one).await?;
        lock(key + 1).execute(&mut *two).await?;
        let first = async {
            let result = lock(key + 1).execute(&mut *one).await;
            one.rollback().await?;
            Ok::<_, sqlx::Error>(result)
        };
        let second = async {
            let result = lock(key).execute(&mut *two).await;
            two.rollback().await?;
            Ok(result)
        };
        tokio::try_join!(first, second)
    });
    let (first, second) = in_time(work).await.unwrap();
    let error = first.and(second).expect_err("one of the two is the victim");
    assert_eq!(code(&error), "40P01", "{error}");
    assert!(pgdeadline::Error::find(&error).is_none(), "{error}");
    bench.assert_full().await;
}

/// An administrator who ends a backend is told as what he is, and a deadline
/// that passes later does not change that.
#[tokio::test]
async fn a_terminated_backend_is_told_as_the_servers_and_replaced() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let ctx = Context::background().with_timeout(LATE);
    let (error, ()) = tokio::join!(in_time(ctx.scope(asleep(&bench.pool))), async {
        bench.server.wait_state(before, "active", LATE).await;
        let admin = bench.server.admin().await;
        let terminate = "SELECT pg_terminate_backend($1)";
        admin.execute(terminate, &[&before]).await.unwrap();
    });
    let error = error.unwrap_err();
    assert_eq!(code(&error), "57P01");
    assert!(!pgdeadline::Error::find(&error).is_some_and(|found| found.is_end()));
    assert_ne!(bench.next_pid().await, before);
    bench.assert_full().await;
}

/// A cancel that somebody else sent is not taken for ours, nor a time-out that
/// the server keeps.
#[tokio::test]
async fn somebody_elses_cancel_is_told_as_the_servers() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let ctx = Context::background().with_timeout(LATE);
    let (error, ()) = tokio::join!(in_time(ctx.scope(asleep(&bench.pool))), async {
        bench.server.wait_state(before, "active", LATE).await;
        let admin = bench.server.admin().await;
        let cancel = "SELECT pg_cancel_backend($1)";
        admin.execute(cancel, &[&before]).await.unwrap();
    });
    let error = error.unwrap_err();
    assert_eq!(code(&error), "57014");
    assert!(pgdeadline::Error::find(&error).is_none(), "{error}");

    let work = ctx.scope(async {
        let mut transaction = bench.pool.begin().await?;
        sqlx::query("SET LOCAL statement_timeout = 100")
            .execute(&mut *transaction)
            .await?;
        super::asleep_on(&mut transaction).await
    });
    let error = in_time(work).await.unwrap_err();
    assert_eq!(code(&error), "57014");
    assert!(pgdeadline::Error::find(&error).is_none(), "{error}");
    bench.assert_free(before).await;
}
