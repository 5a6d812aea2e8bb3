use super::*;
use std::cell::RefCell;
use std::future::{pending, ready};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{Instant, advance};

const MS: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn run_returns_at_the_deadline_and_says_so() {
    let start = Instant::now();
    let ctx = Context::background().with_timeout(200 * MS);
    let error = ctx.run(pending::<()>()).await.unwrap_err();
    assert_eq!(start.elapsed(), 200 * MS);
    assert!(error.is_deadline() && !error.is_inherited());
    assert_eq!(error.phase(), Some(Phase::Outside));
    // What the future did, nobody can tell.
    assert_eq!(error.was_sent(), None);
    assert!(!error.is_retry_safe());
}

#[test]
fn end_before_the_first_poll_wins_and_nothing_is_polled() {
    let ctx = Context::background().child();
    let (held, released) = (Rc::new(()), Rc::new(()));
    let weak = Rc::downgrade(&held);
    drop(released);
    let mut run = pin!(ctx.run(async move {
        let _held = held;
        unreachable!("polled although its context has ended")
    }));
    ctx.cancel_with("shutdown");
    let Poll::Ready(Err(error)) = poll(run.as_mut(), Waker::noop()) else {
        panic!("not an error at once");
    };
    assert_eq!(error.reason().unwrap().to_string(), "shutdown");
    assert!(weak.upgrade().is_none(), "the future outlives the error");
}

#[test]
fn result_in_the_poll_in_which_the_context_ends_wins() {
    let ctx = Context::background().child();
    let mut polls = 0;
    let mut run = pin!(ctx.run(std::future::poll_fn(|_| {
        polls += 1;
        match polls {
            1 => Poll::Pending,
            _ => {
                ctx.cancel();
                Poll::Ready(42)
            }
        }
    })));
    assert!(poll(run.as_mut(), Waker::noop()).is_pending());
    assert!(matches!(
        poll(run.as_mut(), Waker::noop()),
        Poll::Ready(Ok(42))
    ));
}

#[test]
fn result_that_is_there_when_an_earlier_end_is_noticed_wins() {
    let ctx = Context::background().child();
    let results = RefCell::new(None);
    let mut run = pin!(ctx.run(std::future::poll_fn(|_| match results.take() {
        Some(result) => Poll::Ready(result),
        None => Poll::Pending,
    })));
    assert!(poll(run.as_mut(), Waker::noop()).is_pending());
    ctx.cancel();
    results.replace(Some(42));
    assert!(matches!(
        poll(run.as_mut(), Waker::noop()),
        Poll::Ready(Ok(42))
    ));
}

#[test]
fn end_wakes_run_which_drops_the_future_and_returns() {
    let ctx = Context::background().child();
    let (wakes, waker) = Wakes::new();
    let held = Rc::new(());
    let weak = Rc::downgrade(&held);
    let mut run = pin!(ctx.run(holding(held)));
    assert!(poll(run.as_mut(), &waker).is_pending());
    ctx.cancel();
    assert_eq!(wakes.count(), 1);
    let Poll::Ready(Err(error)) = poll(run.as_mut(), &waker) else {
        panic!("not an error at once");
    };
    assert!(error.is_cancelled());
    assert!(weak.upgrade().is_none(), "the future outlives the error");
}

/// Observers learn of the end before the drops queue what they queue.
#[test]
fn future_is_dropped_under_its_context_after_that_has_ended() {
    let ctx = Context::background().child();
    let (recorder, observer) = Recorder::new();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let on_drop = {
        let (seen, recorder) = (seen.clone(), recorder.clone());
        OnDrop(move || {
            let current = Context::current().expect("no ambient context");
            seen.borrow_mut().push((end_of(&current), recorder.told()));
        })
    };
    let mut run = pin!(ctx.run(async {
        let _on_drop = on_drop;
        Context::current().unwrap().observe(&observer, 1).unwrap();
        pending::<()>().await
    }));
    assert!(poll(run.as_mut(), Waker::noop()).is_pending());
    ctx.cancel();
    assert!(poll(run.as_mut(), Waker::noop()).is_ready());
    let told = vec!["1: cancelled".to_owned()];
    assert_eq!(*seen.borrow(), [(Some("cancelled".to_owned()), told)]);
}

#[test]
fn run_dropped_half_way_ends_its_child_first_and_not_the_context() {
    let ctx = Context::background().child();
    let (recorder, observer) = Recorder::new();
    let told_at_drop = Rc::new(RefCell::new(Vec::new()));
    let on_drop = {
        let (told_at_drop, recorder) = (told_at_drop.clone(), recorder.clone());
        OnDrop(move || {
            let ended = Context::current().unwrap().is_ended();
            told_at_drop.replace(recorder.told());
            assert!(ended);
        })
    };
    let mut run = Box::pin(ctx.run(async {
        let _on_drop = on_drop;
        Context::current().unwrap().observe(&observer, 1).unwrap();
        pending::<()>().await
    }));
    assert!(poll(run.as_mut(), Waker::noop()).is_pending());
    drop(run);
    assert_eq!(recorder.told(), ["1: dropped by its caller"]);
    assert_eq!(*told_at_drop.borrow(), recorder.told());
    assert!(!ctx.is_ended());
}

#[test]
fn own_result_finishes_the_child_and_no_later_end_reaches_it() {
    let ctx = Context::background().child();
    let (recorder, observer) = Recorder::new();
    let mut run = pin!(ctx.run(async {
        let current = Context::current().unwrap();
        current.observe(&observer, 1).unwrap();
        current
    }));
    let Poll::Ready(Ok(child)) = poll(run.as_mut(), Waker::noop()) else {
        panic!("not ready");
    };
    assert_eq!(recorder.told(), ["1: finished"]);
    ctx.cancel();
    assert_eq!(end_of(&child), None);
    assert_eq!(recorder.told(), ["1: finished"]);
    let over = child.observe(&observer, 2);
    assert!(matches!(over, Err(crate::context::Over::Finished)));
}

