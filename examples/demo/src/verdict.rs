//! The few sentences that a reader is left with.

use std::time::Duration;

use crate::scenario::{Played, Scenario};
use crate::stack::{Door, Stack};
use crate::table::span;
use crate::trial::{Next, Server};

/// What the side-by-side table comes to for one door. Where pgdeadline missed,
/// there is nothing to be said for it: the list of misses follows.
pub(crate) fn verdict(door: Door, all: &[Played]) -> String {
    let bare = Side::of(Stack::Bare(door), all);
    let ours = Side::of(Stack::Pgdeadline(door), all);
    let mut text = format!(
        "Bare {} gives the caller back in time and leaves the server to itself: in {} of {} cases \
         it worked on, and in {} of {} the pool's next user got no answer while we waited.",
        door.name(),
        bare.busy,
        bare.reached,
        bare.waiting,
        bare.all
    );
    if bare.stored {
        text += " It stored the UPDATE that its caller had been told was over.";
    }
    if ours.sound {
        text += &format!(
            " With pgdeadline the caller was back within {}, the server had stopped within {}, and \
             the next query was served within {} of the end{}.",
            span(ours.caller),
            span(ours.server),
            span(ours.next),
            ours.slowest
                .map_or(String::new(), |scenario| format!(" ({})", scenario.title())),
        );
    }
    text
}

/// What one stack came to, at its worst.
#[derive(Default)]
struct Side {
    caller: Duration,
    server: Duration,
    next: Duration,
    /// In which the next query waited for that long.
    slowest: Option<Scenario>,
    all: usize,
    /// Scenarios in which the server had work to stop.
    reached: usize,
    /// Those in which it did not stop.
    busy: usize,
    /// Those in which the next query was not served.
    waiting: usize,
    stored: bool,
    /// Nothing was missed.
    sound: bool,
}

impl Side {
    fn of(stack: Stack, all: &[Played]) -> Side {
        let mut side = Side {
            sound: true,
            ..Side::default()
        };
        for played in all.iter().filter(|played| played.stack == stack) {
            side.all += 1;
            side.sound &= played.misses().is_empty();
            side.caller = side.caller.max(played.report.caller);
            side.stored |= played.stored;
            match played.report.server {
                Server::After(after) => side.server = side.server.max(after),
                Server::NotWithin(_) => side.busy += 1,
                Server::NotReached => {}
            }
            side.reached += usize::from(played.report.server != Server::NotReached);
            match played.report.next {
                Next::Served { after, .. } if after >= side.next => {
                    side.next = after;
                    side.slowest = Some(played.scenario);
                }
                Next::Served { .. } => {}
                Next::NotWithin(_) | Next::PoolTimedOut(_) | Next::Failed(_) => {
                    side.waiting += 1;
                }
            }
        }
        side
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::Outcome;
    use crate::trial::Report;

    fn played(stack: Stack, server: Server, next: Next) -> Played {
        Played {
            scenario: Scenario::BlockedUpdate,
            stack,
            backend: Some(7),
            report: Report {
                caller: Duration::from_millis(2),
                outcome: Outcome::Gone,
                server,
                next,
            },
            stored: matches!(stack, Stack::Bare(_)),
        }
    }

    #[test]
    fn nothing_good_is_said_of_a_pgdeadline_that_missed() {
        let patience = Duration::from_secs(6);
        let missed = played(
            Stack::Pgdeadline(Door::Sqlx),
            Server::NotWithin(patience),
            Next::NotWithin(patience),
        );
        assert!(!verdict(Door::Sqlx, &[missed]).contains("With pgdeadline"));
    }

    #[test]
    fn it_tells_the_worst_of_each_side_of_its_door() {
        let patience = Duration::from_secs(4);
        let served = |millis| Next::Served {
            after: Duration::from_millis(millis),
            waited: Duration::ZERO,
            backend: 7,
        };
        let stopped = |millis| Server::After(Duration::from_millis(millis));
        let (bare, ours) = (Stack::Bare(Door::Sqlx), Stack::Pgdeadline(Door::Sqlx));
        let others = Stack::Pgdeadline(Door::Deadpool);
        let busy = Server::NotWithin(patience);
        let text = verdict(
            Door::Sqlx,
            &[
                played(bare, busy, Next::PoolTimedOut(patience)),
                played(bare, Server::NotReached, served(1)),
                played(ours, stopped(3), served(5)),
                played(ours, stopped(23), served(61)),
                played(others, stopped(999), served(999)),
            ],
        );
        for words in [
            "Bare sqlx",
            "in 1 of 1 cases it worked on, and in 1 of 2 the pool's next user",
            "stored the UPDATE",
            "back within 2.0 ms",
            "stopped within 23 ms",
            "served within 61 ms of the end (deadline, blocked UPDATE).",
        ] {
            assert!(text.contains(words), "{text}");
        }
    }
}
