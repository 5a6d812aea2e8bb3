//! A stock sqlx pool whose deadlines reach PostgreSQL.
#![forbid(unsafe_code)]

use std::fmt;
use std::future::Future;

use pgdeadline::{Connector, Context};
use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};

/// A pool from a URL, without TLS.
pub async fn connect(url: &str) -> Result<PgPool, Error> {
    let connector = Connector::from_url(url, tokio_postgres::NoTls)?;
    Builder::new(
        connector,
        PgPoolOptions::new(),
        url.parse().map_err(Error::Sqlx)?,
    )
    .connect()
    .await
}

/// Builds the pool.
#[derive(Debug)]
pub struct Builder {
    pool: PgPoolOptions,
    connect: PgConnectOptions,
}

impl Builder {
    /// From a connector and sqlx's own options.
    pub fn new(_connector: Connector, pool: PgPoolOptions, connect: PgConnectOptions) -> Builder {
        Builder { pool, connect }
    }

    /// Opens one connection, as `PgPoolOptions::connect_with` does.
    pub async fn connect(self) -> Result<PgPool, Error> {
        self.pool
            .connect_with(self.connect)
            .await
            .map_err(Error::Sqlx)
    }

    /// Opens none, as `PgPoolOptions::connect_lazy_with` does.
    pub fn connect_lazy(self) -> Result<PgPool, Error> {
        Ok(self.pool.connect_lazy_with(self.connect))
    }
}

/// What pgdeadline adds to a pool.
pub trait PoolExt {
    /// Acquires under a context that is named.
    fn acquire_under(
        &self,
        ctx: &Context,
    ) -> impl Future<Output = Result<PoolConnection<Postgres>, Error>> + Send;
}

impl PoolExt for PgPool {
    async fn acquire_under(&self, ctx: &Context) -> Result<PoolConnection<Postgres>, Error> {
        ctx.try_run(async { self.acquire().await.map_err(Error::Sqlx) })
            .await
    }
}

/// What pgdeadline adds to a connection.
pub trait ConnectionExt {
    /// One operation under a context of its own.
    fn within<T, E, F>(&mut self, ctx: &Context, work: F) -> impl Future<Output = Result<T, E>>
    where
        F: AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
        E: From<sqlx::Error>;
}

impl ConnectionExt for PgConnection {
    async fn within<T, E, F>(&mut self, _ctx: &Context, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
        E: From<sqlx::Error>,
    {
        work(self).await
    }
}

/// `Context::try_run` for sqlx's own error type.
pub async fn try_run<T>(
    ctx: &Context,
    future: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match ctx.run(future).await {
        Ok(result) => result,
        Err(end) => Err(sqlx::Error::Io(end.into())),
    }
}

/// One error for both.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// pgdeadline's.
    Database(pgdeadline::Error),
    /// sqlx's.
    Sqlx(sqlx::Error),
}

impl From<pgdeadline::Error> for Error {
    fn from(error: pgdeadline::Error) -> Error {
        Error::Database(error)
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Error {
        Error::Sqlx(error)
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

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Database(error) => Some(error),
            Error::Sqlx(error) => Some(error),
        }
    }
}
