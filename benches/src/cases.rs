//! What is done on each stack.

use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::TryStreamExt;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio_postgres::Config;

use crate::stacks::{AnyPool, Stack};

/// One kind of work; a pool's check-out and return are part of each operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    /// `SELECT 1`, prepared, one after the other.
    Sequential,
    /// The same by sixteen tasks on sixteen connections.
    Sixteen,
    /// A query that takes the server a millisecond.
    Millisecond,
    /// Begin, three statements, commit.
    Transaction,
    /// A million rows, read one by one.
    Rows,
}

impl Case {
    pub(crate) const ALL: [Case; 5] = [
        Case::Sequential,
        Case::Sixteen,
        Case::Millisecond,
        Case::Transaction,
        Case::Rows,
    ];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Case::Sequential => "SELECT 1, prepared",
            Case::Sixteen => "the same, 16 tasks",
            Case::Millisecond => "a query of 1 ms",
            Case::Transaction => "a transaction of 5 statements",
            Case::Rows => "1,000,000 rows",
        }
    }

    fn connections(self) -> usize {
        match self {
            Case::Sixteen => 16,
            _ => 1,
        }
    }

    /// How many operations one round has.
    pub(crate) fn batch(self) -> usize {
        match self {
            Case::Sequential => 200,
            Case::Sixteen => 1_600,
            Case::Millisecond => 20,
            Case::Transaction => 40,
            Case::Rows => 1,
        }
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(name: &str) -> Result<Case, String> {
        let mut all = Case::ALL.into_iter();
        all.find(|case| format!("{case:?}") == name)
            .ok_or_else(|| format!("there is no case of the name {name}"))
    }
}

/// One case on one stack, ready to go.
pub(crate) struct Bench {
    case: Case,
    stack: Stack,
    built: crate::stacks::Built,
}

impl Bench {
    pub(crate) async fn new(case: Case, stack: Stack, config: &Config) -> Result<Bench> {
        let built = stack.build(config, case.connections()).await?;
        let bench = Bench { case, stack, built };
        // Connects, prepares, fills caches.
        bench.batch(case.batch().clamp(16, 64)).await?;
        Ok(bench)
    }

    /// How long so many operations take.
    pub(crate) async fn batch(&self, operations: usize) -> Result<Duration> {
        let (case, stack, pool) = (self.case, self.stack, &self.built.pool);
        let began = Instant::now();
        match case {
            Case::Sixteen => {
                let mut tasks = JoinSet::new();
                for _ in 0..case.connections() {
                    let pool = pool.clone();
                    let each = operations / case.connections();
                    tasks.spawn(async move {
                        for _ in 0..each {
                            stack.in_time(pool.execute("SELECT 1")).await?;
                        }
                        anyhow::Ok(())
                    });
                }
                while let Some(done) = tasks.join_next().await {
                    done??;
                }
            }
            Case::Rows => {
                for _ in 0..operations.min(case.batch()) {
                    stack.in_time(pool.rows()).await?;
                }
            }
            _ => {
                for _ in 0..operations {
                    match case {
                        Case::Millisecond => {
                            stack
                                .in_time(pool.execute("SELECT pg_sleep(0.001)"))
                                .await?
                        }
                        Case::Transaction => stack.in_time(pool.transaction()).await?,
                        _ => stack.in_time(pool.execute("SELECT 1")).await?,
                    }
                }
            }
        }
        Ok(began.elapsed())
    }
}

impl AnyPool {
    async fn execute(&self, text: &'static str) -> Result<()> {
        match self {
            AnyPool::Deadpool(pool) => {
                let client = pool.get().await?;
                let statement = client.prepare_cached(text).await?;
                client.execute(&statement, &[]).await?;
            }
            AnyPool::Sqlx(pool) => {
                sqlx::query(text).execute(pool).await?;
            }
        }
        Ok(())
    }

    async fn transaction(&self) -> Result<()> {
        match self {
            AnyPool::Deadpool(pool) => {
                let mut client = pool.get().await?;
                let statement = client.prepare_cached("SELECT 1").await?;
                let transaction = client.transaction().await?;
                for _ in 0..3 {
                    transaction.execute(&statement, &[]).await?;
                }
                transaction.commit().await?;
            }
            AnyPool::Sqlx(pool) => {
                let mut transaction = pool.begin().await?;
                for _ in 0..3 {
                    sqlx::query("SELECT 1").execute(&mut *transaction).await?;
                }
                transaction.commit().await?;
            }
        }
        Ok(())
    }

    async fn rows(&self) -> Result<()> {
        const MANY: &str = "SELECT generate_series(1, 1000000)";
        let mut count = 0;
        match self {
            AnyPool::Deadpool(pool) => {
                let client = pool.get().await?;
                let statement = client.prepare_cached(MANY).await?;
                let none: [&i32; 0] = [];
                let rows = client.query_raw(&statement, none).await?;
                let mut rows = std::pin::pin!(rows);
                while rows.try_next().await?.is_some() {
                    count += 1;
                }
            }
            AnyPool::Sqlx(pool) => {
                let mut rows = sqlx::query(MANY).fetch(pool);
                while rows.try_next().await?.is_some() {
                    count += 1;
                }
            }
        }
        ensure!(count == 1_000_000, "{count} rows instead of a million");
        Ok(())
    }
}

/// So many operations on a runtime of one thread: for callgrind.
pub(crate) fn once(case: Case, stack: Stack, count: usize, config: &Config) -> Result<()> {
    runtime(case, true)?.block_on(async {
        let bench = Bench::new(case, stack, config).await?;
        bench.batch(count).await.map(drop)
    })
}

/// One thread where tasks don't run side by side anyway.
pub(crate) fn runtime(case: Case, one_thread: bool) -> std::io::Result<Runtime> {
    match one_thread || case != Case::Sixteen {
        true => Builder::new_current_thread().enable_all().build(),
        false => Builder::new_multi_thread().enable_all().build(),
    }
}
