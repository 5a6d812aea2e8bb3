//! Ends inside a transaction: whatever the caller does next, nothing is
//! stored.

use std::time::Duration;

use pgdeadline::Context;
use pgdeadline_sqlx::ConnectionExt;
use sqlx::{Connection, Executor, PgConnection};
use tokio::time::sleep;

use super::{Bench, LATE, SHORT, asleep_on, code, found, in_time, pid, sql, works};

async fn insert(connection: &mut PgConnection, table: &str, n: i32) -> Result<(), sqlx::Error> {
    let insert = sql(format!("INSERT INTO {table} VALUES ($1)"));
    let insert = sqlx::query(insert).bind(n).execute(connection);
    in_time(insert).await.map(drop)
}

/// 15. The transaction is failed, rolls back, and the connection lives: the
/// end of one operation inside a check-out that goes on.
#[tokio::test]
async fn an_operation_that_ends_fails_its_transaction_and_no_more() {
    let bench = Bench::pool(1).await;
    let table = bench.table("n int").await;
    let mut connection = bench.acquire().await;
    let before = pid(&mut connection).await;
    let mut transaction = connection.begin().await.unwrap();
    insert(&mut transaction, &table, 1).await.unwrap();
    let short = Context::background().with_timeout(SHORT);
    let error = in_time(transaction.within(&short, asleep_on)).await;
    assert!(found(&error.unwrap_err()).is_deadline());

    let error = insert(&mut transaction, &table, 1).await.unwrap_err();
    assert_eq!(code(&error), "25P02", "{error}");
    in_time(transaction.rollback()).await.unwrap();

    works(&mut connection).await;
    assert_eq!(pid(&mut connection).await, before);
    assert_outside(&bench, "rolled back").await;
    assert_eq!(bench.count(&table).await, 0);
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// The check-out's own context ends.
    CheckOut,
    /// The context of one statement ends.
    Within,
    /// A default deadline ends one statement.
    Default,
}

/// 15. An `INSERT` after an end that the caller has caught, in every way to
/// give a context, with a COMMIT after it, with a ROLLBACK, and with neither.
#[tokio::test]
async fn an_insert_and_a_commit_after_a_caught_end_store_nothing() {
    for way in [Way::CheckOut, Way::Within, Way::Default] {
        let bench = Bench::with(1, |connector| match way {
            Way::Default => connector.default_deadline(SHORT),
            _ => connector,
        })
        .await;
        let table = bench.table("n int").await;
        let before = bench.next_pid().await;
        for finish in ["COMMIT", "ROLLBACK", ""] {
            caught(&bench, way, &table, finish).await;
            bench.assert_free(before).await;
            assert_eq!(bench.count(&table).await, 0, "{way:?} {finish}");
        }
    }
}

async fn caught(bench: &Bench, way: Way, table: &str, finish: &str) {
    let short = Context::background().with_timeout(SHORT);
    let mut transaction = match way {
        Way::CheckOut => short.scope(bench.pool.begin()).await.unwrap(),
        Way::Within | Way::Default => bench.pool.begin().await.unwrap(),
    };
    insert(&mut transaction, table, 1).await.unwrap();
    let error = match way {
        Way::CheckOut | Way::Default => in_time(asleep_on(&mut transaction)).await,
        Way::Within => {
            let short = Context::background().with_timeout(SHORT);
            in_time(transaction.within(&short, asleep_on)).await
        }
    };
    let error = error.unwrap_err();
    assert!(found(&error).is_deadline(), "{way:?}: {error}");
    // The caller has caught that, and goes on as if nothing were.
    let error = insert(&mut transaction, table, 2).await.unwrap_err();
    if way == Way::CheckOut {
        assert_eq!(found(&error).was_sent(), Some(false), "{error}");
    } else {
        assert_eq!(code(&error), "25P02", "{way:?}: {error}");
    }
    match finish {
        // PostgreSQL takes a COMMIT of a failed transaction, and rolls back;
        // sqlx does not look at that. On a check-out that has ended only
        // clean-up is written.
        "COMMIT" => {
            let result = in_time(transaction.commit()).await;
            assert_eq!(result.is_ok(), way != Way::CheckOut, "{result:?}");
        }
        "ROLLBACK" => in_time(transaction.rollback()).await.unwrap(),
        _ => drop(transaction),
    }
}

/// 15. The same where the statement was done just at the deadline: the server
/// has a healthy transaction, its caller was told that it ended.
#[tokio::test]
async fn a_statement_done_just_at_its_deadline_stores_nothing_once_told_as_ended() {
    let bench = Bench::pool(1).await;
    let table = bench.table("n int").await;
    let slow = format!("INSERT INTO {table} SELECT 1 FROM pg_sleep(0.004)");
    let (mut ended, mut stored) = (0, 0);
    let rounds = async {
        for round in 0..150_u64 {
            // Microseconds around the statement's own duration.
            let deadline = Duration::from_micros(3_000 + round % 30 * 150);
            let mut transaction = bench.pool.begin().await.unwrap();
            let slow = sqlx::query(sql(&*slow));
            let short = Context::background().with_timeout(deadline);
            let work = transaction.within(&short, async |c| slow.execute(c).await);
            match in_time(work).await {
                Ok(_) => stored += 1,
                Err(error) => {
                    assert!(found(&error).is_deadline(), "{error}");
                    ended += 1;
                }
            }
            // Whoever was told of an end and commits all the same, commits
            // nothing.
            in_time(transaction.commit()).await.unwrap();
            assert_eq!(bench.count(&table).await, stored, "round {round}");
        }
    };
    super::in_some_minutes(rounds).await;
    assert!(ended > 0, "no round was ended: {stored} stored");
}

