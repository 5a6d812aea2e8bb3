//! How an end is made, and how it reaches everything below. The invariants are
//! those of `node`.

use super::cause::{Cause, End};
use super::node::{Node, State};
use super::observer::Observers;
use super::slab::Slab;
use std::mem;
use std::sync::{Arc, Weak};
use std::task::Waker;
use tokio::time::Instant;

impl Node {
    /// Ends this node and all below it, unless it is over.
    pub(super) fn end(self: &Arc<Node>, cause: Cause) {
        if self.is_past(Instant::now) {
            return self.expire();
        }
        if !self.is_known_over() {
            spread(self, End::new(cause), None);
        }
    }

    /// Its deadline has passed: ends whoever's deadline it is, and so this
    /// node too.
    pub(super) fn expire(self: &Arc<Node>) {
        if self.deadline().is_none() || self.is_known_over() {
            return;
        }
        let Some(owner) = self.sharing_deadline().last() else {
            return;
        };
        // Whoever calls may be ahead of the clock by a timer's grain; the
        // deadline has passed all the same, and those below with earlier ones.
        spread(owner, End::new(Cause::Deadline), owner.deadline());
        if self.is_known_over() {
            return;
        }
        // Another thread is just ending the owner and has not come down to
        // here. The caller may rely on this node being over.
        let end = owner.state.lock().end.clone();
        if let Some(end) = end {
            let mut below = self
                .sharing_deadline()
                .filter(|node| !Arc::ptr_eq(node, owner));
            let stands_for_owner = below.all(|node| node.stands_for_parent);
            spread(self, end.passed_down(stands_for_owner), None);
        }
    }

    /// Its work returned its own result: no later end reaches this node.
    pub(super) fn finish(&self) {
        let mut state = self.state.lock();
        if state.is_over() {
            return;
        }
        state.finished = true;
        let notice = state.take_notice();
        drop(state);
        if let Some(notice) = notice {
            notice.observers.finished();
            notice.wake();
        }
    }

    /// Marks this node as ended and takes out its children and those to tell.
    /// `None` if it has ended before.
    fn mark(&self, end: &End) -> Option<Marked> {
        let mut state = self.state.lock();
        if state.end.is_some() {
            return None;
        }
        state.end = Some(end.clone());
        let children = mem::take(&mut state.children);
        let notice = if state.finished {
            None
        } else {
            state.take_notice()
        };
        Some(Marked { children, notice })
    }

    /// What an end of its parent is to this node: that end, unless its own
    /// deadline had passed before (invariant 6).
    fn end_from_parent(&self, parents: &End, clock: &mut Clock) -> End {
        if !self.deadline_is_inherited && self.is_past(|| clock.now()) {
            End::new(Cause::Deadline)
        } else {
            parents.passed_down(self.stands_for_parent)
        }
    }
}

impl State {
    /// Who is to be told that the node is over; the observers stay registered.
    fn take_notice(&mut self) -> Option<Notice> {
        if self.observers.is_empty() && self.waiters.is_empty() {
            return None;
        }
        Some(Notice {
            observers: self.observers.clone(),
            waiters: mem::take(&mut self.waiters),
        })
    }
}

struct Marked {
    children: Slab<Weak<Node>>,
    notice: Option<Notice>,
}

struct Notice {
    observers: Observers,
    waiters: Slab<Waker>,
}

impl Notice {
    fn wake(self) {
        self.waiters.into_values().for_each(Waker::wake);
    }
}

/// The time of an end, read when a deadline is first compared with it.
struct Clock {
    now: Option<Instant>,
    not_before: Option<Instant>,
}

impl Clock {
    fn now(&mut self) -> Instant {
        let not_before = self.not_before;
        *self.now.get_or_insert_with(|| {
            let now = Instant::now();
            not_before.map_or(now, |not_before| now.max(not_before))
        })
    }
}

/// Ends `origin` and all below it: marks them, then tells them (invariant 5).
fn spread(origin: &Arc<Node>, end: End, not_before: Option<Instant>) {
    let mut clock = Clock {
        now: None,
        not_before,
    };
    let mut notices = Vec::new();
    let mut unmarked = Vec::new();
    let mut next = Some((origin.clone(), end));
    while let Some((node, end)) = next {
        if let Some(Marked { children, notice }) = node.mark(&end) {
            for child in children.into_values().filter_map(|child| child.upgrade()) {
                let end = child.end_from_parent(&end, &mut clock);
                unmarked.push((child, end));
            }
            notices.extend(notice.map(|notice| (notice, end)));
        }
        next = unmarked.pop();
    }
    for (notice, end) in &notices {
        notice.observers.ended(end);
    }
    for (notice, _) in notices {
        notice.wake();
    }
}
