//! 1. A context that has ended already: nothing is sent.

use pgdeadline::Context;
use pgdeadline_sqlx::{ConnectionExt, PoolExt};
use sqlx::{Connection, Executor};
use std::time::Duration;

use super::{Bench, LATE, SHORT, found, in_time, works};

const OPERATIONS: [&str; 7] = [
    "query", "prepare", "batch", "copy in", "copy out", "begin", "ping",
];

async fn attempt(operation: &str, connection: &mut sqlx::PgConnection) -> Result<(), sqlx::Error> {
    match operation {
        "query" => sqlx::query("SELECT 1").execute(connection).await.map(drop),
        "prepare" => connection
            .prepare(sqlx::SqlStr::from_static("SELECT 2"))
            .await
            .map(drop),
        "batch" => sqlx::raw_sql("SELECT 3; SELECT 4")
            .execute(connection)
            .await
            .map(drop),
        "copy in" => {
            let copy = "COPY pg_temp.nowhere FROM STDIN";
            connection.copy_in_raw(copy).await.map(drop)
        }
        "copy out" => {
            let copy = "COPY (SELECT 4) TO STDOUT";
            connection.copy_out_raw(copy).await.map(drop)
        }
        "begin" => connection.begin().await.map(drop),
        _ => connection.ping().await,
    }
}

/// What the server was asked last by this pool of one.
async fn last(bench: &Bench) -> String {
    bench.backends().await.remove(0).query
}

/// No connection is opened.
#[tokio::test]
async fn an_ended_context_opens_no_connection() {
    let bench = Bench::pool(1).await;
    let ended = Context::background().with_timeout(Duration::ZERO);
    let error = bench.pool.acquire_under(&ended).await.unwrap_err();
    assert!(found(&error).is_deadline(), "{error}");
    assert!(found(&error).is_retry_safe(), "{error}");
    let error = ended.run(bench.pool.acquire()).await.unwrap_err();
    assert!(error.is_deadline(), "{error}");
    let query = sqlx::query("SELECT 1").execute(&bench.pool);
    let error = pgdeadline_sqlx::try_run(&ended, query).await.unwrap_err();
    assert!(found(&error).is_deadline(), "{error}");
    assert!(bench.backends().await.is_empty());
    assert_eq!(bench.pool.size(), 0);
}

/// Where the ambient context has ended, a connection is opened at the most:
/// sqlx knows of no context. No statement is sent on it.
#[tokio::test]
async fn an_ended_ambient_context_sends_nothing_on_a_new_connection() {
    let bench = Bench::pool(1).await;
    let table = bench.table("n int").await;
    let ended = Context::background().child();
    ended.cancel_with("enough");
    let insert = super::sql(format!("INSERT INTO {table} VALUES (1)"));
    let work = ended.scope(sqlx::query(insert).execute(&bench.pool));
    let error = found(&in_time(work).await.unwrap_err());
    assert!(error.is_cancelled(), "{error}");
    assert_eq!(error.was_sent(), Some(false), "{error}");
    bench.assert_full().await;
    assert_eq!(bench.count(&table).await, 0);
}

/// Nothing of query, prepare, batch, COPY, begin and ping: by `run`, which does
/// not poll them, by `within`, and on a connection that was acquired under it.
#[tokio::test]
async fn an_ended_context_sends_nothing_on_a_connection_that_is_there() {
    let bench = Bench::pool(1).await;
    let mut connection = bench.acquire().await;
    works(&mut connection).await;
    let before = last(&bench).await;
    let ended = Context::background().child();
    ended.cancel_with("enough");
    for operation in OPERATIONS {
        let work = attempt(operation, &mut connection);
        let error = in_time(ended.run(work)).await.unwrap_err();
        assert_eq!(error.was_sent(), Some(false), "{operation}: {error}");
        let work = connection.within(&ended, async |c| attempt(operation, c).await);
        let error = found(&in_time(work).await.unwrap_err());
        assert!(error.is_cancelled(), "{operation}: {error}");
        assert_eq!(error.was_sent(), Some(false), "{operation}: {error}");
        assert_eq!(last(&bench).await, before, "{operation}");
    }
    works(&mut connection).await;
    drop(connection);

    for operation in OPERATIONS {
        let mut connection = in_time(ended.scope(bench.pool.acquire())).await.unwrap();
        let before = last(&bench).await;
        let result = in_time(attempt(operation, &mut connection)).await;
        // DIFFERENCE: a ping is answered. It is a lone Sync, as that with which
        // sqlx returns a connection, and does nothing.
        if operation != "ping" {
            let error = found(&result.expect_err(operation));
            assert!(error.is_cancelled(), "{operation}: {error}");
            assert_eq!(error.was_sent(), Some(false), "{operation}: {error}");
        }
        let now = last(&bench).await;
        assert!(now == before || now == "ROLLBACK", "{operation}: {now}");
    }
    bench.assert_full().await;
    bench.wait_quiet(1).await;
}

/// `within` is refused on a connection whose own context has ended, whatever
/// the one that it is given.
#[tokio::test]
async fn a_within_on_an_ended_check_out_is_refused() {
    let bench = Bench::pool(1).await;
    let short = Context::background().with_timeout(SHORT);
    let mut connection = short.scope(bench.pool.acquire()).await.unwrap();
    tokio::time::sleep(SHORT * 2).await;
    let before = last(&bench).await;
    let long = Context::background().with_timeout(LATE);
    let work = connection.within(&long, async |c| attempt("query", c).await);
    let error = found(&in_time(work).await.unwrap_err());
    assert!(error.is_deadline(), "{error}");
    assert_eq!(error.was_sent(), Some(false), "{error}");
    assert_eq!(last(&bench).await, before);
    drop(connection);
    bench.assert_full().await;
}

/// It takes no connection away from the others, idle or not.
#[tokio::test]
async fn acquires_under_an_ended_context_cost_no_connection() {
    let bench = Bench::pool(3).await;
    bench.assert_full().await;
    bench.wait_quiet(3).await;
    let mut before: Vec<i32> = bench.backends().await.iter().map(|b| b.pid).collect();
    let ended = Context::background().child();
    ended.cancel();
    for _ in 0..20 {
        if let Ok(mut connection) = in_time(ended.scope(bench.pool.acquire())).await {
            let query = sqlx::query("SELECT 1").execute(&mut *connection);
            let error = in_time(query).await.unwrap_err();
            assert_eq!(found(&error).was_sent(), Some(false), "{error}");
        }
    }
    bench.assert_full().await;
    bench.wait_quiet(3).await;
    let mut after: Vec<i32> = bench.backends().await.iter().map(|b| b.pid).collect();
    before.sort_unstable();
    after.sort_unstable();
    assert_eq!(after, before);
}
