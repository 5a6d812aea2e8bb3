//! The two doors, as one: what is tested here is what stands behind them.

use std::future::Future;
use std::pin::pin;

use bytes::Bytes;
use deadpool_postgres::Client;
use futures_util::{SinkExt, TryStreamExt};
use pgdeadline::{Connector, ConnectorBuilder, Context, MakeRustls};
use pgdeadline_deadpool::ClientExt;
use pgdeadline_sqlx::ConnectionExt;
use pgdeadline_tests::trace_if_asked;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, Postgres, Row};
use tokio_postgres::{Config, NoTls, SimpleQueryMessage};

use super::{LATE, in_time};

/// Whatever a door says went wrong.
pub(crate) type Failed = Box<dyn std::error::Error + Send + Sync>;

/// A pool of one of the two crates.
#[derive(Clone)]
pub(crate) struct Door {
    /// For what a test says.
    pub(crate) name: &'static str,
    /// By what the server tells its backends from others.
    pub(crate) application: String,
    size: usize,
    pool: Pool,
}

#[derive(Clone)]
enum Pool {
    Deadpool(deadpool_postgres::Pool),
    Sqlx(sqlx::PgPool),
}

/// A connection of one of them.
pub(crate) enum Held {
    Deadpool(Client),
    Sqlx(PoolConnection<Postgres>),
}

/// Both doors to this server, without TLS. Each has pools of this size, and an
/// application name of its own.
pub(crate) fn both(
    config: &Config,
    size: usize,
    set: impl Fn(ConnectorBuilder) -> ConnectorBuilder,
) -> [Door; 2] {
    trace_if_asked();
    let connector = |config| {
        set(patient(Connector::builder(config, NoTls)))
            .build()
            .unwrap()
    };
    [
        deadpool(&named(config, "d"), size, connector),
        sqlx(&named(config, "s"), size, connector),
    ]
}

/// The same over TLS, with a certificate's connector.
pub(crate) fn encrypted(config: &Config, rustls: &rustls::ClientConfig) -> [Door; 2] {
    let connector = |config| {
        let rustls = MakeRustls::new(rustls.clone());
        patient(Connector::builder(config, rustls)).build().unwrap()
    };
    [
        deadpool(&named(config, "d"), 1, connector),
        sqlx(&named(config, "s"), 1, connector),
    ]
}

/// The deadpool door alone, over TLS: for what sqlx can't do.
pub(crate) fn encrypted_deadpool(config: &Config, rustls: &rustls::ClientConfig) -> Door {
    let rustls = MakeRustls::new(rustls.clone());
    deadpool(&named(config, "d"), 1, |config| {
        patient(Connector::builder(config, rustls)).build().unwrap()
    })
}

/// On a machine that stalls a short wait, or grace, would be too short, and
/// another backend be opened; who tests them sets them.
fn patient(connector: ConnectorBuilder) -> ConnectorBuilder {
    connector.checkout_wait(LATE).grace(LATE)
}

fn named(config: &Config, suffix: &str) -> Config {
    let mut config = config.clone();
    let name = config.get_application_name().unwrap().to_owned();
    config.application_name(format!("{name}-{suffix}"));
    config
}

fn deadpool(config: &Config, size: usize, connector: impl FnOnce(Config) -> Connector) -> Door {
    let pool = pgdeadline_deadpool::Builder::new(connector(config.clone()))
        .max_size(size)
        .build()
        .unwrap();
    Door::new("deadpool", config, size, Pool::Deadpool(pool))
}

fn sqlx(config: &Config, size: usize, connector: impl FnOnce(Config) -> Connector) -> Door {
    // Where the server is, is the connector's to know.
    let options = PgConnectOptions::new_without_pgpass()
        .username(config.get_user().unwrap())
        .password(std::str::from_utf8(config.get_password().unwrap_or_default()).unwrap())
        .database(config.get_dbname().unwrap())
        .application_name(config.get_application_name().unwrap());
    let pool = PgPoolOptions::new().max_connections(u32::try_from(size).unwrap());
    let pool = pgdeadline_sqlx::Builder::new(connector(config.clone()), pool, options);
    Door::new(
        "sqlx",
        config,
        size,
        Pool::Sqlx(pool.connect_lazy().unwrap()),
    )
}

impl Door {
    fn new(name: &'static str, config: &Config, size: usize, pool: Pool) -> Door {
        let application = config.get_application_name().unwrap().to_owned();
        Door {
            name,
            application,
            size,
            pool,
        }
    }

