use super::*;
use crate::context::Unread;
use std::cell::Cell;
use std::future::ready;
use std::pin::pin;

/// A flag that is up in this thread.
fn raised() -> Unread {
    let unread = Unread::default();
    unread.raise();
    unread
}

#[test]
fn run_and_scope_give_one_turn_before_their_first_poll() {
    let _unread = raised();
    let ctx = Context::background().child();
    let polls = Cell::new(0);
    let count = || {
        std::future::poll_fn(|_| {
            polls.set(polls.get() + 1);
            Poll::<()>::Pending
        })
    };
    let (wakes, waker) = Wakes::new();
    let mut run = pin!(ctx.run(count()));
    assert!(poll(run.as_mut(), &waker).is_pending());
    assert_eq!((polls.get(), wakes.count()), (0, 1), "back at once");
    // Nothing has read the note meanwhile: that is not waited for.
    assert!(poll(run.as_mut(), &waker).is_pending());
    assert!(poll(run.as_mut(), &waker).is_pending());
    assert_eq!((polls.get(), wakes.count()), (2, 1));

    let mut scope = pin!(ctx.scope(count()));
    assert!(poll(scope.as_mut(), &waker).is_pending());
    assert_eq!((polls.get(), wakes.count()), (2, 2), "back at once");
    assert!(poll(scope.as_mut(), &waker).is_pending());
    assert!(poll(scope.as_mut(), &waker).is_pending());
    assert_eq!((polls.get(), wakes.count()), (4, 2));
}

#[test]
fn try_run_gives_it_too() {
    let _unread = raised();
    let ctx = Context::background().child();
    let mut run = pin!(ctx.try_run(ready(Ok::<_, crate::Error>(42))));
    let (wakes, waker) = Wakes::new();
    assert!(poll(run.as_mut(), &waker).is_pending());
    assert_eq!(wakes.count(), 1);
    assert!(matches!(poll(run, &waker), Poll::Ready(Ok(42))));
}

#[test]
fn none_is_given_where_nothing_is_unread() {
    raised().lower();
    let ctx = Context::background().child();
    let (wakes, waker) = Wakes::new();
    assert!(matches!(
        poll(pin!(ctx.run(ready(42))), &waker),
        Poll::Ready(Ok(42))
    ));
    assert!(matches!(
        poll(pin!(ctx.scope(ready(42))), &waker),
        Poll::Ready(42)
    ));
    assert_eq!(wakes.count(), 0);
}

#[test]
fn none_is_given_once_the_future_was_polled() {
    let ctx = Context::background().child();
    let mut ready_at = 3;
    let mut run = pin!(ctx.run(std::future::poll_fn(|_| {
        ready_at -= 1;
        match ready_at {
            0 => Poll::Ready(42),
            _ => Poll::Pending,
        }
    })));
    assert!(poll(run.as_mut(), Waker::noop()).is_pending());
    let _unread = raised();
    assert!(poll(run.as_mut(), Waker::noop()).is_pending());
    assert!(matches!(poll(run, Waker::noop()), Poll::Ready(Ok(42))));
}

#[test]
fn end_during_the_turn_wins_and_nothing_is_polled() {
    let _unread = raised();
    let ctx = Context::background().child();
    let held = std::rc::Rc::new(());
    let weak = std::rc::Rc::downgrade(&held);
    let mut run = pin!(ctx.run(async move {
        let _held = held;
        unreachable!("polled although its context has ended")
    }));
    assert!(poll(run.as_mut(), Waker::noop()).is_pending());
    ctx.cancel();
    let Poll::Ready(Err(error)) = poll(run.as_mut(), Waker::noop()) else {
        panic!("not an error at once");
    };
    assert!(error.is_cancelled());
    assert_eq!(error.was_sent(), Some(false));
    assert!(weak.upgrade().is_none(), "the future outlives the error");
}

#[test]
fn run_dropped_during_its_turn_leaves_nothing() {
    let _unread = raised();
    let ctx = Context::background().child();
    let seen = Cell::new(false);
    let mut run = Box::pin(ctx.run(holding(OnDrop(|| {
        seen.set(Context::current().unwrap().is_descendant_of(&ctx));
    }))));
    assert!(poll(run.as_mut(), Waker::noop()).is_pending());
    drop(run);
    assert!(seen.get(), "its future is dropped under its context");
    assert!(!ctx.is_ended());
}
