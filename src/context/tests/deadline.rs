use super::*;
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, advance};

const MS: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn child_has_the_earlier_of_its_own_and_its_parents_deadline() {
    let now = Instant::now();
    let parent = Context::background().with_timeout(100 * MS);
    assert_eq!(parent.remaining(), Some(100 * MS));
    assert_eq!(parent.child().deadline(), Some(now + 100 * MS));
    assert_eq!(parent.with_timeout(50 * MS).deadline(), Some(now + 50 * MS));
    assert_eq!(
        parent.with_timeout(200 * MS).deadline(),
        Some(now + 100 * MS)
    );
    let at = parent.with_deadline(now + 10 * MS);
    assert_eq!(at.deadline(), Some(now + 10 * MS));
}

#[test]
fn timeout_too_long_for_the_clock_is_none() {
    let ctx = Context::background().with_timeout(Duration::MAX);
    assert_eq!(ctx.deadline(), None);
    assert!(!ctx.is_ended());
}

#[test]
fn deadline_in_the_past_has_ended_the_context() {
    let ctx = Context::background().with_deadline(Instant::now());
    assert_eq!(end_of(&ctx).unwrap(), "deadline passed");
    assert_eq!(ctx.remaining(), Some(Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn deadline_counts_though_nobody_waited() {
    let ctx = Context::background().with_timeout(100 * MS);
    advance(99 * MS).await;
    assert!(!ctx.is_ended());
    advance(MS).await;
    assert_eq!(end_of(&ctx).unwrap(), "deadline passed");
}

#[tokio::test(start_paused = true)]
async fn child_that_notices_its_parents_deadline_first_says_inherited() {
    let parent = Context::background().with_timeout(100 * MS);
    let child = parent.with_timeout(200 * MS);
    advance(100 * MS).await;
    assert_eq!(end_of(&child).unwrap(), "outer context's deadline passed");
    assert_eq!(end_of(&parent).unwrap(), "deadline passed");
    assert!(child.end().unwrap().is_same_event(&parent.end().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn deadline_equal_to_the_parents_is_the_parents() {
    let parent = Context::background().with_timeout(100 * MS);
    let child = parent.with_timeout(100 * MS);
    advance(100 * MS).await;
    assert!(child.end().unwrap().is_inherited());
}

#[tokio::test(start_paused = true)]
async fn own_deadline_that_nobody_noticed_comes_before_a_later_end_of_the_parent() {
    let parent = Context::background().child();
    let child = parent.with_timeout(100 * MS);
    let grandchild = child.child();
    advance(150 * MS).await;
    parent.cancel();
    assert_eq!(end_of(&child).unwrap(), "deadline passed");
    assert_eq!(
        end_of(&grandchild).unwrap(),
        "outer context's deadline passed"
    );
}

#[tokio::test(start_paused = true)]
async fn parents_end_before_the_childs_deadline_is_inherited() {
    let parent = Context::background().child();
    let child = parent.with_timeout(100 * MS);
    parent.cancel();
    advance(150 * MS).await;
    assert_eq!(end_of(&child).unwrap(), "outer context cancelled");
}

#[tokio::test(start_paused = true)]
async fn cancel_or_drop_after_the_deadline_is_the_deadline() {
    let cancelled = Context::background().with_timeout(100 * MS);
    let dropped = Context::background().with_timeout(100 * MS);
    let ctx = dropped.context().clone();
    advance(100 * MS).await;
    cancelled.cancel_with("too late");
    drop(dropped);
    assert_eq!(end_of(&cancelled).unwrap(), "deadline passed");
    assert_eq!(end_of(&ctx).unwrap(), "deadline passed");
}

#[tokio::test(start_paused = true)]
async fn ended_returns_at_the_deadline() {
    let start = Instant::now();
    let ctx = Context::background().with_timeout(100 * MS);
    let child = ctx.child();
    assert_eq!(
        child.ended().await.to_string(),
        "outer context's deadline passed"
    );
    assert_eq!(start.elapsed(), 100 * MS);
}

#[tokio::test(start_paused = true)]
async fn ended_returns_when_cancelled_before_the_deadline() {
    let ctx = Context::background().with_timeout(100 * MS);
    let (wakes, waker) = Wakes::new();
    let mut ended = pin!(ctx.ended());
    assert!(poll(ended.as_mut(), &waker).is_pending());
    assert_eq!(wakes.count(), 0);
    ctx.cancel();
    assert_eq!(wakes.count(), 1);
    assert!(poll(ended.as_mut(), &waker).is_ready());
}

#[test]
fn ended_wakes_the_waker_of_the_last_poll_only() {
    let ctx = Context::background().child();
    let (before, old) = Wakes::new();
    let (after, new) = Wakes::new();
    let mut ended = pin!(ctx.ended());
    assert!(poll(ended.as_mut(), &old).is_pending());
    assert!(poll(ended.as_mut(), &new).is_pending());
    ctx.cancel();
    assert_eq!((before.count(), after.count()), (0, 1));
}

#[test]
fn wait_that_was_dropped_is_not_woken() {
    let ctx = Context::background().child();
    let (wakes, waker) = Wakes::new();
    {
        let mut ended = pin!(ctx.ended());
        assert!(poll(ended.as_mut(), &waker).is_pending());
    }
    ctx.cancel();
    assert_eq!(wakes.count(), 0);
    assert_eq!(Arc::strong_count(&wakes), 2, "a waker was left behind");
}
