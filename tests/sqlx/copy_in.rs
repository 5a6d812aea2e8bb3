//! COPY FROM STDIN.

use pgdeadline::Context;
use pgdeadline_sqlx::ConnectionExt;
use sqlx::postgres::{PgConnection, PgPoolCopyExt};
use tokio::time::{sleep, timeout};

use super::{Bench, LATE, SHORT, found, in_time, pid, sql, works};

async fn setup(columns: &str) -> (Bench, String, String) {
    let bench = Bench::pool(1).await;
    let table = bench.table(columns).await;
    let copy = format!("COPY {table} FROM STDIN");
    bench.next_pid().await;
    (bench, table, copy)
}

/// Copies one row and stops writing.
async fn stops(connection: &mut PgConnection, copy: &str) -> Result<(), sqlx::Error> {
    let mut sink = connection.copy_in_raw(copy).await?;
    sink.send(b"1\n".as_slice()).await?;
    std::future::pending().await
}

/// Nothing was stored, nothing is left running, and the pool serves.
///
/// DIFFERENCE: not always by the same backend. sqlx, when it drops a sink,
/// counts no answer for it, and itself closes the connection over the error
/// that comes.
async fn assert_nothing_left(bench: &Bench, table: &str) {
    bench.assert_full().await;
    bench.wait_quiet(1).await;
    assert_eq!(bench.count(table).await, 0);
}

/// sqlx's own idiom, with nothing that ends.
#[tokio::test]
async fn a_copy_in_goes_on_working() {
    let (bench, table, copy) = setup("n int").await;
    let before = bench.next_pid().await;
    let ctx = Context::background().with_timeout(LATE);
    for by_pool in [true, false] {
        let work = ctx.scope(async {
            let lines: String = (0..100_000).map(|n| format!("{n}\n")).collect();
            if by_pool {
                let mut sink = bench.pool.copy_in_raw(&copy).await?;
                sink.send(lines.as_bytes()).await?;
                sink.read_from(lines.as_bytes()).await?;
                sink.finish().await
            } else {
                let mut connection = bench.pool.acquire().await?;
                let mut sink = connection.copy_in_raw(&copy).await?;
                sink.send(b"1\n2\n3\n".as_slice()).await?;
                let rows = sink.finish().await?;
                works(&mut connection).await;
                let mut sink = connection.copy_in_raw(&copy).await?;
                sink.send(b"1\n2\n3\n".as_slice()).await?;
                sink.abort("it was wrong").await?;
                works(&mut connection).await;
                Ok(rows)
            }
        });
        let rows = in_time(work).await.unwrap();
        assert_eq!(rows, if by_pool { 200_000 } else { 3 });
    }
    bench.assert_free(before).await;
    assert_eq!(bench.count(&table).await, 200_003);
}

/// What the server finds wrong with the data is its own error.
#[tokio::test]
async fn a_copy_in_that_fails_is_told_as_the_servers() {
    let (bench, table, copy) = setup("n int").await;
    let ctx = Context::background().with_timeout(LATE);
    let mut connection = ctx.scope(bench.pool.acquire()).await.unwrap();
    let mut sink = connection.copy_in_raw(&copy).await.unwrap();
    sink.send(b"one\n".as_slice()).await.unwrap();
    let error = in_time(sink.finish()).await.unwrap_err();
    assert_eq!(super::code(&error), "22P02");
    assert!(pgdeadline::Error::find(&error).is_none(), "{error}");
    works(&mut connection).await;
    drop(connection);
    assert_nothing_left(&bench, &table).await;
}

/// 19. The caller stops writing: the server does not act on a cancel while it
/// waits for data, and is told that the copy failed.
#[tokio::test]
async fn a_copy_in_whose_caller_stops_writing_ends_at_the_deadline() {
    let (bench, table, copy) = setup("n int").await;
    let ctx = Context::background().with_timeout(SHORT);
    let work = async { stops(&mut *bench.pool.acquire().await?, &copy).await };
    let error = in_time(pgdeadline_sqlx::try_run(&ctx, work)).await;
    assert!(found(&error.unwrap_err()).is_deadline());
    assert_nothing_left(&bench, &table).await;

    // By a time-out of his own, and in an operation.
    let work = async { stops(&mut *bench.pool.acquire().await?, &copy).await };
    assert!(timeout(SHORT, work).await.is_err());
    assert_nothing_left(&bench, &table).await;
    let mut connection = bench.acquire().await;
    let ctx = Context::background().with_timeout(SHORT);
    let work = connection.within(&ctx, async |c| stops(c, &copy).await);
    let error = in_time(work).await.unwrap_err();
    assert!(found(&error).is_deadline(), "{error}");
    drop(connection);
    assert_nothing_left(&bench, &table).await;
}

