//! Waiting, with a bound, until something is so.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

/// Asks again and again until the answer is `Some`, and returns it.
///
/// The bound is on tokio's clock. Choose it large (seconds): it is there to
/// turn a hang into a failure, not to measure.
///
/// # Panics
/// When the bound has passed: "not within 5s: the backend is idle".
pub async fn eventually<T>(
    bound: Duration,
    what: impl Display,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> T {
    let began = Instant::now();
    // The first questions follow fast, for the many things that are so almost
    // at once; then the machine is left to those who do the work.
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(began.elapsed() < bound, "not within {bound:?}: {what}");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
