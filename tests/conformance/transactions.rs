//! Ends inside a transaction: whatever the caller does next, nothing is
//! stored.

use pgdeadline::Context;
use pgdeadline_deadpool::{ClientExt, Error};
use tokio::time::sleep;

use super::{Bench, LATE, SHORT, SLEEP, found, in_time, pid, works};

/// 15. The transaction is failed, rolls back, and the connection lives: the
/// end of one operation inside a check-out that goes on.
#[tokio::test]
async fn an_operation_that_ends_fails_its_transaction_and_no_more() {
    let bench = Bench::pool(1).await;
    let table = bench.table("n int").await;
    let insert = format!("INSERT INTO {table} VALUES (1)");
    let mut client = bench.get().await;
    let before = pid(&client).await;
    let transaction = client.transaction().await.unwrap();
    transaction.execute(&insert, &[]).await.unwrap();
    let short = Context::background().with_timeout(SHORT);
    let error = in_time(short.scope(transaction.query(SLEEP, &[]))).await;
    assert!(found(&error.unwrap_err()).is_deadline());

    let error = in_time(transaction.execute(&insert, &[])).await;
    let error = error.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "25P02", "{error}");
    in_time(transaction.rollback()).await.unwrap();

    works(&client).await;
    assert_eq!(pid(&client).await, before);
    assert_outside(&bench, "rolled back").await;
    assert_eq!(bench.count(&table).await, 0);
}

/// 15. An `UPDATE` after an end that the caller has caught, in every way to
/// give a context, with a COMMIT after it, with a ROLLBACK, and with neither.
#[tokio::test]
async fn an_update_and_a_commit_after_a_caught_end_store_nothing() {
    let bench = Bench::pool(1).await;
    let table = bench.table("n int").await;
    let insert = format!("INSERT INTO {table} VALUES (1)");
    let before = bench.next_pid().await;
    for way in [Way::CheckOut, Way::Child, Way::Within, Way::Default] {
        for finish in ["COMMIT", "ROLLBACK", ""] {
            caught(&bench, way, &insert, finish).await;
            assert_eq!(bench.count(&table).await, 0, "{way:?} {finish}");
            assert_eq!(bench.next_pid().await, before, "{way:?} {finish}");
        }
    }
    bench.wait_quiet(1).await;
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// The check-out's own context ends.
    CheckOut,
    /// The context of one statement ends.
    Child,
    /// The same, by `within`.
    Within,
    /// A default deadline ends one statement.
    Default,
}

async fn caught(bench: &Bench, way: Way, insert: &str, finish: &str) {
    // Under its own name, for the same table and the same server.
    let mut with_default = None;
    if way == Way::Default {
        with_default = Some(Bench::with(1, |c| c.default_deadline(SHORT)).await);
    }
    let bench = with_default.as_ref().unwrap_or(bench);
    let (short, long) = (
        Context::background().with_timeout(SHORT),
        Context::background().with_timeout(LATE),
    );
    let request = match way {
        Way::CheckOut => Some(&short),
        Way::Child | Way::Within => Some(&long),
        Way::Default => None,
    };
    let mut client = match request {
        Some(request) => request.scope(bench.pool.get()).await.unwrap(),
        None => bench.get().await,
    };
    client.batch_execute("BEGIN").await.unwrap();
    client.execute(insert, &[]).await.unwrap();
    let error = match way {
        Way::CheckOut | Way::Default => in_time(client.query(SLEEP, &[])).await,
        Way::Child => {
            let child = long.with_timeout(SHORT);
            in_time(child.try_run(client.query(SLEEP, &[]))).await
        }
        Way::Within => {
            let child = long.with_timeout(SHORT);
            in_time(client.within(&child, async |c| c.query(SLEEP, &[]).await)).await
        }
    };
    assert!(found(&error.unwrap_err()).is_deadline(), "{way:?}");
    // The caller has caught that, and goes on as if nothing were.
    let error = in_time(client.execute(insert, &[])).await.unwrap_err();
    if way == Way::CheckOut {
        assert_eq!(found(&error).was_sent(), Some(false), "{error}");
    } else {
        assert_eq!(error.code().unwrap().code(), "25P02", "{way:?}: {error}");
    }
    if !finish.is_empty() {
        // PostgreSQL takes a COMMIT of a failed transaction, and rolls back.
        // On a check-out that has ended only clean-up is written.
        let result = in_time(client.batch_execute(finish)).await;
        let taken = way != Way::CheckOut || finish == "ROLLBACK";
        assert_eq!(result.is_ok(), taken, "{way:?} {finish}: {result:?}");
        if taken {
            assert_outside(bench, way).await;
        }
    }
}

/// 15. The same where the statement was done just at the deadline: the server
/// has a healthy transaction, its caller was told that it ended.
#[tokio::test]
async fn a_statement_done_just_at_its_deadline_stores_nothing_once_told_as_ended() {
    let bench = Bench::pool(1).await;
    let table = bench.table("n int").await;
    let insert = format!("INSERT INTO {table} SELECT 1 FROM pg_sleep(0.004)");
    let (mut ended, mut stored) = (0, 0);
    // Microseconds around the statement's own duration.
    for round in 0..150_u64 {
        let deadline = std::time::Duration::from_micros(3_000 + round % 30 * 150);
        let mut client = bench.get().await;
        let transaction = client.transaction().await.unwrap();
        let short = Context::background().with_timeout(deadline);
        match in_time(short.scope(transaction.execute(&insert, &[]))).await {
            Ok(_) => stored += 1,
            Err(error) => {
                assert!(found(&error).is_deadline(), "{error}");
                ended += 1;
            }
        }
        // Whoever was told of an end and commits all the same, commits nothing.
        in_time(transaction.commit()).await.unwrap();
        assert_eq!(bench.count(&table).await, stored, "round {round}");
    }
    assert!(ended > 0, "no round was ended: {stored} stored");
}

