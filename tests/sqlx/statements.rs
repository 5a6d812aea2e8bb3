//! Prepared statements, their cache, big parameters, many results.

use futures_util::TryStreamExt;
use pgdeadline::Context;
use pgdeadline_sqlx::ConnectionExt;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Either, Executor, Row, Statement};

use super::{Bench, LATE, SHORT, found, in_time, of_size, options_of, pid, sql, works};
use pgdeadline::Connector;
use pgdeadline_sqlx::Builder;
use pgdeadline_tests::server::Server;
use tokio_postgres::NoTls;

/// A pool of one whose connections keep so many statements.
async fn with_cache(capacity: usize) -> Bench {
    let server = Server::shared().await;
    let config = server.config();
    let name = config.get_application_name().unwrap().to_owned();
    let options = options_of(&config).statement_cache_capacity(capacity);
    let connector = Connector::builder(config, NoTls).grace(LATE);
    let connector = connector.build().unwrap();
    let pool = Builder::new(connector, of_size(1), options);
    let pool = pool.connect_lazy().unwrap();
    Bench { server, name, pool }
}

/// How many statements the server has of this connection; asked by a statement
/// that is not kept.
async fn prepared(connection: &mut PgConnection) -> i64 {
    let count = "SELECT count(*) FROM pg_prepared_statements";
    let rows = sqlx::raw_sql(count).fetch_one(connection).await.unwrap();
    rows.get_unchecked::<String, _>(0).parse().unwrap()
}

#[tokio::test]
async fn statements_are_prepared_once_and_kept() {
    let bench = Bench::pool(1).await;
    let ctx = Context::background().with_timeout(LATE);
    let work = ctx.scope(async {
        for n in 0..20 {
            let sum = sqlx::query_scalar::<_, i32>("SELECT $1::int + 1").bind(n);
            assert_eq!(sum.fetch_one(&bench.pool).await.unwrap(), n + 1);
        }
        let mut connection = bench.pool.acquire().await.unwrap();
        assert_eq!(prepared(&mut connection).await, 1);
        assert_eq!(connection.cached_statements_size(), 1);
        let statement = sqlx::SqlStr::from_static("SELECT $1::text");
        let statement = connection.prepare(statement).await.unwrap();
        let row = statement.query().bind("x").fetch_one(&mut *connection);
        assert_eq!(row.await.unwrap().get::<&str, _>(0), "x");
        connection.clear_cached_statements().await.unwrap();
        assert_eq!(prepared(&mut connection).await, 0);
        works(&mut connection).await;
    });
    in_time(work).await;
}

/// A cache of two, and ends in between: what sqlx evicts the server forgets,
/// whatever became of the statement that evicts it.
#[tokio::test]
async fn a_statement_that_is_evicted_is_closed_on_the_server() {
    let bench = with_cache(2).await;
    let before = bench.next_pid().await;
    for round in 0..8 {
        let ctx = Context::background().with_timeout(SHORT);
        let sleep = sql(format!("SELECT pg_sleep(600 + {round})"));
        let sleep = sqlx::query(sleep).execute(&bench.pool);
        let error = if round % 2 == 0 {
            in_time(ctx.scope(sleep)).await
        } else {
            in_time(pgdeadline_sqlx::try_run(&ctx, sleep)).await
        };
        assert!(found(&error.unwrap_err()).is_deadline());
        let mut connection = bench.acquire().await;
        assert_eq!(pid(&mut connection).await, before);
        for n in 0..4 {
            let select = sqlx::query_scalar::<_, i32>(sql(format!("SELECT $1::int + {n}")));
            let sum = in_time(select.bind(1).fetch_one(&mut *connection)).await;
            assert_eq!(sum.unwrap(), 1 + n, "round {round}");
        }
        let prepared = in_time(prepared(&mut connection)).await;
        assert!(prepared <= 2, "round {round}: {prepared}");
        assert_eq!(connection.cached_statements_size(), 2);
    }
}

/// A statement that another context ended in its execution is still prepared,
/// and is good.
#[tokio::test]
async fn a_statement_that_was_ended_can_be_used_again() {
    let bench = Bench::pool(1).await;
    let sleep = |seconds: f64| sqlx::query("SELECT pg_sleep($1)").bind(seconds);
    let mut connection = bench.acquire().await;
    in_time(sleep(0.0).execute(&mut *connection)).await.unwrap();
    for _ in 0..5 {
        let ctx = Context::background().with_timeout(SHORT / 3);
        let work = connection.within(&ctx, async |c| sleep(600.0).execute(c).await);
        let error = in_time(work).await.unwrap_err();
        assert!(found(&error).is_deadline(), "{error}");
        in_time(sleep(0.001).execute(&mut *connection))
            .await
            .unwrap();
    }
    assert_eq!(prepared(&mut connection).await, 1);
}

/// Without a cache, and with statements that are not to be kept.
#[tokio::test]
async fn statements_that_are_not_kept_leave_nothing_on_the_server() {
    let bench = with_cache(0).await;
    let mut connection = bench.acquire().await;
    for n in 0..5 {
        let sum = sqlx::query_scalar::<_, i32>("SELECT $1::int + 1").bind(n);
        let sum = sum.persistent(false).fetch_one(&mut *connection);
        assert_eq!(in_time(sum).await.unwrap(), n + 1);
    }
    assert_eq!(prepared(&mut connection).await, 0);
}

/// Several statements in one, each with its own answer; an error in the middle
/// ends them.
#[tokio::test]
async fn several_results_come_through_in_order() {
    let bench = Bench::pool(1).await;
    let table = bench.table("n int").await;
    let several = format!(
        "INSERT INTO {table} VALUES (1), (2); SELECT n FROM {table}; ; DELETE FROM {table}"
    );
    let ctx = Context::background().with_timeout(LATE);
    let work = ctx.scope(async {
        let mut answers = sqlx::raw_sql(sql(several)).fetch_many(&bench.pool);
        let mut told = Vec::new();
        while let Some(answer) = answers.try_next().await.unwrap() {
            told.push(match answer {
                Either::Left(done) => format!("{} rows", done.rows_affected()),
                Either::Right(row) => row.get_unchecked::<String, _>(0),
            });
        }
        told
    });
    let told = in_time(work).await;
    assert_eq!(told, ["2 rows", "1", "2", "2 rows", "2 rows"]);
    let fails = sqlx::raw_sql("SELECT 1; SELECT 1/0; SELECT 2").fetch_all(&bench.pool);
    assert_eq!(super::code(&in_time(fails).await.unwrap_err()), "22012");
    bench.assert_full().await;
}

/// Requests larger than every buffer, in one message and in many.
#[tokio::test]
async fn a_request_of_any_size_comes_through() {
    let bench = Bench::pool(1).await;
    let ctx = Context::background().with_timeout(LATE * 2);
    let work = ctx.scope(async {
        for size in [0, 1, 8_191, 8_192, 65_536, 1 << 20, 9_000_001] {
            let bytes = vec![7_u8; size];
            let length = sqlx::query_scalar("SELECT length($1::bytea)").bind(bytes);
            let length: i32 = length.fetch_one(&bench.pool).await.unwrap();
            assert_eq!(length as usize, size);
        }
        let long = format!("SELECT length('{}')", "y".repeat(3_000_000));
        let length = sqlx::query_scalar::<_, i32>(sql(long)).fetch_one(&bench.pool);
        assert_eq!(length.await.unwrap(), 3_000_000);
    });
    super::in_some_minutes(work).await;
}