/// 15. A dropped `Transaction` after an end: its queued ROLLBACK goes out, or
/// the session's own does.
#[tokio::test]
async fn a_transaction_that_is_dropped_by_its_end_leaves_nothing_open() {
    let bench = Bench::pool(1).await;
    let table = bench.table("n int").await;
    let before = bench.next_pid().await;
    for by_scope in [false, true] {
        for savepoint in [false, true] {
            let ctx = Context::background().with_timeout(SHORT);
            let work = async {
                let mut transaction = bench.pool.begin().await?;
                insert(&mut transaction, &table, 1).await?;
                if savepoint {
                    let mut inner = transaction.begin().await?;
                    insert(&mut inner, &table, 1).await?;
                    asleep_on(&mut inner).await?;
                }
                asleep_on(&mut transaction).await?;
                transaction.commit().await
            };
            let error = if by_scope {
                in_time(ctx.scope(work)).await
            } else {
                in_time(pgdeadline_sqlx::try_run(&ctx, work)).await
            };
            assert!(found(&error.unwrap_err()).is_deadline());
            bench.assert_free(before).await;
            assert_eq!(bench.count(&table).await, 0);
        }
    }
}

/// 15. A savepoint that was made before the statement that ended is as good as
/// before: rolled back to, the transaction goes on.
#[tokio::test]
async fn a_rollback_to_a_savepoint_revives_the_transaction() {
    let bench = Bench::pool(1).await;
    let table = bench.table("n int").await;
    for dropped in [false, true] {
        let mut transaction = bench.pool.begin().await.unwrap();
        insert(&mut transaction, &table, 1).await.unwrap();
        let mut inner = transaction.begin().await.unwrap();
        insert(&mut inner, &table, 2).await.unwrap();
        let short = Context::background().with_timeout(SHORT);
        let error = in_time(inner.within(&short, asleep_on)).await;
        assert!(found(&error.unwrap_err()).is_deadline());
        if dropped {
            drop(inner);
        } else {
            in_time(inner.rollback()).await.unwrap();
        }
        insert(&mut transaction, &table, 3).await.unwrap();
        in_time(transaction.commit()).await.unwrap();
    }
    assert_eq!(bench.count(&format!("{table} WHERE n = 2")).await, 0);
    assert_eq!(bench.count(&table).await, 4);
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
    for by_scope in [true, false] {
        let ctx = Context::background().with_timeout(SHORT * 2);
        let work = async {
            let mut transaction = bench.pool.begin().await?;
            insert(&mut transaction, &table, 1).await?;
            transaction.commit().await
        };
        let error = if by_scope {
            in_time(ctx.scope(work)).await
        } else {
            in_time(pgdeadline_sqlx::try_run(&ctx, work)).await
        };
        let error = found(&error.unwrap_err());
        assert!(error.is_deadline() && error.is_in_doubt(), "{error}");
        assert!(!error.is_retry_safe(), "{error}");
        assert!(error.to_string().contains("in doubt"), "{error}");
        bench.assert_free(before).await;
        // Here it was cancelled, as the server knows and nobody else can.
        assert_eq!(bench.count(&table).await, 0);
    }
}

/// The default deadline is each statement's, not the transaction's.
#[tokio::test]
async fn a_transaction_may_take_longer_than_the_default_deadline() {
    let bench = Bench::with(1, |connector| connector.default_deadline(SHORT * 2)).await;
    let table = bench.table("n int").await;
    let mut transaction = bench.pool.begin().await.unwrap();
    insert(&mut transaction, &table, 1).await.unwrap();
    sleep(SHORT * 3).await;
    transaction.commit().await.unwrap();
    assert_eq!(bench.count(&table).await, 1);
}

/// sqlx's transactions and savepoints, with nothing that ends.
#[tokio::test]
async fn transactions_and_savepoints_go_on_working() {
    let bench = Bench::pool(1).await;
    let table = bench.table("n int").await;
    let ctx = Context::background().with_timeout(LATE);
    let work = ctx.scope(async {
        let mut transaction = bench.pool.begin().await?;
        insert(&mut transaction, &table, 1).await?;
        let mut inner = transaction.begin().await?;
        insert(&mut inner, &table, 2).await?;
        inner.commit().await?;
        let mut inner = transaction.begin().await?;
        insert(&mut inner, &table, 3).await?;
        drop(inner);
        transaction.commit().await?;
        let mut transaction = bench.pool.begin_with("BEGIN READ ONLY").await?;
        let refused = insert(&mut transaction, &table, 4).await.unwrap_err();
        assert_eq!(code(&refused), "25006");
        transaction.rollback().await?;
        let mut connection = bench.pool.acquire().await?;
        let inside = connection.transaction(|c| {
            let insert = sql(format!("INSERT INTO {table} VALUES (5)"));
            Box::pin(async move { c.execute(insert).await })
        });
        inside.await
    });
    in_time(work).await.unwrap();
    assert_eq!(
        bench.count(&format!("{table} WHERE n IN (1, 2, 5)")).await,
        3
    );
    assert_eq!(bench.count(&table).await, 3);
    bench.wait_quiet(1).await;
}

/// That the pool's one connection is outside any transaction.
async fn assert_outside(bench: &Bench, what: impl std::fmt::Debug) {
    let backends = bench.backends().await;
    let states: Vec<_> = backends.iter().map(|backend| &*backend.state).collect();
    assert_eq!(states, ["idle"], "{what:?}");
}
