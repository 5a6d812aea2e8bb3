//! The sqlx door: a stock `sqlx::PgPool` on a real server.
//!
//! A test names in its doc comment the scenario that it covers, by the number
//! in the list of the project's conformance scenarios, and says DIFFERENCE
//! where we depart from what others do, with the reason. Scenario 17 (a
//! pipelined neighbour) does not exist here: a connection of sqlx's is borrowed
//! mutably by whoever uses it.
//!
//! | module | what |
//! | --- | --- |
//! | [`connect`], [`ended_already`], [`authentication`], [`tls`] | 1, 2, 3; passwords; 8 over TLS |
//! | [`pool`], [`waiting`], [`lifetime`], [`outage`] | 4, 5, 6, 7, 25 |
//! | [`abandoned`], [`hard`] | what a future leaves that is dropped half-way; 9 |
//! | [`query`], [`prepare`], [`locks`], [`race`] | 8, 10 to 14, 16 |
//! | [`transactions`], [`begin`], [`truth`] | 15, and that what was cancelled is never a success |
//! | [`streaming`], [`copy_in`], [`copy_out`] | 18, 19, 20 |
//! | [`errors`] | what `sqlx::Error` tells |
//! | [`statements`], [`macros`], [`advisory`], [`listener`], [`sea`] | sqlx's own idioms |
//! | [`options`], [`hooks`], [`unbound`] | the user's settings, and what binds no context |
//! | [`memory`], [`leaks`] | 26, and that a result of any size needs no room; in processes of their own |
//!
//! No test asserts on a short time: a deadline of [`SHORT`] round work of
//! [`SLEEP`] is late only when it is later than [`LATE`].

mod abandoned;
mod advisory;
mod alone;
mod authentication;
mod begin;
mod connect;
mod copy_in;
mod copy_out;
mod ended_already;
mod errors;
mod hard;
mod hooks;
mod leaks;
mod lifetime;
mod listener;
mod locks;
mod log;
mod macros;
mod memory;
mod options;
mod outage;
mod pool;
mod prepare;
mod query;
mod race;
mod sea;
mod statements;
mod streaming;
mod tls;
mod transactions;
mod truth;
mod unbound;
mod waiting;

use pgdeadline::{Connector, ConnectorBuilder};
use pgdeadline_sqlx::Builder;
use pgdeadline_tests::bounds::{LATE, SHORT, SLEEP, in_some_minutes, in_time};
use pgdeadline_tests::proxy::Proxy;
use pgdeadline_tests::server::{Backend, Server};
use pgdeadline_tests::told::{ended, found};
use pgdeadline_tests::trace_if_asked;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Postgres};
use tokio_postgres::config::Host;
use tokio_postgres::{Config, NoTls};

/// A pool on a real server, under a name of its own.
struct Bench {
    server: &'static Server,
    /// By what the server tells these backends from others.
    name: String,
    pool: PgPool,
}

impl Bench {
    /// A pool of this size on the shared server.
    async fn pool(size: u32) -> Bench {
        Bench::with(size, |connector| connector).await
    }

    /// The same, with other settings of the connector.
    async fn with(size: u32, set: impl FnOnce(ConnectorBuilder) -> ConnectorBuilder) -> Bench {
        let server = Server::shared().await;
        Bench::of(server, server.config(), of_size(size), set)
    }

    /// The same, with other settings of the pool.
    async fn pooled(options: PgPoolOptions) -> Bench {
        let server = Server::shared().await;
        Bench::of(server, server.config(), options, |connector| connector)
    }

    /// The same, through a proxy.
    async fn behind(proxy: &Proxy, size: u32) -> Bench {
        let server = Server::shared().await;
        Bench::of(server, proxy.config(), of_size(size), |connector| connector)
    }

    fn of(
        server: &'static Server,
        config: Config,
        pool: PgPoolOptions,
        set: impl FnOnce(ConnectorBuilder) -> ConnectorBuilder,
    ) -> Bench {
        trace_if_asked();
        let name = config.get_application_name().unwrap().to_owned();
        let options = options_of(&config);
        // On a machine that stalls a short grace would be too short, and
        // another backend be opened; who tests it sets it.
        let connector = Connector::builder(config, NoTls).grace(LATE);
        let connector = set(connector).build().unwrap();
        let pool = Builder::new(connector, pool, options)
            .connect_lazy()
            .unwrap();
        Bench { server, name, pool }
    }

    async fn acquire(&self) -> PoolConnection<Postgres> {
        in_time(self.pool.acquire()).await.unwrap()
    }

    /// Acquires a connection, asks for its backend, and returns it.
    async fn next_pid(&self) -> i32 {
        pid(&mut *self.acquire().await).await
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
        let size = self.pool.options().get_max_connections();
        let mut connections = Vec::new();
        for _ in 0..size {
            connections.push(self.acquire().await);
        }
        for connection in &mut connections {
            works(&mut *connection).await;
        }
        assert_eq!(self.pool.size(), size);
    }

    /// That whoever comes next is served by this backend, which then has
    /// nothing else to do.
    async fn assert_free(&self, before: i32) {
        assert_eq!(self.next_pid().await, before, "the same backend");
        self.wait_quiet(1).await;
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

/// sqlx's own defaults, but for the size.
fn of_size(size: u32) -> PgPoolOptions {
    PgPoolOptions::new().max_connections(size)
}

/// The same server and user, as sqlx wants to have it told.
fn options_of(config: &Config) -> PgConnectOptions {
    let host = match (config.get_hosts(), config.get_hostaddrs()) {
        ([Host::Tcp(host), ..], _) => host.clone(),
        (_, [address, ..]) => address.to_string(),
        other => panic!("a server that listens on a port: {other:?}"),
    };
    let password = config.get_password().unwrap_or_default();
    PgConnectOptions::new_without_pgpass()
        .host(&host)
        .port(config.get_ports()[0])
        .username(config.get_user().unwrap())
        .password(std::str::from_utf8(password).unwrap())
        .database(config.get_dbname().unwrap())
        .application_name(config.get_application_name().unwrap())
}

async fn pid(connection: &mut PgConnection) -> i32 {
    let pid = sqlx::query_scalar("SELECT pg_backend_pid()");
    in_time(pid.fetch_one(connection)).await.unwrap()
}

async fn works(connection: &mut PgConnection) {
    let answer = sqlx::query_scalar::<_, i32>("SELECT 6 * 7").fetch_one(connection);
    assert_eq!(in_time(answer).await.unwrap(), 42);
}

/// [`SLEEP`], on a connection of the pool.
async fn asleep(pool: &PgPool) -> Result<(), sqlx::Error> {
    sqlx::query(SLEEP).execute(pool).await.map(drop)
}

/// [`SLEEP`], on this connection.
async fn asleep_on(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(SLEEP).execute(connection).await.map(drop)
}

/// SQL that a test has put together.
fn sql(text: impl Into<String>) -> AssertSqlSafe<String> {
    AssertSqlSafe(text.into())
}

/// The code that the server gave.
fn code(error: &(dyn std::error::Error + 'static)) -> String {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(sqlx::Error::Database(answer)) = error.downcast_ref() {
            return answer.code().unwrap().into_owned();
        }
        next = error.source();
    }
    panic!("not the server's: {error:?}")
}
