//! One query after the other, in every way that a context can be given.

use std::pin::pin;

use bytes::Bytes;
use deadpool_postgres::Client;
use futures_util::{SinkExt, TryStreamExt};
use pgdeadline::Context;
use pgdeadline_deadpool::{ClientExt, Error, PoolExt};
use pgdeadline_tests::proxy::Proxy;
use pgdeadline_tests::server::Server;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::types::Type;

use super::{Bench, LATE, SHORT, SLEEP, ended, found, in_time, pid, works};

/// What all of scenario 8 has in common: the caller is told of the deadline,
/// the server is idle, and the same backend serves the next query.
pub(crate) async fn ends_softly(bench: &Bench, error: pgdeadline::Error, before: i32) {
    assert!(error.is_deadline(), "{error}");
    assert!(!error.is_inherited(), "{error}");
    assert_eq!(error.was_sent(), Some(true), "{error}");
    assert_eq!(bench.next_pid().await, before, "the same backend");
    bench.wait_quiet(1).await;
}

/// 8. Soft: `pg_sleep` ends at the deadline.
#[tokio::test]
async fn a_query_ends_at_its_deadline_whichever_way_that_was_given() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let short = || Context::background().with_timeout(SHORT);

    let ctx = short();
    let work = ctx.run(async {
        let client = bench.pool.get().await.unwrap();
        client.query(SLEEP, &[]).await
    });
    ends_softly(&bench, ended(in_time(work).await), before).await;

    let ctx = short();
    let work = ctx.try_run(async {
        let client = bench.pool.get().await?;
        Ok::<_, Error>(client.query(SLEEP, &[]).await?)
    });
    let error = in_time(work).await.unwrap_err();
    ends_softly(&bench, found(&error), before).await;

    let ctx = short();
    let work = ctx.scope(async {
        let client = bench.pool.get().await?;
        Ok::<_, Error>(client.query(SLEEP, &[]).await?)
    });
    let error = in_time(work).await.unwrap_err();
    ends_softly(&bench, found(&error), before).await;

    let client = bench.pool.acquire(&short()).await;
    // The guard is gone, and with it the context: that is an end too.
    let error = in_time(client.unwrap().query(SLEEP, &[])).await;
    assert!(found(&error.unwrap_err()).is_dropped());
    let ctx = short();
    let client = bench.pool.acquire(&ctx).await.unwrap();
    let error = in_time(client.query(SLEEP, &[])).await.unwrap_err();
    drop(client);
    ends_softly(&bench, found(&error), before).await;

    let mut client = bench.get().await;
    let ctx = short();
    let work = client.within(&ctx, async |c| c.query(SLEEP, &[]).await);
    let error = in_time(work).await.unwrap_err();
    works(&client).await;
    drop(client);
    ends_softly(&bench, found(&error), before).await;

    // A child of the check-out's context ends its own query and no more.
    let request = Context::background().with_timeout(LATE);
    let client = request.scope(bench.pool.get()).await.unwrap();
    let child = request.with_timeout(SHORT);
    let result = in_time(child.run(client.query(SLEEP, &[]))).await;
    works(&client).await;
    drop(client);
    ends_softly(&bench, ended(result), before).await;
}

/// 8. Right behind a query by text, whose Close the client queues of its own
/// accord, a prepared query ends at its own deadline: in a check-out with a
/// context, and in one without.
#[tokio::test]
async fn a_query_right_behind_one_by_text_ends_at_its_own_deadline() {
    let bench = Bench::pool(1).await;
    for request in [Some(Context::background().child()), None] {
        let client = match &request {
            Some(request) => request.scope(bench.pool.get()).await.unwrap(),
            None => bench.get().await,
        };
        let before = pid(&client).await;
        let sleep = client.prepare(SLEEP).await.unwrap();
        let short = || match &request {
            Some(request) => request.with_timeout(SHORT),
            None => Context::background().with_timeout(SHORT),
        };
        works(&client).await;
        let child = short();
        let error = ended(in_time(child.run(client.query(&sleep, &[]))).await);
        assert!(error.is_deadline(), "{error}");
        // Only on a server that was told to end the sleep.
        works(&client).await;
        let child = short();
        let error = in_time(child.scope(client.query(&sleep, &[]))).await;
        assert!(found(&error.unwrap_err()).is_deadline());
        assert_eq!(pid(&client).await, before, "the same backend");
    }
    bench.wait_quiet(1).await;
}

