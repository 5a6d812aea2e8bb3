//! The tree: how an end is made, and how it reaches everything below.
//!
//! A [`Context`](super::Context) is a handle to a [`Node`]. A node holds its
//! parent; a parent knows its children by weak links in slots, which a child
//! frees when its last handle goes. Everything that changes is in [`State`],
//! under the node's one lock.
//!
//! 1. **One lock at a time.** No step holds two nodes' locks, so there is no
//!    lock order to keep and none to break.
//! 2. **Nothing of others under a lock.** Wakers are cloned, woken and
//!    dropped, observers called and dropped, and nodes dropped, outside of all
//!    locks: each may come back into the tree.
//! 3. **Once.** Under its lock a node goes from live to ended or to finished;
//!    an end that comes second, to the same node, does nothing. A finished
//!    node takes an end only to hand it on: it stays finished itself, and what
//!    lives below it, other work, is reached through it.
//! 4. **No child is missed.** An end marks a node and takes its children in
//!    one locked step; a child is entered in one locked step too, so either it
//!    is taken with the others or its parent is seen to have ended.
//! 5. **Marked, then told.** All that an end reaches is marked before the
//!    first observer is told, and all observers are told before the first
//!    waiter is woken.
//! 6. **The clock decides, not who looks first.** A node that is found past
//!    its deadline ended by it, whatever else comes later: every end looks at
//!    the clock. A deadline that a node has from an ancestor is noticed for
//!    that ancestor.
//! 7. **Flat.** No step recurses along the tree, not even a drop: trees are
//!    as deep and as wide as callers make them.
//!
//! Only the files of this folder may use it.

use super::cause::{Cause, End};
use super::observer::Observers;
use super::slab::Slab;
use super::sync::Mutex;
use std::mem;
use std::sync::{Arc, Weak};
use std::task::Waker;
use tokio::time::Instant;

/// How a context came to be over.
#[derive(Clone, Debug)]
pub(crate) enum Over {
    /// It ended.
    Ended(End),
    /// Its work returned its own result; nothing is to be cancelled for it.
    Finished,
}

pub(super) struct Node {
    /// The earlier of its own deadline and its parent's.
    deadline: Option<Instant>,
    /// Whether `deadline` is the parent's.
    deadline_is_inherited: bool,
    /// The child that `run` works in: its caller knows only the parent, so
    /// what ends the parent is told as if it had ended this one.
    stands_for_parent: bool,
    slot: u32,
    parent: Option<Arc<Node>>,
    pub(super) state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    /// Set once. In a finished node: what its later children inherit.
    end: Option<End>,
    finished: bool,
    /// How many have promised to end this node at its deadline (rule 12 of
    /// the design).
    pub(super) timekeepers: u32,
    children: Slab<Weak<Node>>,
    pub(super) waiters: Slab<Waker>,
    pub(super) observers: Observers,
}

impl Node {
    pub(super) fn root() -> Arc<Node> {
        Arc::new(Node {
            deadline: None,
            deadline_is_inherited: false,
            stands_for_parent: false,
            slot: 0,
            parent: None,
            state: Mutex::new(State::default()),
        })
    }

    /// A child with a deadline of its own, if that is the earlier one.
    pub(super) fn child(self: &Arc<Node>, deadline: Option<Instant>) -> Arc<Node> {
        self.add_child(deadline, false)
    }

    /// The child that `run` works in.
    pub(super) fn stand_in(self: &Arc<Node>) -> Arc<Node> {
        self.add_child(None, true)
    }

    pub(super) fn stands_for_parent(&self) -> bool {
        self.stands_for_parent
    }

