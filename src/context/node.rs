//! The tree: its nodes, and what holds for them. How an end is made, and how it
//! reaches everything below, is in `spread`.
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

use super::cause::End;
use super::observer::Observers;
use super::slab::Slab;
use super::sync::Mutex;
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
    pub(super) deadline_is_inherited: bool,
    /// The child that `run` works in: its caller knows only the parent, so
    /// what ends the parent is told as if it had ended this one.
    pub(super) stands_for_parent: bool,
    slot: u32,
    parent: Option<Arc<Node>>,
    pub(super) state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    /// Set once. In a finished node: what its later children inherit.
    pub(super) end: Option<End>,
    pub(super) finished: bool,
    /// How many have promised to end this node at its deadline (rule 12 of
    /// the design).
    pub(super) timekeepers: u32,
    pub(super) children: Slab<Weak<Node>>,
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

    pub(super) fn is_known_over(&self) -> bool {
        self.state.lock().is_over()
    }

    pub(super) fn is_past(&self, now: impl FnOnce() -> Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now())
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
