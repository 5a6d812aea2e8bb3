//! A pool of either door, seen as a data layer sees it: statements are run on
//! it. Each runs in the way that its own documentation shows first.

use anyhow::Result;
use sqlx::{AssertSqlSafe, PgPool};
use tokio_postgres::error::SqlState;

/// A pool of one connection.
pub(crate) enum Pool {
    Deadpool(deadpool_postgres::Pool),
    Sqlx(PgPool),
}

impl Pool {
    /// Runs `statement`, whatever it returns.
    pub(crate) async fn run(&self, statement: &str) -> Result<()> {
        match self {
            Pool::Deadpool(pool) => {
                pool.get().await?.query(statement, &[]).await?;
            }
            Pool::Sqlx(pool) => {
                let query = sqlx::query(AssertSqlSafe(statement));
                query.fetch_all(pool).await?;
            }
        }
        Ok(())
    }

    /// The one number that `query` returns.
    pub(crate) async fn number(&self, query: &str) -> Result<i32> {
        match self {
            Pool::Deadpool(pool) => Ok(pool.get().await?.query_one(query, &[]).await?.get(0)),
            Pool::Sqlx(pool) => {
                let query = sqlx::query_scalar(AssertSqlSafe(query));
                Ok(query.fetch_one(pool).await?)
            }
        }
    }

    /// Which backend serves the pool. Opens a connection where there is none.
    pub(crate) async fn backend(&self) -> Result<i32> {
        self.number("SELECT pg_backend_pid()").await
    }
}

/// Whether the server told a query that it was cancelled.
pub(crate) fn is_query_cancelled(error: &anyhow::Error) -> bool {
    let cancelled = SqlState::QUERY_CANCELED;
    error.chain().any(|error| {
        if let Some(error) = error.downcast_ref::<tokio_postgres::Error>() {
            return error.code() == Some(&cancelled);
        }
        let sqlxs = error.downcast_ref::<sqlx::Error>();
        let told = sqlxs.and_then(|error| error.as_database_error()?.code());
        told.is_some_and(|code| code == cancelled.code())
    })
}

/// Whether the pool itself gave up waiting for a connection: sqlx's does so
/// after its `acquire_timeout`.
pub(crate) fn is_pool_timeout(error: &anyhow::Error) -> bool {
    let told = error.downcast_ref::<sqlx::Error>();
    matches!(told, Some(sqlx::Error::PoolTimedOut))
}
