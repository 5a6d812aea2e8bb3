//! One operation under a context of its own.

use std::time::Duration;

use pgdeadline::Context;
use pgdeadline_deadpool::{ClientExt, Error, PoolExt};
use tokio::time::timeout;
use tokio_postgres::NoTls;

use super::{LONG, SHORT, SLEEP, Shared, found, pid};

#[tokio::test]
async fn an_operation_ends_with_its_own_context_and_the_client_goes_on() {
    let shared = Shared::pool(1).await;
    let mut client = shared.pool.get().await.unwrap();
    let before = pid(&client).await;
    let ctx = Context::background().with_timeout(SHORT);
    let result = client.within(&ctx, async |c| c.batch_execute(SLEEP).await);
    let error: tokio_postgres::Error = result.await.unwrap_err();
    assert!(found(&error).is_deadline(), "{error}");
    assert_eq!(found(&error).was_sent(), Some(true));

    let ctx = Context::background().with_timeout(LONG);
    let n: i32 = client
        .within(&ctx, async |c| {
            let statement = c.prepare_cached("SELECT 1 + $1::int4").await?;
            let row = c.query_one(&statement, &[&41]).await?;
            Ok::<_, Error>(row.try_get(0)?)
        })
        .await
        .unwrap();
    assert_eq!(n, 42);
    assert_eq!(pid(&client).await, before);
}

#[tokio::test]
async fn it_takes_the_place_of_the_check_outs_context() {
    let shared = Shared::pool(1).await;
    let check_out = Context::background().with_timeout(LONG);
    let mut client = shared.pool.acquire(&check_out).await.unwrap();
    // A stranger to the check-out's: by `run` alone it would not reach it.
    let stranger = Context::background().with_timeout(SHORT);
    let result = client.within(&stranger, async |c| c.batch_execute(SLEEP).await);
    let error: tokio_postgres::Error = result.await.unwrap_err();
    assert!(found(&error).is_deadline(), "{error}");
    shared.server.wait_idle(pid(&client).await, LONG).await;
}

#[tokio::test]
async fn one_within_the_other_ends_alone() {
    let shared = Shared::pool(1).await;
    let mut client = shared.pool.get().await.unwrap();
    let outer = Context::background().with_timeout(LONG);
    let n = client
        .within(&outer, async |c| {
            let inner = outer.with_timeout(SHORT);
            let result = c.within(&inner, async |c| c.batch_execute(SLEEP).await);
            let error: tokio_postgres::Error = result.await.unwrap_err();
            assert!(found(&error).is_deadline(), "{error}");
            let row = c.query_one("SELECT 7", &[]).await?;
            Ok::<_, tokio_postgres::Error>(row.get::<_, i32>(0))
        })
        .await;
    assert_eq!(n.unwrap(), 7);
    assert!(!outer.is_ended());
}

#[tokio::test]
async fn dropped_half_way_it_leaves_a_client_that_works() {
    let shared = Shared::pool(1).await;
    let mut client = shared.pool.get().await.unwrap();
    let before = pid(&client).await;
    let ctx = Context::background().with_timeout(LONG);
    {
        let work = client.within(&ctx, async |c| c.batch_execute(SLEEP).await);
        assert!(timeout(SHORT, work).await.is_err());
    }
    assert_eq!(timeout(LONG, pid(&client)).await, Ok(before));
    assert!(!ctx.is_ended());
}

#[tokio::test]
async fn a_check_out_that_has_ended_is_refused() {
    let shared = Shared::pool(1).await;
    let check_out = Context::background().child();
    let mut client = shared.pool.acquire(&check_out).await.unwrap();
    check_out.cancel_with("closing time");
    let ctx = Context::background().with_timeout(LONG);
    let mut begun = false;
    let result = client.within(&ctx, async |c| {
        begun = true;
        c.batch_execute("SELECT 1").await
    });
    let error: tokio_postgres::Error = result.await.unwrap_err();
    let error = found(&error);
    assert_eq!(error.reason().unwrap().to_string(), "closing time");
    assert!(error.is_retry_safe());
    assert!(!begun);
}

#[tokio::test]
async fn a_context_that_has_ended_begins_nothing() {
    let shared = Shared::pool(1).await;
    let mut client = shared.pool.get().await.unwrap();
    let ctx = Context::background().with_timeout(Duration::ZERO);
    let result = client.within(&ctx, async |_| panic!("not to be begun"));
    let result: Result<(), Error> = result.await;
    assert!(found(&result.unwrap_err()).is_deadline());
    pid(&client).await;
}

#[tokio::test]
async fn it_can_be_spawned() {
    let shared = Shared::pool(1).await;
    let mut client = shared.pool.get().await.unwrap();
    let task = tokio::spawn(async move {
        let ctx = Context::background().with_timeout(LONG);
        let statement = client.prepare_cached("SELECT 5").await?;
        client
            .within(&ctx, async |c| c.query_one(&statement, &[]).await)
            .await
    });
    assert_eq!(task.await.unwrap().unwrap().get::<_, i32>(0), 5);
}

#[tokio::test]
async fn a_client_of_another_pool_is_refused_with_what_to_do() {
    let (server, ..) = Shared::connector().await;
    let manager = deadpool_postgres::Manager::new(server.config(), NoTls);
    let pool = deadpool_postgres::Pool::builder(manager).build().unwrap();
    let mut client = pool.get().await.unwrap();
    let ctx = Context::background().with_timeout(LONG);
    let result = client.within(&ctx, async |c| c.batch_execute("SELECT 1").await);
    let error: tokio_postgres::Error = result.await.unwrap_err();
    let error = found(&error);
    assert!(error.is_config());
    assert!(
        error.to_string().contains("pgdeadline_deadpool::Builder"),
        "{error}"
    );
}

#[tokio::test]
async fn on_a_lost_connection_it_says_what_the_client_says() {
    let shared = Shared::pool(1).await;
    let mut client = shared.pool.get().await.unwrap();
    let pid = pid(&client).await;
    shared.terminate(&[pid]).await;
    pgdeadline_tests::eventually(LONG, "the client knows", async || {
        client.is_closed().then_some(())
    })
    .await;
    let ctx = Context::background().with_timeout(LONG);
    let result = client.within(&ctx, async |c| c.batch_execute("SELECT 1").await);
    let error: tokio_postgres::Error = result.await.unwrap_err();
    assert!(error.to_string().contains("closed"), "{error}");
}
