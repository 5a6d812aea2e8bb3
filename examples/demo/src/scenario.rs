//! One kind of end, played on one stack, and what came of it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::{Instant, sleep_until};
use tokio_postgres::Config;

use crate::blackhole::BlackHole;
use crate::postgres::Address;
use crate::stack::{Ending, Pool, Stack};
use crate::trial::{Next, Report, Server, Trial};
use crate::watch::{self, Watch};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    Deadline,
    Cancel,
    Drop,
    BlockedUpdate,
    /// The open connections go dead while a query runs.
    DeadConnection,
    /// The server accepts a connection and says nothing.
    MuteServer,
}

/// Where scenarios are played.
pub(crate) struct Stage {
    pub(crate) config: Config,
    pub(crate) watch: Watch,
    /// A table with one row that a scenario wants to update.
    pub(crate) table: String,
}

/// What came of one scenario on one stack.
#[derive(Clone, Debug)]
pub(crate) struct Played {
    pub(crate) scenario: Scenario,
    pub(crate) stack: Stack,
    /// The backend that served the pool before; none where it never connected.
    pub(crate) backend: Option<i32>,
    pub(crate) report: Report,
    /// Whether an ended UPDATE was stored after all.
    pub(crate) stored: bool,
}

impl Scenario {
    pub(crate) const ALL: [Scenario; 6] = [
        Scenario::Deadline,
        Scenario::Cancel,
        Scenario::Drop,
        Scenario::BlockedUpdate,
        Scenario::DeadConnection,
        Scenario::MuteServer,
    ];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Scenario::Deadline => "deadline on pg_sleep(30)",
            Scenario::Cancel => "explicit cancel",
            Scenario::Drop => "dropped future",
            Scenario::BlockedUpdate => "deadline, blocked UPDATE",
            Scenario::DeadConnection => "black hole during a query",
            Scenario::MuteServer => "black hole during connect",
        }
    }

    /// Plays it.
    ///
    /// # Errors
    /// When it can't be played. What a stack makes of it is never an error.
    pub(crate) async fn play(self, stack: Stack, stage: &Stage) -> Result<Played> {
        let name = format!("{self:?} {}", stack.name());
        let played = self.play_as(&name, stack, stage).await;
        stage.watch.terminate(&name).await?;
        played.with_context(|| format!("{} on {}", self.title(), stack.name()))
    }

    async fn play_as(self, name: &str, stack: Stack, stage: &Stage) -> Result<Played> {
        let plain = watch::named(&stage.config, name);
        match self {
            Scenario::Deadline | Scenario::Cancel | Scenario::Drop => {
                let pool = stack.pool(plain)?;
                self.end_query(stack, stage, &pool, async |_| ()).await
            }
            Scenario::BlockedUpdate => {
                let pool = stack.pool(plain)?;
                self.end_blocked_update(stack, stage, &pool).await
            }
            Scenario::DeadConnection => {
                let hole = BlackHole::before(Address::of(&plain)?).await?;
                let pool = stack.pool(hole.config(&plain))?;
                let swallow = async |end| {
                    sleep_until(end - LIMIT / 2).await;
                    hole.swallow_open();
                };
                self.end_query(stack, stage, &pool, swallow).await
            }
            Scenario::MuteServer => {
                let hole = BlackHole::before(Address::of(&plain)?).await?;
                let pool = stack.pool(hole.config(&plain))?;
                self.end_connect(stack, &pool, &hole).await
            }
        }
    }

    async fn end_query(
        self,
        stack: Stack,
        stage: &Stage,
        pool: &Pool,
        meanwhile: impl AsyncFnOnce(Instant),
    ) -> Result<Played> {
        let backend = pool.backend().await?;
        let report = self
            .trial(stack, SLEEP)
            .run(pool, backend, &stage.watch, meanwhile)
            .await?;
        Ok(self.played(stack, Some(backend), report))
    }

    async fn end_blocked_update(self, stack: Stack, stage: &Stage, pool: &Pool) -> Result<Played> {
        let table = &stage.table;
        let update = format!("UPDATE {table} SET n = n + 1");
        let mut holder = watch::connect(&stage.config, "lock holder").await?;
        let backend = pool.backend().await?;
        let lock = holder.transaction().await?;
        lock.batch_execute(&update).await?;
        let report = self
            .trial(stack, &update)
            .run(pool, backend, &stage.watch, async |_| ())
            .await?;
        lock.rollback().await?;
        // Where the server was never told, the lock was all that held it.
        stage.watch.settled(backend, &update, SETTLE_BOUND).await?;
        let n: i32 = holder
            .query_one(&format!("SELECT n FROM {table}"), &[])
            .await?
            .get(0);
        let mut played = self.played(stack, Some(backend), report);
        played.stored = n != 0;
        stage
            .watch
            .execute(&format!("UPDATE {table} SET n = 0"))
            .await?;
        Ok(played)
    }

    async fn end_connect(self, stack: Stack, pool: &Pool, hole: &BlackHole) -> Result<Played> {
        hole.swallow_new(true);
        let end = Instant::now() + LIMIT;
        let work = async { pool.backend().await.map(drop) };
        let returned = stack.run_until(end, self.ending(), work).await;
        hole.swallow_new(false);
        let next = Next::ask(pool, returned.ended, stack.patience()).await;
        let report = Report::new(returned, Server::NotReached, next);
        Ok(self.played(stack, None, report))
    }

    fn trial(self, stack: Stack, statement: &str) -> Trial<'_> {
        Trial {
            stack,
            ending: self.ending(),
            limit: LIMIT,
            statement,
        }
    }

    fn ending(self) -> Ending {
        match self {
            Scenario::Cancel => Ending::Cancel("the user closed the page"),
            Scenario::Drop => Ending::Drop,
            _ => Ending::Deadline,
        }
    }

    fn played(self, stack: Stack, backend: Option<i32>, report: Report) -> Played {
        Played {
            scenario: self,
            stack,
            backend,
            report,
            stored: false,
        }
    }
}

