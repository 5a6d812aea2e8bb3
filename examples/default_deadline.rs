//! A deadline for each request of code that never sets one.

use std::time::{Duration, Instant};

use anyhow::Result;
use pgdeadline::{Connector, Context, Error};
use pgdeadline_deadpool::Builder;
use tokio_postgres::{Config, NoTls};

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::var("DATABASE_URL")
        .unwrap_or_else(|_| "postgres://postgres@localhost/postgres".into());
    let connector = Connector::builder(url.parse::<Config>()?, NoTls)
        .default_deadline(Duration::from_millis(300))
        .build()?;
    let pool = Builder::new(connector).max_size(1).build()?;

    let started = Instant::now();
    let client = pool.get().await?;
    if let Err(error) = client.query("SELECT pg_sleep(30)", &[]).await {
        match Error::find(&error) {
            Some(end) => println!("after {:?}: {end}", started.elapsed()),
            None => return Err(error.into()),
        }
    }
    drop(client);

    // A context of one's own opts out, also one without a deadline.
    let started = Instant::now();
    let report = async {
        let client = pool.get().await?;
        client.query("SELECT pg_sleep(1)", &[]).await?;
        anyhow::Ok(())
    };
    Context::background().scope(report).await?;
    println!("a report may take its time: {:?}", started.elapsed());
    Ok(())
}
