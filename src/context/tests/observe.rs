use super::*;
use crate::context::Over;

#[test]
fn observer_is_told_of_the_end_once() {
    let ctx = Context::background().child();
    let (recorder, observer) = Recorder::new();
    ctx.observe(&observer, 7).unwrap();
    ctx.cancel_with("shutdown");
    ctx.cancel();
    drop(ctx);
    assert_eq!(recorder.told(), ["7: cancelled (shutdown)"]);
}

#[test]
fn every_registration_is_told_with_its_key() {
    let ctx = Context::background().child();
    let (recorder, observer) = Recorder::new();
    for key in [1, 2, 2, 3] {
        ctx.observe(&observer, key).unwrap();
    }
    ctx.unobserve(&observer, 2);
    ctx.unobserve(&observer, 9);
    ctx.cancel();
    assert_eq!(
        recorder.told(),
        ["1: cancelled", "2: cancelled", "3: cancelled"]
    );
}

#[test]
fn observer_that_was_taken_off_is_not_told() {
    let ctx = Context::background().child();
    let (recorder, observer) = Recorder::new();
    ctx.observe(&observer, 7).unwrap();
    ctx.unobserve(&observer, 7);
    ctx.cancel();
    assert!(recorder.told().is_empty());
    drop(ctx);
    assert_eq!(
        Arc::strong_count(&recorder),
        2,
        "a registration was left behind"
    );
}

#[test]
fn context_that_is_over_refuses_observers() {
    let ended = Context::background().child();
    ended.cancel();
    let (recorder, observer) = Recorder::new();
    assert!(matches!(ended.observe(&observer, 7), Err(Over::Ended(_))));
    assert!(recorder.told().is_empty());
}

#[test]
fn registering_does_not_look_at_the_clock() {
    // Who registers may hold a lock that an observer takes.
    let past = Context::background().with_deadline(tokio::time::Instant::now());
    let (recorder, observer) = Recorder::new();
    assert!(past.observe(&observer, 7).is_ok());
    assert!(recorder.told().is_empty());
    assert!(past.is_ended());
    assert_eq!(recorder.told().len(), 1);
}

#[test]
fn observer_may_come_back_into_the_tree() {
    struct Reentrant(Context);

    impl Observer for Reentrant {
        fn ended(&self, _key: u64, _end: &End) {
            assert!(self.0.is_ended());
            assert!(self.0.child().is_ended());
            self.0.keep_time();
            self.0.leave_time();
        }

        fn finished(&self, _key: u64) {}

        fn progress(&self, _key: u64) -> Option<Progress> {
            assert!(self.0.is_ended());
            None
        }
    }

    let ctx = Context::background().child();
    let observer: Arc<dyn Observer> = Arc::new(Reentrant(ctx.context().clone()));
    ctx.observe(&observer, 0).unwrap();
    ctx.cancel();
    assert_eq!(ctx.node.progress(), None);
    ctx.unobserve(&observer, 0);
}

#[test]
fn latest_observer_that_knows_is_asked() {
    let ctx = Context::background().child();
    let child = ctx.child();
    let phase = || child.node.progress().map(|progress| progress.phase);
    let (_, outer) = Recorder::in_phase(Phase::Drain);
    let (_, first) = Recorder::in_phase(Phase::Connect);
    let (_, second) = Recorder::in_phase(Phase::Read);
    let (_, knows_nothing) = Recorder::new();
    assert_eq!(phase(), None);
    ctx.observe(&outer, 0).unwrap();
    assert_eq!(phase(), Some(Phase::Drain));
    child.observe(&first, 0).unwrap();
    child.observe(&second, 0).unwrap();
    child.observe(&knows_nothing, 0).unwrap();
    assert_eq!(phase(), Some(Phase::Read));
    child.unobserve(&first, 0);
    child.observe(&first, 0).unwrap();
    assert_eq!(phase(), Some(Phase::Connect));
    child.unobserve(&first, 0);
    child.unobserve(&second, 0);
    assert_eq!(phase(), Some(Phase::Drain));
}

#[test]
fn latest_of_equal_registrations_is_taken_off() {
    let ctx = Context::background().child();
    let phase = || ctx.node.progress().map(|progress| progress.phase);
    let (_, oldest) = Recorder::new();
    let (_, twice) = Recorder::in_phase(Phase::Connect);
    let (_, between) = Recorder::in_phase(Phase::Read);
    for observer in [&oldest, &twice, &between, &twice] {
        ctx.observe(observer, 0).unwrap();
    }
    assert_eq!(phase(), Some(Phase::Connect));
    ctx.unobserve(&twice, 0);
    assert_eq!(phase(), Some(Phase::Read));
}

#[test]
fn phase_is_told_while_its_guard_lives() {
    let ctx = Context::background().child();
    let waiting = ctx.enter_phase(Phase::PoolWait);
    assert_eq!(
        ctx.node.progress(),
        Some(Progress::before_request(Phase::PoolWait))
    );
    let connecting = ctx.enter_phase(Phase::Connect);
    assert_eq!(
        ctx.node.progress(),
        Some(Progress::before_request(Phase::Connect))
    );
    drop(connecting);
    assert_eq!(
        ctx.node.progress(),
        Some(Progress::before_request(Phase::PoolWait))
    );
    drop(waiting);
    assert_eq!(ctx.node.progress(), None);
}

#[test]
fn phase_after_a_request_says_nothing_of_whether_it_was_sent() {
    let ctx = Context::background().child();
    let _reading = ctx.enter_phase(Phase::Read);
    assert_eq!(ctx.node.progress().unwrap().sent, None);
}
