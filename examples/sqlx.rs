//! A request handler sets the deadline; the data layer below does not know.

use std::time::Duration;

use anyhow::Result;
use pgdeadline::{Connector, Context, Error};
use pgdeadline_sqlx::Builder;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio_postgres::NoTls;

/// A data layer as it was before: a pool, and errors with `?`.
async fn reverse(pool: &PgPool, text: &str) -> Result<String> {
    let reversed = sqlx::query_scalar("SELECT reverse($1) FROM pg_sleep($2)")
        .bind(text)
        .bind(text.len() as f64 / 10.0)
        .fetch_one(pool)
        .await?;
    Ok(reversed)
}

/// What an HTTP handler would do: one context a request, and an answer that
/// tells the caller whether to try again.
async fn handle(pool: &PgPool, text: &str) -> String {
    let request = Context::background().with_timeout(Duration::from_millis(500));
    match request.try_run(reverse(pool, text)).await {
        Ok(reversed) => format!("200 {reversed}"),
        Err(error) => match Error::find(error.as_ref()) {
            Some(end) if end.is_deadline() => format!("504 {end}"),
            Some(end) => format!("499 {end}"),
            None => format!("500 {error:#}"),
        },
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::var("DATABASE_URL")
        .unwrap_or_else(|_| "postgres://postgres@localhost/postgres".into());
    let pool = Builder::new(
        Connector::from_url(&url, NoTls)?,
        PgPoolOptions::new().max_connections(1),
        url.parse()?,
    )
    .connect()
    .await?;
    for text in ["abc", "a text that takes three seconds", "def"] {
        println!("{}", handle(&pool, text).await);
    }
    Ok(())
}