/// 15. A dropped `Transaction` after an end: its queued ROLLBACK goes out, or
/// the session's own does.
#[tokio::test]
async fn a_transaction_that_is_dropped_by_its_end_leaves_nothing_open() {
    let bench = Bench::pool(1).await;
    let table = bench.table("n int").await;
    let insert = format!("INSERT INTO {table} VALUES (1)");
    let before = bench.next_pid().await;
    for savepoint in [false, true] {
        let ctx = Context::background().with_timeout(SHORT);
        let ended = ctx.try_run(async {
            let mut client = bench.pool.get().await?;
            let mut transaction = client.transaction().await?;
            transaction.execute(&insert, &[]).await?;
            if savepoint {
                let inner = transaction.savepoint("part").await?;
                inner.execute(&insert, &[]).await?;
                inner.query(SLEEP, &[]).await?;
            }
            transaction.query(SLEEP, &[]).await?;
            transaction.commit().await?;
            Ok::<_, Error>(())
        });
        assert!(found(&in_time(ended).await.unwrap_err()).is_deadline());
        let client = bench.get().await;
        assert_eq!(pid(&client).await, before);
        assert_outside(&bench, savepoint).await;
        assert_eq!(bench.count(&table).await, 0);
    }
}

/// 15. A savepoint that was made before the statement that ended is as good as
/// before: rolled back to, the transaction goes on.
#[tokio::test]
async fn a_rollback_to_a_savepoint_revives_the_transaction() {
    let bench = Bench::pool(1).await;
    let table = bench.table("n int").await;
    let insert = |n| format!("INSERT INTO {table} VALUES ({n})");
    let mut client = bench.get().await;
    let mut transaction = client.transaction().await.unwrap();
    transaction.execute(&insert(1), &[]).await.unwrap();
    let inner = transaction.savepoint("part").await.unwrap();
    inner.execute(&insert(2), &[]).await.unwrap();
    let short = Context::background().with_timeout(SHORT);
    let error = in_time(short.scope(inner.query(SLEEP, &[]))).await;
    assert!(found(&error.unwrap_err()).is_deadline());
    in_time(inner.rollback()).await.unwrap();
    in_time(transaction.execute(&insert(3), &[])).await.unwrap();
    in_time(transaction.commit()).await.unwrap();
    let rows = client
        .query(&format!("SELECT n FROM {table} ORDER BY n"), &[])
        .await
        .unwrap();
    let rows: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(rows, [1, 3]);
}

/// A COMMIT that waits (a deferred constraint can make it) and whose context
/// ends is in doubt, and says so.
#[tokio::test]
async fn a_commit_that_was_in_flight_is_in_doubt() {
    let bench = Bench::pool(1).await;
    let table = bench.table("n int").await;
    let before = bench.next_pid().await;
    let admin = bench.server.admin().await;
    let slow_commit = format!(
        "CREATE FUNCTION {table}_slow() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_sleep(600); RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON {table}
             DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION {table}_slow()"
    );
    admin.batch_execute(&slow_commit).await.unwrap();
    let ctx = Context::background().with_timeout(SHORT * 2);
    let work = ctx.try_run(async {
        let mut client = bench.pool.get().await?;
        let transaction = client.transaction().await?;
        let insert = format!("INSERT INTO {table} VALUES (1)");
        transaction.execute(&insert, &[]).await?;
        Ok::<_, Error>(transaction.commit().await?)
    });
    let error = found(&in_time(work).await.unwrap_err());
    assert!(error.is_deadline() && error.is_in_doubt(), "{error}");
    assert!(!error.is_retry_safe(), "{error}");
    assert!(error.to_string().contains("in doubt"), "{error}");
    assert_eq!(bench.next_pid().await, before);
    // Here it was cancelled, as the server knows and nobody else can.
    assert_eq!(bench.count(&table).await, 0);
}

/// The default deadline is each statement's, not the transaction's.
#[tokio::test]
async fn a_transaction_may_take_longer_than_the_default_deadline() {
    let bench = Bench::with(1, |connector| connector.default_deadline(SHORT * 2)).await;
    let table = bench.table("n int").await;
    let mut client = bench.get().await;
    let transaction = client.transaction().await.unwrap();
    let insert = format!("INSERT INTO {table} VALUES (1)");
    transaction.execute(&insert, &[]).await.unwrap();
    sleep(SHORT * 3).await;
    transaction.commit().await.unwrap();
    assert_eq!(bench.count(&table).await, 1);
}

/// That the pool's one connection is outside any transaction.
async fn assert_outside(bench: &Bench, what: impl std::fmt::Debug) {
    let backends = bench.backends().await;
    let states: Vec<_> = backends.iter().map(|backend| &*backend.state).collect();
    assert_eq!(states, ["idle"], "{what:?}");
}