/// 19. Or he wakes up after the deadline, and goes on.
#[tokio::test]
async fn a_copy_in_that_goes_on_after_its_deadline_is_told_at_its_end() {
    let (bench, table, copy) = setup("n int").await;
    let before = bench.next_pid().await;
    for aborts in [false, true] {
        let ctx = Context::background().with_timeout(SHORT);
        let mut connection = ctx.scope(bench.pool.acquire()).await.unwrap();
        let mut sink = connection.copy_in_raw(&copy).await.unwrap();
        sink.send(b"1\n".as_slice()).await.unwrap();
        sleep(SHORT * 2).await;
        bench.server.wait_idle(before, LATE).await;
        let result = in_time(async {
            sink.send(b"2\n".as_slice()).await?;
            if aborts {
                return sink.abort("enough").await.map(|()| 0);
            }
            sink.finish().await
        });
        match result.await {
            // An abort wants the copy to fail, and sqlx takes any 57014 for
            // that.
            Ok(rows) => assert!(aborts && rows == 0),
            Err(error) => assert!(found(&error).is_deadline(), "{error}"),
        }
        drop(connection);
        bench.assert_free(before).await;
        assert_eq!(bench.count(&table).await, 0);
    }
}

/// 19. The caller drops the sink.
#[tokio::test]
async fn a_copy_in_whose_sink_is_dropped_fails() {
    let (bench, table, copy) = setup("n int").await;
    let ctx = Context::background().with_timeout(LATE);
    for bound in [false, true] {
        for _ in 0..3 {
            let work = async {
                let mut sink = bench.pool.copy_in_raw(&copy).await?;
                sink.send(b"1\n".as_slice()).await?;
                Ok::<_, sqlx::Error>(())
            };
            let work = async {
                match bound {
                    true => ctx.scope(work).await,
                    false => work.await,
                }
            };
            in_time(work).await.unwrap();
            assert_nothing_left(&bench, &table).await;
        }
    }
}

/// 19. The server stops reading, because it waits for a lock: the caller, stuck
/// in `send`, is back at the deadline.
///
/// DIFFERENCE: under `scope` it is `finish` that tells. sqlx's sink takes what
/// is sent without a look at what the server says.
#[tokio::test]
async fn a_copy_in_that_the_server_does_not_read_ends_at_the_deadline() {
    let (bench, table, copy) = setup("n int PRIMARY KEY").await;
    let mut admin = bench.server.admin().await;
    let holder = admin.transaction().await.unwrap();
    // The row that the copy will have to wait for.
    let insert = format!("INSERT INTO {table} VALUES (1)");
    holder.batch_execute(&insert).await.unwrap();

    for way in 0..2 {
        let ctx = Context::background().with_timeout(SHORT * 2);
        let copying = async {
            let mut sink = bench.pool.copy_in_raw(&copy).await?;
            sink.send(b"1\n".as_slice()).await?;
            for n in 1.. {
                if way == 1 && ctx.is_ended() {
                    break;
                }
                let lines: String = (n * 1000..).take(1000).map(|n| format!("{n}\n")).collect();
                sink.send(lines.as_bytes()).await?;
            }
            sink.finish().await
        };
        let told = match way {
            0 => in_time(pgdeadline_sqlx::try_run(&ctx, copying)).await,
            _ => in_time(ctx.scope(copying)).await,
        };
        let error = told.unwrap_err();
        assert!(found(&error).is_deadline(), "{way}: {error}");
        bench.assert_full().await;
    }
    holder.rollback().await.unwrap();
    assert_nothing_left(&bench, &table).await;
}

/// A copy inside a transaction that ends fails the transaction with it.
#[tokio::test]
async fn a_copy_in_that_ends_fails_its_transaction() {
    let (bench, table, copy) = setup("n int").await;
    let mut connection = bench.acquire().await;
    let before = pid(&mut connection).await;
    let ctx = Context::background().with_timeout(SHORT);
    let work = connection.within(&ctx, async |c| {
        sqlx::raw_sql("BEGIN").execute(&mut *c).await?;
        stops(c, &copy).await
    });
    let error = in_time(work).await.unwrap_err();
    assert!(found(&error).is_deadline(), "{error}");
    let insert = sql(format!("INSERT INTO {table} VALUES (1)"));
    let insert = sqlx::query(insert).execute(&mut *connection);
    assert!(in_time(insert).await.is_err());
    drop(connection);
    assert_nothing_left(&bench, &table).await;
    assert!(before > 0);
}
