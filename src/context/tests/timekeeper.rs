//! Rule 12's timekeeper: who waits has a timer of its own only while nobody
//! else has promised to end the context in time.

use super::*;
use std::pin::pin;
use std::time::Duration;
use tokio::time::advance;

const MS: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn wait_without_a_timekeeper_brings_its_timer() {
    let ctx = Context::background().with_timeout(100 * MS);
    let (wakes, waker) = Wakes::new();
    let mut ended = pin!(ctx.ended());
    assert!(poll(ended.as_mut(), &waker).is_pending());
    advance(100 * MS).await;
    assert_eq!(wakes.count(), 1);
    assert!(poll(ended.as_mut(), &waker).is_ready());
}

#[tokio::test(start_paused = true)]
async fn wait_relies_on_a_timekeeper_and_is_woken_when_it_ends_the_context() {
    let ctx = Context::background().with_timeout(100 * MS);
    ctx.keep_time();
    let (wakes, waker) = Wakes::new();
    let mut ended = pin!(ctx.ended());
    assert!(poll(ended.as_mut(), &waker).is_pending());
    advance(150 * MS).await;
    assert_eq!(wakes.count(), 0, "it has a timer of its own");
    ctx.expire();
    assert_eq!(wakes.count(), 1);
    assert!(poll(ended.as_mut(), &waker).is_ready());
}

#[tokio::test(start_paused = true)]
async fn last_timekeeper_to_leave_wakes_the_wait_which_brings_its_timer() {
    let ctx = Context::background().with_timeout(100 * MS);
    ctx.keep_time();
    ctx.keep_time();
    let (wakes, waker) = Wakes::new();
    let mut ended = pin!(ctx.ended());
    assert!(poll(ended.as_mut(), &waker).is_pending());
    ctx.leave_time();
    assert_eq!(wakes.count(), 0);
    ctx.leave_time();
    assert_eq!(wakes.count(), 1);
    assert!(poll(ended.as_mut(), &waker).is_pending());
    advance(100 * MS).await;
    assert_eq!(wakes.count(), 2);
    assert!(poll(ended.as_mut(), &waker).is_ready());
}

#[tokio::test(start_paused = true)]
async fn timekeeper_of_an_ancestor_counts_where_the_deadline_is_the_ancestors() {
    let ctx = Context::background().with_timeout(100 * MS);
    let child = ctx.child();
    let grandchild = child.with_timeout(200 * MS);
    ctx.keep_time();
    let (wakes, waker) = Wakes::new();
    let mut ended = pin!(grandchild.ended());
    assert!(poll(ended.as_mut(), &waker).is_pending());
    advance(50 * MS).await;
    ctx.leave_time();
    assert_eq!(
        wakes.count(),
        1,
        "the leaving of an ancestor's timekeeper went unnoticed"
    );
    assert!(poll(ended.as_mut(), &waker).is_pending());
    advance(50 * MS).await;
    assert_eq!(wakes.count(), 2);
    assert!(poll(ended.as_mut(), &waker).is_ready());
}

#[tokio::test(start_paused = true)]
async fn timekeeper_of_an_ancestor_does_not_count_for_an_earlier_deadline() {
    let ctx = Context::background().with_timeout(100 * MS);
    let child = ctx.with_timeout(50 * MS);
    ctx.keep_time();
    let (wakes, waker) = Wakes::new();
    let mut ended = pin!(child.ended());
    assert!(poll(ended.as_mut(), &waker).is_pending());
    advance(50 * MS).await;
    assert_eq!(wakes.count(), 1);
    assert!(poll(ended.as_mut(), &waker).is_ready());
}

#[tokio::test(start_paused = true)]
async fn timekeeper_that_is_late_is_not_waited_for() {
    let ctx = Context::background().with_timeout(100 * MS);
    ctx.keep_time();
    let mut ended = pin!(ctx.ended());
    assert!(poll(ended.as_mut(), Waker::noop()).is_pending());
    advance(100 * MS).await;
    assert!(poll(ended.as_mut(), Waker::noop()).is_ready());
}

#[tokio::test(start_paused = true)]
async fn run_under_a_checkout_needs_no_timer_until_it_is_given_back() {
    let ctx = Context::background().with_timeout(100 * MS);
    ctx.keep_time();
    let (wakes, waker) = Wakes::new();
    let mut run = pin!(ctx.run(std::future::pending::<()>()));
    assert!(poll(run.as_mut(), &waker).is_pending());
    advance(99 * MS).await;
    assert_eq!(wakes.count(), 0);
    ctx.leave_time();
    assert_eq!(wakes.count(), 1);
    assert!(poll(run.as_mut(), &waker).is_pending());
    advance(MS).await;
    assert_eq!(wakes.count(), 2);
    assert!(poll(run.as_mut(), &waker).is_ready());
}

#[tokio::test(start_paused = true)]
async fn timekeeper_that_expires_a_descendant_ends_the_ancestor_whose_deadline_it_is() {
    let ctx = Context::background().with_timeout(100 * MS);
    let child = ctx.child();
    advance(100 * MS).await;
    child.expire();
    assert_eq!(end_of(&ctx).unwrap(), "deadline passed");
    assert_eq!(end_of(&child).unwrap(), "outer context's deadline passed");
}

/// Its waiters are gone with the finish: nobody would be woken by it.
#[tokio::test(start_paused = true)]
async fn timekeeper_of_a_finished_context_does_not_count() {
    let ctx = Context::background().with_timeout(100 * MS);
    let finished = ctx.run(async { Context::current().unwrap() });
    let finished = finished.await.unwrap();
    finished.keep_time();
    let below = finished.child();
    let (wakes, waker) = Wakes::new();
    let mut ended = pin!(below.ended());
    assert!(poll(ended.as_mut(), &waker).is_pending());
    advance(100 * MS).await;
    assert_eq!(wakes.count(), 1);
    assert!(poll(ended.as_mut(), &waker).is_ready());
}
