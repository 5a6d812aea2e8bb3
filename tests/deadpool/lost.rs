//! Connections that are lost, and state that is left in them.

use std::time::Duration;

use pgdeadline::Context;
use pgdeadline_tests::leaks::Count;
use tokio::time::timeout;

use super::{LONG, SHORT, SLEEP, Shared, count, ended_in, pid};

const SIZE: usize = 4;

async fn all_pids(shared: &Shared) -> Vec<i32> {
    let mut clients = Vec::new();
    for _ in 0..SIZE {
        clients.push(shared.pool.get().await.unwrap());
    }
    let mut pids = Vec::new();
    for client in &clients {
        pids.push(pid(client).await);
    }
    pids
}

#[tokio::test]
async fn a_pool_that_lost_all_its_connections_at_once_serves_its_full_size() {
    let shared = Shared::pool(SIZE).await;
    let before = all_pids(&shared).await;
    shared.terminate(&before).await;
    for pid in &before {
        shared.server.wait_gone(*pid, LONG).await;
    }
    pgdeadline_tests::eventually(LONG, "the pool serves again", async || {
        // A client may have to be told by its first query.
        let client = shared.pool.get().await.unwrap();
        client.batch_execute("SELECT 1").await.ok()
    })
    .await;
    let after = timeout(LONG, all_pids(&shared)).await.unwrap();
    assert!(after.iter().all(|pid| !before.contains(pid)));
    assert_eq!(shared.pool.status().size, SIZE);
}

#[tokio::test]
async fn all_connections_lost_in_the_middle_of_work_are_replaced() {
    let shared = Shared::pool(SIZE).await;
    let before = all_pids(&shared).await;
    let ctx = Context::background().with_timeout(LONG);
    let mut working = tokio::task::JoinSet::new();
    for _ in 0..SIZE {
        let (pool, ctx) = (shared.pool.clone(), ctx.context().clone());
        working.spawn(async move {
            let client = ctx.scope(pool.get()).await.unwrap();
            client.batch_execute(SLEEP).await
        });
    }
    for pid in &before {
        shared.server.wait_state(*pid, "active", LONG).await;
    }
    shared.terminate(&before).await;
    while let Some(worked) = working.join_next().await {
        let error = worked.unwrap().unwrap_err();
        assert!(
            pgdeadline::Error::find(&error).is_none_or(|e| !e.is_end()),
            "{error}"
        );
    }
    let after = timeout(LONG, all_pids(&shared)).await.unwrap();
    assert!(after.iter().all(|pid| !before.contains(pid)));
}

#[tokio::test]
async fn a_client_returned_inside_a_transaction_is_rolled_back() {
    let shared = Shared::pool(1).await;
    let table = shared.table().await;
    let client = shared.pool.get().await.unwrap();
    let before = pid(&client).await;
    let insert = format!("BEGIN; INSERT INTO {table} VALUES (1)");
    client.batch_execute(&insert).await.unwrap();
    drop(client);

    let client = shared.pool.get().await.unwrap();
    assert_eq!(pid(&client).await, before);
    assert_eq!(count(&client, &table).await, 0);
    client
        .batch_execute(&format!("INSERT INTO {table} VALUES (2)"))
        .await
        .unwrap();
    drop(client);
    assert_eq!(count(&shared.server.admin().await, &table).await, 1);
}

#[tokio::test]
async fn a_client_returned_inside_a_transaction_that_still_works_is_rolled_back_too() {
    let shared = Shared::pool(1).await;
    let client = shared.pool.get().await.unwrap();
    let before = pid(&client).await;
    client.batch_execute("BEGIN").await.unwrap();
    assert!(timeout(SHORT, client.batch_execute(SLEEP)).await.is_err());
    drop(client);
    let client = shared.pool.get().await.unwrap();
    assert_eq!(pid(&client).await, before);
    // Inside a transaction that is refused.
    client.batch_execute("VACUUM pg_am").await.unwrap();
}

#[tokio::test]
async fn a_client_dropped_for_good_stops_its_abandoned_work() {
    let shared = Shared::pool(1).await;
    let client = shared.pool.get().await.unwrap();
    let before = pid(&client).await;
    let query = client.batch_execute(SLEEP);
    assert!(timeout(SHORT, query).await.is_err());
    drop(deadpool_postgres::Object::take(client));
    shared.server.wait_gone(before, LONG).await;

    // And so does a pool that is dropped, with all its clients.
    let client = shared.pool.get().await.unwrap();
    let before = pid(&client).await;
    assert!(timeout(SHORT, client.batch_execute(SLEEP)).await.is_err());
    let Shared { server, pool, .. } = shared;
    drop((client, pool));
    server.wait_gone(before, LONG).await;
}

#[tokio::test]
async fn nothing_is_left_of_a_pool_and_its_ended_queries() {
    let shared = Shared::pool(SIZE).await;
    let _ = all_pids(&shared).await;
    let before = Count::tasks();
    let before = before.and_backends(shared.server, &shared.name).await;
    for n in 0..20 {
        let ctx = Context::background().child();
        let work = ended_in(&ctx, &shared.pool);
        let end = async {
            tokio::time::sleep(Duration::from_millis(n)).await;
            ctx.cancel();
        };
        let (error, ()) = tokio::join!(work, end);
        assert!(error.is_cancelled());
    }
    let server = Some((shared.server, shared.name.as_str()));
    before.assert_no_more(server).await;

    let Shared { server, name, pool } = shared;
    drop(pool);
    let none = Count {
        backends: Some(0),
        ..Count::default()
    };
    none.assert_no_more(Some((server, &name))).await;
}
