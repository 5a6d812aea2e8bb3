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
use pgdeadline_tests::truth::{LIMIT, ROUNDS, Told, random_sleep};
use tokio_postgres::types::ToSql;

use super::{Bench, found, in_time};

/// Who ends the statement.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Run,
    Scope,
    DefaultDeadline,
}

async fn bench(mode: Mode) -> Bench {
    Bench::with(1, |connector| match mode {
        Mode::DefaultDeadline => connector.default_deadline(LIMIT),
        _ => connector,
    })
    .await
}

/// Does one thing to the end of the deadline, in this mode.
async fn done<T>(
    mode: Mode,
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Error> {
    let short = Context::background().with_timeout(LIMIT);
    let result = match mode {
        Mode::Run => in_time(short.try_run(work)).await,
        Mode::Scope => in_time(short.scope(work)).await,
        Mode::DefaultDeadline => in_time(work).await,
    };
    result.map_err(|error| {
        let error = found(&error);
        assert!(error.is_deadline(), "{mode:?}: {error}");
        error
    })
}

/// Outside of a default deadline: what the test prepares has time.
async fn unhurried<T>(work: impl Future<Output = Result<T, tokio_postgres::Error>>) -> T {
    let ctx = Context::background();
    in_time(ctx.scope(work)).await.unwrap()
}

/// How many rows a round has stored, as somebody else sees it.
async fn stored(admin: &tokio_postgres::Client, table: &str, round: u64) -> i64 {
    let count = format!("SELECT count(*) FROM {table} WHERE n = {round}");
    in_time(admin.query_one_scalar(&count, &[])).await.unwrap()
}

/// 10 and 12. A statement, by the extended protocol and by the simple one.
async fn statements(mode: Mode) {
    let bench = bench(mode).await;
    let table = bench.table("n bigint").await;
    let mut told = Told::default();
    let admin = bench.server.admin().await;
    for round in 0..ROUNDS {
        let client = bench.get().await;
        let sleep = random_sleep(round);
        let insert = format!("INSERT INTO {table} SELECT {round} FROM pg_sleep({sleep})");
        let result = if round % 2 == 0 {
            done(mode, client.execute(&insert, &[])).await
        } else {
            done(mode, client.batch_execute(&insert)).await.map(|()| 1)
        };
        // Whatever is left of it is over when the next one has the client.
        drop(client);
        drop(bench.get().await);
        let stored = stored(&admin, &table, round).await;
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
        let mut client = bench.get().await;
        let transaction = unhurried(client.transaction()).await;
        let insert = format!(
            "INSERT INTO {table} VALUES ({round}, {})",
            random_sleep(round)
        );
        unhurried(transaction.execute(&insert, &[])).await;
        let result = done(mode, transaction.commit()).await.map(|()| 1);
        if let Err(error) = &result {
            // `None`: the end came in the very poll that queued it.
            if let Some(sent) = error.was_sent() {
                assert_eq!(error.is_in_doubt(), sent, "{mode:?}: {error}");
            }
        }
        drop(client);
        drop(bench.get().await);
        let stored = stored(&admin, &table, round).await;
        told.check("a COMMIT", mode, &result, stored);
    }
    told.assert_both("a COMMIT", mode);
}

/// A stream: its end without an error means that all of it was read.
async fn streams(mode: Mode) {
    const ROWS: usize = 4;
    let bench = bench(mode).await;
    let none: [&(dyn ToSql + Sync); 0] = [];
    let mut told = Told::default();
    for round in 0..ROUNDS {
        let client = bench.get().await;
        // Evenly over the whole of its time, and a copy every other round.
        let sleep = random_sleep(round);
        let rows =
            format!("SELECT n, pg_sleep({sleep} / {ROWS}) FROM generate_series(1, {ROWS}) n");
        let work = async {
            if round % 2 == 0 {
                let mut rows = pin!(client.query_raw(&rows, none).await?);
                let mut read = 0;
                while rows.try_next().await?.is_some() {
                    read += 1;
                }
                Ok(read)
            } else {
                let copy = format!("COPY ({rows}) TO STDOUT");
                let mut lines = pin!(client.copy_out(&copy).await?);
                let mut read = 0;
                while lines.try_next().await?.is_some() {
                    read += 1;
                }
                Ok(read)
            }
        };
        match done(mode, work).await {
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
    statements(mode).await;
    commits(mode).await;
    streams(mode).await;
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
async fn what_ended_by_the_default_deadline_is_never_a_success() {
    everything(Mode::DefaultDeadline).await;
}
