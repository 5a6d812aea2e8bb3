//! Ends while a statement is prepared: before its Parse is answered, between
//! that and its description, and before its Execute.

use std::time::Duration;

use pgdeadline::Context;
use sqlx::Executor;
use sqlx::postgres::PgConnection;
use tokio::time::timeout;

use super::{Bench, LATE, SHORT, found, in_time, sql, works};
use crate::query::ends_softly;

/// 11. Time that is spent in `prepare` counts. A Parse waits for locks too.
#[tokio::test]
async fn time_in_prepare_counts() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let table = bench.table("n int").await;
    let select = format!("SELECT n FROM {table}");
    let mut admin = bench.server.admin().await;
    let lock = admin.transaction().await.unwrap();
    let lock_table = format!("LOCK TABLE {table}");
    lock.batch_execute(&lock_table).await.unwrap();

    let query = || sqlx::query(sql(&*select)).execute(&bench.pool);
    let ctx = Context::background().with_timeout(SHORT);
    let error = in_time(pgdeadline_sqlx::try_run(&ctx, query())).await;
    ends_softly(&bench, found(&error.unwrap_err()), before).await;
    let ctx = Context::background().with_timeout(SHORT);
    let error = in_time(ctx.scope(query())).await;
    ends_softly(&bench, found(&error.unwrap_err()), before).await;
    // Without a context, and by a prepare alone.
    assert!(timeout(SHORT, query()).await.is_err());
    bench.assert_free(before).await;
    let prepare = (&bench.pool).prepare(sqlx::SqlSafeStr::into_sql_str(sql(&*select)));
    assert!(timeout(SHORT, prepare).await.is_err());
    bench.assert_free(before).await;

    // What was not prepared is not in the cache.
    lock.rollback().await.unwrap();
    let rows = sqlx::query(sql(&*select)).fetch_all(&bench.pool);
    assert!(in_time(rows).await.unwrap().is_empty());
}

/// 16. Between Parse and Describe, between Bind and Execute: wherever the
/// deadline falls in the life of a statement that is prepared, described and
/// executed, its connection is as good as before, and so are the statements
/// in its cache.
#[tokio::test]
async fn an_end_anywhere_in_a_statements_life_leaves_the_connection_well() {
    const ROUNDS: u32 = 240;
    let bench = Bench::pool(1).await;
    let table = bench.table("n int, t text").await;
    let before = bench.next_pid().await;
    let (mut ended, mut well) = (0, 0);
    // How long it takes when nobody ends it.
    let began = std::time::Instant::now();
    for round in 0..5 {
        whole_life(&mut *bench.acquire().await, &table, round)
            .await
            .unwrap();
    }
    let whole = (began.elapsed() / 5).max(Duration::from_micros(500));
    let rounds = async {
        for round in 5..5 + ROUNDS {
            // Over all of that time, a little more than once.
            let deadline = whole * (round % 48) / 40;
            let short = Context::background().with_timeout(deadline);
            let life = async {
                let mut connection = bench.pool.acquire().await?;
                whole_life(&mut connection, &table, round).await
            };
            let result = if round % 2 == 0 {
                in_time(short.scope(life)).await
            } else {
                in_time(pgdeadline_sqlx::try_run(&short, life)).await
            };
            match result {
                Ok(()) => well += 1,
                Err(error) => {
                    assert!(found(&error).is_deadline(), "round {round}: {error}");
                    ended += 1;
                }
            }
            // The same statement, and one that is in the cache for sure.
            let mut connection = bench.acquire().await;
            let again = whole_life(&mut connection, &table, round);
            let again = in_time(again).await;
            again.unwrap_or_else(|error| panic!("round {round}: {error}"));
            works(&mut connection).await;
        }
    };
    super::in_some_minutes(rounds).await;
    assert!(ended > 0 && well > 0, "{ended} ended, {well} well");
    // An acquire that is dropped while sqlx opens its connection costs it; no
    // more than the one that is there is left, whichever it is.
    bench.wait_quiet(1).await;
    let _ = before;
}

/// A statement of a text that nobody has prepared yet, with a parameter.
async fn whole_life(
    connection: &mut PgConnection,
    table: &str,
    round: u32,
) -> Result<(), sqlx::Error> {
    let select = format!("SELECT n, t, {round} FROM {table} WHERE n = $1");
    let rows = sqlx::query(sql(select)).bind(1).fetch_all(connection);
    assert!(rows.await?.is_empty());
    Ok(())
}

/// 16. A statement that takes its time to be planned: by its Bind, since what
/// is immutable is computed there.
#[tokio::test]
async fn a_statement_that_is_slow_to_plan_ends_at_its_deadline() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let function = bench.name.replace('-', "_");
    let admin = bench.server.admin().await;
    let create = format!(
        "CREATE FUNCTION {function}() RETURNS int IMMUTABLE LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_sleep(600); RETURN 1; END $$"
    );
    admin.batch_execute(&create).await.unwrap();
    let query = || sqlx::query(sql(format!("SELECT {function}()"))).execute(&bench.pool);
    let ctx = Context::background().with_timeout(SHORT);
    let error = in_time(ctx.scope(query())).await.unwrap_err();
    ends_softly(&bench, found(&error), before).await;
    let ctx = Context::background().with_timeout(SHORT);
    let error = in_time(pgdeadline_sqlx::try_run(&ctx, query())).await;
    ends_softly(&bench, found(&error.unwrap_err()), before).await;
    assert!(timeout(SHORT, query()).await.is_err());
    bench.assert_free(before).await;
}

/// A type that sqlx has to ask the server about, in statements of its own,
/// before it can send the caller's: their time counts, and an end in them
/// leaves no half-known type.
#[tokio::test]
async fn time_in_looking_up_a_type_counts() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let mood = bench.name.replace('-', "_");
    let mut admin = bench.server.admin().await;
    let create = format!("CREATE TYPE {mood} AS ENUM ('well', 'unwell')");
    admin.batch_execute(&create).await.unwrap();
    // sqlx looks it up in `pg_type`, which somebody has locked.
    let lock = admin.transaction().await.unwrap();
    let select = format!("SELECT 'well'::{mood}");
    // Prepared while it can be, so that the look-up is what waits.
    let ctx = Context::background().with_timeout(SHORT);
    let lock_types = "LOCK TABLE pg_enum IN ACCESS EXCLUSIVE MODE";
    lock.batch_execute(lock_types).await.unwrap();
    let row = sqlx::query(sql(&*select)).fetch_one(&bench.pool);
    let error = in_time(pgdeadline_sqlx::try_run(&ctx, row)).await;
    assert!(found(&error.unwrap_err()).is_deadline());
    lock.rollback().await.unwrap();
    bench.assert_free(before).await;
    let row = sqlx::query(sql(&*select)).fetch_one(&bench.pool);
    in_time(row).await.unwrap();
    let ctx = Context::background().with_timeout(LATE);
    let row = sqlx::query(sql(&*select)).fetch_one(&bench.pool);
    in_time(ctx.scope(row)).await.unwrap();
}
