//! What the suites of other drivers test, here through a stock deadpool pool
//! on a real server.
//!
//! A test names in its doc comment the scenario that it covers, by the number
//! in the list of the project's conformance scenarios, and says DIFFERENCE
//! where we depart from what others do, with the reason. Scenarios 16 and 17
//! (an end between Parse and Describe, a pipelined neighbour) need a server that
//! stops where it is told to, and a client that is shared: they are in the
//! binary `session`, on a scripted server.
//!
//! | module | scenarios |
//! | --- | --- |
//! | [`connect`], [`bad_input`], [`tls`] | 1, 2, 3; 8 and 23 over TLS |
//! | [`pool`], [`outage`] | 4, 5, 6, 7 |
//! | [`query`], [`locks`], [`race`] | 8, 10, 11, 12, 13, 14 |
//! | [`transactions`], [`truth`] | 15, and that what was cancelled is never a success |
//! | [`streaming`], [`copy`] | 18, 19, 20 |
//! | [`cancel_path`] | 9, 21, 22, 24 |
//! | [`end_of_life`] | 25; 26 has a binary of its own, `leaks` |
//!
//! No test asserts on a short time: a deadline of [`SHORT`] round work of
//! [`SLEEP`] is late only when it is later than [`LATE`].

mod bad_input;
mod cancel_path;
mod connect;
mod copy;
mod end_of_life;
mod locks;
mod outage;
mod pool;
mod query;
mod race;
mod streaming;
mod tls;
mod transactions;
mod truth;

use std::future::Future;
use std::time::Duration;

use deadpool_postgres::{Client, Pool};
use pgdeadline::{Connector, ConnectorBuilder, Error};
use pgdeadline_deadpool::Builder;
use pgdeadline_tests::proxy::Proxy;
use pgdeadline_tests::server::{Backend, Server};
use tokio::time::timeout;
use tokio_postgres::{Config, NoTls};

/// Longer than anything here takes: reaching it is a failure.
const LATE: Duration = Duration::from_secs(20);

/// A deadline that is meant to pass.
const SHORT: Duration = Duration::from_millis(300);

/// Runs until somebody ends it.
const SLEEP: &str = "SELECT pg_sleep(600)";

/// A pool on a real server, under a name of its own.
struct Bench {
    server: &'static Server,
    /// By what the server tells these backends from others.
    name: String,
    pool: Pool,
}

impl Bench {
    /// A pool of this size on the shared server.
    async fn pool(size: usize) -> Bench {
        Bench::with(size, |connector| connector).await
    }

    /// The same, with other settings.
    async fn with(size: usize, set: impl FnOnce(ConnectorBuilder) -> ConnectorBuilder) -> Bench {
        let server = Server::shared().await;
        Bench::of(server, server.config(), size, set)
    }

    /// The same, through a proxy.
    async fn behind(proxy: &Proxy, size: usize) -> Bench {
        Bench::of(Server::shared().await, proxy.config(), size, |c| c)
    }

    fn of(
        server: &'static Server,
        config: Config,
        size: usize,
        set: impl FnOnce(ConnectorBuilder) -> ConnectorBuilder,
    ) -> Bench {
        trace_if_asked();
        let name = config.get_application_name().unwrap().to_owned();
        // On a machine that stalls a short wait, or grace, would be too short,
        // and another backend be opened; who tests them sets them.
        let connector = Connector::builder(config, NoTls)
            .checkout_wait(LATE)
            .grace(LATE);
        let connector = set(connector).build().unwrap();
        let pool = Builder::new(connector).max_size(size).build().unwrap();
        Bench { server, name, pool }
    }

    async fn get(&self) -> Client {
        in_time(self.pool.get()).await.unwrap()
    }

    /// Checks a client out, asks for its backend, and returns it.
    async fn next_pid(&self) -> i32 {
        pid(&self.get().await).await
    }

    /// All backends there are.
    async fn backends(&self) -> Vec<Backend> {
        self.server.backends(&self.name).await
    }

    /// Waits until the server has so many backends of this pool, and none of
    /// them has anything to do.
    async fn wait_quiet(&self, backends: usize) {
        let admin = self.server.admin().await;
        let what = format!("{backends} backends of {} are idle", self.name);
        pgdeadline_tests::eventually(LATE, what, async || {
            let all = self.server.backends_seen_by(&admin, &self.name).await;
            let idle = all.iter().all(|backend| backend.state == "idle");
            (all.len() == backends && idle).then_some(())
        })
        .await;
    }

    /// That every place of the pool can be had, and works: no permit is lost.
    async fn assert_full(&self) {
        let size = self.pool.status().max_size;
        let mut clients = Vec::new();
        for _ in 0..size {
            clients.push(self.get().await);
        }
        for client in &clients {
            works(client).await;
        }
        assert_eq!(self.pool.status().size, size);
    }

    /// A table that this test alone has; its name.
    async fn table(&self, columns: &str) -> String {
        let table = self.name.replace('-', "_");
        let admin = self.server.admin().await;
        let create = format!("CREATE TABLE {table} ({columns})");
        admin.batch_execute(&create).await.unwrap();
        table
    }

    /// How many rows a table has, as somebody else sees it.
    async fn count(&self, table: &str) -> i64 {
        let admin = self.server.admin().await;
        let count = format!("SELECT count(*) FROM {table}");
        admin.query_one(&count, &[]).await.unwrap().get(0)
    }
}

/// The result, unless that takes too long.
async fn in_time<F: Future>(future: F) -> F::Output {
    match timeout(LATE, future).await {
        Ok(output) => output,
        Err(_) => panic!("not within {LATE:?}"),
    }
}

async fn pid(client: &Client) -> i32 {
    let pid = "SELECT pg_backend_pid()";
    in_time(client.query_one_scalar(pid, &[])).await.unwrap()
}

async fn works(client: &Client) {
    let answer = in_time(client.query_one_scalar::<i32, _>("SELECT 6 * 7", &[])).await;
    assert_eq!(answer.unwrap(), 42);
}

/// With `PGDEADLINE_TEST_TRACE` set, everything that is traced is shown, by a
/// test that fails or with `--nocapture`.
fn trace_if_asked() {
    if std::env::var_os("PGDEADLINE_TEST_TRACE").is_some() {
        let all = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
        // The first test of the binary has done it.
        let _ = all.with_test_writer().try_init();
    }
}

/// The end that a `run` was told of: by itself, or by the work in it, whoever
/// noticed first.
fn ended<T: std::fmt::Debug, E: std::error::Error + 'static>(
    result: Result<Result<T, E>, Error>,
) -> Error {
    match result {
        Err(error) => error,
        Ok(Err(error)) => found(&error),
        Ok(Ok(output)) => panic!("it was not ended: {output:?}"),
    }
}

/// The error of pgdeadline's that is found in another.
fn found(error: &(dyn std::error::Error + 'static)) -> Error {
    Error::find(error).unwrap_or_else(|| panic!("not pgdeadline's: {error:?}"))
}
