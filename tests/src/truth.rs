//! What was cancelled is never reported as a success: many rounds of work that
//! takes about as long as its deadline, each with an effect that somebody else
//! can see.

use std::fmt::Debug;
use std::time::Duration;

use pgdeadline::Error;

/// How many rounds prove something.
pub const ROUNDS: u64 = 60;

/// The deadline of each.
pub const LIMIT: Duration = Duration::from_millis(12);

/// What callers were told, over all rounds.
#[derive(Debug, Default)]
pub struct Told {
    /// How many, that it has happened.
    pub well: u64,
    /// How many, that it was ended.
    pub ended: u64,
}

impl Told {
    /// Compares what a caller was told with what is stored of it.
    ///
    /// # Panics
    /// When they do not agree.
    #[track_caller]
    pub fn check(
        &mut self,
        what: &str,
        mode: impl Debug,
        result: &Result<u64, Error>,
        stored: i64,
    ) {
        match result {
            Ok(rows) => {
                assert_eq!(stored, 1, "{what} {mode:?}: told as done, and is not");
                assert_eq!(*rows, 1, "{what} {mode:?}");
                self.well += 1;
            }
            Err(error) => {
                if error.was_sent() == Some(false) {
                    assert_eq!(stored, 0, "{what} {mode:?}: not sent? {error}");
                }
                self.ended += 1;
            }
        }
    }

    /// That either has come to pass.
    ///
    /// # Panics
    /// When it has not: the rounds prove nothing.
    #[track_caller]
    pub fn assert_both(&self, what: &str, mode: impl Debug) {
        let both = self.well > 0 && self.ended > 0;
        assert!(both, "{what} {mode:?} proves nothing: {self:?}");
    }
}

/// Seconds for `pg_sleep`, spread around the deadline by no pattern that a
/// timer could follow.
pub fn random_sleep(round: u64) -> String {
    let mut x = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bf0_3635;
    x ^= x >> 29;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 32;
    let micros = x % 20_000;
    format!("{:.6}", Duration::from_micros(micros).as_secs_f64())
}
