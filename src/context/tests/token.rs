use super::*;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

#[test]
fn context_follows_a_token() {
    let token = CancellationToken::new();
    let ctx = Context::from_token(token.clone());
    let child = ctx.child();
    assert!(!ctx.is_ended());
    token.cancel();
    let text = "cancelled (the cancellation token was cancelled)";
    assert_eq!(end_of(&ctx).unwrap(), text);
    assert_eq!(end_of(&child).unwrap(), format!("outer context {text}"));
}

#[test]
fn context_of_a_cancelled_token_has_ended() {
    let token = CancellationToken::new();
    token.cancel();
    assert!(Context::from_token(token).is_ended());
}

#[test]
fn context_that_follows_a_token_is_freed_before_it() {
    let token = CancellationToken::new();
    let ctx = Context::from_token(token.child_token());
    let node = Arc::downgrade(&ctx.node);
    drop(ctx);
    assert!(node.upgrade().is_none());
    token.cancel();
}

#[test]
fn token_follows_a_context_also_one_that_nobody_holds() {
    let parent = Context::background().child();
    let own = parent.child();
    let token = own.to_token();
    own.cancel();
    assert!(token.is_cancelled());

    let token = parent.child().disarm().to_token();
    assert!(!token.is_cancelled());
    parent.cancel();
    assert!(token.is_cancelled());
}

#[test]
fn token_of_an_ended_context_is_cancelled() {
    let ctx = Context::background().child();
    ctx.cancel();
    assert!(ctx.to_token().is_cancelled());
}

#[test]
fn context_is_freed_once_its_token_was_cancelled() {
    let ctx = Context::background().child();
    let token = ctx.to_token();
    let node = Arc::downgrade(&ctx.node);
    drop(ctx);
    assert!(token.is_cancelled());
    assert!(node.upgrade().is_none());
}

#[tokio::test(start_paused = true)]
async fn token_of_a_deadline_is_cancelled_by_it() {
    let start = tokio::time::Instant::now();
    let ctx = Context::background().with_timeout(Duration::from_millis(100));
    ctx.to_token().cancelled().await;
    assert_eq!(start.elapsed(), Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn task_behind_a_token_ends_when_its_context_is_over() {
    let metrics = tokio::runtime::Handle::current().metrics();
    let ended = Context::background().with_timeout(Duration::from_secs(100));
    let token = ended.to_token();
    ended.cancel();
    token.cancelled().await;

    let ctx = Context::background().with_timeout(Duration::from_secs(100));
    let of_a_run = ctx.run(async { Context::current().unwrap().to_token() });
    let of_a_run = of_a_run.await.unwrap();
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(metrics.num_alive_tasks(), 0);
    assert!(!of_a_run.is_cancelled(), "a finish is no end");
}
