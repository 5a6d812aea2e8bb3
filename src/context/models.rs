//! The tree under loom: every order in which two or three threads can take the
//! locks. None of these models is left out.
//!
//! `RUSTFLAGS="--cfg pgdeadline_loom" cargo test -p pgdeadline --lib --release
//! models`, best with a target directory of its own.

use super::cause::{Cause, End, Reason};
use super::node::{Node, Over};
use super::observer::{Observer, Progress};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Wake, Waker};

#[test]
fn child_made_while_its_parent_ends_is_ended_too() {
    loom::model(|| {
        let parent = Node::root();
        let ending = spawn_end(&parent);
        let child = parent.child(None);
        ending.join().unwrap();
        assert!(is_ended(&child));
        assert!(is_ended(&child.child(None)));
    });
}

#[test]
fn siblings_that_leave_while_their_parent_ends_leave_nothing_behind() {
    loom::model(|| {
        let parent = Node::root();
        let leaving = parent.child(None);
        let staying = parent.child(None);
        let ending = spawn_end(&parent);
        let gone = loom::thread::spawn(move || drop(leaving));
        gone.join().unwrap();
        ending.join().unwrap();
        assert!(is_ended(&staying));
        assert_eq!(
            Arc::weak_count(&staying),
            0,
            "the parent still lists its child"
        );
        let weak = Arc::downgrade(&parent);
        drop(staying);
        drop(parent);
        assert!(weak.upgrade().is_none());
    });
}

#[test]
fn lone_parent_that_goes_with_its_last_child_is_unlinked_while_its_own_ends() {
    loom::model(|| {
        let root = Node::root();
        let middle = root.child(None);
        let leaf = middle.child(None);
        let weak = Arc::downgrade(&middle);
        drop(middle);
        let ending = spawn_end(&root);
        drop(leaf);
        ending.join().unwrap();
        assert!(weak.upgrade().is_none());
    });
}

#[test]
fn observer_is_told_once_or_refused() {
    loom::model(|| {
        let node = Node::root();
        let told = Arc::new(Told::default());
        let observer: Arc<dyn Observer> = told.clone();
        let ending = spawn_end(&node);
        let refused = node.observe(&observer, 7).is_err();
        ending.join().unwrap();
        let ended = told.ended.load(Ordering::Relaxed);
        assert_eq!(ended + u32::from(refused), 1);
    });
}

#[test]
fn finish_and_end_at_once_tell_one_of_the_two() {
    loom::model(|| {
        let node = Node::root();
        let told = Arc::new(Told::default());
        let observer: Arc<dyn Observer> = told.clone();
        node.observe(&observer, 7).unwrap();
        let ending = spawn_end(&node);
        node.finish();
        ending.join().unwrap();
        let ended = told.ended.load(Ordering::Relaxed);
        let finished = told.finished.load(Ordering::Relaxed);
        assert_eq!(ended + finished, 1);
        assert_eq!(matches!(node.over(), Some(Over::Finished)), finished == 1);
    });
}

#[test]
fn end_passes_a_node_that_finishes_and_reaches_what_is_below() {
    loom::model(|| {
        let root = Node::root();
        let run = root.stand_in();
        let task = run.child(None);
        let ending = spawn_end(&root);
        run.finish();
        ending.join().unwrap();
        assert!(is_ended(&task));
        assert!(is_ended(&run.child(None)));
    });
}

#[test]
fn waiter_is_woken_or_refused() {
    loom::model(|| {
        let parent = Node::root();
        let child = parent.child(None);
        let (woken, waker) = counted();
        let ending = spawn_end(&parent);
        let mut slot = None;
        let refused = child.wait(&mut slot, &waker).is_err();
        ending.join().unwrap();
        let woken = woken.0.load(Ordering::Relaxed);
        assert_eq!(woken + u32::from(refused), 1);
    });
}

#[test]
fn waiter_that_relies_on_a_timekeeper_learns_that_it_has_left() {
    loom::model(|| {
        let node = Node::root();
        node.keep_time();
        let (woken, waker) = counted();
        let leaving = {
            let node = node.clone();
            loom::thread::spawn(move || node.leave_time())
        };
        let mut slot = None;
        let relies = node.wait_on_timekeeper(&mut slot, &waker);
        leaving.join().unwrap();
        let woken = woken.0.load(Ordering::Relaxed);
        assert_eq!(u32::from(relies), woken);
    });
}

#[test]
fn two_ends_at_once_leave_one_cause() {
    loom::model(|| {
        let parent = Node::root();
        let child = parent.child(None);
        let told = Arc::new(Told::default());
        let observer: Arc<dyn Observer> = told.clone();
        child.observe(&observer, 7).unwrap();
        let ending = spawn_end(&parent);
        child.end(Cause::Dropped);
        let first = end_of(&child);
        ending.join().unwrap();
        let last = end_of(&child);
        assert!(first.is_same_event(&last));
        assert_eq!(told.ended.load(Ordering::Relaxed), 1);
    });
}

/// Whoever has found a deadline passed may rely on his context being over,
/// though another thread is just ending the context whose deadline it is.
#[test]
fn expired_child_is_over_whoever_ends_its_parent_at_once() {
    loom::model(|| {
        let past = tokio::time::Instant::now();
        let parent = Node::root().child(Some(past));
        let child = parent.stand_in().child(None);
        let expiring = {
            let parent = parent.clone();
            loom::thread::spawn(move || parent.expire())
        };
        child.expire();
        let first = end_of(&child);
        expiring.join().unwrap();
        assert!(first.is_inherited());
        assert!(first.is_same_event(&end_of(&parent)));
    });
}

fn spawn_end(node: &Arc<Node>) -> loom::thread::JoinHandle<()> {
    let node = node.clone();
    loom::thread::spawn(move || node.end(Cause::Cancelled(Reason::not_given())))
}

fn is_ended(node: &Arc<Node>) -> bool {
    matches!(node.over(), Some(Over::Ended(_)))
}

fn end_of(node: &Arc<Node>) -> End {
    match node.over() {
        Some(Over::Ended(end)) => end,
        other => panic!("not ended: {other:?}"),
    }
}

/// Counts what it is told.
#[derive(Default)]
struct Told {
    ended: AtomicU32,
    finished: AtomicU32,
}

impl Observer for Told {
    fn ended(&self, _key: u64, _end: &End) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    fn finished(&self, _key: u64) {
        self.finished.fetch_add(1, Ordering::Relaxed);
    }

    fn progress(&self, _key: u64) -> Option<Progress> {
        None
    }
}

/// Counts its wake-ups.
struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(self: Arc<Woken>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn counted() -> (Arc<Woken>, Waker) {
    let woken = Arc::new(Woken(AtomicU32::new(0)));
    (woken.clone(), Waker::from(woken))
}
