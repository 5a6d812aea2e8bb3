//! What the server itself says of its backends, in `pg_stat_activity`.
//!
//! A backend is recognised by its process id *and* the text of what it runs:
//! the next query on the same backend may begin a moment after the watched one
//! has ended, and must not be taken for it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Statement};

/// A connection of the demo's own, that looks on.
pub(crate) struct Watch {
    client: Client,
    running: Statement,
}

/// When the server stopped what it ran.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stopped {
    /// Seen stopped then; it stopped at most a few milliseconds earlier.
    At(Instant),
    /// It ran on for as long as the demo had patience.
    StillRunning,
}

impl Watch {
    pub(crate) async fn connect(config: &Config) -> Result<Watch> {
        let client = connect(config, "watch").await?;
        let running = client.prepare(RUNNING).await?;
        Ok(Watch { client, running })
    }

    /// Looks until `pid` no longer runs `query`, from a little before `end`
    /// until `patience` after it.
    ///
    /// # Errors
    /// When `query` does not run just before `end`: then nothing can be said.
    pub(crate) async fn stopped(
        &self,
        pid: i32,
        query: &str,
        end: Instant,
        patience: Duration,
    ) -> Result<Stopped> {
        sleep_until(end - LOOK_AHEAD).await;
        ensure!(
            self.runs(pid, query).await?,
            "the server did not run {query:?} {LOOK_AHEAD:?} before its end; is the machine busy?"
        );
        loop {
            if !self.runs(pid, query).await? {
                return Ok(Stopped::At(Instant::now()));
            }
            if Instant::now() > end + patience {
                return Ok(Stopped::StillRunning);
            }
            sleep(STEP).await;
        }
    }

    /// Waits until `pid` no longer runs `query`, for at most `bound`.
    pub(crate) async fn settled(&self, pid: i32, query: &str, bound: Duration) -> Result<()> {
        let until = Instant::now() + bound;
        while self.runs(pid, query).await? && Instant::now() < until {
            sleep(STEP).await;
        }
        Ok(())
    }

    /// Ends every backend of the demo's whose application name begins with
    /// [`application`]`(whose)`.
    pub(crate) async fn terminate(&self, whose: &str) -> Result<()> {
        self.client
            .execute(TERMINATE, &[&format!("{}%", application(whose))])
            .await?;
        Ok(())
    }

    pub(crate) async fn execute(&self, statements: &str) -> Result<()> {
        Ok(self.client.batch_execute(statements).await?)
    }

    async fn runs(&self, pid: i32, query: &str) -> Result<bool> {
        let parameters: [&(dyn ToSql + Sync); 2] = [&pid, &query];
        Ok(self
            .client
            .query_opt(&self.running, &parameters)
            .await
            .context("the demo's own look at pg_stat_activity")?
            .is_some())
    }
}

/// A plain connection for the demo's own use.
pub(crate) async fn connect(config: &Config, whose: &str) -> Result<Client> {
    let (client, connection) = named(config, whose).connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// `config` with an application name that says whose a connection is.
pub(crate) fn named(config: &Config, whose: &str) -> Config {
    let mut config = config.clone();
    config.application_name(application(whose));
    config
}

/// Names all connections of this run and no other's.
fn application(whose: &str) -> String {
    format!("pgdeadline-demo/{}/{whose}", std::process::id())
}

const RUNNING: &str = "SELECT 1 FROM pg_stat_activity \
     WHERE pid = $1 AND state = 'active' AND query = $2";

const TERMINATE: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
     WHERE application_name LIKE $1 AND pid <> pg_backend_pid()";

/// The query must have been seen running, so the look begins before the end.
const LOOK_AHEAD: Duration = Duration::from_millis(20);

/// Tokio's own grain; a shorter one would take the processor from those that
/// are watched.
const STEP: Duration = Duration::from_millis(1);
