//! What a `sqlx::Error` tells.

use std::time::Duration;

use pgdeadline::{Context, Error, Phase};
use pgdeadline_sqlx::PoolExt;

use super::{Bench, LATE, SHORT, asleep, asleep_on, code, found, in_time, sql};

/// Cause, phase, whether it was sent: through sqlx's own error, without `run`.
#[tokio::test]
async fn an_end_is_found_in_sqlxs_error() {
    let bench = Bench::pool(1).await;
    // So that no connect takes the time.
    bench.next_pid().await;
    let ctx = Context::background().with_timeout(SHORT);
    let error = in_time(ctx.scope(asleep(&bench.pool))).await.unwrap_err();
    assert_eq!(code(&error), "57014", "a cancelled query, to whoever looks");
    let told = found(&error);
    assert!(told.is_deadline(), "{told}");
    assert_eq!(told.phase(), Some(Phase::Read), "{told}");
    assert_eq!(told.was_sent(), Some(true), "{told}");
    assert!(!told.is_retry_safe() && !told.is_in_doubt(), "{told}");
    // By whatever the caller has wrapped it in.
    let wrapped = anyhow::Error::from(error).context("loading the page");
    let found = Error::find(wrapped.as_ref()).expect("it is in the chain");
    assert!(found.is_deadline(), "{found}");
}

/// The same in each phase.
#[tokio::test]
async fn the_phase_of_an_end_is_told() {
    let bench = Bench::pool(1).await;
    // Outside the database.
    let ctx = Context::background().with_timeout(Duration::from_millis(1));
    let outside = std::future::pending::<Result<(), sqlx::Error>>();
    let error = in_time(pgdeadline_sqlx::try_run(&ctx, outside)).await;
    let error = found(&error.unwrap_err());
    assert_eq!(error.phase(), Some(Phase::Outside), "{error}");
    assert_ne!(error.was_sent(), Some(true), "{error}");

    // In the pool's queue.
    let held = bench.acquire().await;
    let ctx = Context::background().with_timeout(SHORT);
    let error = in_time(bench.pool.acquire_under(&ctx)).await.unwrap_err();
    assert_eq!(found(&error).phase(), Some(Phase::PoolWait), "{error}");
    drop(held);

    // Not sent: the session held it back.
    let ctx = Context::background().with_timeout(SHORT);
    let mut connection = ctx.scope(bench.pool.acquire()).await.unwrap();
    tokio::time::sleep(SHORT * 2).await;
    let error = in_time(asleep_on(&mut connection)).await.unwrap_err();
    let error = found(&error);
    assert_eq!(error.phase(), Some(Phase::Write), "{error}");
    assert!(error.is_retry_safe(), "{error}");
    drop(connection);

    // Waiting for the answer, by `run` and on an acquired connection.
    let ctx = Context::background().with_timeout(SHORT);
    let error = in_time(pgdeadline_sqlx::try_run(&ctx, asleep(&bench.pool))).await;
    let error = found(&error.unwrap_err());
    assert_eq!(error.phase(), Some(Phase::Read), "{error}");
    let ctx = Context::background().with_timeout(SHORT);
    let mut connection = bench.pool.acquire_under(&ctx).await.unwrap();
    let error = in_time(asleep_on(&mut connection)).await.unwrap_err();
    assert_eq!(found(&error).phase(), Some(Phase::Read), "{error}");
}

/// `try_run` has one shape for the end, whoever noticed first; what is not its
/// end comes through as it is.
#[tokio::test]
async fn try_run_leaves_other_errors_as_they_are() {
    let bench = Bench::pool(1).await;
    let table = bench.table("n int PRIMARY KEY, t text NOT NULL").await;
    let ctx = Context::background().with_timeout(LATE);
    let insert = |values: &str| {
        let insert = sql(format!("INSERT INTO {table} VALUES {values}"));
        let insert = sqlx::query(insert).execute(&bench.pool);
        in_time(pgdeadline_sqlx::try_run(&ctx, insert))
    };
    insert("(1, 'one')").await.unwrap();
    let error = insert("(1, 'two')").await.unwrap_err();
    let answer = error.as_database_error().unwrap();
    assert!(answer.is_unique_violation(), "{error}");
    assert_eq!(answer.table(), Some(&*table));
    assert_eq!(answer.constraint(), Some(&*format!("{table}_pkey")));
    let error = insert("(2, NULL)").await.unwrap_err();
    let answer = error.as_database_error().unwrap();
    assert_eq!(answer.kind(), sqlx::error::ErrorKind::NotNullViolation);
    let error = insert("(nonsense)").await.unwrap_err();
    assert_eq!(code(&error), "42703");
    assert!(Error::find(&error).is_none(), "{error}");
    let none = sqlx::query("SELECT 1 WHERE false").fetch_one(&bench.pool);
    let error = pgdeadline_sqlx::try_run(&ctx, none).await.unwrap_err();
    assert!(matches!(error, sqlx::Error::RowNotFound), "{error}");

    // Another context's end is not this one's.
    let short = Context::background().with_timeout(SHORT);
    let work = short.scope(asleep(&bench.pool));
    let error = in_time(pgdeadline_sqlx::try_run(&ctx, work)).await;
    let error = error.unwrap_err();
    assert!(found(&error).is_deadline() && !ctx.is_ended(), "{error}");
}

/// The adapter's own error folds both, and each is found in it.
#[tokio::test]
async fn the_adapters_error_tells_both() {
    let bench = Bench::pool(1).await;
    let ctx = Context::background().with_timeout(SHORT);
    let work = ctx.try_run(async {
        let mut connection = bench.pool.acquire().await?;
        sqlx::query("SELECT 1").execute(&mut *connection).await?;
        asleep_on(&mut connection).await?;
        Ok::<_, pgdeadline_sqlx::Error>(())
    });
    let error = in_time(work).await.unwrap_err();
    assert!(found(&error).is_deadline(), "{error}");
    let ctx = Context::background().with_timeout(LATE);
    let work = ctx.try_run(async {
        let mut connection = bench.pool.acquire().await?;
        sqlx::query("SELECT 1/0").execute(&mut *connection).await?;
        Ok::<_, pgdeadline_sqlx::Error>(())
    });
    let error = in_time(work).await.unwrap_err();
    assert_eq!(code(&error), "22012");
}
