//! The stacks that are compared.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, bail};
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use pgdeadline::{Connector, Context};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};
use tempfile::TempDir;
use tokio::net::{TcpStream, UnixListener};
use tokio_postgres::config::Host;
use tokio_postgres::{Config, NoTls};

/// What a service could build its pool with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stack {
    Deadpool,
    /// With `tokio::time::timeout` round each operation.
    DeadpoolTimeout,
    DeadpoolOurs,
    /// With a deadline that works, by `Context::run`.
    DeadpoolDeadline,
    Sqlx,
    /// With `test_before_acquire(false)`: a round trip to the server less.
    SqlxUntested,
    /// Through a relay that does nothing but copy bytes: the floor of what a
    /// relay can cost.
    SqlxFloor,
    SqlxOurs,
    SqlxDeadline,
}

/// A pool of one of them, and what has to live as long.
pub(crate) struct Built {
    pub(crate) pool: AnyPool,
    _directory: Option<TempDir>,
}

#[derive(Clone)]
pub(crate) enum AnyPool {
    Deadpool(Pool),
    Sqlx(PgPool),
}

impl Stack {
    pub(crate) const DEADPOOL: [Stack; 4] = [
        Stack::Deadpool,
        Stack::DeadpoolTimeout,
        Stack::DeadpoolOurs,
        Stack::DeadpoolDeadline,
    ];
    pub(crate) const SQLX: [Stack; 5] = [
        Stack::Sqlx,
        Stack::SqlxUntested,
        Stack::SqlxFloor,
        Stack::SqlxOurs,
        Stack::SqlxDeadline,
    ];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Stack::Deadpool => "deadpool",
            Stack::DeadpoolTimeout => "deadpool, tokio::time::timeout",
            Stack::DeadpoolOurs => "deadpool through pgdeadline",
            Stack::DeadpoolDeadline => "the same, ctx.run with a deadline",
            Stack::Sqlx => "sqlx",
            Stack::SqlxUntested => "sqlx, test_before_acquire(false)",
            Stack::SqlxFloor => "sqlx through a relay that only copies",
            Stack::SqlxOurs => "sqlx through pgdeadline",
            Stack::SqlxDeadline => "the same, ctx.run with a deadline",
        }
    }

    /// How it is named on a command line.
    pub(crate) fn name(self) -> String {
        format!("{self:?}")
    }

    /// A pool of so many connections, in the runtime that this is called in.
    pub(crate) async fn build(self, config: &Config, size: usize) -> Result<Built> {
        let mut directory = None;
        let pool = match self {
            Stack::Deadpool | Stack::DeadpoolTimeout => {
                let settings = ManagerConfig {
                    recycling_method: RecyclingMethod::Fast,
                };
                let manager = Manager::from_config(config.clone(), NoTls, settings);
                AnyPool::Deadpool(Pool::builder(manager).max_size(size).build()?)
            }
            Stack::DeadpoolOurs | Stack::DeadpoolDeadline => {
                let connector = Connector::new(config.clone(), NoTls)?;
                let builder = pgdeadline_deadpool::Builder::new(connector);
                AnyPool::Deadpool(builder.max_size(size).build()?)
            }
            Stack::Sqlx | Stack::SqlxUntested | Stack::SqlxFloor => {
                let mut connect = options(config)?;
                if self == Stack::SqlxFloor {
                    let made = tempfile::tempdir()?;
                    copy_bytes(made.path(), &connect)?;
                    connect = connect.socket(made.path()).port(PORT);
                    directory = Some(made);
                }
                let pool = pool_of(size).test_before_acquire(self != Stack::SqlxUntested);
                AnyPool::Sqlx(pool.connect_with(connect).await?)
            }
            Stack::SqlxOurs | Stack::SqlxDeadline => {
                let connector = Connector::new(config.clone(), NoTls)?;
                let builder =
                    pgdeadline_sqlx::Builder::new(connector, pool_of(size), options(config)?);
                AnyPool::Sqlx(builder.connect().await?)
            }
        };
        Ok(Built {
            pool,
            _directory: directory,
        })
    }

    /// Runs `work` as a service on this stack would that wants it to end in time.
    pub(crate) async fn in_time<T>(self, work: impl Future<Output = Result<T>>) -> Result<T> {
        match self {
            Stack::DeadpoolTimeout => tokio::time::timeout(LONG, work).await?,
            Stack::DeadpoolDeadline | Stack::SqlxDeadline => {
                let context = Context::background().with_timeout(LONG);
                context.run(work).await?
            }
            _ => work.await,
        }
    }
}

impl FromStr for Stack {
    type Err = String;

    fn from_str(name: &str) -> Result<Stack, String> {
        let mut all = Stack::DEADPOOL.into_iter().chain(Stack::SQLX);
        all.find(|stack| stack.name() == name)
            .ok_or_else(|| format!("there is no stack of the name {name}"))
    }
}

fn pool_of(size: usize) -> PgPoolOptions {
    PgPoolOptions::new().max_connections(u32::try_from(size).unwrap_or(u32::MAX))
}

fn options(config: &Config) -> Result<PgConnectOptions> {
    let options = PgConnectOptions::new_without_pgpass()
        .username(config.get_user().unwrap_or("postgres"))
        .database(config.get_dbname().unwrap_or("postgres"))
        .port(config.get_ports().first().copied().unwrap_or(5432))
        .ssl_mode(PgSslMode::Disable);
    let options = match config.get_password() {
        Some(password) => options.password(std::str::from_utf8(password)?),
        None => options,
    };
    Ok(match config.get_hosts().first() {
        Some(Host::Tcp(host)) => options.host(host),
        Some(Host::Unix(directory)) => options.socket(directory),
        None => bail!("the server has no host"),
    })
}

/// Accepts clients at a socket in `directory`, and copies their bytes.
fn copy_bytes(directory: &Path, to: &PgConnectOptions) -> Result<()> {
    let listener = UnixListener::bind(directory.join(format!(".s.PGSQL.{PORT}")))?;
    let (host, port) = (to.get_host().to_owned(), to.get_port());
    let socket = to
        .get_socket()
        .map(|at| at.join(format!(".s.PGSQL.{port}")));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (host, socket) = (host.clone(), socket.clone());
            tokio::spawn(async move {
                match socket {
                    Some(at) => {
                        let mut server = tokio::net::UnixStream::connect(at).await?;
                        tokio::io::copy_bidirectional(&mut client, &mut server).await
                    }
                    None => {
                        let mut server = TcpStream::connect((host, port)).await?;
                        server.set_nodelay(true)?;
                        tokio::io::copy_bidirectional(&mut client, &mut server).await
                    }
                }
            });
        }
    });
    Ok(())
}

const PORT: u16 = 5432;
/// A deadline that nothing here reaches.
const LONG: Duration = Duration::from_secs(60);
