//! Ends that come about when their query does, each with an innocent query
//! right behind it on the same connection: a cancel that comes late would hit
//! that.
//!
//! The run counts only if it was a race: between 25 and 80 % of the rounds
//! ended by deadline, at least half of these sent a cancel, and at least 90 %
//! of the sessions so cancelled were used again (one that is thrown away can
//! hit nobody). How long the query sleeps follows the rounds before, so that
//! it stays a race on a slow machine.
//!
//! An innocent query is hit when the server has told it so, by whichever door it
//! went.

use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

use crate::scenario::Stage;
use crate::stack::{Door, Ending, Outcome, Pool, Stack, is_query_cancelled};
use crate::table::table;
use crate::trace::CancelsSent;
use crate::watch;

/// What came of all rounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    rounds: usize,
    /// Rounds that ended by their deadline.
    ended: usize,
    /// Of these: those in which a cancel was sent.
    cancelled: usize,
    /// Of these: those whose session served the innocent query.
    reused: usize,
    /// Innocent queries that were cancelled.
    hit: usize,
    /// Whatever else went wrong, in its own words.
    failures: Vec<String>,
}

/// Runs `rounds` of them on one pool of one connection.
pub(crate) async fn run(
    door: Door,
    rounds: usize,
    stage: &Stage,
    sent: &CancelsSent,
) -> Result<Tally> {
    let stack = Stack::Pgdeadline(door);
    let pool = stack.pool(watch::named(&stage.config, "race"))?;
    let mut serving = pool.backend().await?;
    let mut pace = Pace::new();
    let mut tally = Tally::default();
    while tally.rounds < rounds {
        tally.rounds += 1;
        let sent_before = sent.count();
        let ended = match raced(stack, &pool, pace.sleep(tally.rounds)).await {
            Outcome::Ended(_) => true,
            Outcome::Finished => false,
            Outcome::Failed(words) => {
                tally.failures.push(words);
                false
            }
            Outcome::Gone => false,
        };
        pace.follow(ended);
        let served = pool.number(INNOCENT).await;
        // No later: the innocent query is served only when no cancel is on its
        // way any more.
        let cancelled = ended && sent.count() > sent_before;
        tally.ended += usize::from(ended);
        tally.cancelled += usize::from(cancelled);
        match served {
            Ok(backend) => {
                tally.reused += usize::from(cancelled && backend == serving);
                serving = backend;
            }
            Err(error) if is_query_cancelled(&error) => tally.hit += 1,
            Err(error) => {
                tally.failures.push(format!("an innocent query: {error:#}"));
                serving = pool.backend().await?;
            }
        }
        if tally.rounds.is_multiple_of(500) {
            eprintln!(
                "... {} of {rounds} rounds on {}",
                tally.rounds,
                stack.name()
            );
        }
    }
    Ok(tally)
}

async fn raced(stack: Stack, pool: &Pool, sleep: Duration) -> Outcome {
    let statement = format!("SELECT pg_sleep({:.6})", sleep.as_secs_f64());
    let end = Instant::now() + LIMIT;
    let returned = stack.run_until(end, Ending::Deadline, pool.run(&statement));
    returned.await.outcome
}

/// How long the raced query sleeps: spread round a middle, which follows the
/// rounds before so that two in three are ended. Of those some are over before
/// a cancel is dialled, most just about when it arrives, and a few long after.
struct Pace {
    middle: Duration,
}

impl Pace {
    fn new() -> Pace {
        Pace { middle: LIMIT }
    }

    fn sleep(&self, round: usize) -> Duration {
        // Multiples of the golden ratio fall evenly into the spread, and in no
        // pattern.
        let place = (round as f64 * 0.618_034).fract();
        (self.middle + SPREAD.mul_f64(place)).saturating_sub(SPREAD / 2)
    }

    fn follow(&mut self, ended: bool) {
        self.middle = if ended {
            self.middle.saturating_sub(PACE)
        } else {
            (self.middle + 2 * PACE).min(LIMIT * 3)
        };
    }
}

