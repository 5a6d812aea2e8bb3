//! One error for a function that uses sqlx and pgdeadline.

use std::error::Error as StdError;
use std::fmt;

/// What can go wrong between building a pool and having the rows.
///
/// `?` makes it from sqlx's errors and from pgdeadline's, and
/// [`Context::try_run`](pgdeadline::Context::try_run) takes it as it is. The
/// end of a context, and whatever else pgdeadline has to say, is always
/// [`Database`](Error::Database), whoever noticed it and however it came.
///
/// ```no_run
/// use pgdeadline::Context;
/// use pgdeadline_sqlx::Error;
/// use sqlx::PgPool;
///
/// async fn count(pool: &PgPool, ctx: &Context) -> Result<i64, Error> {
///     ctx.try_run(async {
///         let count = sqlx::query_scalar("SELECT count(*) FROM visits");
///         Ok(count.fetch_one(pool).await?)
///     })
///     .await
/// }
///
/// # async fn example(pool: &PgPool, ctx: &Context) {
/// match count(pool, ctx).await {
///     Ok(count) => println!("{count} visits"),
///     Err(Error::Database(e)) if e.is_deadline() => println!("too slow, {e}"),
///     Err(Error::Database(e)) => println!("no answer: {e}"),
///     Err(e) => println!("{e}"),
/// }
/// # }
/// ```
///
/// `anyhow::Error` and boxed errors work as well in its place, and so does
/// [`sqlx::Error`] with [`try_run`](crate::try_run): there
/// [`pgdeadline::Error::find`] finds what this has in `Database`.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// pgdeadline's: a context ended, a connection could not be made or was
    /// given up, or something is set up so that it can't work
    /// ([`is_config`](pgdeadline::Error::is_config)).
    Database(pgdeadline::Error),
    /// sqlx's: the server reported an error, the pool has no connection to
    /// give, a value could not be decoded.
    Sqlx(sqlx::Error),
}

impl Error {
    /// What pgdeadline has to say about it; `None` if that is nothing.
    pub fn database(&self) -> Option<&pgdeadline::Error> {
        match self {
            Error::Database(error) => Some(error),
            Error::Sqlx(_) => None,
        }
    }

    /// Something that is set up so that it can't work.
    pub(crate) fn config(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
        Error::Database(pgdeadline::Error::config(message))
    }
}

impl From<pgdeadline::Error> for Error {
    fn from(error: pgdeadline::Error) -> Error {
        Error::Database(error)
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Error {
        match pgdeadline::Error::find(&error) {
            Some(found) => Error::Database(found),
            None => Error::Sqlx(error),
        }
    }
}

/// For a function that returns sqlx's error:
/// [`pgdeadline::Error::find`] finds in it what was in
/// [`Database`](Error::Database).
impl From<Error> for sqlx::Error {
    fn from(error: Error) -> sqlx::Error {
        match error {
            Error::Database(error) => carry(error),
            Error::Sqlx(error) => error,
        }
    }
}

/// pgdeadline's error in one of sqlx's.
pub(crate) fn carry(error: pgdeadline::Error) -> sqlx::Error {
    sqlx::Error::Io(error.into())
}

impl StdError for Error {
    /// The error in it, so that [`pgdeadline::Error::find`] finds that.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Error::Database(error) => Some(error),
            Error::Sqlx(error) => Some(error),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Database(error) => error.fmt(f),
            Error::Sqlx(error) => error.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ended;

    #[tokio::test]
    async fn an_end_has_one_shape_however_it_came() {
        let through: [fn(pgdeadline::Error) -> Error; 4] = [
            |end| end.into(),
            |end| carry(end).into(),
            |end| sqlx::Error::Configuration(Box::new(end)).into(),
            |end| sqlx::Error::from(Error::from(end)).into(),
        ];
        for (n, through) in through.into_iter().enumerate() {
            let error = through(ended("enough").await);
            let database = error.database().unwrap_or_else(|| panic!("{n}: {error:?}"));
            assert!(database.is_cancelled(), "{n}: {error:?}");
            assert_eq!(database.reason().unwrap().to_string(), "enough");
            assert!(pgdeadline::Error::find(&error).is_some());
        }
    }

    #[test]
    fn what_sqlx_says_of_its_own_stays_sqlxs() {
        for error in [
            sqlx::Error::PoolTimedOut,
            sqlx::Error::PoolClosed,
            sqlx::Error::RowNotFound,
            sqlx::Error::Protocol("short read".into()),
            sqlx::Error::Io(std::io::ErrorKind::BrokenPipe.into()),
        ] {
            let text = error.to_string();
            let error = Error::from(error);
            assert!(error.database().is_none(), "{text}");
            assert_eq!(error.to_string(), text);
            assert_eq!(sqlx::Error::from(error).to_string(), text);
        }
    }
}