impl Played {
    /// Whether the next query was served by the backend that served before.
    pub(crate) fn kept_backend(&self) -> bool {
        matches!(self.report.next, Next::Served { backend, .. } if Some(backend) == self.backend)
    }

    /// Where what came of it is less than pgdeadline promises.
    pub(crate) fn misses(&self) -> Vec<String> {
        let mut misses = self.report.misses();
        let new_is_right = matches!(
            self.scenario,
            Scenario::DeadConnection | Scenario::MuteServer
        );
        if matches!(self.report.next, Next::Served { .. }) && !new_is_right && !self.kept_backend()
        {
            misses.push("the next query was served by another backend".to_owned());
        }
        if self.stored {
            misses.push("the ended UPDATE was stored".to_owned());
        }
        misses
    }
}

const SLEEP: &str = "SELECT pg_sleep(30)";

/// How long the work runs before it is ended.
pub(crate) const LIMIT: Duration = Duration::from_millis(200);

/// How long a server may take that has nothing more to wait for.
const SETTLE_BOUND: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::{Door, Outcome};

    fn good(scenario: Scenario) -> Played {
        let report = Report {
            caller: Duration::from_millis(1),
            outcome: Outcome::Ended("deadline".into()),
            server: Server::After(Duration::from_millis(3)),
            next: Next::Served {
                after: Duration::from_millis(6),
                waited: Duration::from_millis(5),
                backend: 7,
            },
        };
        scenario.played(Stack::Pgdeadline(Door::Sqlx), Some(7), report)
    }

    #[test]
    fn a_good_run_misses_nothing() {
        for scenario in Scenario::ALL {
            assert_eq!(good(scenario).misses(), Vec::<String>::new());
        }
    }

    #[test]
    fn another_backend_is_a_miss_unless_the_old_ones_connection_is_dead() {
        for scenario in Scenario::ALL {
            let mut played = good(scenario);
            played.backend = Some(8);
            let dead = matches!(scenario, Scenario::DeadConnection | Scenario::MuteServer);
            assert_eq!(played.misses().is_empty(), dead, "{scenario:?}");
        }
    }

    #[test]
    fn a_stored_update_is_a_miss() {
        let mut played = good(Scenario::BlockedUpdate);
        played.stored = true;
        assert_eq!(played.misses(), ["the ended UPDATE was stored"]);
    }
}