#[test]
fn what_lives_below_a_finished_child_is_reached_all_the_same() {
    let ctx = Context::background().child();
    let mut run = pin!(ctx.run(async { Context::current().unwrap() }));
    let Poll::Ready(Ok(finished)) = poll(run.as_mut(), Waker::noop()) else {
        panic!("not ready");
    };
    let below = finished.child();
    assert!(!below.is_ended());
    ctx.cancel();
    assert_eq!(end_of(&below).unwrap(), "outer context cancelled");
    assert!(finished.child().is_ended());
    assert_eq!(end_of(&finished), None);
}

#[test]
fn error_says_inherited_as_the_context_sees_it_not_the_child() {
    let parent = Context::background().child();
    let ctx = parent.child();
    let mut own = pin!(ctx.run(pending::<()>()));
    let mut nested = pin!(parent.run(ctx.run(pending::<()>())));
    assert!(poll(own.as_mut(), Waker::noop()).is_pending());
    assert!(poll(nested.as_mut(), Waker::noop()).is_pending());
    ctx.cancel();
    let Poll::Ready(Err(error)) = poll(own.as_mut(), Waker::noop()) else {
        panic!("not an error");
    };
    assert!(!error.is_inherited());

    let ctx = parent.child();
    let mut run = pin!(ctx.run(pending::<()>()));
    assert!(poll(run.as_mut(), Waker::noop()).is_pending());
    parent.cancel();
    let Poll::Ready(Err(error)) = poll(run.as_mut(), Waker::noop()) else {
        panic!("not an error");
    };
    assert!(error.is_inherited());
}

/// A future that owns its connection gives it back when dropped, and with it
/// goes who could have told how far the request had come.
#[test]
fn progress_is_asked_before_the_future_is_dropped() {
    let ctx = Context::background().child();
    let (_, observer) = Recorder::in_phase(Phase::Read);
    let mut run = pin!(ctx.run(async {
        let bound = Context::current().unwrap();
        bound.observe(&observer, 1).unwrap();
        holding(OnDrop(|| bound.unobserve(&observer, 1))).await;
    }));
    assert!(poll(run.as_mut(), Waker::noop()).is_pending());
    ctx.cancel();
    let Poll::Ready(Err(error)) = poll(run.as_mut(), Waker::noop()) else {
        panic!("not an error");
    };
    assert_eq!(error.phase(), Some(Phase::Read));
    assert_eq!(error.was_sent(), Some(true));
}

#[test]
fn connection_bound_outside_is_asked_for_the_progress() {
    let checkout = Context::background().child();
    let (_, session) = Recorder::in_phase(Phase::Read);
    checkout.observe(&session, 1).unwrap();
    let ctx = checkout.child();
    let mut run = pin!(ctx.run(pending::<()>()));
    assert!(poll(run.as_mut(), Waker::noop()).is_pending());
    ctx.cancel();
    let Poll::Ready(Err(error)) = poll(run.as_mut(), Waker::noop()) else {
        panic!("not an error");
    };
    assert_eq!(error.phase(), Some(Phase::Read));
}

#[tokio::test(start_paused = true)]
async fn deadline_fires_though_the_future_spends_the_tasks_budget() {
    let ctx = Context::background().with_timeout(10 * MS);
    let greedy = std::future::poll_fn(|cx| {
        // As a busy socket does: uses up what tokio allows, then asks to be
        // polled again.
        while let Poll::Ready(coop) = tokio::task::coop::poll_proceed(cx) {
            coop.made_progress();
        }
        cx.waker().wake_by_ref();
        Poll::<()>::Pending
    });
    let clock = tokio::spawn(async {
        for _ in 0..10 {
            advance(MS).await;
        }
    });
    assert!(ctx.run(greedy).await.unwrap_err().is_deadline());
    clock.await.unwrap();
}

#[test]
fn panic_in_the_future_ends_the_child_and_leaves_nothing_ambient() {
    let ctx = Context::background().child();
    let (recorder, observer) = Recorder::new();
    let run = ctx.run(async {
        Context::current().unwrap().observe(&observer, 1).unwrap();
        panic!("in the future");
    });
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut run = Box::pin(run);
        let _: Poll<Result<(), _>> = poll(run.as_mut(), Waker::noop());
    }));
    assert!(panicked.is_err());
    assert_eq!(Context::current(), None);
    assert_eq!(recorder.told(), ["1: dropped by its caller"]);
    assert!(!ctx.is_ended());
}

#[test]
fn select_that_loses_does_not_end_its_siblings() {
    let ctx = Context::background().child();
    let mut loser = Box::pin(ctx.run(pending::<()>()));
    let mut sibling = pin!(ctx.run(pending::<()>()));
    assert!(poll(loser.as_mut(), Waker::noop()).is_pending());
    assert!(poll(sibling.as_mut(), Waker::noop()).is_pending());
    drop(loser);
    assert!(poll(sibling.as_mut(), Waker::noop()).is_pending());
}

#[test]
fn futures_cross_threads_if_their_work_does() {
    fn crosses_threads<T: Send>(_: &T) {}
    let ctx = Context::background();
    crosses_threads(&ctx.run(ready(())));
    crosses_threads(&ctx.try_run(ready(Ok::<(), crate::Error>(()))));
    crosses_threads(&ctx.scope(ready(())));
    crosses_threads(&ctx.ended());
    crosses_threads(&ctx.child());
}
