//! One query that is ended, seen from three sides: its caller, the server, and
//! whoever asks the pool next.

use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, timeout};

use crate::stack::{Ending, Outcome, Pool, Returned, Stack, is_pool_timeout};
use crate::table::span;
use crate::watch::{Stopped, Watch};

/// What is to be tried.
pub(crate) struct Trial<'a> {
    pub(crate) stack: Stack,
    pub(crate) ending: Ending,
    /// How long the work runs before it is ended.
    pub(crate) limit: Duration,
    pub(crate) statement: &'a str,
}

/// What came of it. Times count from the end, unless it says otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) caller: Duration,
    pub(crate) outcome: Outcome,
    pub(crate) server: Server,
    pub(crate) next: Next,
}

/// When the server stopped working for the ended query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    After(Duration),
    /// Not for as long as the demo had patience.
    NotWithin(Duration),
    /// It never heard of the work.
    NotReached,
}

/// How the next query on the pool fared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Served {
        after: Duration,
        /// Since it was asked.
        waited: Duration,
        backend: i32,
    },
    NotWithin(Duration),
    /// The pool itself gave up waiting for a connection, so long after the end.
    PoolTimedOut(Duration),
    Failed(String),
}

impl Trial<'_> {
    /// Runs the statement on `pool`, whose one connection is served by
    /// `backend`, and ends it. `meanwhile` is told when the end will be.
    ///
    /// # Errors
    /// When nothing can be said, such as when the query was never seen to run.
    pub(crate) async fn run(
        &self,
        pool: &Pool,
        backend: i32,
        watch: &Watch,
        meanwhile: impl AsyncFnOnce(Instant),
    ) -> Result<Report> {
        let end = Instant::now() + self.limit;
        let patience = self.stack.patience();
        let client = async {
            let work = pool.run(self.statement);
            let returned = self.stack.run_until(end, self.ending, work).await;
            let next = Next::ask(pool, returned.ended, patience).await;
            (returned, next)
        };
        let ((returned, next), stopped, ()) = tokio::join!(
            client,
            watch.stopped(backend, self.statement, end, patience),
            meanwhile(end),
        );
        let server = match stopped {
            Ok(Stopped::At(at)) => Server::After(at.saturating_duration_since(returned.ended)),
            Ok(Stopped::StillRunning) => Server::NotWithin(patience),
            // Work that came back by itself was not there to be seen; that it
            // did is what has to be told.
            Err(error) => match returned.outcome {
                Outcome::Finished | Outcome::Failed(_) => Server::NotReached,
                _ => return Err(error),
            },
        };
        Ok(Report::new(returned, server, next))
    }
}

impl Report {
    pub(crate) fn new(returned: Returned, server: Server, next: Next) -> Report {
        Report {
            caller: returned.at.saturating_duration_since(returned.ended),
            outcome: returned.outcome,
            server,
            next,
        }
    }

    /// Where it is less than pgdeadline promises.
    pub(crate) fn misses(&self) -> Vec<String> {
        let mut misses = Vec::new();
        match &self.outcome {
            Outcome::Ended(_) | Outcome::Gone => {}
            Outcome::Finished => misses.push("the caller was told that all is well".to_owned()),
            Outcome::Failed(words) => misses.push(format!("the caller was told: {words}")),
        }
        if self.caller > BOUND {
            let after = span(self.caller);
            misses.push(format!("the caller was back only after {after}"));
        }
        match self.server {
            Server::After(after) if after > BOUND => {
                misses.push(format!("the server stopped only after {}", span(after)));
            }
            Server::NotWithin(patience) => {
                misses.push(format!(
                    "the server was still busy after {}",
                    span(patience)
                ));
            }
            Server::After(_) | Server::NotReached => {}
        }
        match &self.next {
            Next::Served { .. } => {}
            Next::NotWithin(patience) => {
                let within = span(*patience);
                misses.push(format!("the next query was not served within {within}"));
            }
            Next::PoolTimedOut(after) => {
                let after = span(*after);
                misses.push(format!("the pool gave the next query up after {after}"));
            }
            Next::Failed(words) => misses.push(format!("the next query failed: {words}")),
        }
        misses
    }
}

impl Next {
    /// Asks the pool for a small query at once.
    pub(crate) async fn ask(pool: &Pool, ended: Instant, patience: Duration) -> Next {
        let asked = Instant::now();
        match timeout(patience, pool.backend()).await {
            Ok(Ok(backend)) => Next::Served {
                after: ended.elapsed(),
                waited: asked.elapsed(),
                backend,
            },
            Ok(Err(error)) if is_pool_timeout(&error) => Next::PoolTimedOut(ended.elapsed()),
            Ok(Err(error)) => Next::Failed(format!("{error:#}")),
            Err(_) => Next::NotWithin(patience),
        }
    }
}

/// What is later than this was missed. It is far from what is promised,
/// because machines stall.
pub(crate) const BOUND: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(5);
    const LATE: Duration = Duration::from_millis(5_001);

    fn good() -> Report {
        Report {
            caller: SOON,
            outcome: Outcome::Gone,
            server: Server::NotReached,
            next: Next::Served {
                after: SOON,
                waited: SOON,
                backend: 7,
            },
        }
    }

    #[test]
    fn each_side_that_is_late_is_a_miss() {
        assert!(good().misses().is_empty());
        let mut late = good();
        late.caller = LATE;
        assert_eq!(late.misses(), ["the caller was back only after 5.0 s"]);
        let mut late = good();
        late.server = Server::After(LATE);
        assert_eq!(late.misses(), ["the server stopped only after 5.0 s"]);
        late.server = Server::NotWithin(LATE);
        assert_eq!(late.misses(), ["the server was still busy after 5.0 s"]);
        let mut late = good();
        late.next = Next::NotWithin(LATE);
        assert_eq!(
            late.misses(),
            ["the next query was not served within 5.0 s"]
        );
        late.next = Next::PoolTimedOut(SOON);
        assert_eq!(
            late.misses(),
            ["the pool gave the next query up after 5.0 ms"]
        );
    }

    #[test]
    fn an_end_that_is_not_told_as_one_is_a_miss() {
        let mut wrong = good();
        wrong.outcome = Outcome::Finished;
        assert_eq!(wrong.misses(), ["the caller was told that all is well"]);
        wrong.outcome = Outcome::Failed("boom".into());
        assert_eq!(wrong.misses(), ["the caller was told: boom"]);
    }
}
