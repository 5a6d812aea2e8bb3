//! A node's waiters, and those who keep its time for them.
//!
//! A waiter is woken when its node is over, and when the node's last
//! timekeeper leaves. The invariants are those of `node`.

use super::node::{Node, Over, State};
use std::mem;
use std::task::Waker;

impl Node {
    /// Enters a waiter, to be woken when this node is over or when its last
    /// timekeeper leaves; renews the one in `slot` if there is one.
    pub(super) fn wait(&self, slot: &mut Option<u32>, waker: &Waker) -> Result<(), Over> {
        self.enter_waiter(slot, waker, |state| state.over().map_or(Ok(()), Err))
    }

    /// Does the same only while a timekeeper is here.
    pub(super) fn wait_on_timekeeper(&self, slot: &mut Option<u32>, waker: &Waker) -> bool {
        let kept = |state: &State| state.has_timekeeper().then_some(()).ok_or(());
        self.enter_waiter(slot, waker, kept).is_ok()
    }

    fn enter_waiter<E>(
        &self,
        slot: &mut Option<u32>,
        waker: &Waker,
        allow: impl Fn(&State) -> Result<(), E>,
    ) -> Result<(), E> {
        let waker_is_known = |state: &mut State| {
            let entered = slot.and_then(|slot| state.waiters.get_mut(slot));
            entered.is_some_and(|entered| entered.will_wake(waker))
        };
        let mut state = self.state.lock();
        allow(&state)?;
        if waker_is_known(&mut state) {
            return Ok(());
        }
        drop(state);
        // Cloned outside the lock (invariant 2), so ask again after it.
        let waker = waker.clone();
        let mut state = self.state.lock();
        allow(&state)?;
        let replaced = match slot.and_then(|slot| state.waiters.get_mut(slot)) {
            Some(entered) => Some(mem::replace(entered, waker)),
            None => {
                *slot = Some(state.waiters.insert_with(|_| waker));
                None
            }
        };
        drop(state);
        drop(replaced);
        Ok(())
    }

    pub(super) fn stop_waiting(&self, slot: u32) {
        let removed = self.state.lock().waiters.remove(slot);
        drop(removed);
    }

    pub(super) fn has_timekeeper(&self) -> bool {
        self.state.lock().has_timekeeper()
    }

    pub(super) fn keep_time(&self) {
        self.state.lock().timekeepers += 1;
    }

    /// The last to leave wakes those who relied on it.
    pub(super) fn leave_time(&self) {
        let mut state = self.state.lock();
        state.timekeepers = state.timekeepers.saturating_sub(1);
        if state.timekeepers > 0 {
            return;
        }
        // They keep their slots, with a waker that does nothing in it.
        let wakers: Vec<Waker> = state
            .waiters
            .iter_mut()
            .map(|waker| mem::replace(waker, Waker::noop().clone()))
            .collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl State {
    /// A node that is over has none: it takes no waiters, whoever may still
    /// have its promise to withdraw.
    fn has_timekeeper(&self) -> bool {
        self.timekeepers > 0 && !self.is_over()
    }
}
