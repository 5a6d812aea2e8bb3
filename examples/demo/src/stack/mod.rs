//! The two stacks, and how work is ended on each.

mod bare;
mod pgdeadline;

use std::future::Future;
use std::time::Duration;

use anyhow::Result;
use deadpool_postgres::Pool;
use tokio::time::Instant;
use tokio_postgres::Config;

/// What a service builds its pool with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stack {
    /// deadpool-postgres with its own connector, and `tokio::time::timeout`.
    Bare,
    /// The same deadpool-postgres with pgdeadline's connector, and a context.
    Pgdeadline,
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
    pub(crate) const BOTH: [Stack; 2] = [Stack::Bare, Stack::Pgdeadline];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Stack::Bare => "deadpool",
            Stack::Pgdeadline => "pgdeadline",
        }
    }

    /// For how long the demo waits after an end. It has to outlast the bound
    /// by which a miss is told, and only there.
    pub(crate) fn patience(self) -> Duration {
        match self {
            Stack::Bare => Duration::from_secs(4),
            Stack::Pgdeadline => Duration::from_secs(6),
        }
    }

    /// A pool of one connection.
    pub(crate) fn pool(self, config: Config) -> Result<Pool> {
        match self {
            Stack::Bare => bare::pool(config),
            Stack::Pgdeadline => pgdeadline::pool(config),
        }
    }

    /// Runs `work` and ends it at `end`, as a service on this stack would.
    pub(crate) async fn run_until<F>(self, end: Instant, ending: Ending, work: F) -> Returned
    where
        F: Future<Output = Result<()>>,
    {
        match self {
            Stack::Bare => bare::run_until(end, ending, work).await,
            Stack::Pgdeadline => pgdeadline::run_until(end, ending, work).await,
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
