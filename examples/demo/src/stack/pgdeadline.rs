//! The same deadpool-postgres with pgdeadline's connector, and a context. All
//! that the demo knows of pgdeadline is in this file.

use std::future::Future;

use anyhow::Result;
use deadpool_postgres::Pool;
use pgdeadline::{Connector, Context, Error};
use tokio::time::{Instant, sleep_until};
use tokio_postgres::{Config, NoTls};

use super::bare::drop_at;
use super::{Ending, Outcome, Returned};

pub(super) fn pool(config: Config) -> Result<Pool> {
    let connector = Connector::new(config, NoTls)?;
    Ok(pgdeadline_deadpool::Builder::new(connector)
        .max_size(1)
        .build()?)
}

pub(super) async fn run_until<F>(end: Instant, ending: Ending, work: F) -> Returned
where
    F: Future<Output = Result<()>>,
{
    let background = Context::background();
    match ending {
        Ending::Deadline => {
            let (context, _guard) = background.with_deadline(end);
            let result = context.run(work).await;
            Returned::now(end, outcome(result, Error::is_deadline))
        }
        Ending::AmbientDeadline => {
            let (context, _guard) = background.with_deadline(end);
            let result = context.scope(work).await;
            Returned::now(end, outcome(Ok(result), Error::is_deadline))
        }
        Ending::Cancel(reason) => {
            let (context, guard) = background.child();
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
