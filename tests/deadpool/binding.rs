//! Which context a request ends with.

use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool};
use pgdeadline::Context;
use pgdeadline_deadpool::{Builder, PgConnect, PoolExt};

use super::{LONG, SHORT, SLEEP, Shared, ended_in, ended_on, found, pid};

#[tokio::test]
async fn a_child_inside_a_check_out_ends_its_own_query_and_no_more() {
    let shared = Shared::pool(1).await;
    let ctx = Context::background().with_timeout(LONG);
    let worked = ctx.run(async {
        let client = shared.pool.get().await.unwrap();
        let before = pid(&client).await;
        for _ in 0..3 {
            let child = ctx.with_timeout(SHORT);
            let error = ended_on(&child, &client).await;
            assert!(error.is_deadline());
            assert_eq!(error.was_sent(), Some(true));
            shared.server.wait_idle(before, LONG).await;
            assert_eq!(pid(&client).await, before);
        }
        before
    });
    let before = worked.await.unwrap();
    assert_eq!(shared.next_pid().await, before);
}

#[tokio::test]
async fn a_client_checked_out_under_no_context_is_reached_by_run() {
    let shared = Shared::pool(1).await;
    let client = shared.pool.get().await.unwrap();
    let before = pid(&client).await;
    let ctx = Context::background().with_timeout(SHORT);
    assert!(ended_on(&ctx, &client).await.is_deadline());
    shared.server.wait_idle(before, LONG).await;
    assert_eq!(pid(&client).await, before);
}

#[tokio::test]
async fn an_acquired_client_ends_with_the_context_that_was_named() {
    let shared = Shared::pool(1).await;
    let before = shared.next_pid().await;
    let ctx = Context::background().with_timeout(SHORT);
    let client = shared.pool.acquire(&ctx).await.unwrap();
    // Under no context, and under one that knows nothing of the other.
    let error = client.batch_execute(SLEEP).await.unwrap_err();
    assert!(found(&error).is_deadline(), "{error}");
    let stranger = Context::background().with_timeout(LONG);
    let error = stranger.run(client.batch_execute(SLEEP)).await;
    assert!(found(&error.unwrap().unwrap_err()).is_deadline());
    drop(client);
    assert_eq!(shared.next_pid().await, before);
}

#[tokio::test]
async fn a_child_of_the_ambient_context_and_one_beside_it_are_both_reached() {
    let shared = Shared::pool(1).await;
    let ctx = Context::background().with_timeout(LONG);
    let worked = ctx.run(async {
        let client = shared.pool.get().await.unwrap();
        let ambient = Context::current().unwrap();
        for parent in [&ambient, ctx.context()] {
            let child = parent.with_timeout(SHORT);
            let error = ended_on(&child, &client).await;
            assert_eq!(error.was_sent(), Some(true));
            shared.server.wait_idle(pid(&client).await, LONG).await;
        }
    });
    worked.await.unwrap();
}

#[tokio::test]
async fn a_client_is_bound_anew_at_each_check_out() {
    let shared = Shared::pool(1).await;
    let ended = Context::background().with_timeout(SHORT);
    let client = shared.pool.acquire(&ended).await.unwrap();
    assert!(client.batch_execute(SLEEP).await.is_err());
    drop(client);

    // No context: nothing of the last one is left.
    let client = shared.pool.get().await.unwrap();
    client.batch_execute("SELECT 1").await.unwrap();
    drop(client);

    let next = Context::background().with_timeout(SHORT);
    let client = next.scope(shared.pool.get()).await.unwrap();
    let error = client.batch_execute(SLEEP).await.unwrap_err();
    assert!(found(&error).is_deadline(), "{error}");
}

#[tokio::test]
async fn a_new_connection_is_bound_to_the_check_out_that_opened_it() {
    let shared = Shared::cold(|builder| builder.max_size(1)).await;
    let ctx = Context::background().with_timeout(Duration::from_secs(5));
    let client = ctx.scope(shared.pool.get()).await.unwrap();
    // Outside of the scope: what counts is the check-out.
    let error = client.batch_execute(SLEEP).await.unwrap_err();
    assert!(found(&error).is_deadline(), "{error}");
}

#[tokio::test]
async fn who_sets_no_deadline_has_the_default_one_unless_he_opts_out() {
    let (server, name, connector) = Shared::connector().await;
    let connector = connector.default_deadline(SHORT).build().unwrap();
    let pool = Builder::new(connector).max_size(1).build().unwrap();
    let shared = Shared { server, name, pool };
    let client = shared.pool.get().await.unwrap();
    let before = pid(&client).await;
    let error = client.batch_execute(SLEEP).await.unwrap_err();
    assert!(found(&error).is_deadline(), "{error}");
    assert_eq!(
        pid(&client).await,
        before,
        "the check-out stays the caller's"
    );
    drop(client);

    let longer = "SELECT pg_sleep(1)";
    Context::background()
        .scope(async {
            let client = shared.pool.get().await.unwrap();
            client.batch_execute(longer).await.unwrap();
        })
        .await;
    let client = shared.pool.get().await.unwrap();
    assert!(client.batch_execute(longer).await.is_err());
    drop(client);
    assert_eq!(shared.next_pid().await, before);
}

#[tokio::test]
async fn a_pool_without_our_hooks_still_ends_its_queries() {
    let (server, name, connector) = Shared::connector().await;
    let connect = PgConnect::new(connector.build().unwrap());
    let config = tokio_postgres::Config::new();
    let manager = Manager::from_connect(config, connect, ManagerConfig::default());
    let pool = Pool::builder(manager).max_size(1).build().unwrap();
    let shared = Shared { server, name, pool };
    let before = shared.next_pid().await;
    for _ in 0..3 {
        let ctx = Context::background().with_timeout(SHORT);
        assert!(ended_in(&ctx, &shared.pool).await.is_deadline());
        assert_eq!(shared.next_pid().await, before);

        let ctx = Context::background().with_timeout(SHORT);
        let work = async {
            let client = shared.pool.get().await.unwrap();
            client.batch_execute(SLEEP).await
        };
        let error = ctx.scope(work).await.unwrap_err();
        assert!(found(&error).is_deadline(), "{error}");
        assert_eq!(shared.next_pid().await, before);
    }
    shared.server.wait_idle(before, LONG).await;
}

#[tokio::test]
async fn a_query_by_text_after_another_is_reached_too() {
    let shared = Shared::pool(1).await;
    let client = shared.pool.get().await.unwrap();
    for _ in 0..3 {
        // Each ends with a Close that wakes the connection, once for both.
        client.query_one("SELECT 1", &[]).await.unwrap();
        let ctx = Context::background().with_timeout(SHORT);
        let error = ctx.try_run(client.query(SLEEP, &[])).await;
        let error = found(&error.unwrap_err());
        assert_eq!((error.is_deadline(), error.was_sent()), (true, Some(true)));
        let next = tokio::time::timeout(LONG / 4, pid(&client)).await;
        assert!(next.is_ok(), "the end has not reached the server");
    }
}
