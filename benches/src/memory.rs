//! Memory of a connection, as the system counts it.

use anyhow::{Context as _, Result};
use tokio_postgres::Config;

use crate::stacks::{AnyPool, Stack};

/// One stack's memory a connection, in KiB.
pub(crate) struct Weighed {
    pub(crate) stack: Stack,
    /// That is idle, after a query.
    pub(crate) idle: u64,
    /// In the middle of a result that nobody reads on.
    pub(crate) streaming: u64,
}

pub(crate) fn measure(config: &Config) -> Result<Vec<Weighed>> {
    let mut all = Vec::new();
    for stack in [Stack::Sqlx, Stack::SqlxFloor, Stack::SqlxOurs] {
        eprintln!("... memory of {}", stack.title());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        all.push(runtime.block_on(weigh(stack, config))?);
    }
    Ok(all)
}

async fn weigh(stack: Stack, config: &Config) -> Result<Weighed> {
    let built = stack.build(config, CONNECTIONS + 1).await?;
    let AnyPool::Sqlx(pool) = &built.pool else {
        anyhow::bail!("only sqlx's stacks are weighed");
    };
    sqlx::query("SELECT 1").execute(pool).await?;
    let before = resident()?;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut connection = pool.acquire().await?;
        sqlx::query("SELECT 1").execute(&mut *connection).await?;
        held.push(connection);
    }
    let idle = resident()?;
    let mut streams = Vec::new();
    for connection in &mut held {
        // Rows of 100 KiB each, of which one is read.
        let mut rows = sqlx::query("SELECT repeat('x', 100000) FROM generate_series(1, 1000)")
            .fetch(&mut **connection);
        futures_util::TryStreamExt::try_next(&mut rows).await?;
        streams.push(rows);
    }
    // Whatever buffers there are fill up.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let streaming = resident()?;
    let each = |now: u64| now.saturating_sub(before) / CONNECTIONS as u64;
    Ok(Weighed {
        stack,
        idle: each(idle),
        streaming: each(streaming),
    })
}

/// Resident memory in KiB.
fn resident() -> Result<u64> {
    let status =
        std::fs::read_to_string("/proc/self/status").context("memory is read from /proc")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.context("/proc/self/status has no VmRSS")
}

const CONNECTIONS: usize = 80;