/// 8. The same, by the default deadline of those who never set one.
#[tokio::test]
async fn a_query_ends_at_the_default_deadline() {
    let bench = Bench::with(1, |connector| connector.default_deadline(SHORT)).await;
    let client = bench.get().await;
    let before = pid(&client).await;
    let error = in_time(client.query(SLEEP, &[])).await.unwrap_err();
    // The check-out stays the caller's.
    works(&client).await;
    drop(client);
    ends_softly(&bench, found(&error), before).await;
}

/// 10. Cancelled with a reason, parent ended, future dropped: each is told.
#[tokio::test]
async fn each_cause_is_told() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let work = async |ctx: &Context| {
        let work = ctx.try_run(async {
            let client = bench.pool.get().await?;
            Ok::<_, Error>(client.query(SLEEP, &[]).await?)
        });
        found(&in_time(work).await.unwrap_err())
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
    assert_eq!(bench.next_pid().await, before);
    bench.wait_quiet(1).await;

    // But who still holds the client is.
    let ctx = Context::background().child();
    let client = ctx.scope(bench.pool.get()).await.unwrap();
    let query = client.query(SLEEP, &[]);
    let (error, ()) = tokio::join!(in_time(query), async {
        sleep(SHORT).await;
        drop(ctx);
    });
    assert!(found(&error.unwrap_err()).is_dropped());
    drop(client);
    assert_eq!(bench.next_pid().await, before);
}

/// 11. Time that was spent before the statement is sent counts.
#[tokio::test]
async fn time_before_the_statement_counts() {
    let bench = Bench::pool(1).await;
    let table = bench.table("n int").await;
    let insert = format!("INSERT INTO {table} VALUES (1)");
    let ctx = Context::background().with_timeout(SHORT);
    let error = ctx.scope(async {
        let client = bench.pool.get().await?;
        sleep(SHORT * 2).await;
        Ok::<_, Error>(client.execute(&insert, &[]).await?)
    });
    let error = found(&in_time(error).await.unwrap_err());
    assert!(error.is_deadline(), "{error}");
    assert_eq!(error.was_sent(), Some(false), "{error}");
    assert!(error.is_retry_safe());
    assert_eq!(bench.count(&table).await, 0);
}

/// 11. Time that is spent in `prepare` counts. A Parse waits for locks too.
#[tokio::test]
async fn time_in_prepare_counts() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let table = bench.table("n int").await;
    let select = format!("SELECT n FROM {table}");
    let mut admin = bench.server.admin().await;
    let lock = admin.transaction().await.unwrap();
    lock.batch_execute(&format!("LOCK TABLE {table}"))
        .await
        .unwrap();

    let ctx = Context::background().with_timeout(SHORT);
    let error = ctx.try_run(async {
        let client = bench.pool.get().await?;
        let statement = client.prepare_cached(&select).await?;
        Ok::<_, Error>(client.query(&statement, &[]).await?)
    });
    let error = in_time(error).await.unwrap_err();
    ends_softly(&bench, found(&error), before).await;

    // What was not prepared is not in the cache.
    lock.rollback().await.unwrap();
    let client = bench.get().await;
    let statement = in_time(client.prepare_cached(&select)).await.unwrap();
    assert!(client.query(&statement, &[]).await.unwrap().is_empty());
}

