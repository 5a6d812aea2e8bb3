//! What 300 ended queries leave behind: nothing (CONFORMANCE 26).
//!
//! A binary of its own, with one test: file descriptors are the process's.

use std::time::Duration;

use deadpool_postgres::Pool;
use pgdeadline::{Connector, Context};
use pgdeadline_deadpool::{Builder, ClientExt, Error, PoolExt};
use pgdeadline_tests::bounds::{LATE, SLEEP, in_time};
use pgdeadline_tests::leaks::Count;
use pgdeadline_tests::server::Server;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_postgres::NoTls;

/// A deadline that is meant to pass.
const SHORT: Duration = Duration::from_millis(15);

/// Connections of the pool.
const SIZE: usize = 2;

/// 26. No task, timer, file descriptor or server backend is left.
#[tokio::test]
async fn three_hundred_ended_queries_leave_nothing_behind() {
    let server = Server::shared().await;
    let config = server.config();
    let name = config.get_application_name().unwrap().to_owned();
    let connector = Connector::new(config, NoTls).unwrap();
    let pool = Builder::new(connector).max_size(SIZE).build().unwrap();

    // What is made once and kept is no leak.
    fill(&pool).await;
    for round in 0..WAYS * 2 {
        end_one(&pool, round).await;
    }
    settle(&pool).await;
    let before = Count::tasks()
        .and_descriptors()
        .and_backends(server, &name)
        .await;
    let timers = timers().await;

    for round in 0..300 {
        end_one(&pool, round).await;
    }
    settle(&pool).await;
    before.assert_no_more(Some((server, &name))).await;
    let now = crate::timers().await;
    assert!(
        now <= timers + SLACK,
        "left behind: a day went by in {timers} steps before, and in {now} now"
    );
    assert_eq!(before.backends, Some(SIZE));

    // And with the pool all the rest of it goes.
    drop(pool);
    let none = Count {
        backends: Some(0),
        ..Count::default()
    };
    none.assert_no_more(Some((server, &name))).await;
}

const WAYS: usize = 8;

/// Ends one query, each time in another way.
async fn end_one(pool: &Pool, round: usize) {
    let ctx = Context::background().with_timeout(LATE);
    let short = ctx.with_timeout(SHORT);
    let asleep = async || Ok::<_, Error>(pool.get().await?.query(SLEEP, &[]).await?);
    let result = match round % WAYS {
        0 => in_time(short.try_run(asleep())).await,
        1 => in_time(short.scope(asleep())).await,
        2 => {
            let client = pool.acquire(&ctx).await.unwrap();
            let query = client.query(SLEEP, &[]);
            in_time(short.try_run(query)).await.map_err(Error::from)
        }
        3 => {
            let mut client = pool.get().await.unwrap();
            let work = client.within(&short, async |c| c.query(SLEEP, &[]).await);
            in_time(work).await.map_err(Error::from)
        }
        4 => {
            // Cancelled, long before its deadline.
            let cancelled = ctx.child();
            let work = in_time(cancelled.try_run(asleep()));
            let (result, ()) = tokio::join!(work, async {
                tokio::time::sleep(SHORT).await;
                cancelled.cancel_with("enough");
            });
            result
        }
        5 => {
            // Dropped with its context.
            return assert!(timeout(SHORT, ctx.try_run(asleep())).await.is_err());
        }
        6 => {
            // Abandoned, and no context knows of it.
            return assert!(timeout(SHORT, asleep()).await.is_err());
        }
        _ => {
            let mut client = ctx.scope(pool.get()).await.unwrap();
            let work = short.try_run(async {
                let transaction = client.transaction().await?;
                let rows = transaction.query(SLEEP, &[]).await?;
                transaction.commit().await?;
                Ok::<_, Error>(rows)
            });
            in_time(work).await
        }
    };
    let error = result.expect_err("it sleeps for longer than that");
    let ended = error.database().unwrap_or_else(|| panic!("{error}"));
    assert!(ended.is_deadline() || ended.is_cancelled(), "{ended}");
}

/// Every place of the pool taken and given back.
async fn fill(pool: &Pool) {
    let mut clients = Vec::new();
    for _ in 0..SIZE {
        clients.push(in_time(pool.get()).await.unwrap());
    }
    for client in &clients {
        in_time(client.query("SELECT 1", &[])).await.unwrap();
    }
}

/// Longer than any back-off or sweep.
async fn settle(pool: &Pool) {
    fill(pool).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
}

/// In how many steps a day goes by on a clock that jumps from one timer to the
/// next: the more timers, the more steps. tokio counts no timers.
async fn timers() -> u64 {
    let parks = || Handle::current().metrics().worker_park_count(0);
    let before = parks();
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(24 * 60 * 60)).await;
    tokio::time::resume();
    parks() - before
}

/// The timer's wheel takes one step more or less, depending on the time of day.
const SLACK: u64 = 8;
