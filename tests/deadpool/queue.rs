//! Waiting for the pool.

use std::pin::pin;
use std::time::Duration;

use deadpool_postgres::{Pool, Timeouts};
use pgdeadline::{Context, Phase};
use pgdeadline_deadpool::{Error, PoolExt};
use pgdeadline_tests::scripted::{DialOutcome, Net};
use tokio::time::{Instant, timeout};

use super::{LONG, Obedient, SHORT, found, scripted_pool};

const SIZE: usize = 2;

async fn all_of(pool: &Pool) -> Vec<deadpool_postgres::Client> {
    let mut clients = Vec::new();
    for _ in 0..SIZE {
        clients.push(timeout(LONG, pool.get()).await.unwrap().unwrap());
    }
    clients
}

/// The pool has all of its size to give, and does what it is asked.
async fn assert_full(pool: &Pool) {
    for client in all_of(pool).await {
        client.batch_execute("SELECT 1").await.unwrap();
    }
    assert_eq!(pool.status().size, SIZE);
    assert_eq!(pool.status().waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_is_ended_by_its_context_and_says_that_it_waited_for_the_pool() {
    let net = Net::new();
    Obedient::serve(&net);
    let pool = scripted_pool(&net, |builder| builder.max_size(SIZE));
    let held = all_of(&pool).await;
    let began = Instant::now();

    let ctx = Context::background().with_timeout(SHORT);
    let error = pool.acquire(&ctx).await.unwrap_err();
    assert_eq!(began.elapsed(), SHORT);
    let error = error.database().expect("an end");
    assert!(error.is_deadline() && error.is_retry_safe());
    assert_eq!(error.phase(), Some(Phase::PoolWait));

    let ctx = Context::background().child();
    let mut waiter = pin!(pool.acquire(&ctx));
    assert!(timeout(SHORT, &mut waiter).await.is_err());
    ctx.cancel_with("the client went away");
    let error = waiter.await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cancelled (the client went away) while waiting for a pooled connection; \
         no request was sent, so a retry is safe"
    );
    drop(held);
    assert_full(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn no_permit_is_lost_however_a_waiter_ends() {
    let net = Net::new();
    Obedient::serve(&net);
    let pool = scripted_pool(&net, |builder| builder.max_size(SIZE));
    for round in 0..20 {
        let held = all_of(&pool).await;
        let ctx = Context::background().with_timeout(SHORT);
        let guard = ctx.child();
        let mut acquiring = Box::pin(pool.acquire(&ctx));
        let mut running = Box::pin(guard.run(pool.get()));
        let mut dropped = Box::pin(ctx.run(pool.get()));
        tokio::select! {
            _ = &mut acquiring => panic!("there is none to give"),
            _ = &mut running => panic!("there is none to give"),
            _ = &mut dropped => panic!("there is none to give"),
            () = tokio::time::sleep(SHORT / 2) => {}
        }
        // In some rounds the permits come in the moment of the ends.
        let held = (round % 2 == 0).then_some(held);
        drop(dropped);
        guard.cancel();
        if round % 4 < 2 {
            tokio::time::advance(SHORT).await;
        }
        drop((acquiring.await, running.await));
        drop(held);
        assert_full(&pool).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_connect_that_ends_gives_its_place_back() {
    let net = Net::new();
    Obedient::serve(&net);
    net.next_dials([
        DialOutcome::BlackHole,
        DialOutcome::BlackHole,
        DialOutcome::BlackHole,
    ]);
    let pool = scripted_pool(&net, |builder| builder.max_size(SIZE));
    let ctx = Context::background().with_timeout(SHORT);
    match pool.acquire(&ctx).await.unwrap_err() {
        Error::Database(error) => {
            assert!(error.is_deadline() && error.is_retry_safe());
            assert_eq!(error.phase(), Some(Phase::Connect), "{error}");
        }
        other => panic!("{other:?}"),
    }
    let ctx = Context::background().with_timeout(SHORT);
    let get = async { Ok::<_, Error>(pool.get().await?) };
    let error = found(&ctx.try_run(get).await.unwrap_err());
    assert!(error.is_deadline());
    assert_eq!(error.phase(), Some(Phase::Connect), "{error}");
    let ctx = Context::background().with_timeout(SHORT);
    let error = ctx.scope(pool.get()).await.unwrap_err();
    assert!(found(&error).is_deadline(), "{error}");
    assert_full(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn the_pools_own_timeouts_are_told_as_the_pools() {
    let net = Net::new();
    Obedient::serve(&net);
    let pool = scripted_pool(&net, |builder| {
        builder.max_size(SIZE).timeouts(Timeouts::wait_millis(20))
    });
    let held = all_of(&pool).await;
    let ctx = Context::background().with_timeout(LONG);
    let began = Instant::now();
    let error = pool.acquire(&ctx).await.unwrap_err();
    assert_eq!(began.elapsed(), Duration::from_millis(20));
    assert!(matches!(error, Error::Pool(_)), "{error}");
    drop(held);
    assert_full(&pool).await;
}
