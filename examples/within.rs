//! One operation with a deadline of its own, on a connection that is kept.

use std::time::Duration;

use anyhow::Result;
use pgdeadline::{Connector, Context, Error};
use pgdeadline_deadpool::{Builder, ClientExt};
use tokio_postgres::NoTls;

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::var("DATABASE_URL")
        .unwrap_or_else(|_| "postgres://postgres@localhost/postgres".into());
    let pool = Builder::new(Connector::from_url(&url, NoTls)?)
        .max_size(1)
        .build()?;
    let mut client = pool.get().await?;

    // An estimate is worth 100 ms and no more.
    let brief = Context::background().with_timeout(Duration::from_millis(100));
    let estimate = client
        .within(&brief, async |client| {
            client
                .query_one("SELECT count(*) FROM generate_series(1, 1000000000)", &[])
                .await
        })
        .await;
    match estimate {
        Ok(row) => println!("{} rows", row.get::<_, i64>(0)),
        Err(error) => match Error::find(&error) {
            Some(end) => println!("no estimate: {end}"),
            None => return Err(error.into()),
        },
    }

    // The connection is the caller's still.
    let row = client.query_one("SELECT 'and on we go'", &[]).await?;
    println!("{}", row.get::<_, &str>(0));
    Ok(())
}
