//! One error for a function that uses a pool and a database.

use std::error::Error as StdError;
use std::fmt;

use deadpool_postgres::PoolError;

/// What can go wrong between asking a pool for a client and having the rows.
///
/// `?` makes it from the pool's errors, from tokio-postgres's and from
/// pgdeadline's, and [`Context::try_run`](pgdeadline::Context::try_run) takes
/// it as it is. The end of a context, and whatever else pgdeadline has to say,
/// is always [`Database`](Error::Database), whoever noticed it and through
/// whichever of those types it came.
///
/// ```no_run
/// use deadpool_postgres::Pool;
/// use pgdeadline::Context;
/// use pgdeadline_deadpool::Error;
///
/// async fn count(pool: &Pool, ctx: &Context) -> Result<i64, Error> {
///     ctx.try_run(async {
///         let client = pool.get().await?;
///         let row = client.query_one("SELECT count(*) FROM visits", &[]).await?;
///         Ok(row.try_get(0)?)
///     })
///     .await
/// }
///
/// # async fn example(pool: &Pool, ctx: &Context) {
/// match count(pool, ctx).await {
///     Ok(count) => println!("{count} visits"),
///     Err(Error::Database(e)) if e.is_deadline() => println!("too slow, {e}"),
///     Err(Error::Database(e)) => println!("no answer: {e}"),
///     Err(e) => println!("no connection: {e}"),
/// }
/// # }
/// ```
///
/// `anyhow::Error` and boxed errors work as well in its place: there
/// [`pgdeadline::Error::find`] finds what this has in `Database`.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A context ended, a connection could not be made or was lost, or the
    /// server reported an error: [`as_postgres`](pgdeadline::Error::as_postgres)
    /// has that one.
    Database(pgdeadline::Error),
    /// The pool has no client to give: it is closed, one of its own time-outs
    /// has passed, or a hook of the user's has refused a new connection.
    Pool(PoolError),
}

impl Error {
    /// What pgdeadline has to say about it; `None` if that is nothing.
    pub fn database(&self) -> Option<&pgdeadline::Error> {
        match self {
            Error::Database(error) => Some(error),
            Error::Pool(_) => None,
        }
    }
}

impl From<pgdeadline::Error> for Error {
    fn from(error: pgdeadline::Error) -> Error {
        Error::Database(error)
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Error {
        Error::Database(error.into())
    }
}

impl From<PoolError> for Error {
    fn from(error: PoolError) -> Error {
        match pgdeadline::Error::find(&error) {
            Some(found) => Error::Database(found),
            None => match error {
                PoolError::Backend(error) => error.into(),
                other => Error::Pool(other),
            },
        }
    }
}

impl StdError for Error {
    /// The error in it, so that [`pgdeadline::Error::find`] finds that.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Error::Database(error) => Some(error),
            Error::Pool(error) => Some(error),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Database(error) => error.fmt(f),
            Error::Pool(error) => write!(f, "the pool gave no client: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use deadpool_postgres::{HookError, TimeoutType};
    use pgdeadline::Context;

    async fn ended() -> pgdeadline::Error {
        let ctx = Context::background().child();
        ctx.cancel_with("enough");
        ctx.run(async {}).await.unwrap_err()
    }

    #[tokio::test]
    async fn an_end_has_one_shape_through_whichever_type_it_came() {
        let through: [fn(pgdeadline::Error) -> Error; 4] = [
            |end| end.into(),
            |end| tokio_postgres::Error::from(end).into(),
            |end| PoolError::Backend(end.into()).into(),
            |end| PoolError::PostCreateHook(HookError::Backend(end.into())).into(),
        ];
        for (n, through) in through.into_iter().enumerate() {
            let error = through(ended().await);
            let database = error.database().unwrap_or_else(|| panic!("{n}: {error:?}"));
            assert!(database.is_cancelled(), "{n}: {error:?}");
            assert_eq!(database.reason().unwrap().to_string(), "enough");
            assert!(pgdeadline::Error::find(&error).is_some());
        }
    }

    #[tokio::test]
    async fn what_the_pool_says_of_its_own_stays_the_pools() {
        for error in [
            PoolError::Timeout(TimeoutType::Wait),
            PoolError::Closed,
            PoolError::NoRuntimeSpecified,
            PoolError::PostCreateHook(HookError::message("not today")),
        ] {
            let text = format!("the pool gave no client: {error}");
            let error = Error::from(error);
            assert!(error.database().is_none());
            assert_eq!(error.to_string(), text);
        }
    }
}