    pub(crate) async fn try_get(&self) -> Result<Held, Failed> {
        Ok(match &self.pool {
            Pool::Deadpool(pool) => Held::Deadpool(pool.get().await?),
            Pool::Sqlx(pool) => Held::Sqlx(pool.acquire().await?),
        })
    }

    pub(crate) async fn get(&self) -> Held {
        let held = in_time(self.try_get()).await;
        held.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// One statement on a connection of its own, all of it under a context.
    pub(crate) async fn under(&self, ctx: &Context, sql: &str) -> Result<String, Failed> {
        under(ctx, async { self.try_get().await?.ask(sql).await }).await
    }

    /// Who serves whoever comes next.
    pub(crate) async fn next_pid(&self) -> String {
        self.get().await.pid().await
    }

    /// That every place of the pool can be had, and works: no permit is lost.
    pub(crate) async fn assert_full(&self) {
        let mut all = Vec::new();
        for _ in 0..self.size {
            all.push(self.get().await);
        }
        for held in &mut all {
            assert_eq!(in_time(held.ask("SELECT 6 * 7")).await.unwrap(), "42");
        }
        let size = match &self.pool {
            Pool::Deadpool(pool) => pool.status().size,
            Pool::Sqlx(pool) => pool.size() as usize,
        };
        assert_eq!(size, self.size, "{}", self.name);
    }
}

impl Held {
    /// The first field of the answer, by the simple protocol.
    pub(crate) async fn ask(&mut self, sql: &str) -> Result<String, Failed> {
        match self {
            Held::Deadpool(client) => {
                let answer = client.simple_query(sql).await?;
                let first = answer.iter().find_map(|message| match message {
                    SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                    _ => None,
                });
                Ok(first.unwrap_or_default())
            }
            Held::Sqlx(connection) => {
                let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
                let rows: Vec<PgRow> = sql.fetch_all(&mut **connection).await?;
                let Some(row) = rows.first() else {
                    return Ok(String::new());
                };
                Ok(row
                    .try_get_unchecked::<Option<String>, _>(0)?
                    .unwrap_or_default())
            }
        }
    }

    /// An integer, by a statement that the door prepares and keeps.
    pub(crate) async fn ask_prepared(&mut self, sql: &str, n: i32) -> Result<i32, Failed> {
        match self {
            Held::Deadpool(client) => {
                let statement = client.prepare_cached(sql).await?;
                Ok(client.query_one(&statement, &[&n]).await?.get(0))
            }
            Held::Sqlx(connection) => {
                let sql = sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).bind(n);
                Ok(sql.fetch_one(&mut **connection).await?)
            }
        }
    }

    /// [`Held::ask`] as an operation with a context of its own.
    pub(crate) async fn within(&mut self, ctx: &Context, sql: &str) -> Result<(), Failed> {
        match self {
            Held::Deadpool(client) => {
                let work = client.within(ctx, async |c| {
                    c.simple_query(sql).await?;
                    Ok::<_, pgdeadline_deadpool::Error>(())
                });
                Ok(work.await?)
            }
            Held::Sqlx(connection) => {
                let raw = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
                let work = connection.within(ctx, async |c| raw.execute(c).await);
                Ok(work.await.map(drop)?)
            }
        }
    }

    pub(crate) async fn pid(&mut self) -> String {
        in_time(self.ask("SELECT pg_backend_pid()")).await.unwrap()
    }

    /// Copies one row into a table, and stops writing.
    pub(crate) async fn copy_in_and_stop(&mut self, table: &str) -> Result<(), Failed> {
        let copy = format!("COPY {table} FROM STDIN");
        match self {
            Held::Deadpool(client) => {
                let mut sink = pin!(client.copy_in(&copy).await?);
                sink.send(Bytes::from_static(b"1\n")).await?;
                std::future::pending().await
            }
            Held::Sqlx(connection) => {
                let mut sink = connection.copy_in_raw(&copy).await?;
                sink.send(b"1\n".as_slice()).await?;
                std::future::pending().await
            }
        }
    }

    /// Reads a copy out to its end.
    pub(crate) async fn copy_out(&mut self, copy: &str) -> Result<(), Failed> {
        match self {
            Held::Deadpool(client) => {
                let out = client.copy_out(copy).await?;
                Ok(out.try_for_each(async |_| Ok(())).await?)
            }
            Held::Sqlx(connection) => {
                let out = connection.copy_out_raw(copy).await?;
                Ok(out.try_for_each(async |_| Ok(())).await?)
            }
        }
    }
}

/// [`Context::run`], with one kind of error.
pub(crate) async fn under<T>(
    ctx: &Context,
    work: impl Future<Output = Result<T, Failed>>,
) -> Result<T, Failed> {
    in_time(ctx.run(work)).await?
}
