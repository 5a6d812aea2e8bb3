use super::*;
use crate::context::{Cause, Guard};

#[test]
fn background_never_ends() {
    let background = Context::background();
    drop(background.child());
    assert_eq!(end_of(&background), None);
    assert_eq!(background.deadline(), None);
    assert_eq!(background.remaining(), None);
}

#[test]
fn ending_a_parent_ends_its_children_which_say_inherited() {
    let parent = Context::background().child();
    let child = parent.child();
    let grandchild = child.child();
    parent.cancel_with("shutdown");
    assert_eq!(end_of(&parent).unwrap(), "cancelled (shutdown)");
    assert_eq!(
        end_of(&child).unwrap(),
        "outer context cancelled (shutdown)"
    );
    assert_eq!(
        end_of(&grandchild).unwrap(),
        "outer context cancelled (shutdown)"
    );
}

#[test]
fn ending_a_child_leaves_its_parent_and_its_siblings() {
    let parent = Context::background().child();
    let sibling = parent.child();
    parent.child().cancel();
    assert!(!parent.is_ended());
    assert!(!sibling.is_ended());
}

#[test]
fn first_cause_stays() {
    let parent = Context::background().child();
    let child = parent.child();
    child.cancel_with("first");
    parent.cancel_with("second");
    assert_eq!(end_of(&child).unwrap(), "cancelled (first)");
    parent.cancel();
    assert_eq!(end_of(&parent).unwrap(), "cancelled (second)");
}

#[test]
fn child_of_an_ended_parent_has_ended() {
    let parent = Context::background().child();
    parent.cancel();
    assert_eq!(end_of(&parent.child()).unwrap(), "outer context cancelled");
}

#[test]
fn dropped_guard_ends_its_context_as_dropped() {
    let parent = Context::background().child();
    let ctx = parent.context().clone();
    let child = parent.child();
    drop(parent);
    assert!(matches!(ctx.end().unwrap().cause(), Cause::Dropped));
    assert_eq!(
        end_of(&child).unwrap(),
        "outer context dropped by its caller"
    );
}

#[test]
fn disarmed_guard_lets_its_context_live_under_its_parent() {
    let parent = Context::background().child();
    let ctx = parent.child().disarm();
    assert!(!ctx.is_ended());
    parent.cancel();
    assert!(ctx.is_ended());
}

#[test]
fn guard_dropped_after_a_cancel_changes_nothing() {
    let guard = Context::background().child();
    let ctx = guard.context().clone();
    guard.cancel();
    drop(guard);
    assert_eq!(end_of(&ctx).unwrap(), "cancelled");
}

#[test]
fn clones_are_the_same_context_and_children_are_not() {
    let ctx = Context::background();
    let child = ctx.child();
    assert_eq!(ctx, ctx.clone());
    assert_eq!(ctx.id(), ctx.clone().id());
    assert_ne!(&ctx, child.context());
    assert_ne!(ctx.id(), child.id());
    assert_ne!(ctx, Context::background());
}

#[test]
fn beside_a_run_is_under_its_context_for_who_knows_no_more() {
    let ctx = Context::background();
    let (run, nested) = (ctx.stand_in(), ctx.stand_in().stand_in());
    let child = ctx.child();
    for bound in [&ctx, &run, &nested] {
        assert!(child.is_under(bound) && run.is_under(bound));
        assert!(!ctx.is_under(bound));
        assert!(!Context::background().child().is_under(bound));
    }
    assert!(!run.is_under(&child));
}

#[test]
fn descendants_are_those_derived_directly_or_not() {
    let ctx = Context::background();
    let child = ctx.child();
    let grandchild = child.child();
    assert!(grandchild.is_descendant_of(&ctx));
    assert!(grandchild.is_descendant_of(&child));
    assert!(!ctx.is_descendant_of(&child));
    assert!(!ctx.is_descendant_of(&ctx));
    assert!(!grandchild.is_descendant_of(&Context::background()));
}

#[test]
fn hundred_thousand_children_end_with_their_parent() {
    let parent = Context::background().child();
    let children: Vec<Guard> = (0..100_000).map(|_| parent.child()).collect();
    parent.cancel();
    assert!(children.iter().all(|child| child.is_ended()));
}

#[test]
fn chain_of_a_hundred_thousand_ends_and_drops_without_recursion() {
    let root = Context::background().child();
    let mut leaf = root.child().disarm();
    for _ in 0..100_000 {
        leaf = leaf.child().disarm();
    }
    root.cancel();
    assert!(leaf.is_ended());
    drop(root);
    // The last handle to all of them.
    drop(leaf);
}

#[test]
fn live_chain_of_a_hundred_thousand_drops_without_recursion() {
    let mut leaf = Context::background();
    for _ in 0..100_000 {
        leaf = leaf.child().disarm();
    }
    drop(leaf);
}

#[test]
fn all_below_is_ended_before_anybody_is_told() {
    struct Look {
        at: Context,
        seen: Mutex<Option<bool>>,
    }

    impl Observer for Look {
        fn ended(&self, _key: u64, _end: &End) {
            *self.seen.lock().unwrap() = Some(self.at.is_ended());
        }

        fn finished(&self, _key: u64) {}

        fn progress(&self, _key: u64) -> Option<Progress> {
            None
        }
    }

    let parent = Context::background().child();
    let grandchild = parent.child().disarm().child().disarm();
    let look = Arc::new(Look {
        at: grandchild,
        seen: Mutex::new(None),
    });
    let observer: Arc<dyn Observer> = look.clone();
    parent.observe(&observer, 0).unwrap();
    parent.cancel();
    assert_eq!(*look.seen.lock().unwrap(), Some(true));
}
