//! Exact times, for tests under `start_paused = true`.

use std::time::Duration;

use pgdeadline::{Context, Guard};
use tokio::time::Instant;

/// So many milliseconds.
pub const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A context that ends so many milliseconds from now.
pub fn deadline(milliseconds: u64) -> Guard {
    Context::background().with_timeout(ms(milliseconds))
}

/// Paused time makes it exact, but for tokio's timers: their grain is 1 ms,
/// and two may stand between cause and effect.
///
/// # Panics
/// When it was at another time.
#[track_caller]
pub fn assert_at(began: Instant, expected: u64) {
    let elapsed = began.elapsed();
    assert!(
        (ms(expected)..=ms(expected + 2)).contains(&elapsed),
        "after {elapsed:?}, expected {expected} ms"
    );
}
