//! What was cancelled is never reported as a success, in any mode.
//!
//! Each statement has an effect that somebody else can see, and a duration
//! about as long as its deadline. So of each round it is known what its caller
//! was told, and what became of it:
//!
//! - told as a success: it has happened, all of it;
//! - told as ended before it was sent: it has not;
//! - told as ended otherwise: either, but all or nothing.

use std::pin::pin;

use futures_util::TryStreamExt;
use pgdeadline::{Context, Error};
use pgdeadline_sqlx::{ConnectionExt, PoolExt};
use pgdeadline_tests::truth::{LIMIT, ROUNDS, Told, random_sleep};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};

use super::{Bench, found, in_some_minutes, in_time, sql};

/// Who ends the statement.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Run,
    Scope,
    Acquire,
    Within,
    DefaultDeadline,
}

async fn bench(mode: Mode) -> Bench {
    Bench::with(1, |connector| match mode {
        Mode::DefaultDeadline => connector.default_deadline(LIMIT),
        _ => connector,
    })
    .await
}

type Done = Result<u64, sqlx::Error>;

/// Does one thing to the end of the deadline, in this mode, and gives the
/// connection back.
async fn done(
    mode: Mode,
    bench: &Bench,
    work: impl AsyncFnOnce(&mut PgConnection) -> Done,
) -> Result<u64, Error> {
    let short = Context::background().with_timeout(LIMIT);
    let told = |error: &(dyn std::error::Error + 'static)| {
        let error = found(error);
        assert!(error.is_deadline(), "{mode:?}: {error}");
        error
    };
    let whole = async {
        match mode {
            Mode::Run | Mode::Scope | Mode::DefaultDeadline => {
                work(&mut *bench.pool.acquire().await?).await
            }
            // The time that this takes is not to count.
            Mode::Within => {
                let mut connection = bench.pool.acquire().await?;
                let short = Context::background().with_timeout(LIMIT);
                connection.within(&short, work).await
            }
            Mode::Acquire => match bench.pool.acquire_under(&short).await {
                Ok(mut connection) => work(&mut connection).await,
                Err(pgdeadline_sqlx::Error::Sqlx(error)) => Err(error),
                Err(error) => Err(sqlx::Error::Io(std::io::Error::other(error))),
            },
        }
    };
    let result = match mode {
        Mode::Run => in_time(pgdeadline_sqlx::try_run(&short, whole)).await,
        Mode::Scope => in_time(short.scope(whole)).await,
        _ => in_time(whole).await,
    };
    result.map_err(|error| told(&error))
}

/// How many rows a round has stored, as somebody else sees it, once whatever
/// is left of it is over.
async fn stored(bench: &Bench, admin: &tokio_postgres::Client, table: &str, round: u64) -> i64 {
    drop(bench.acquire().await);
    let count = format!("SELECT count(*) FROM {table} WHERE n = {round}");
    in_time(admin.query_one_scalar(&count, &[])).await.unwrap()
}

/// 10 and 12. A statement, by the extended protocol and by the simple one, and
/// one whose rows are read.
async fn statements(mode: Mode) {
    let bench = bench(mode).await;
    let table = bench.table("n bigint").await;
    let mut told = Told::default();
    let admin = bench.server.admin().await;
    for round in 0..ROUNDS {
        let sleep = random_sleep(round);
        let insert = format!("INSERT INTO {table} SELECT {round} FROM pg_sleep({sleep})");
        let result = done(mode, &bench, async |c| match round % 3 {
            0 => Ok(sqlx::query(sql(insert)).execute(c).await?.rows_affected()),
            1 => Ok(sqlx::raw_sql(sql(insert)).execute(c).await?.rows_affected()),
            _ => {
                let returning = sql(format!("{insert} RETURNING n"));
                let rows = sqlx::query(returning).fetch_all(c).await?;
                Ok(rows.len() as u64)
            }
        });
        let result = result.await;
        let stored = stored(&bench, &admin, &table, round).await;
        told.check("a statement", mode, &result, stored);
    }
    told.assert_both("a statement", mode);
}

/// A COMMIT. What it commits is deferred work that takes time, so the COMMIT
/// itself is what its deadline finds.
async fn commits(mode: Mode) {
    let bench = bench(mode).await;
    let table = bench.table("n bigint, seconds float8").await;
    let admin = bench.server.admin().await;
    let slow_commit = format!(
        "CREATE FUNCTION {table}_slow() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_sleep(NEW.seconds); RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON {table}
             DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION {table}_slow()"
    );
    admin.batch_execute(&slow_commit).await.unwrap();
    let mut told = Told::default();
    for round in 0..ROUNDS {
        let sleep = random_sleep(round);
        let insert = format!("INSERT INTO {table} VALUES ({round}, {sleep})");
        let result = done(mode, &bench, async |c| {
            let mut transaction = c.begin().await?;
            let rows = transaction.execute(sql(insert)).await?.rows_affected();
            transaction.commit().await?;
            Ok(rows)
        });
        let result = result.await;
        let stored = stored(&bench, &admin, &table, round).await;
        if let Err(error) = &result {
            // It may have ended before its COMMIT, and then is in no doubt.
            if !error.is_in_doubt() {
                assert_eq!(stored, 0, "{mode:?}: no doubt? {error}");
            }
        }
        told.check("a COMMIT", mode, &result, stored);
    }
    told.assert_both("a COMMIT", mode);
}

/// A stream: its end without an error means that all of it was read.
async fn streams(mode: Mode) {
    const ROWS: u64 = 4;
    let bench = bench(mode).await;
    let mut told = Told::default();
    for round in 0..ROUNDS {
        // There is a connection, and whatever is left on it is over.
        drop(bench.acquire().await);
        // Evenly over the whole of its time, and a copy every other round.
        let sleep = random_sleep(round);
        let rows =
            format!("SELECT n, pg_sleep({sleep} / {ROWS}) FROM generate_series(1, {ROWS}) n");
        let result = done(mode, &bench, async |c| {
            let mut read = 0;
            if round % 2 == 0 {
                let rows = sql(rows);
                let mut rows = pin!(sqlx::query(rows).fetch(c));
                while rows.try_next().await?.is_some() {
                    read += 1;
                }
            } else {
                let copy = format!("COPY ({rows}) TO STDOUT");
                let mut lines = pin!(c.copy_out_raw(&copy).await?);
                while lines.try_next().await?.is_some() {
                    read += 1;
                }
            }
            Ok(read)
        });
        match result.await {
            Ok(read) => {
                assert_eq!(read, ROWS, "{mode:?}: an end before the end, round {round}");
                told.well += 1;
            }
            Err(_) => told.ended += 1,
        }
    }
    told.assert_both("a stream", mode);
}

async fn everything(mode: Mode) {
    in_some_minutes(async {
        // In boxes: a frame of all five modes, unoptimized, is larger than a
        // test's stack.
        Box::pin(statements(mode)).await;
        Box::pin(commits(mode)).await;
        Box::pin(streams(mode)).await;
    })
    .await;
}

#[tokio::test]
async fn what_ended_under_run_is_never_a_success() {
    everything(Mode::Run).await;
}

#[tokio::test]
async fn what_ended_under_scope_is_never_a_success() {
    everything(Mode::Scope).await;
}

#[tokio::test]
async fn what_ended_under_an_explicit_lease_is_never_a_success() {
    everything(Mode::Acquire).await;
}

#[tokio::test]
async fn what_ended_within_is_never_a_success() {
    everything(Mode::Within).await;
}

#[tokio::test]
async fn what_ended_by_the_default_deadline_is_never_a_success() {
    everything(Mode::DefaultDeadline).await;
}
