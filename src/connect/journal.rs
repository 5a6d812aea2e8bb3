//! What is known of a connect under way: its phase, and the hosts that failed.
//!
//! Kept outside the connect's own future, so that it outlives one that is
//! dropped at its end and the error can tell.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::{Instant, timeout_at};

use super::failure::Failure;
use crate::context::{Context, End, PhaseGuard, Progress};
use crate::error::{Error, Phase};

pub(super) struct Journal<'a> {
    ctx: &'a Context,
    entries: Mutex<Entries>,
}

struct Entries {
    phase: Phase,
    /// Tells the phase to a `run` around the connect.
    guard: Option<PhaseGuard>,
    failures: Vec<Failure>,
}

impl<'a> Journal<'a> {
    pub(super) fn new(ctx: &'a Context) -> Journal<'a> {
        let entries = Entries {
            phase: Phase::Outside,
            guard: None,
            failures: Vec::new(),
        };
        Journal {
            ctx,
            entries: Mutex::new(entries),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.entries().phase
    }

    pub(super) fn enter(&self, phase: Phase) {
        // Whoever drops the connect at an end is a `run`, and asks its own
        // context: the ambient one.
        let guard = match Context::current() {
            Some(ambient) => ambient.enter_phase(phase),
            None => self.ctx.enter_phase(phase),
        };
        let mut entries = self.entries();
        entries.phase = phase;
        let left = entries.guard.replace(guard);
        drop(entries);
        drop(left);
    }

    /// Notes that a host is no good.
    pub(super) fn failed(&self, failure: Failure) {
        tracing::debug!(target: "pgdeadline", %failure, "host failed");
        self.entries().failures.push(failure);
    }

    /// Bounds a connect: at its deadline, that it took too long is told with the
    /// hosts that had failed.
    pub(super) async fn bounded<T>(
        &self,
        deadline: Instant,
        connect: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let begun = Instant::now();
        match timeout_at(deadline, connect).await {
            Ok(result) => result,
            Err(_) => {
                self.failed(Failure::timed_out(self.phase(), begun.elapsed()));
                Err(self.all_failed())
            }
        }
    }

    /// The error of a connect whose hosts have all failed.
    pub(super) fn all_failed(&self) -> Error {
        Failure::all(self.take_failures()).into_error()
    }

    /// The error of a connect whose context has ended; hosts that had failed
    /// before are its source.
    pub(super) fn ended(&self, end: &End) -> Error {
        match self.take_failures() {
            none if none.is_empty() => Error::end(end, self.progress()),
            failures => Error::end_after(end, self.progress(), Failure::all(failures)),
        }
    }

    /// The same, where the connect has failed in the moment of the end.
    pub(super) fn ended_after(&self, end: &End, error: Error) -> Error {
        Error::end_after(end, self.progress(), error)
    }

    fn progress(&self) -> Progress {
        Progress::before_request(self.phase())
    }

    fn take_failures(&self) -> Vec<Failure> {
        std::mem::take(&mut self.entries().failures)
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
