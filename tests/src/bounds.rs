//! Times for tests on real servers, which may stall: a deadline of [`SHORT`]
//! round work of [`SLEEP`] is late only when it is later than [`LATE`].

use std::future::Future;
use std::panic::Location;
use std::time::Duration;

use tokio::time::timeout;

/// Longer than anything takes: reaching it is a failure.
pub const LATE: Duration = Duration::from_secs(20);

/// A deadline that is meant to pass.
pub const SHORT: Duration = Duration::from_millis(300);

/// Runs until somebody ends it.
pub const SLEEP: &str = "SELECT pg_sleep(600)";

/// The result, unless that takes too long.
///
/// # Panics
/// When it was not there within [`LATE`].
#[track_caller]
pub fn in_time<F: Future>(future: F) -> impl Future<Output = F::Output> {
    bounded(LATE, Location::caller(), future)
}

/// The result of many rounds, which together take a while.
///
/// # Panics
/// When it was not there within five minutes.
#[track_caller]
pub fn in_some_minutes<F: Future>(future: F) -> impl Future<Output = F::Output> {
    bounded(LATE * 15, Location::caller(), future)
}

async fn bounded<F: Future>(bound: Duration, at: &Location<'_>, future: F) -> F::Output {
    match timeout(bound, future).await {
        Ok(output) => output,
        Err(_) => panic!("not within {bound:?}, at {at}"),
    }
}
