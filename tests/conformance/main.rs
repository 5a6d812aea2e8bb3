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

use deadpool_postgres::{Client, Pool};
use pgdeadline::{Connector, ConnectorBuilder};
use pgdeadline_deadpool::Builder;
use pgdeadline_tests::bounds::{LATE, SHORT, SLEEP, in_time};
use pgdeadline_tests::proxy::Proxy;
use pgdeadline_tests::server::{Backend, Server};
use pgdeadline_tests::told::{ended, found};
use pgdeadline_tests::trace_if_asked;
use tokio_postgres::{Config, NoTls};

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
        self.server.wait_quiet(&self.name, backends, LATE).await;
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

async fn pid(client: &Client) -> i32 {
    let pid = "SELECT pg_backend_pid()";
    in_time(client.query_one_scalar(pid, &[])).await.unwrap()
}

async fn works(client: &Client) {
    let answer = in_time(client.query_one_scalar::<i32, _>("SELECT 6 * 7", &[])).await;
    assert_eq!(answer.unwrap(), 42);
}
