//! The one lock that the tree is built on, swapped for loom's under
//! `--cfg pgdeadline_loom`, so that the models in `models` run the very code
//! that runs in production.
//!
//! `Arc` and `Weak` stay std's: their own correctness is not in question, and
//! every step of ours that could race is taken under the lock.

#[cfg(pgdeadline_loom)]
use loom::sync::{Mutex as Lock, MutexGuard};
#[cfg(not(pgdeadline_loom))]
use std::sync::{Mutex as Lock, MutexGuard};

/// A mutex that is never poisoned: nothing that can panic runs under it.
pub(super) struct Mutex<T>(Lock<T>);

impl<T> Mutex<T> {
    pub(super) fn new(value: T) -> Mutex<T> {
        Mutex(Lock::new(value))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        match self.0.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}
