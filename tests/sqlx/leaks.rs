//! What 100 ended queries leave behind: nothing (26). In a process of its own,
//! since file descriptors are the process's.

use std::time::Duration;

use pgdeadline::Context;
use pgdeadline_sqlx::{ConnectionExt, PoolExt};
use pgdeadline_tests::eventually;
use pgdeadline_tests::leaks::Count;
use sqlx::postgres::PgPool;
use tokio::time::timeout;

use super::alone::{alone, backends, pool};
use super::{LATE, asleep, asleep_on, ended, found, in_time, works};

/// A deadline that is meant to pass.
const SOON: Duration = Duration::from_millis(15);

const SIZE: u32 = 2;
const WAYS: usize = 9;

/// 26. No task, file descriptor or server backend is left.
#[tokio::test]
async fn a_hundred_ended_queries_leave_nothing_behind() {
    let test = "leaks::a_hundred_ended_queries_leave_nothing_behind";
    let Some(url) = alone(test).await else { return };
    let start = Count::tasks().and_descriptors();
    let pool = pool(&url, SIZE, |connector| connector);
    // What is made once and kept is no leak.
    fill(&pool).await;
    for round in 0..WAYS * 2 {
        end_one(&pool, round).await;
    }
    settle(&pool).await;
    let before = Count::tasks().and_descriptors();
    assert_eq!(backends(&url).await, i64::from(SIZE));

    for round in 0..100 {
        end_one(&pool, round).await;
    }
    settle(&pool).await;
    before.assert_no_more(None).await;
    assert_eq!(backends(&url).await, i64::from(SIZE));
    println!("{before} with the pool, {start} without");

    // And with the pool all the rest of it goes.
    in_time(pool.close()).await;
    drop(pool);
    eventually(LATE, "no backend is left", async || {
        (backends(&url).await == 0).then_some(())
    })
    .await;
    // The library may keep a thread, and what that waits on; not a connection.
    let slack = Count {
        tasks: start.tasks.map(|tasks| tasks + 1),
        descriptors: start.descriptors.map(|descriptors| descriptors + 3),
        ..start
    };
    slack.assert_no_more(None).await;
}

/// Ends one query, each time in another way.
async fn end_one(pool: &PgPool, round: usize) {
    let ctx = Context::background().with_timeout(LATE);
    let short = ctx.with_timeout(SOON);
    let result = match round % WAYS {
        0 => in_time(pgdeadline_sqlx::try_run(&short, asleep(pool))).await,
        1 => in_time(short.scope(asleep(pool))).await,
        2 => {
            let short = ctx.with_timeout(SOON * 2);
            let mut connection = match pool.acquire_under(&short).await {
                Ok(connection) => connection,
                Err(error) => return assert!(found(&error).is_deadline()),
            };
            in_time(asleep_on(&mut connection)).await
        }
        3 => {
            let mut connection = in_time(pool.acquire()).await.unwrap();
            in_time(connection.within(&short, asleep_on)).await
        }
        4 => {
            // Cancelled, long before its deadline.
            let cancelled = ctx.child();
            let work = in_time(cancelled.scope(asleep(pool)));
            let (result, ()) = tokio::join!(work, async {
                tokio::time::sleep(SOON).await;
                cancelled.cancel_with("enough");
            });
            result
        }
        5 => {
            // Dropped with its context.
            return assert!(timeout(SOON, ctx.run(asleep(pool))).await.is_err());
        }
        6 => {
            // Abandoned, and no context knows of it.
            return assert!(timeout(SOON, asleep(pool)).await.is_err());
        }
        7 => {
            let work = async {
                let mut transaction = pool.begin().await?;
                asleep_on(&mut transaction).await?;
                transaction.commit().await
            };
            in_time(short.scope(work)).await
        }
        _ => {
            let result = in_time(short.run(pool.begin())).await;
            return drop(result.map(|begun| begun.map(drop)));
        }
    };
    assert!(ended(Ok(result)).is_end());
}

/// Every place of the pool taken and given back.
async fn fill(pool: &PgPool) {
    let mut connections = Vec::new();
    for _ in 0..SIZE {
        connections.push(in_time(pool.acquire()).await.unwrap());
    }
    for connection in &mut connections {
        works(connection).await;
    }
}

/// Longer than any back-off.
async fn settle(pool: &PgPool) {
    fill(pool).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
}
