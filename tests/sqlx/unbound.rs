//! What binds no context: the gaps that the docs name.

use std::time::Duration;

use pgdeadline::Context;
use pgdeadline_tests::eventually;
use sqlx::{Connection, Row};
use tokio::time::timeout;

use super::{Bench, LATE, SHORT, asleep_on, found, in_time, sql, works};

/// Longer than the context that is ambient where it is awaited.
const LONGER: &str = "SELECT pg_sleep(1)";

async fn wait_back(bench: &Bench) {
    eventually(LATE, "it is back", async || {
        (bench.pool.num_idle() == 1).then_some(())
    })
    .await;
}

/// `try_acquire` calls no hook: what is acquired so is bound to nobody, and
/// its statements are not cut.
#[tokio::test]
async fn try_acquire_binds_nothing() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    wait_back(&bench).await;
    let ctx = Context::background().with_timeout(SHORT);
    let work = ctx.scope(async {
        let mut connection = bench.pool.try_acquire().expect("it is idle");
        sqlx::query(LONGER).execute(&mut *connection).await?;
        works(&mut connection).await;
        Ok::<_, sqlx::Error>(())
    });
    in_time(work).await.unwrap();
    assert!(ctx.is_ended());
    bench.assert_free(before).await;

    // Not to the one before it either, whose context has ended since.
    let ctx = Context::background().with_timeout(SHORT);
    let held = in_time(ctx.scope(bench.pool.acquire())).await.unwrap();
    drop(held);
    wait_back(&bench).await;
    tokio::time::sleep(SHORT * 2).await;
    let mut connection = bench.pool.try_acquire().expect("it is idle");
    works(&mut connection).await;
    // But what is abandoned on it is found, when it comes back.
    assert!(timeout(SHORT, asleep_on(&mut connection)).await.is_err());
    drop(connection);
    bench.assert_free(before).await;
}

/// The same of `try_begin`.
#[tokio::test]
async fn try_begin_binds_nothing() {
    let bench = Bench::pool(1).await;
    bench.next_pid().await;
    wait_back(&bench).await;
    let ctx = Context::background().with_timeout(SHORT);
    let work = ctx.scope(async {
        let transaction = bench.pool.try_begin().await?;
        let mut transaction = transaction.expect("it is idle");
        sqlx::query(LONGER).execute(&mut *transaction).await?;
        transaction.commit().await
    });
    in_time(work).await.unwrap();
    bench.wait_quiet(1).await;
}

/// The caller's own `ping` is what sqlx returns a connection with: it unbinds
/// it, and the connection goes on.
#[tokio::test]
async fn a_ping_of_the_callers_unbinds() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let ctx = Context::background().with_timeout(SHORT);
    let work = ctx.scope(async {
        let mut connection = bench.pool.acquire().await?;
        connection.ping().await?;
        sqlx::query(LONGER).execute(&mut *connection).await?;
        connection.ping().await?;
        works(&mut connection).await;
        Ok::<_, sqlx::Error>(())
    });
    in_time(work).await.unwrap();
    bench.assert_free(before).await;
    // The next one is bound again.
    let ctx = Context::background().with_timeout(SHORT);
    let error = in_time(ctx.scope(super::asleep(&bench.pool))).await;
    assert!(found(&error.unwrap_err()).is_deadline());
}

/// Inside a transaction that its holder knows of, a `ping` must not take it
/// away under his hands: what he stores after it and what he stored before it
/// are stored together, or not at all.
#[tokio::test]
async fn a_ping_inside_a_transaction_tears_nothing_apart() {
    let bench = Bench::pool(1).await;
    let table = bench.table("n int, round int").await;
    for (round, commits) in [(0, true), (1, false)] {
        let insert = |n| {
            let insert = format!("INSERT INTO {table} VALUES ({n}, {round})");
            sqlx::query(sql(insert))
        };
        let ctx = Context::background().with_timeout(LATE);
        let work = ctx.scope(async {
            let mut transaction = bench.pool.begin().await?;
            insert(1).execute(&mut *transaction).await?;
            transaction.ping().await?;
            insert(2).execute(&mut *transaction).await?;
            match commits {
                true => transaction.commit().await,
                false => transaction.rollback().await,
            }
        });
        let told = in_time(work).await;
        let stored = bench.count(&format!("{table} WHERE round = {round}")).await;
        let whole = if commits && told.is_ok() { 2 } else { 0 };
        assert_eq!(stored, whole, "commits: {commits}, told {told:?}");
    }
    bench.assert_full().await;
}

/// What a child context ends, of a connection that was acquired under another,
/// is its caller only: who keeps the connection gives no sign that could be
/// seen. The check-out's own end reaches the server; `within` is for the rest.
#[tokio::test]
async fn a_child_ends_its_caller_and_the_check_out_ends_the_work() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let request = Context::background().with_timeout(SHORT * 4);
    let mut connection = request.scope(bench.pool.acquire()).await.unwrap();
    let child = request.with_timeout(SHORT);
    let error = in_time(child.run(asleep_on(&mut connection))).await;
    assert!(error.unwrap_err().is_deadline());
    bench.server.wait_idle(before, LATE).await;
    let next = sqlx::query("SELECT 1").execute(&mut *connection);
    assert!(found(&in_time(next).await.unwrap_err()).is_deadline());
    drop(connection);
    bench.assert_free(before).await;
}

/// Session settings are the connection's: nothing of ours is seen by its user,
/// and what he sets stays, as with sqlx alone.
#[tokio::test]
async fn a_binding_is_not_seen_by_its_user() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let set = sqlx::query("SET application_name = 'mine'").execute(&bench.pool);
    in_time(set).await.unwrap();
    for _ in 0..3 {
        let ctx = Context::background().with_timeout(LATE);
        let name = "SELECT current_setting('application_name'), pg_backend_pid()";
        let row = in_time(ctx.scope(sqlx::query(name).fetch_one(&bench.pool)));
        let row = row.await.unwrap();
        assert_eq!(row.get::<&str, _>(0), "mine");
        assert_eq!(row.get::<i32, _>(1), before);
    }
    let statements = "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE '%pgdeadline%'";
    let statements = sqlx::query_scalar::<_, i64>(statements).fetch_one(&bench.pool);
    assert_eq!(
        timeout(Duration::from_secs(20), statements)
            .await
            .unwrap()
            .unwrap(),
        0
    );
}