/// 13. Cancelling while nothing is in flight does nothing.
#[tokio::test]
async fn an_end_while_nothing_is_in_flight_sends_no_cancel() {
    let proxy = Proxy::before(Server::shared().await).await;
    let bench = Bench::behind(&proxy, 1).await;
    let before = bench.next_pid().await;
    for _ in 0..20 {
        let ctx = Context::background().child();
        let client = ctx.scope(bench.pool.get()).await.unwrap();
        works(&client).await;
        ctx.cancel();
        let error = client.query("SELECT 1", &[]).await.unwrap_err();
        assert!(found(&error).is_cancelled(), "{error}");
        drop(client);
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
        let work = ctx.run(async {
            let client = bench.pool.get().await.unwrap();
            client.query(SLEEP, &[]).await
        });
        assert!(ended(in_time(work).await).is_deadline());
        let mut client = bench.get().await;
        in_time(well(operation, &mut client, &table)).await;
        assert_eq!(pid(&client).await, before, "operation {operation}");
    }
    bench.wait_quiet(1).await;
}

async fn well(operation: usize, client: &mut Client, table: &str) {
    match operation {
        0 => works(client).await,
        1 => {
            let insert = format!("INSERT INTO {table} SELECT n, 'x' FROM generate_series(1, 7) n");
            assert_eq!(client.execute(&insert, &[]).await.unwrap(), 7);
        }
        2 => {
            let answer = client.simple_query("SELECT 1; SELECT 2").await.unwrap();
            assert_eq!(answer.len(), 6, "{answer:?}");
        }
        3 => {
            let statement = client.prepare_cached("SELECT $1::int + 1").await.unwrap();
            let row = client.query_one(&statement, &[&41]).await.unwrap();
            assert_eq!(row.get::<_, i32>(0), 42);
        }
        4 => {
            let rows = client
                .query_typed("SELECT $1::text", &[(&"x", Type::TEXT)])
                .await
                .unwrap();
            assert_eq!(rows[0].get::<_, &str>(0), "x");
        }
        5 => {
            let transaction = client.transaction().await.unwrap();
            let portal = transaction
                .bind("SELECT generate_series(1, 5)", &[])
                .await
                .unwrap();
            let part = transaction.query_portal(&portal, 2).await.unwrap();
            let rest = transaction.query_portal(&portal, 0).await.unwrap();
            assert_eq!((part.len(), rest.len()), (2, 3));
            transaction.commit().await.unwrap();
        }
        6 => {
            let copy = format!("COPY {table} (n) FROM STDIN");
            let mut sink = pin!(client.copy_in(&copy).await.unwrap());
            sink.send(Bytes::from_static(b"8\n9\n")).await.unwrap();
            assert_eq!(sink.finish().await.unwrap(), 2);
        }
        7 => {
            let copy = format!("COPY {table} TO STDOUT");
            let out = client.copy_out(&copy).await.unwrap();
            let lines: Vec<Bytes> = out.try_collect().await.unwrap();
            assert_eq!(lines.len(), 9);
        }
        _ => {
            client.check_connection().await.unwrap();
            let notices = "DO $$ BEGIN RAISE NOTICE 'a notice'; END $$";
            client.batch_execute(notices).await.unwrap();
        }
    }
}

/// A caller is never late, however many there are: 50 at once on a pool of
/// eight, each with the same deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_ends_at_once_leave_a_pool_that_serves() {
    let bench = Bench::pool(8).await;
    bench.assert_full().await;
    let deadline = Instant::now() + SHORT * 2;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let pool = bench.pool.clone();
        callers.spawn(async move {
            let ctx = Context::background().with_deadline(deadline);
            let work = ctx.try_run(async {
                let client = pool.get().await?;
                Ok::<_, Error>(client.query(SLEEP, &[]).await?)
            });
            found(&in_time(work).await.unwrap_err())
        });
    }
    for error in callers.join_all().await {
        assert!(error.is_deadline(), "{error}");
    }
    bench.assert_full().await;
    bench.wait_quiet(bench.pool.status().size).await;
}
