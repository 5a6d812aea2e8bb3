//! One query after the other, in every way that a context can be given.

use futures_util::TryStreamExt;
use pgdeadline::Context;
use pgdeadline_sqlx::{ConnectionExt, Error, PoolExt};
use pgdeadline_tests::proxy::Proxy;
use pgdeadline_tests::server::Server;
use sqlx::{Connection, Executor, PgConnection, Row};
use tokio::time::{sleep, timeout};

use super::{Bench, LATE, SHORT, SLEEP, asleep, asleep_on, ended, found, in_time, pid, sql, works};

/// What all of scenario 8 has in common: the caller is told of the deadline,
/// the server is idle, and the same backend serves the next query.
pub(crate) async fn ends_softly(bench: &Bench, error: pgdeadline::Error, before: i32) {
    assert!(error.is_deadline(), "{error}");
    assert!(!error.is_inherited(), "{error}");
    assert_eq!(error.was_sent(), Some(true), "{error}");
    bench.assert_free(before).await;
}

/// 8. Soft: `pg_sleep` ends at the deadline.
#[tokio::test]
async fn a_query_ends_at_the_deadline_of_a_run() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let ctx = Context::background().with_timeout(SHORT);
    let result = in_time(ctx.run(asleep(&bench.pool))).await;
    ends_softly(&bench, ended(result), before).await;

    let ctx = Context::background().with_timeout(SHORT);
    let work = pgdeadline_sqlx::try_run(&ctx, asleep(&bench.pool));
    let error = in_time(work).await.unwrap_err();
    ends_softly(&bench, found(&error), before).await;

    let ctx = Context::background().with_timeout(SHORT);
    let work = ctx.try_run(async {
        let mut connection = bench.pool.acquire().await?;
        Ok::<_, Error>(asleep_on(&mut connection).await?)
    });
    let error = in_time(work).await.unwrap_err();
    ends_softly(&bench, found(&error), before).await;
}

#[tokio::test]
async fn a_query_ends_at_the_deadline_of_a_scope() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let ctx = Context::background().with_timeout(SHORT);
    let error = in_time(ctx.scope(asleep(&bench.pool))).await.unwrap_err();
    ends_softly(&bench, found(&error), before).await;

    // Only what is acquired in it counts, not where the query is awaited.
    let ctx = Context::background().with_timeout(SHORT);
    let mut connection = in_time(ctx.scope(bench.pool.acquire())).await.unwrap();
    let error = in_time(asleep_on(&mut connection)).await.unwrap_err();
    drop(connection);
    ends_softly(&bench, found(&error), before).await;

    // A stream that is read to its end, a transaction, a task of its own.
    let ctx = Context::background().with_timeout(SHORT);
    let rows = sqlx::query(SLEEP).fetch(&bench.pool);
    let error = in_time(ctx.scope(rows.try_for_each(async |_| Ok(())))).await;
    ends_softly(&bench, found(&error.unwrap_err()), before).await;
    let ctx = Context::background().with_timeout(SHORT);
    let work = ctx.scope(async {
        let mut transaction = bench.pool.begin().await?;
        asleep_on(&mut transaction).await
    });
    let error = in_time(work).await.unwrap_err();
    ends_softly(&bench, found(&error), before).await;
    let ctx = Context::background().with_timeout(SHORT);
    let pool = bench.pool.clone();
    let task = ctx.spawn(async move { asleep(&pool).await });
    let error = in_time(task).await.unwrap().unwrap_err();
    // The task works in a child.
    assert!(found(&error).is_deadline() && found(&error).is_inherited());
    bench.assert_free(before).await;
}

#[tokio::test]
async fn a_query_ends_at_the_deadline_of_its_acquire() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let short = || Context::background().with_timeout(SHORT);
    let connection = bench.pool.acquire_under(&short()).await;
    // The guard is gone, and with it the context: that is an end too.
    let error = in_time(asleep_on(&mut connection.unwrap())).await;
    assert!(found(&error.unwrap_err()).is_dropped());
    let ctx = short();
    let mut connection = bench.pool.acquire_under(&ctx).await.unwrap();
    let error = in_time(asleep_on(&mut connection)).await.unwrap_err();
    drop(connection);
    ends_softly(&bench, found(&error), before).await;

    // And that of the acquire, whatever is ambient.
    let (ctx, long) = (short(), Context::background().with_timeout(LATE * 2));
    let work = async {
        let mut connection = bench.pool.acquire_under(&ctx).await.unwrap();
        asleep_on(&mut connection).await
    };
    let error = in_time(long.scope(work)).await.unwrap_err();
    ends_softly(&bench, found(&error), before).await;
}

