//! What deadpool does when it recycles, and contexts that have ended.

use std::time::Duration;

use deadpool_postgres::{Hook, HookError, ManagerConfig, Pool, RecyclingMethod};
use pgdeadline::Context;
use pgdeadline_deadpool::{Builder, PgConnect};
use pgdeadline_tests::scripted::Net;

use super::{LONG, Obedient, SHORT, SLEEP, Shared, found, scripted, scripted_pool};

const METHODS: [fn() -> RecyclingMethod; 4] = [
    || RecyclingMethod::Fast,
    || RecyclingMethod::Verified,
    || RecyclingMethod::Clean,
    || RecyclingMethod::Custom("DISCARD PLANS".into()),
];

const SIZE: usize = 3;

/// Fills the pool, so that all of it is idle afterwards.
async fn fill(pool: &Pool) {
    let mut clients = Vec::new();
    for _ in 0..SIZE {
        clients.push(pool.get().await.unwrap());
    }
}

/// Checks out everything there is under a context that has ended, and again
/// under none.
async fn check_out_under_an_ended_context(pool: &Pool, net: &Net) {
    let ended = Context::background().with_timeout(Duration::ZERO);
    for _ in 0..2 {
        ended
            .scope(async {
                let mut clients = Vec::new();
                for _ in 0..SIZE {
                    let client = pool.get().await.unwrap();
                    let error = client.batch_execute("SELECT 1").await.unwrap_err();
                    assert!(found(&error).is_deadline(), "{error}");
                    assert_eq!(found(&error).was_sent(), Some(false));
                    clients.push(client);
                }
            })
            .await;
    }
    assert_eq!(pool.status().size, SIZE);
    let client = pool.get().await.unwrap();
    client.batch_execute("SELECT 2").await.unwrap();
    assert_eq!(net.dials(), SIZE, "none was closed, so none was opened");
}

#[tokio::test(start_paused = true)]
async fn an_ended_context_closes_no_idle_connection_whatever_recycles() {
    for method in METHODS {
        let net = Net::new();
        let server = Obedient::serve(&net);
        let set = |builder: Builder| builder.max_size(SIZE).recycling_method(method());
        let pool = scripted_pool(&net, set);
        fill(&pool).await;
        check_out_under_an_ended_context(&pool, &net).await;
        let queries = server.queries();
        assert!(!queries.contains(&"SELECT 1".into()), "{queries:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nor_does_it_where_the_manager_is_the_users() {
    for method in METHODS {
        let net = Net::new();
        Obedient::serve(&net);
        let connector = scripted(&net).build().unwrap();
        let manager = deadpool_postgres::Manager::from_connect(
            net.config(),
            PgConnect::new(connector.clone()),
            ManagerConfig {
                recycling_method: method(),
            },
        );
        let builder = Builder::new(connector).manager(manager).max_size(SIZE);
        let pool = builder.build().unwrap();
        fill(&pool).await;
        check_out_under_an_ended_context(&pool, &net).await;
    }
}

#[tokio::test(start_paused = true)]
async fn nor_where_the_users_hooks_query() {
    fn hook(query: &'static str) -> Hook {
        Hook::async_fn(move |client, _| {
            Box::pin(async move {
                let done = client.batch_execute(query).await;
                done.map_err(HookError::Backend)
            })
        })
    }
    let net = Net::new();
    let server = Obedient::serve(&net);
    let pool = scripted_pool(&net, |builder| {
        builder.max_size(SIZE).configure(|pool| {
            pool.post_create(hook("created"))
                .pre_recycle(hook("before"))
                .post_recycle(hook("after"))
        })
    });
    fill(&pool).await;
    assert_eq!(*server.queries(), ["created"; SIZE]);
    server.queries().clear();
    check_out_under_an_ended_context(&pool, &net).await;
    let queries = server.queries();
    assert_eq!(queries[..2], ["before", "after"]);
    assert_eq!(queries.last().unwrap(), "SELECT 2");
}

#[tokio::test(start_paused = true)]
async fn the_users_hooks_end_with_the_check_out() {
    let net = Net::new();
    let pool = scripted_pool(&net, |builder| {
        builder.max_size(1).configure(|pool| {
            pool.post_create(Hook::async_fn(|client, _| {
                Box::pin(async move {
                    let done = client.batch_execute("SET search_path = app").await;
                    done.map_err(HookError::Backend)
                })
            }))
        })
    });
    let silent = tokio::spawn(async move {
        let mut backend = net.backend().await;
        backend.authenticate(1, 1).await;
        std::future::pending::<()>().await;
        drop(backend);
    });
    let ctx = Context::background().with_timeout(SHORT);
    let error = ctx.scope(pool.get()).await.unwrap_err();
    assert!(found(&error).is_deadline(), "{error}");
    silent.abort();
}

#[tokio::test]
async fn on_a_real_server_backends_survive_ends_and_ended_contexts() {
    for method in METHODS {
        let set = |builder: Builder| builder.max_size(SIZE).recycling_method(method());
        let shared = Shared::pool_with(set).await;
        fill(&shared.pool).await;
        let before = shared.pids().await;
        assert_eq!(before.len(), SIZE);

        let ctx = Context::background().with_timeout(SHORT);
        let ended = ctx.scope(async {
            let client = shared.pool.get().await.unwrap();
            client.batch_execute(SLEEP).await.unwrap_err();
            drop(client);
            for _ in 0..2 * SIZE {
                let client = shared.pool.get().await.unwrap();
                let error = client.batch_execute("SELECT 1").await.unwrap_err();
                assert!(found(&error).is_deadline(), "{error}");
            }
        });
        tokio::time::timeout(LONG, ended).await.unwrap();
        fill(&shared.pool).await;
        assert_eq!(shared.pids().await, before);
    }
}
