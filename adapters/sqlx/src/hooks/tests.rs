use super::*;
use crate::PoolExt;
use crate::testing::{self, Answer, Server, is_binding};
use sqlx::postgres::PgPool;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A pool whose relay is what `server` answers.
fn pool(server: &Server, hooks: Hooks) -> PgPool {
    let relay = Relay::open(&testing::connector("host=db.test"), None).unwrap();
    let options = PgPoolOptions::new().max_connections(1);
    hooks
        .install(options, relay, Duration::from_secs(2))
        .connect_lazy_with(server.options())
}

/// Hooks that ask something each.
fn asking() -> Hooks {
    Hooks {
        after_connect: Some(Arc::new(|connection, _| {
            Box::pin(async move {
                sqlx::raw_sql("USER'S AFTER_CONNECT")
                    .execute(connection)
                    .await?;
                Ok(())
            })
        })),
        before_acquire: Some(Arc::new(|connection, _| {
            Box::pin(async move {
                sqlx::raw_sql("USER'S BEFORE_ACQUIRE")
                    .execute(connection)
                    .await?;
                Ok(true)
            })
        })),
        after_release: Some(Arc::new(|connection, _| {
            Box::pin(async move {
                sqlx::raw_sql("USER'S AFTER_RELEASE")
                    .execute(connection)
                    .await?;
                Ok(true)
            })
        })),
    }
}

const CHECK_OUT: &str = "pgdeadline check out";

/// Acquires, asks, and waits until the connection is back.
async fn use_once(pool: &PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    sqlx::raw_sql("WORK")
        .execute(&mut *connection)
        .await
        .unwrap();
    drop(connection);
    testing::eventually("the connection is back", || pool.num_idle() == 1).await;
}

#[tokio::test]
async fn every_acquire_binds_and_every_return_pings() {
    let server = testing::serve(Answer::as_relay);
    let pool = pool(&server, Hooks::default());
    use_once(&pool).await;
    assert_eq!(server.asked(), ["connect", CHECK_OUT, "WORK", "Sync"]);
    use_once(&pool).await;
    // No ping but the one at the return.
    assert_eq!(server.asked(), [CHECK_OUT, "WORK", "Sync"]);
    drop(pool.try_acquire().unwrap());
    testing::eventually("the connection is back", || pool.num_idle() == 1).await;
    assert_eq!(server.asked(), ["Sync"]);
}

#[tokio::test]
async fn the_users_hooks_run_inside_the_lease_and_after_it() {
    let server = testing::serve(Answer::as_relay);
    let pool = pool(&server, asking());
    use_once(&pool).await;
    let asked = [
        "connect",
        CHECK_OUT,
        "USER'S AFTER_CONNECT",
        "WORK",
        "Sync",
        "USER'S AFTER_RELEASE",
        "Sync",
    ];
    assert_eq!(server.asked(), asked);
    use_once(&pool).await;
    let asked = [
        CHECK_OUT,
        "USER'S BEFORE_ACQUIRE",
        "WORK",
        "Sync",
        "USER'S AFTER_RELEASE",
        "Sync",
    ];
    assert_eq!(server.asked(), asked);
}

#[tokio::test]
async fn under_a_context_that_has_ended_the_users_hooks_can_still_ask() {
    let server = testing::serve(Answer::as_relay);
    let pool = pool(&server, asking());
    let ctx = Context::background().child();
    ctx.cancel();
    for hook in ["USER'S AFTER_CONNECT", "USER'S BEFORE_ACQUIRE"] {
        ctx.scope(use_once(&pool)).await;
        let asked = server.asked();
        let from = asked.iter().position(|text| text == CHECK_OUT).unwrap();
        assert_eq!(
            asked[from..from + 4],
            [CHECK_OUT, hook, CHECK_OUT, "WORK"],
            "{asked:?}"
        );
    }
}

#[tokio::test]
async fn a_connection_that_is_out_of_step_is_replaced() {
    let bindings = AtomicUsize::new(0);
    let server = testing::serve(move |text| {
        if is_binding(text) && bindings.fetch_add(1, Ordering::Relaxed) == 1 {
            return Answer::Complete("COPY 7777777");
        }
        Answer::as_relay(text)
    });
    let pool = pool(&server, Hooks::default());
    use_once(&pool).await;
    server.asked();
    use_once(&pool).await;
    let asked = server.asked();
    assert_eq!(asked, [CHECK_OUT, "connect", CHECK_OUT, "WORK", "Sync"]);
}

#[tokio::test]
async fn a_pool_whose_options_were_replaced_says_so_at_once() {
    let server = testing::serve(|_| Answer::Error("42601", "syntax error"));
    for hooks in [Hooks::default(), asking()] {
        let pool = pool(&server, hooks);
        let ctx = Context::background().with_timeout(Duration::from_secs(20));
        let error = pool.acquire_under(&ctx).await.unwrap_err();
        assert!(error.database().unwrap().is_config(), "{error:?}");
        assert!(error.to_string().contains("Relay::route"), "{error}");
        let error = pool.begin_under(&ctx).await.unwrap_err();
        assert!(error.database().unwrap().is_config(), "{error:?}");
    }
    let asked = server.asked();
    assert_eq!(asked, ["connect", CHECK_OUT].repeat(4));
}

#[tokio::test]
async fn the_socket_goes_with_the_pool() {
    let server = testing::serve(Answer::as_relay);
    let relay = Relay::open(&testing::connector("host=db.test"), None).unwrap();
    let routed = relay.route(server.options()).unwrap();
    let directory = routed.get_socket().unwrap().clone();
    let pool = Hooks::default()
        .install(PgPoolOptions::new(), relay, Duration::from_secs(2))
        .connect_lazy_with(server.options());
    assert!(directory.exists());
    pool.close().await;
    assert!(directory.exists());
    drop(pool);
    // sqlx's own task may hold it for a moment.
    testing::eventually("the directory goes", || !directory.exists()).await;
}