impl Tally {
    /// The figures as a table.
    pub(crate) fn table(&self) -> comfy_table::Table {
        let mut table = table(&["", "rounds", "share", "to count"]);
        for (what, number, whole, mark) in [
            (
                "ended by their deadline",
                self.ended,
                self.rounds,
                "25 to 80 %",
            ),
            (
                "of these with a cancel sent",
                self.cancelled,
                self.ended,
                "50 % or more",
            ),
            (
                "of these with the session reused",
                self.reused,
                self.cancelled,
                "90 % or more",
            ),
            ("innocent queries hit", self.hit, self.rounds, "none"),
            ("failed otherwise", self.failures.len(), self.rounds, "none"),
        ] {
            let share = format!("{:.1} %", percent(number, whole));
            table.add_row([what.to_owned(), number.to_string(), share, mark.to_owned()]);
        }
        table
    }

    /// What was missed, or why the run does not count.
    pub(crate) fn misses(&self) -> Vec<String> {
        let mut misses = Vec::new();
        if self.hit > 0 {
            misses.push(format!("{} innocent queries were hit", self.hit));
        }
        misses.extend(self.failures.first().map(|first| {
            let others = self.failures.len() - 1;
            format!("{first} (and {others} more failures)")
        }));
        if !(25.0..=80.0).contains(&percent(self.ended, self.rounds)) {
            misses.push("no race: not between 25 and 80 % ended by deadline".to_owned());
        }
        if percent(self.cancelled, self.ended) < 50.0 {
            misses.push("no race: fewer than half of the ended sent a cancel".to_owned());
        }
        if percent(self.reused, self.cancelled) < 90.0 {
            misses.push("no race: fewer than 90 % of the cancelled were reused".to_owned());
        }
        misses
    }
}

fn percent(part: usize, whole: usize) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

/// Sleeps a little, for a late signal to find it.
const INNOCENT: &str = "SELECT pg_backend_pid() FROM pg_sleep(0.002)";

/// The deadline: a few grains of tokio's timer.
const LIMIT: Duration = Duration::from_millis(5);

/// From the shortest to the longest of the sleeps round one middle: a few
/// times what a cancel takes from its dial to its signal.
const SPREAD: Duration = Duration::from_millis(8);

/// Small against the spread of how long a round takes, so that rounds fall on
/// either side at random and not in turn.
const PACE: Duration = Duration::from_micros(50);

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Tally {
        Tally {
            rounds: 3_000,
            ended: 1_500,
            cancelled: 1_400,
            reused: 1_399,
            hit: 0,
            failures: Vec::new(),
        }
    }

    #[test]
    fn a_race_without_a_hit_misses_nothing() {
        assert_eq!(good().misses(), Vec::<String>::new());
    }

    #[test]
    fn one_hit_is_a_miss() {
        let tally = Tally { hit: 1, ..good() };
        assert_eq!(tally.misses(), ["1 innocent queries were hit"]);
    }

    #[test]
    fn a_failure_is_told_in_its_own_words() {
        let failures = vec!["boom".to_owned(), "bang".to_owned()];
        let tally = Tally { failures, ..good() };
        assert_eq!(tally.misses(), ["boom (and 1 more failures)"]);
    }

    #[test]
    fn a_run_that_was_no_race_does_not_count() {
        for tally in [
            Tally {
                ended: 749,
                ..good()
            },
            Tally {
                ended: 2_401,
                cancelled: 2_000,
                reused: 2_000,
                ..good()
            },
            Tally {
                cancelled: 700,
                reused: 700,
                ..good()
            },
            Tally {
                reused: 1_259,
                ..good()
            },
            Tally::default(),
        ] {
            assert!(!tally.misses().is_empty(), "{tally:?}");
            assert!(
                tally
                    .misses()
                    .iter()
                    .all(|miss| miss.starts_with("no race"))
            );
        }
    }

    #[test]
    fn the_pace_follows_the_rounds_and_stays_in_its_bounds() {
        let mut pace = Pace::new();
        let first = pace.middle;
        pace.follow(true);
        assert!(pace.middle < first);
        (0..1_000).for_each(|_| pace.follow(true));
        assert_eq!(pace.middle, Duration::ZERO);
        (0..1_000).for_each(|_| pace.follow(false));
        assert_eq!(pace.middle, LIMIT * 3);
    }

    #[test]
    fn the_sleeps_of_one_pace_are_spread_evenly_round_its_middle() {
        let pace = Pace::new();
        let shorter = (0..1_000)
            .filter(|round| pace.sleep(*round) < pace.middle)
            .count();
        assert!((450..=550).contains(&shorter), "{shorter} of 1,000");
        assert!((0..1_000).all(|round| pace.sleep(round) <= pace.middle + SPREAD / 2));
    }
}
