//! Finds clients that were returned to the pool with work in flight.
//!
//! deadpool tells nobody that an object came back. The next check-out of it
//! would find its abandoned work at once; until then this does.
//!
//! 1. There is no task and no timer here: a session that has had a request in
//!    flight for longer than the sweep interval says so, once an interval, and
//!    that is when the pool is looked through. Where nothing takes long,
//!    nothing is done.
//! 2. However many sessions say so, the pool is looked through once an
//!    interval. One that was released just after is found by its own next
//!    word.
//! 3. The pool is held weakly, and its lock only while each idle client's
//!    session is told that it is checked in; nothing waits under it.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use deadpool_postgres::{Pool, WeakPool};
use tokio::time::Instant;

use crate::sessions;

/// See the [module](self).
pub(crate) struct Sweeper {
    interval: Duration,
    pool: OnceLock<WeakPool>,
    last: Mutex<Option<Instant>>,
}

impl Sweeper {
    pub(crate) fn new(interval: Duration) -> Sweeper {
        Sweeper {
            interval,
            pool: OnceLock::new(),
            last: Mutex::new(None),
        }
    }

    /// The pool that is looked through, once it is built.
    pub(crate) fn set_pool(&self, pool: &Pool) {
        // Only the builder calls this, once.
        let _ = self.pool.set(pool.weak());
    }

    /// A session of the pool has had a request in flight for long.
    pub(crate) fn busy(&self) {
        let Some(pool) = self.pool.get().and_then(WeakPool::upgrade) else {
            return;
        };
        if self.is_due(Instant::now()) {
            pool.retain(|client, _| {
                if let Some(session) = sessions::of(client) {
                    session.check_in();
                }
                true
            });
        }
    }

    /// Rule 2.
    fn is_due(&self, now: Instant) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now.saturating_duration_since(last) >= self.interval);
        if due {
            *last = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_words_in_one_interval_are_one_sweep() {
        let sweeper = Sweeper::new(Duration::from_millis(100));
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let swept: Vec<u64> = [0, 1, 99, 100, 150, 199, 200, 1000, 1001]
            .into_iter()
            .filter(|ms| sweeper.is_due(at(*ms)))
            .collect();
        assert_eq!(swept, [0, 100, 200, 1000]);
    }

    #[test]
    fn without_a_pool_nothing_is_swept() {
        let sweeper = Sweeper::new(Duration::from_millis(100));
        sweeper.busy();
        assert!(sweeper.last.lock().unwrap().is_none());
    }
}
