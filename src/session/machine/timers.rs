//! What a session waits for: one table of named timers.

use std::time::Duration;

use tokio::time::Instant;

/// What may expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Timer {
    /// When to retire a session that has not become clean (rule 2).
    Grace,
    /// When to send a cancel again (rule 5).
    Resend,
    /// When to end the lease whose deadline is the earliest, or the work that
    /// runs on after its context finished (rules 1, 12 and 14).
    Expiry,
    /// When to tell the pool that a request has been in flight for long.
    Sweep,
    /// When to give up on a server that stopped in the middle of a message
    /// while a caller waits for its end (rule 1).
    Stall,
    /// How long what the session has to say to a caller waits for `run` to
    /// have brought that caller back (rule 13).
    Hush,
}

/// The table. A timer that fires early, late or twice does no harm: whoever
/// looks compares with `now`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Timers([Option<Instant>; COUNT]);

impl Timers {
    pub(crate) fn set(&mut self, timer: Timer, at: Option<Instant>) {
        self.0[timer as usize] = at;
    }

    /// Sets a timer that is not running yet.
    pub(crate) fn start(&mut self, timer: Timer, now: Instant, after: Duration) {
        self.0[timer as usize].get_or_insert(far(now, after));
    }

    pub(crate) fn get(&self, timer: Timer) -> Option<Instant> {
        self.0[timer as usize]
    }

    /// Has it expired? Then it is stopped.
    pub(crate) fn take_expired(&mut self, timer: Timer, now: Instant) -> bool {
        let expired = self.0[timer as usize].is_some_and(|at| at <= now);
        if expired {
            self.0[timer as usize] = None;
        }
        expired
    }

    /// The earliest of all.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }
}

/// `now + after`, or as good as never where no clock reaches.
pub(crate) fn far(now: Instant, after: Duration) -> Instant {
    now.checked_add(after).unwrap_or_else(|| now + FAR)
}

/// For a model, in which it is always the same time.
#[cfg(test)]
impl Timers {
    pub(crate) fn each(&mut self, mut change: impl FnMut(&mut Instant)) {
        self.0.iter_mut().flatten().for_each(&mut change);
    }
}

const COUNT: usize = 6;
/// Thirty years, as tokio has it for "never".
const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_is_next_and_expires_once() {
        let now = Instant::now();
        let mut timers = Timers::default();
        timers.start(Timer::Grace, now, Duration::from_secs(2));
        timers.start(Timer::Grace, now, Duration::from_secs(1));
        timers.set(Timer::Resend, Some(now + Duration::from_secs(3)));
        assert_eq!(timers.next(), Some(now + Duration::from_secs(2)));
        assert!(!timers.take_expired(Timer::Grace, now));
        assert!(timers.take_expired(Timer::Grace, now + Duration::from_secs(2)));
        assert!(!timers.take_expired(Timer::Grace, now + Duration::from_secs(2)));
        assert_eq!(timers.next(), Some(now + Duration::from_secs(3)));
    }
}
