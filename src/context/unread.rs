//! Notes of this thread that were not read yet.
//!
//! A layer below can tell under which context it was asked for something by
//! who wakes it: the ambient context is read in the wake. But it is woken once
//! until it looks, and what is asked of it meanwhile under another context
//! comes without a wake of its own.
//!
//! 1. Whoever is woken raises a flag of its own, [`Unread`], which the waking
//!    thread remembers, and lowers it when it looks.
//! 2. `run` and `scope` begin with a [`Turn`]: if a flag of their thread is up
//!    they let the task behind it go first, so that what they ask for next is
//!    a wake of its own.
//! 3. A turn is given once, whether it was taken or not: a task that another
//!    thread polls may not have looked by then, and nobody waits for it.
//! 4. A thread remembers few flags. While all of those are up they give turns
//!    for the others too.

use std::cell::RefCell;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{self, Poll};

/// Whether somebody was woken and has not looked since.
#[derive(Debug, Default)]
pub(crate) struct Unread(Arc<AtomicBool>);

impl Unread {
    /// It was woken, in this thread.
    pub(crate) fn raise(&self) {
        // Relaxed: a flag that is seen too late costs or saves a turn.
        self.0.store(true, Ordering::Relaxed);
        // A thread past its end begins nothing more.
        let _ = HERE.try_with(|here| {
            let mut here = here.borrow_mut();
            if here.iter().flatten().any(|flag| Arc::ptr_eq(flag, &self.0)) {
                return;
            }
            let free = here.iter_mut().find(|place| !is_up(place));
            if let Some(place) = free {
                *place = Some(Arc::clone(&self.0));
            }
        });
    }

    /// It looks, or never will again.
    pub(crate) fn lower(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// What begins something under a context gives this before its first poll.
#[derive(Debug, Default)]
pub(super) struct Turn {
    given: bool,
}

impl Turn {
    /// Pending in the first call, and the task is woken at once, if anything
    /// is unread in this thread; ready otherwise.
    pub(super) fn poll_given(&mut self, cx: &task::Context<'_>) -> Poll<()> {
        if mem::replace(&mut self.given, true) || !any_up() {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

fn any_up() -> bool {
    HERE.try_with(|here| here.borrow().iter().any(is_up))
        .unwrap_or(false)
}

fn is_up(place: &Option<Arc<AtomicBool>>) -> bool {
    place
        .as_ref()
        .is_some_and(|flag| flag.load(Ordering::Relaxed))
}

thread_local! {
    static HERE: RefCell<[Option<Arc<AtomicBool>>; REMEMBERED]> =
        const { RefCell::new([const { None }; REMEMBERED]) };
}

/// How many flags a thread remembers. A task that begins something right behind
/// something else has one connection in mind, rarely two; each wake looks
/// through all of them.
const REMEMBERED: usize = 4;

#[cfg(all(test, not(pgdeadline_loom)))]
mod tests {
    use super::*;
    use std::task::Waker;

    fn is_pending(turn: &mut Turn) -> bool {
        let cx = task::Context::from_waker(Waker::noop());
        turn.poll_given(&cx).is_pending()
    }

    #[test]
    fn a_turn_is_given_once_and_only_while_something_is_unread() {
        assert!(!is_pending(&mut Turn::default()), "nothing was ever unread");
        let unread = Unread::default();
        unread.raise();
        let mut turn = Turn::default();
        assert!(is_pending(&mut turn));
        assert!(!is_pending(&mut turn), "given, though not taken");
        unread.lower();
        assert!(!is_pending(&mut Turn::default()), "read by now");
    }

    #[test]
    fn only_the_thread_that_woke_gives_a_turn() {
        let unread = Unread::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                unread.raise();
                assert!(is_pending(&mut Turn::default()));
            });
        });
        assert!(!is_pending(&mut Turn::default()));
    }

    #[test]
    fn a_thread_remembers_few_and_those_that_were_read_make_room() {
        let many: Vec<Unread> = (0..100).map(|_| Unread::default()).collect();
        for unread in &many {
            unread.raise();
            unread.raise();
        }
        let remembered = |unread: &&Unread| Arc::strong_count(&unread.0) > 1;
        assert_eq!(many.iter().filter(remembered).count(), REMEMBERED);
        many.iter().for_each(Unread::lower);
        let next = Unread::default();
        next.raise();
        assert!(is_pending(&mut Turn::default()));
        assert_eq!(Arc::strong_count(&next.0), 2, "one place, raised once");
    }
}
