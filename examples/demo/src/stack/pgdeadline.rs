//! The same pools through pgdeadline, and a context. All that the demo knows of
//! pgdeadline is in this file.

use std::future::Future;

use anyhow::Result;
use pgdeadline::{Connector, Context, Error};
use sqlx::postgres::PgPoolOptions;
use tokio::time::{Instant, sleep_until};
use tokio_postgres::{Config, NoTls};

use super::bare::drop_at;
use super::{Door, Ending, Outcome, Pool, Returned, options};

pub(super) fn pool(door: Door, config: Config) -> Result<Pool> {
    match door {
        Door::Deadpool => {
            let connector = Connector::new(config, NoTls)?;
            let builder = pgdeadline_deadpool::Builder::new(connector).max_size(1);
            Ok(Pool::Deadpool(builder.build()?))
        }
        Door::Sqlx => {
            let connect = options::of(&config)?;
            let connector = Connector::new(config, NoTls)?;
            let pool = PgPoolOptions::new().max_connections(1);
            let builder = pgdeadline_sqlx::Builder::new(connector, pool, connect);
            Ok(Pool::Sqlx(builder.connect_lazy()?))
        }
    }
}

pub(super) async fn run_until<F>(end: Instant, ending: Ending, work: F) -> Returned
where
    F: Future<Output = Result<()>>,
{
    let background = Context::background();
    match ending {
        Ending::Deadline => {
            let context = background.with_deadline(end);
            let result = context.run(work).await;
            Returned::now(end, outcome(result, Error::is_deadline))
        }
        Ending::AmbientDeadline => {
            let context = background.with_deadline(end);
            let result = context.scope(work).await;
            Returned::now(end, outcome(Ok(result), Error::is_deadline))
        }
        Ending::Cancel(reason) => {
            let guard = background.child();
            let context = guard.context().clone();
            let canceller = tokio::spawn(async move {
                sleep_until(end).await;
                let ended = Instant::now();
                guard.cancel_with(reason);
                ended
            });
            let result = context.run(work).await;
            let mut returned = Returned::now(end, outcome(result, Error::is_cancelled));
            if let Ok(ended) = canceller.await {
                returned.ended = ended;
            }
            returned
        }
        Ending::Drop => {
            let work = async { background.run(work).await? };
            drop_at(end, Outcome::Gone, work).await
        }
    }
}

/// What the caller was told: only an error that `is_it` recognises is the end
/// that was asked for.
fn outcome(result: Result<Result<()>, Error>, is_it: fn(&Error) -> bool) -> Outcome {
    let error = match result {
        Ok(Ok(())) => return Outcome::Finished,
        Ok(Err(error)) => match Error::find(error.as_ref()) {
            Some(found) => found,
            None => return Outcome::Failed(format!("{error:#}")),
        },
        Err(error) => error,
    };
    if is_it(&error) {
        Outcome::Ended(error.to_string())
    } else {
        Outcome::Failed(format!("told as another end: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const LIMIT: Duration = Duration::from_millis(200);

    #[tokio::test(start_paused = true)]
    async fn every_ending_returns_at_its_end_and_says_which_it_was() {
        for (ending, words) in [
            (Ending::Deadline, "deadline"),
            (Ending::Cancel("a good reason"), "a good reason"),
        ] {
            let end = Instant::now() + LIMIT;
            let returned = run_until(end, ending, std::future::pending()).await;
            assert_eq!((returned.ended, returned.at), (end, end), "{ending:?}");
            match returned.outcome {
                Outcome::Ended(said) => assert!(said.contains(words), "{said}"),
                other => panic!("{ending:?} gave {other:?}"),
            }
        }
        let end = Instant::now() + LIMIT;
        let returned = run_until(end, Ending::Drop, std::future::pending()).await;
        assert_eq!((returned.at, returned.outcome), (end, Outcome::Gone));
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_comes_back_by_itself_says_so() {
        for ending in [
            Ending::Deadline,
            Ending::AmbientDeadline,
            Ending::Cancel("reason"),
            Ending::Drop,
        ] {
            let end = Instant::now() + LIMIT;
            let fine = run_until(end, ending, async { Ok(()) }).await;
            assert_eq!(fine.outcome, Outcome::Finished);
            let broken = run_until(end, ending, async { anyhow::bail!("no such table") }).await;
            assert_eq!(broken.outcome, Outcome::Failed("no such table".into()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_is_told_as_another_does_not_count() {
        let end = Instant::now() + LIMIT;
        let work = async {
            let other = Context::background().child();
            other.cancel_with("somebody else's");
            Ok(other.run(std::future::pending::<()>()).await?)
        };
        match run_until(end, Ending::AmbientDeadline, work).await.outcome {
            Outcome::Failed(words) => assert!(words.starts_with("told as another"), "{words}"),
            other => panic!("{other:?}"),
        }
    }
}
