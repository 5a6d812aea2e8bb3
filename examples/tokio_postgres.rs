//! A deadline that reaches the server, on a client without a pool.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use pgdeadline::{Connector, Context, Error};
use tokio_postgres::NoTls;

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::var("DATABASE_URL")
        .unwrap_or_else(|_| "postgres://postgres@localhost/postgres".into());
    let connector = Connector::from_url(&url, NoTls)?;

    // Opening the connection has a deadline of its own.
    let opening = Context::background().with_timeout(Duration::from_secs(3));
    let (client, connection) = connector.connect(&opening).await?;
    tokio::spawn(connection);

    let request = Context::background().with_timeout(Duration::from_millis(200));
    let started = Instant::now();
    let error = request
        .try_run(client.query("SELECT pg_sleep(30)", &[]))
        .await
        .err()
        .context("30 s are longer than 200 ms")?;
    let end = Error::find(&error).context("an end of ours")?;
    println!("after {:?}: {end}", started.elapsed());

    // The same connection goes on.
    let row = client.query_one("SELECT pg_backend_pid()", &[]).await?;
    println!(
        "after {:?}: backend {} serves on",
        started.elapsed(),
        row.get::<_, i32>(0)
    );
    Ok(())
}