    fn add_child(self: &Arc<Node>, own: Option<Instant>, stands_for_parent: bool) -> Arc<Node> {
        let deadline_is_inherited = match (own, self.deadline) {
            (Some(own), Some(parents)) => parents <= own,
            (Some(_), None) => false,
            (None, parents) => parents.is_some(),
        };
        let new = |slot, state| {
            Arc::new(Node {
                deadline: if deadline_is_inherited {
                    self.deadline
                } else {
                    own
                },
                deadline_is_inherited,
                stands_for_parent,
                slot,
                parent: Some(self.clone()),
                state: Mutex::new(state),
            })
        };
        let mut state = self.state.lock();
        if let Some(end) = &state.end {
            // An ended parent has no use for children (invariant 4).
            let ended = State {
                end: Some(end.passed_down(stands_for_parent)),
                ..State::default()
            };
            return new(0, ended);
        }
        let mut child = None;
        state.children.insert_with(|slot| {
            let node = new(slot, State::default());
            Arc::downgrade(child.insert(node))
        });
        drop(state);
        child.expect("insert_with has called its closure")
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether this context is over, and how. Looks at the clock (invariant 6).
    pub(super) fn over(self: &Arc<Node>) -> Option<Over> {
        let over = self.known_over();
        if over.is_none() && self.is_past(Instant::now) {
            self.expire();
            return self.known_over();
        }
        over
    }

    fn known_over(&self) -> Option<Over> {
        self.state.lock().over()
    }

    fn is_known_over(&self) -> bool {
        self.state.lock().is_over()
    }

    fn is_past(&self, now: impl FnOnce() -> Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now())
    }

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
        if self.deadline.is_none() || self.is_known_over() {
            return;
        }
        let Some(owner) = self.sharing_deadline().last() else {
            return;
        };
        // Whoever calls may be ahead of the clock by a timer's grain; the
        // deadline has passed all the same, and those below with earlier ones.
        spread(owner, End::new(Cause::Deadline), owner.deadline);
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

    pub(super) fn is_descendant_of(&self, other: &Node) -> bool {
        self.ancestors()
            .any(|ancestor| std::ptr::eq(ancestor, other))
    }

    /// Is this work under `other`, as its caller knows it? The child that `run`
    /// works in is known to nobody: what is derived beside it, from its
    /// parent, is meant to be under it.
    pub(super) fn is_under(&self, other: &Node) -> bool {
        let mut known = other;
        while known.stands_for_parent
            && let Some(parent) = &known.parent
        {
            known = parent;
        }
        self.is_descendant_of(known)
    }

    /// Itself and the ancestors that it has its deadline in common with; the
    /// last is the one whose deadline it is.
    pub(super) fn sharing_deadline(self: &Arc<Node>) -> impl Iterator<Item = &Arc<Node>> {
        std::iter::successors(Some(self), |node| {
            let parent = node.parent.as_ref()?;
            node.deadline_is_inherited.then_some(parent)
        })
    }

    pub(super) fn ancestors(&self) -> impl Iterator<Item = &Node> {
        std::iter::successors(self.parent.as_deref(), |node| node.parent.as_deref())
    }
}

impl Drop for Node {
    /// Leaves the tree, and takes along every ancestor that only this node
    /// kept: in a loop, since dropping one inside the other would recurse
    /// (invariant 7).
    fn drop(&mut self) {
        let mut slot = self.slot;
        let mut next = self.parent.take();
        while let Some(parent) = next {
            parent.state.lock().children.remove(slot);
            let Some(mut parent) = Arc::into_inner(parent) else {
                return;
            };
            slot = parent.slot;
            next = parent.parent.take();
        }
    }
}

impl State {
    pub(super) fn is_over(&self) -> bool {
        self.finished || self.end.is_some()
    }

    pub(super) fn over(&self) -> Option<Over> {
        if self.finished {
            return Some(Over::Finished);
        }
        self.end.clone().map(Over::Ended)
    }

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

#[cfg(all(test, not(pgdeadline_loom)))]
mod tests {
    use super::*;

    #[test]
    fn idle_child_is_small() {
        // 248 on 64-bit machines; the two counts of the `Arc` are part of it.
        let counts = 2 * size_of::<usize>();
        assert!(counts + size_of::<Node>() <= 256);
    }

    #[test]
    fn parent_that_outlives_a_million_children_keeps_nothing_of_them() {
        let parent = Node::root();
        for _ in 0..1_000_000 {
            assert_eq!(parent.child(None).slot, 0);
        }
        assert!(parent.state.lock().children.is_empty());
        assert_eq!(Arc::strong_count(&parent), 1);
    }

    #[test]
    fn only_the_owner_of_a_deadline_keeps_it_for_all_who_share_it() {
        let now = Instant::now();
        let root = Node::root();
        let owner = root.child(Some(now));
        let sharing = owner.child(None).stand_in().child(Some(now));
        let first = sharing.sharing_deadline().last().unwrap();
        assert!(Arc::ptr_eq(first, &owner));
        assert_eq!(sharing.sharing_deadline().count(), 4);
    }
}
