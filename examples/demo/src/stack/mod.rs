//! The stacks, and how work is ended on each.

mod bare;
mod options;
mod pgdeadline;
mod pool;

use std::future::Future;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use tokio::time::Instant;
use tokio_postgres::Config;

pub(crate) use self::pool::{Pool, is_pool_timeout, is_query_cancelled};

/// What a service builds its pool with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stack {
    /// The pool as it comes, and `tokio::time::timeout`.
    Bare(Door),
    /// The same pool through pgdeadline, and a context.
    Pgdeadline(Door),
}

/// The pool by which a service reaches PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Door {
    Deadpool,
    Sqlx,
}

/// How work is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Deadline,
    /// A deadline that only the ambient context knows: nobody but the session
    /// can end the work, since nobody drops the future.
    AmbientDeadline,
    /// Somebody cancels, for this reason.
    Cancel(&'static str),
    /// The future is dropped.
    Drop,
}

/// How work came back to its caller.
#[derive(Debug)]
pub(crate) struct Returned {
    /// When the end was.
    pub(crate) ended: Instant,
    /// When the caller had control again.
    pub(crate) at: Instant,
    pub(crate) outcome: Outcome,
}

/// What the caller was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// That the work was ended, in these words.
    Ended(String),
    /// Nothing: there is nobody left to tell.
    Gone,
    /// That all is well.
    Finished,
    /// Something else.
    Failed(String),
}

impl Stack {
    pub(crate) const ALL: [Stack; 4] = [
        Stack::Bare(Door::Deadpool),
        Stack::Pgdeadline(Door::Deadpool),
        Stack::Bare(Door::Sqlx),
        Stack::Pgdeadline(Door::Sqlx),
    ];

    /// None begins with another, so that the connections of one can be told by
    /// how their names begin.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Stack::Bare(Door::Deadpool) => "bare deadpool",
            Stack::Pgdeadline(Door::Deadpool) => "deadpool + pgdeadline",
            Stack::Bare(Door::Sqlx) => "bare sqlx",
            Stack::Pgdeadline(Door::Sqlx) => "sqlx + pgdeadline",
        }
    }

    /// For how long the demo waits after an end. It has to outlast the bound
    /// by which a miss is told, and only there.
    pub(crate) fn patience(self) -> Duration {
        match self {
            Stack::Bare(_) => Duration::from_secs(4),
            Stack::Pgdeadline(_) => Duration::from_secs(6),
        }
    }

    /// A pool of one connection, which is opened when it is first needed.
    pub(crate) fn pool(self, config: Config) -> Result<Pool> {
        match self {
            Stack::Bare(door) => bare::pool(door, config),
            Stack::Pgdeadline(door) => pgdeadline::pool(door, config),
        }
    }

    /// Runs `work` and ends it at `end`, as a service on this stack would.
    pub(crate) async fn run_until<F>(self, end: Instant, ending: Ending, work: F) -> Returned
    where
        F: Future<Output = Result<()>>,
    {
        match self {
            Stack::Bare(_) => bare::run_until(end, ending, work).await,
            Stack::Pgdeadline(_) => pgdeadline::run_until(end, ending, work).await,
        }
    }
}

impl Door {
    pub(crate) const ALL: [Door; 2] = [Door::Deadpool, Door::Sqlx];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Door::Deadpool => "deadpool",
            Door::Sqlx => "sqlx",
        }
    }
}

impl Returned {
    fn now(ended: Instant, outcome: Outcome) -> Returned {
        Returned {
            ended,
            at: Instant::now(),
            outcome,
        }
    }
}

impl Outcome {
    /// Of work that came back by itself.
    fn of(result: Result<()>) -> Outcome {
        match result {
            Ok(()) => Outcome::Finished,
            Err(error) => Outcome::Failed(format!("{error:#}")),
        }
    }
}

/// After how long a bare sqlx pool says `PoolTimedOut`: sooner than by its
/// default of 30 s, so that the demo hears it.
pub(crate) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_stacks_name_begins_with_anothers() {
        for (one, other) in Stack::ALL.iter().flat_map(|s| Stack::ALL.map(|o| (*s, o))) {
            assert!(one == other || !one.name().starts_with(other.name()));
        }
    }

    #[tokio::test]
    async fn a_pool_can_be_had_of_each_stack_before_there_is_a_server() {
        for stack in Stack::ALL {
            let config = "host=db.test user=u".parse().expect("a configuration");
            let pool = stack.pool(config).expect("a pool");
            match (stack, pool) {
                (Stack::Bare(door) | Stack::Pgdeadline(door), Pool::Sqlx(pool)) => {
                    assert_eq!((door, pool.size()), (Door::Sqlx, 0));
                }
                (Stack::Bare(door) | Stack::Pgdeadline(door), Pool::Deadpool(pool)) => {
                    assert_eq!((door, pool.status().size), (Door::Deadpool, 0));
                }
            }
        }
    }
}
