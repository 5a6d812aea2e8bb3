//! What comes back to the pool, and in which state.

use pgdeadline::Context;
use pgdeadline_tests::eventually;
use pgdeadline_tests::proxy::{Answers, Proxy};
use pgdeadline_tests::server::Server;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Bench, LATE, SHORT, SLEEP, asleep, asleep_on, code, in_time, pid, sql, works};
use pgdeadline_sqlx::PoolExt;

/// 5. A connection that comes up after its waiter left goes into the pool or
/// is closed, never lost.
#[tokio::test]
async fn a_connection_whose_waiter_left_is_never_lost() {
    const SIZE: u32 = 4;
    let proxy = Proxy::before(Server::shared().await).await;
    for _ in 0..3 {
        let bench = Bench::behind(&proxy, SIZE).await;
        // Stuck in start-up, every one; then their waiters leave.
        proxy.answers(Answers::First(1));
        let mut waiters = JoinSet::new();
        for waiter in 0..8 {
            let pool = bench.pool.clone();
            waiters.spawn(async move {
                if waiter % 2 == 0 {
                    let ctx = Context::background().with_timeout(SHORT);
                    in_time(pool.acquire_under(&ctx)).await.is_err()
                } else {
                    timeout(SHORT, pool.acquire()).await.is_err()
                }
            });
        }
        assert!(waiters.join_all().await.into_iter().all(|left| left));
        proxy.answers(Answers::Pass);
        bench.assert_full().await;
        // What the server has is what the pool has.
        bench.wait_quiet(SIZE as usize).await;
        in_time(bench.pool.close()).await;
        bench.wait_quiet(0).await;
    }
}

/// 6. Returned while busy, in each state of an extended query: nobody waits
/// for it, and whoever does not come for it leaves nothing running.
#[tokio::test]
async fn a_connection_returned_while_busy_is_not_waited_for() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    for _ in 0..3 {
        let mut connection = bench.acquire().await;
        assert!(timeout(SHORT, asleep_on(&mut connection)).await.is_err());
        drop(connection);
        bench.assert_free(before).await;
    }
    // Nobody acquires it.
    let mut connection = bench.acquire().await;
    assert!(timeout(SHORT, asleep_on(&mut connection)).await.is_err());
    drop(connection);
    bench.wait_quiet(1).await;
}

/// 6. Returned inside a transaction, idle or failed: rolled back before the
/// next one has it. sqlx does not know of it, since it was begun by text.
#[tokio::test]
async fn a_connection_returned_inside_a_transaction_is_rolled_back() {
    let bench = Bench::pool(1).await;
    let table = bench.table("n int").await;
    let before = bench.next_pid().await;
    for fails in [false, true] {
        let mut connection = bench.acquire().await;
        let begin = sql(format!("BEGIN; INSERT INTO {table} VALUES (1)"));
        let begin = sqlx::raw_sql(begin).execute(&mut *connection).await;
        begin.unwrap();
        if fails {
            let fails = sqlx::raw_sql("SELECT 1/0").execute(&mut *connection);
            assert_eq!(code(&fails.await.unwrap_err()), "22012");
        }
        drop(connection);
        let mut connection = bench.acquire().await;
        // In the transaction of before this would fail, or store with it.
        let insert = sql(format!("INSERT INTO {table} VALUES (2)"));
        in_time(sqlx::query(insert).execute(&mut *connection))
            .await
            .unwrap();
        assert_eq!(pid(&mut connection).await, before);
    }
    assert_eq!(bench.count(&format!("{table} WHERE n = 1")).await, 0);
    assert_eq!(bench.count(&format!("{table} WHERE n = 2")).await, 2);
}

/// 6. The same of a `Transaction` that is dropped: sqlx queues a ROLLBACK.
#[tokio::test]
async fn a_transaction_that_is_dropped_is_rolled_back() {
    let bench = Bench::pool(1).await;
    let table = bench.table("n int").await;
    let before = bench.next_pid().await;
    for fails in [false, true] {
        let mut transaction = bench.pool.begin().await.unwrap();
        let insert = sql(format!("INSERT INTO {table} VALUES (1)"));
        let insert = sqlx::query(insert).execute(&mut *transaction).await;
        insert.unwrap();
        if fails {
            let fails = sqlx::query("SELECT 1/0").execute(&mut *transaction);
            assert_eq!(code(&fails.await.unwrap_err()), "22012");
        }
        drop(transaction);
        bench.assert_free(before).await;
    }
    // And of one that is busy.
    let mut transaction = bench.pool.begin().await.unwrap();
    assert!(timeout(SHORT, asleep_on(&mut transaction)).await.is_err());
    drop(transaction);
    bench.assert_free(before).await;
    assert_eq!(bench.count(&table).await, 0);
}

