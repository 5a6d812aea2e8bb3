//! Pools as they come, with tokio's own means to end work.

use std::future::Future;

use anyhow::Result;
use deadpool_postgres::{Manager, ManagerConfig, RecyclingMethod};
use sqlx::postgres::PgPoolOptions;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_postgres::{Config, NoTls};

use super::{ACQUIRE_TIMEOUT, Door, Ending, Outcome, Pool, Returned, options};

pub(super) fn pool(door: Door, config: Config) -> Result<Pool> {
    match door {
        Door::Deadpool => {
            let settings = ManagerConfig {
                recycling_method: RecyclingMethod::Fast,
            };
            let manager = Manager::from_config(config, NoTls, settings);
            let builder = deadpool_postgres::Pool::builder(manager).max_size(1);
            Ok(Pool::Deadpool(builder.build()?))
        }
        Door::Sqlx => {
            let pool = PgPoolOptions::new()
                .max_connections(1)
                .acquire_timeout(ACQUIRE_TIMEOUT);
            Ok(Pool::Sqlx(pool.connect_lazy_with(options::of(&config)?)))
        }
    }
}

pub(super) async fn run_until<F>(end: Instant, ending: Ending, work: F) -> Returned
where
    F: Future<Output = Result<()>>,
{
    match ending {
        Ending::Deadline | Ending::AmbientDeadline => match timeout_at(end, work).await {
            Ok(result) => Returned::now(end, Outcome::of(result)),
            Err(elapsed) => Returned::now(end, Outcome::Ended(elapsed.to_string())),
        },
        Ending::Cancel(_) => {
            let said = Outcome::Ended("nothing: `select!` dropped the query".to_owned());
            drop_at(end, said, work).await
        }
        Ending::Drop => drop_at(end, Outcome::Gone, work).await,
    }
}

/// Polls `work` until `end` and then drops it, whereupon the caller is told
/// `said`.
pub(super) async fn drop_at<F>(end: Instant, said: Outcome, work: F) -> Returned
where
    F: Future<Output = Result<()>>,
{
    let mut work = Box::pin(work);
    let by_itself = tokio::select! {
        result = &mut work => Some(Outcome::of(result)),
        () = sleep_until(end) => None,
    };
    let ended = Instant::now();
    drop(work);
    Returned::now(ended, by_itself.unwrap_or(said))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const LIMIT: Duration = Duration::from_millis(200);

    async fn forever() -> Result<()> {
        std::future::pending().await
    }

    #[tokio::test(start_paused = true)]
    async fn every_ending_returns_at_its_end() {
        for ending in [Ending::Deadline, Ending::Cancel("reason"), Ending::Drop] {
            let end = Instant::now() + LIMIT;
            let returned = run_until(end, ending, forever()).await;
            assert_eq!((returned.ended, returned.at), (end, end), "{ending:?}");
            assert_ne!(returned.outcome, Outcome::Finished);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_comes_back_by_itself_says_so() {
        for ending in [Ending::Deadline, Ending::Cancel("reason"), Ending::Drop] {
            let end = Instant::now() + LIMIT;
            let fine = run_until(end, ending, async { Ok(()) }).await;
            assert_eq!(fine.outcome, Outcome::Finished);
            let broken = run_until(end, ending, async { anyhow::bail!("no such table") }).await;
            assert_eq!(broken.outcome, Outcome::Failed("no such table".into()));
        }
    }
}
