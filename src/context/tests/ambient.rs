use super::*;
use std::future::ready;
use std::pin::pin;

#[test]
fn nothing_is_ambient_outside() {
    assert_eq!(Context::current(), None);
    let scope = Context::background().scope(async {});
    assert_eq!(Context::current(), None);
    drop(scope);
    assert_eq!(Context::current(), None);
}

#[tokio::test]
async fn scope_is_the_context_itself_and_run_a_child_of_it() {
    let ctx = Context::background().child();
    let current = || Context::current().unwrap();
    let scoped = ctx.scope(async { current() }).await;
    assert_eq!(&scoped, ctx.context());
    let child = ctx.run(async { (current(), current()) }).await.unwrap();
    assert_eq!(child.0, child.1, "one child a run");
    assert!(child.0.is_descendant_of(&ctx));
}

#[tokio::test]
async fn innermost_is_ambient_and_the_outer_one_comes_back() {
    let outer = Context::background().child();
    let inner = Context::background().child();
    outer
        .scope(async {
            let within = inner.scope(async { Context::current().unwrap() }).await;
            assert_eq!(&within, inner.context());
            assert_eq!(Context::current().as_ref(), Some(outer.context()));
        })
        .await;
}

#[test]
fn two_futures_polled_in_turn_keep_their_contexts_apart() {
    let (a, b) = (Context::background(), Context::background());
    let look = || {
        let mut polls = 0;
        std::future::poll_fn(move |_| {
            polls += 1;
            match polls {
                3 => Poll::Ready(Context::current().unwrap()),
                _ => Poll::Pending,
            }
        })
    };
    let mut in_a = pin!(a.scope(look()));
    let mut in_b = pin!(b.scope(look()));
    for _ in 0..2 {
        assert!(poll(in_a.as_mut(), Waker::noop()).is_pending());
        assert!(poll(in_b.as_mut(), Waker::noop()).is_pending());
    }
    assert!(matches!(poll(in_a, Waker::noop()), Poll::Ready(found) if found == a));
    assert!(matches!(poll(in_b, Waker::noop()), Poll::Ready(found) if found == b));
}

#[test]
fn scope_does_not_stop_its_future() {
    let ctx = Context::background().child();
    let mut scope = pin!(ctx.scope(ready(42)));
    ctx.cancel();
    assert!(matches!(
        poll(scope.as_mut(), Waker::noop()),
        Poll::Ready(42)
    ));
}

#[test]
fn future_of_a_scope_is_dropped_under_its_context() {
    let ctx = Context::background();
    let seen = std::cell::RefCell::new(None);
    let on_drop = OnDrop(|| {
        seen.replace(Context::current());
    });
    let mut scope = Box::pin(ctx.scope(holding(on_drop)));
    assert!(poll(scope.as_mut(), Waker::noop()).is_pending());
    drop(scope);
    assert_eq!(seen.take(), Some(ctx));
}

#[tokio::test]
async fn tokio_loses_the_context_and_spawn_carries_it_over() {
    let ctx = Context::background().child();
    let (lost, carried) = ctx
        .scope(async {
            let lost = tokio::spawn(async { Context::current() });
            let carried = crate::spawn(async { Context::current() });
            (lost.await.unwrap(), carried.await.unwrap())
        })
        .await;
    assert_eq!(lost, None);
    assert!(carried.unwrap().is_descendant_of(&ctx));
    assert_eq!(
        crate::spawn(async { Context::current() }).await.unwrap(),
        None
    );
}

#[tokio::test]
async fn spawned_task_is_reached_after_the_run_that_spawned_it_has_finished() {
    async fn end_of_current() -> End {
        Context::current().unwrap().ended().await
    }

    let ctx = Context::background().child();
    let (sender, task) = tokio::sync::oneshot::channel();
    let spawning = async { sender.send(crate::spawn(end_of_current())).unwrap() };
    ctx.run(spawning).await.unwrap();
    ctx.cancel_with("shutdown");
    let end = task.await.unwrap().await.unwrap();
    assert_eq!(end.to_string(), "outer context cancelled (shutdown)");
}