#[tokio::test]
async fn a_query_ends_at_the_deadline_of_a_within() {
    let bench = Bench::pool(1).await;
    let mut connection = bench.acquire().await;
    let before = pid(&mut connection).await;
    let ctx = Context::background().with_timeout(SHORT);
    let work = connection.within(&ctx, asleep_on);
    let error = in_time(work).await.unwrap_err();
    works(&mut connection).await;
    drop(connection);
    ends_softly(&bench, found(&error), before).await;

    // Inside a check-out of another context, which goes on.
    let long = Context::background().with_timeout(LATE * 2);
    let mut connection = long.scope(bench.pool.acquire()).await.unwrap();
    let ctx = Context::background().with_timeout(SHORT);
    let work = connection.within(&ctx, asleep_on);
    let error = in_time(work).await.unwrap_err();
    works(&mut connection).await;
    drop(connection);
    ends_softly(&bench, found(&error), before).await;

    // The check-out's own deadline holds inside, if it is the earlier one.
    let short = Context::background().with_timeout(SHORT);
    let mut connection = short.scope(bench.pool.acquire()).await.unwrap();
    let work = connection.within(&long, asleep_on);
    let error = in_time(work).await.unwrap_err();
    assert!(found(&error).is_deadline(), "{error}");
    drop(connection);
    bench.assert_free(before).await;
}

/// 8. The same, by the default deadline of those who never set one.
#[tokio::test]
async fn a_query_ends_at_the_default_deadline() {
    let bench = Bench::with(1, |connector| connector.default_deadline(SHORT)).await;
    let mut connection = bench.acquire().await;
    let before = pid(&mut connection).await;
    let error = in_time(asleep_on(&mut connection)).await.unwrap_err();
    // The check-out stays the caller's.
    works(&mut connection).await;
    let simple = sqlx::raw_sql(SLEEP).execute(&mut *connection);
    assert!(found(&in_time(simple).await.unwrap_err()).is_deadline());
    works(&mut connection).await;
    drop(connection);
    ends_softly(&bench, found(&error), before).await;

    // An ambient background context opts out.
    let longer = sqlx::query("SELECT pg_sleep(1)").execute(&bench.pool);
    in_time(Context::background().scope(longer)).await.unwrap();
}

/// 10. Cancelled with a reason, parent ended, future dropped: each is told.
#[tokio::test]
async fn each_cause_is_told() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    // Under scope it is the session that tells, through the server's words.
    for by_scope in [false, true] {
        let work = async |ctx: &Context| {
            let result = if by_scope {
                in_time(ctx.scope(asleep(&bench.pool))).await
            } else {
                in_time(pgdeadline_sqlx::try_run(ctx, asleep(&bench.pool))).await
            };
            found(&result.unwrap_err())
        };

        let ctx = Context::background().child();
        let (error, ()) = tokio::join!(work(&ctx), async {
            sleep(SHORT).await;
            ctx.cancel_with("the client went away");
        });
        assert!(error.is_cancelled() && !error.is_inherited(), "{error}");
        assert_eq!(error.reason().unwrap().to_string(), "the client went away");
        assert_eq!(bench.next_pid().await, before);

        let parent = Context::background().child();
        let child = parent.with_timeout(LATE);
        let (error, ()) = tokio::join!(work(&child), async {
            sleep(SHORT).await;
            parent.cancel_with("shutdown");
        });
        assert!(error.is_cancelled() && error.is_inherited(), "{error}");
        assert_eq!(error.reason().unwrap().to_string(), "shutdown");
        assert_eq!(bench.next_pid().await, before);

        let parent = Context::background().with_timeout(SHORT);
        let error = work(&parent.child()).await;
        assert!(error.is_deadline() && error.is_inherited(), "{error}");
        assert_eq!(bench.next_pid().await, before);

        // Whoever drops the future is not there to be told; the server is.
        let ctx = Context::background().child();
        assert!(timeout(SHORT, work(&ctx)).await.is_err());
        bench.assert_free(before).await;
    }
    // But who still holds the connection is.
    let ctx = Context::background().child();
    let mut connection = ctx.scope(bench.pool.acquire()).await.unwrap();
    let (error, ()) = tokio::join!(in_time(asleep_on(&mut connection)), async {
        sleep(SHORT).await;
        drop(ctx);
    });
    assert!(found(&error.unwrap_err()).is_dropped());
    drop(connection);
    bench.assert_free(before).await;
}

