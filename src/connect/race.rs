//! Several addresses of one host, raced (RFC 8305, section 5).
//!
//! 1. Addresses are started in their order; each has a head start of one step
//!    over the next.
//! 2. When one fails the next is started at once.
//! 3. The first that connects wins. Two that connect in the same poll: the one
//!    started earlier.
//! 4. The losers are closed before the winner is returned, by dropping their
//!    dials.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use super::hosts::from_now;

/// How a race came out. Every address that took part is in one of the fields.
#[derive(Debug)]
pub(super) struct Outcome<A, S> {
    pub(super) winner: Option<(A, S)>,
    /// Those that failed, in the order in which they did.
    pub(super) failed: Vec<(A, io::Error)>,
    /// Those that were still under way or had not been started, in order:
    /// candidates for another race, should the winner turn out no good.
    pub(super) left: Vec<A>,
}

/// Races the addresses.
///
/// # Cancel safety
/// Dropping it closes all that was opened.
pub(super) async fn race<A: Clone, S, F>(
    addresses: Vec<A>,
    step: Duration,
    mut dial: impl FnMut(A) -> F,
) -> Outcome<A, S>
where
    F: Future<Output = io::Result<S>>,
{
    let mut waiting = VecDeque::from(addresses);
    let mut running: Vec<(A, Pin<Box<F>>)> = Vec::new();
    let mut failed = Vec::new();
    let mut head_start = pin!(tokio::time::sleep_until(from_now(step)));
    let mut start_next = true;

    let winner = poll_fn(|cx| {
        loop {
            if std::mem::take(&mut start_next)
                && let Some(address) = waiting.pop_front()
            {
                running.push((address.clone(), Box::pin(dial(address))));
                head_start.as_mut().reset(from_now(step));
            }
            let mut i = 0;
            while let Some((_, attempt)) = running.get_mut(i) {
                match attempt.as_mut().poll(cx) {
                    Poll::Pending => i += 1,
                    Poll::Ready(Err(error)) => {
                        failed.push((running.remove(i).0, error));
                        start_next = true; // rule 2
                    }
                    Poll::Ready(Ok(stream)) => {
                        return Poll::Ready(Some((running.remove(i).0, stream)));
                    }
                }
            }
            if waiting.is_empty() {
                return match running.is_empty() {
                    true => Poll::Ready(None),
                    false => Poll::Pending,
                };
            }
            // Rule 1.
            if !start_next && head_start.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            start_next = true;
        }
    })
    .await;

    let left = running
        .into_iter()
        .map(|(address, _)| address)
        .chain(waiting)
        .collect();
    Outcome {
        winner,
        failed,
        left,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::{Instant, sleep};

    use super::*;

    const STEP: Duration = Duration::from_millis(250);
    const MS: Duration = Duration::from_millis(1);

    /// What becomes of a dial: connected or failed after a time.
    type Script = (u32, Result<(), ()>);

    /// Runs a race of scripted dials; the winner's number, when it won, and
    /// when each dial began.
    async fn run(scripts: &[Script]) -> (Outcome<usize, usize>, Duration, Vec<Duration>) {
        let start = Instant::now();
        let mut began = Vec::new();
        let outcome = race((0..scripts.len()).collect(), STEP, |i| {
            began.push(start.elapsed());
            let (time, result) = scripts[i];
            async move {
                sleep(time * MS).await;
                result
                    .map(|()| i)
                    .map_err(|()| io::ErrorKind::ConnectionRefused.into())
            }
        })
        .await;
        (outcome, start.elapsed(), began)
    }

    const NEVER: Script = (1_000_000, Err(()));

    #[tokio::test(start_paused = true)]
    async fn rule_1_each_has_a_head_start_of_one_step() {
        let (outcome, took, began) = run(&[NEVER, NEVER, (10, Ok(()))]).await;
        assert_eq!(outcome.winner, Some((2, 2)));
        assert_eq!(began, [Duration::ZERO, STEP, 2 * STEP]);
        assert_eq!(took, 2 * STEP + 10 * MS);
        assert_eq!(outcome.left, [0, 1]);
        assert!(outcome.failed.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_answers_within_its_head_start_is_alone() {
        let (outcome, took, began) = run(&[(240, Ok(())), (1, Ok(()))]).await;
        assert_eq!(outcome.winner, Some((0, 0)));
        assert_eq!((took, began.len()), (240 * MS, 1));
        assert_eq!(outcome.left, [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn rule_2_a_failure_starts_the_next_at_once() {
        let (outcome, took, began) = run(&[(5, Err(())), (5, Err(())), (5, Ok(()))]).await;
        assert_eq!(outcome.winner, Some((2, 2)));
        assert_eq!(began, [Duration::ZERO, 5 * MS, 10 * MS]);
        assert_eq!(took, 15 * MS);
        assert_eq!(
            outcome.failed.iter().map(|f| f.0).collect::<Vec<_>>(),
            [0, 1]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn rule_2_the_step_begins_anew_after_a_failure() {
        let (_, _, began) = run(&[(100, Err(())), NEVER, (1, Ok(()))]).await;
        assert_eq!(began, [Duration::ZERO, 100 * MS, 100 * MS + STEP]);
    }

    #[tokio::test(start_paused = true)]
    async fn rule_3_a_late_first_beats_a_slower_second() {
        let (outcome, took, _) = run(&[(300, Ok(())), (100, Ok(()))]).await;
        assert_eq!(outcome.winner, Some((0, 0)));
        assert_eq!(took, 300 * MS);
    }

    #[tokio::test(start_paused = true)]
    async fn rule_3_of_two_in_one_poll_the_earlier_wins() {
        let (outcome, ..) = run(&[(260, Ok(())), (10, Ok(()))]).await;
        assert_eq!(outcome.winner, Some((0, 0)));
    }

    #[tokio::test(start_paused = true)]
    async fn all_failing_ends_the_race_with_every_error() {
        let (outcome, took, _) = run(&[(300, Err(())), (1, Err(()))]).await;
        assert!(outcome.winner.is_none() && outcome.left.is_empty());
        assert_eq!(
            outcome.failed.iter().map(|f| f.0).collect::<Vec<_>>(),
            [1, 0]
        );
        assert_eq!(took, 300 * MS);
    }

    #[tokio::test(start_paused = true)]
    async fn rule_4_losers_are_closed() {
        struct Open(Arc<AtomicUsize>);
        impl Drop for Open {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let open = Arc::new(AtomicUsize::new(0));
        let outcome = race(vec![0, 1], STEP, |i| {
            open.fetch_add(1, Ordering::Relaxed);
            let socket = Open(open.clone());
            async move {
                sleep(if i == 0 { 1000 * MS } else { MS }).await;
                Ok(socket)
            }
        })
        .await;
        assert_eq!(outcome.winner.as_ref().map(|w| w.0), Some(1));
        assert_eq!(open.load(Ordering::Relaxed), 1);
    }
}
