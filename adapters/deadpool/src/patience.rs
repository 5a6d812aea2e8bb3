//! How long a check-out waits for a session that is still draining.
//!
//! A short while, once a check-out, for a new connection takes about as long.
//! After it only a session that can't become clean is refused: else one
//! check-out, after a moment in which many deadlines passed, would close every
//! idle connection of the pool in turn.
//!
//! deadpool's hooks don't say which `get` they are called for, but this holds:
//! when a hook has refused an object, the same poll of the same `get` goes on
//! to the next object's hook, or to `connect`. So a refusal leaves word in a
//! thread-local, and whichever comes next takes it; nothing else of this crate
//! runs between them.

use std::cell::Cell;
use std::time::Duration;

use pgdeadline::Settings;

/// What is left of a check-out's patience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// It has waited for nothing yet.
    Fresh,
    /// It has waited its short while.
    Spent,
}

impl Patience {
    /// Of the `get` that calls a hook or `connect`. To be asked in the very
    /// call, not in the future that it returns.
    pub(crate) fn take() -> Patience {
        SPENT.replace(Patience::Fresh)
    }

    /// Leaves word for the next call of the same `get`. To be left in the poll
    /// that returns the refusal.
    pub(crate) fn leave(self) {
        SPENT.set(self);
    }

    /// How long a session that is not clean is waited for.
    ///
    /// Whatever drains is clean or retired within its grace, so that waiting
    /// for so long refuses none but those whose work runs on.
    pub(crate) fn as_wait(self, settings: &Settings) -> Duration {
        match self {
            Patience::Fresh => settings.checkout_wait,
            Patience::Spent => settings.grace,
        }
    }
}

thread_local! {
    static SPENT: Cell<Patience> = const { Cell::new(Patience::Fresh) };
}