/// 11. Time that was spent before the statement is sent counts.
#[tokio::test]
async fn time_before_the_statement_counts() {
    let bench = Bench::pool(1).await;
    let table = bench.table("n int").await;
    let insert = sql(format!("INSERT INTO {table} VALUES (1)"));
    let ctx = Context::background().with_timeout(SHORT);
    let work = ctx.scope(async {
        let mut connection = bench.pool.acquire().await?;
        sleep(SHORT * 2).await;
        sqlx::query(insert).execute(&mut *connection).await
    });
    let error = found(&in_time(work).await.unwrap_err());
    assert!(error.is_deadline(), "{error}");
    assert_eq!(error.was_sent(), Some(false), "{error}");
    assert!(error.is_retry_safe());
    assert_eq!(bench.count(&table).await, 0);
}

/// 13. Cancelling while nothing is in flight does nothing.
#[tokio::test]
async fn an_end_while_nothing_is_in_flight_sends_no_cancel() {
    let proxy = Proxy::before(Server::shared().await).await;
    let bench = Bench::behind(&proxy, 1).await;
    let before = bench.next_pid().await;
    for _ in 0..20 {
        let ctx = Context::background().child();
        let mut connection = ctx.scope(bench.pool.acquire()).await.unwrap();
        works(&mut connection).await;
        ctx.cancel();
        let query = sqlx::query("SELECT 1").execute(&mut *connection);
        let error = in_time(query).await.unwrap_err();
        assert!(found(&error).is_cancelled(), "{error}");
        drop(connection);
        assert_eq!(bench.next_pid().await, before);
    }
    assert_eq!(proxy.cancels(), 0);
}

/// 14. Nine different operations after a cancelled one, all well.
#[tokio::test]
async fn nine_different_operations_after_a_cancelled_one_are_well() {
    let bench = Bench::pool(1).await;
    let table = bench.table("n int, t text").await;
    let before = bench.next_pid().await;
    for operation in 0..9 {
        let ctx = Context::background().with_timeout(SHORT / 3);
        if operation % 2 == 0 {
            let result = in_time(ctx.run(asleep(&bench.pool))).await;
            assert!(ended(result).is_deadline());
        } else {
            let error = in_time(ctx.scope(asleep(&bench.pool))).await;
            assert!(found(&error.unwrap_err()).is_deadline());
        }
        let mut connection = bench.acquire().await;
        in_time(well(operation, &mut connection, &table)).await;
        assert_eq!(pid(&mut connection).await, before, "operation {operation}");
    }
    bench.wait_quiet(1).await;
}

async fn well(operation: usize, connection: &mut PgConnection, table: &str) {
    match operation {
        0 => works(connection).await,
        1 => {
            let insert = format!("INSERT INTO {table} SELECT n, 'x' FROM generate_series(1, 7) n");
            let done = sqlx::query(sql(insert)).execute(connection).await.unwrap();
            assert_eq!(done.rows_affected(), 7);
        }
        2 => {
            let both = sqlx::raw_sql("SELECT 1; SELECT 2");
            assert_eq!(both.fetch_all(connection).await.unwrap().len(), 2);
        }
        3 => {
            let sum = sqlx::query_scalar::<_, i32>("SELECT $1::int + 1").bind(41);
            assert_eq!(sum.fetch_one(connection).await.unwrap(), 42);
        }
        4 => {
            let text = sqlx::query("SELECT $1::text").bind("x").persistent(false);
            let row = text.fetch_one(connection).await.unwrap();
            assert_eq!(row.get::<&str, _>(0), "x");
        }
        5 => {
            let mut transaction = connection.begin().await.unwrap();
            let mut inner = transaction.begin().await.unwrap();
            works(&mut inner).await;
            inner.rollback().await.unwrap();
            transaction.commit().await.unwrap();
        }
        6 => {
            let copy = format!("COPY {table} (n) FROM STDIN");
            let mut sink = connection.copy_in_raw(&copy).await.unwrap();
            sink.send(b"8\n9\n".as_slice()).await.unwrap();
            assert_eq!(sink.finish().await.unwrap(), 2);
        }
        7 => {
            let copy = format!("COPY {table} TO STDOUT");
            let out = connection.copy_out_raw(&copy).await.unwrap();
            let lines: Vec<_> = out.try_collect().await.unwrap();
            assert_eq!(lines.len(), 9);
        }
        _ => {
            connection.ping().await.unwrap();
            let notice = "DO $$ BEGIN RAISE NOTICE 'a notice'; END $$";
            connection.execute(notice).await.unwrap();
            assert!(connection.clear_cached_statements().await.is_ok());
        }
    }
}