/// 6. Returned closed: replaced. It is for this that sqlx tests an idle
/// connection before it hands it out.
#[tokio::test]
async fn a_connection_that_was_closed_is_replaced() {
    let bench = Bench::pool(1).await;
    let admin = bench.server.admin().await;
    let terminate = "SELECT pg_terminate_backend($1)";
    for held in [true, false] {
        let mut connection = bench.acquire().await;
        let before = pid(&mut connection).await;
        if held {
            admin.execute(terminate, &[&before]).await.unwrap();
            bench.server.wait_gone(before, LATE).await;
            drop(connection);
        } else {
            drop(connection);
            eventually(LATE, "it is back", async || {
                (bench.pool.num_idle() == 1).then_some(())
            })
            .await;
            admin.execute(terminate, &[&before]).await.unwrap();
            bench.server.wait_gone(before, LATE).await;
        }
        assert_ne!(bench.next_pid().await, before, "held: {held}");
        bench.assert_full().await;
    }
}

/// 7. All connections lost at once, idle ones and busy ones.
#[tokio::test]
async fn all_connections_lost_at_once_are_replaced() {
    const SIZE: u32 = 6;
    let bench = Bench::pool(SIZE).await;
    bench.assert_full().await;
    let ctx = Context::background().with_timeout(LATE);
    let mut busy = JoinSet::new();
    for _ in 0..SIZE / 2 {
        let (pool, ctx) = (bench.pool.clone(), ctx.context().clone());
        busy.spawn(async move { in_time(ctx.run(asleep(&pool))).await });
    }
    let admin = bench.server.admin().await;
    eventually(LATE, "half of the pool is busy", async || {
        let backends = bench.server.backends_seen_by(&admin, &bench.name).await;
        let active = backends.iter().filter(|b| b.state == "active");
        let active = active.filter(|b| b.query == SLEEP);
        (active.count() == SIZE as usize / 2).then_some(())
    })
    .await;
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                     WHERE application_name = $1";
    admin.execute(terminate, &[&bench.name]).await.unwrap();
    for result in busy.join_all().await {
        let error = result.expect("no context ended").unwrap_err();
        assert_eq!(code(&error), "57P01", "{error}");
        assert!(pgdeadline::Error::find(&error).is_none_or(|e| !e.is_end()));
    }
    eventually(LATE, "all are gone", async || {
        let backends = bench.server.backends_seen_by(&admin, &bench.name).await;
        backends.is_empty().then_some(())
    })
    .await;
    bench.assert_full().await;
    bench.wait_quiet(SIZE as usize).await;
}

/// The pool's size is its own again after whatever was done to it at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_comes_and_goes_leaves_the_pool_whole() {
    const SIZE: u32 = 3;
    let bench = Bench::pool(SIZE).await;
    let mut crowd = JoinSet::new();
    for caller in 0..24_u32 {
        let pool = bench.pool.clone();
        crowd.spawn(async move {
            let ctx = Context::background().with_timeout(SHORT / 3 * (1 + caller % 3));
            match caller % 4 {
                0 => drop(in_time(ctx.run(asleep(&pool))).await),
                1 => drop(timeout(SHORT, asleep(&pool)).await),
                2 => drop(in_time(ctx.run(pool.begin())).await),
                _ => {
                    let mut connection = in_time(pool.acquire()).await.unwrap();
                    works(&mut connection).await;
                }
            }
        });
    }
    in_some_minutes_all(crowd).await;
    bench.assert_full().await;
    bench.wait_quiet(SIZE as usize).await;
}

async fn in_some_minutes_all(crowd: JoinSet<()>) {
    super::in_some_minutes(crowd.join_all()).await;
}
