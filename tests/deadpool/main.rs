//! A stock deadpool pool on pgdeadline's connector.
//!
//! On real servers where it matters what PostgreSQL does; on scripted ones,
//! under paused time, where it matters when.

mod binding;
mod ends;
mod lost;
mod patience;
mod queue;
mod recycling;
mod setup;
mod stock;
mod sweep;
mod within;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::{Client, Pool};
use pgdeadline::{Connector, ConnectorBuilder, Context, EofProof, Error};
use pgdeadline_deadpool::Builder;
use pgdeadline_tests::scripted::{Frontend, Net, message};
use pgdeadline_tests::server::Server;
use tokio_postgres::{NoTls, SimpleQueryMessage};

/// Longer than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// A deadline that is meant to pass.
const SHORT: Duration = Duration::from_millis(200);

/// Runs until somebody cancels it, and longer than any wait here.
const SLEEP: &str = "SELECT pg_sleep(100)";

/// A pool on the shared server.
struct Shared {
    server: &'static Server,
    /// By what the server tells its backends from others.
    name: String,
    pool: Pool,
}

impl Shared {
    /// One whose first connection is made: that may take longer than a short
    /// deadline.
    async fn pool(size: usize) -> Shared {
        Shared::pool_with(|builder| builder.max_size(size)).await
    }

    async fn pool_with(set: impl FnOnce(Builder) -> Builder) -> Shared {
        let shared = Shared::cold(set).await;
        shared.next_pid().await;
        shared
    }

    /// One without any connection.
    async fn cold(set: impl FnOnce(Builder) -> Builder) -> Shared {
        let (server, name, connector) = Shared::connector().await;
        let builder = set(Builder::new(connector.build().unwrap()));
        let pool = builder.build().unwrap();
        Shared { server, name, pool }
    }

    async fn connector() -> (&'static Server, String, ConnectorBuilder) {
        let server = Server::shared().await;
        let config = server.config();
        let name = config.get_application_name().unwrap().to_owned();
        // That the same backend serves on is to be proven, on a slow machine
        // too; how long a check-out waits is tested in `patience`.
        let connector = Connector::builder(config, NoTls)
            .checkout_wait(LONG)
            .grace(LONG);
        (server, name, connector)
    }

    /// Checks a client out, asks for its backend, and returns it.
    async fn next_pid(&self) -> i32 {
        pid(&self.pool.get().await.unwrap()).await
    }

    /// The processes of all backends there are.
    async fn pids(&self) -> Vec<i32> {
        let backends = self.server.backends(&self.name).await;
        backends.into_iter().map(|backend| backend.pid).collect()
    }

    /// A table that this test alone has; its name.
    async fn table(&self) -> String {
        let table = self.name.replace('-', "_");
        let create = format!("CREATE TABLE {table} (n int)");
        let admin = self.server.admin().await;
        admin.batch_execute(&create).await.unwrap();
        table
    }

    /// Ends these backends from the server's side.
    async fn terminate(&self, pids: &[i32]) {
        let admin = self.server.admin().await;
        for pid in pids {
            let terminate = "SELECT pg_terminate_backend($1)";
            admin.execute(terminate, &[pid]).await.unwrap();
        }
    }
}

/// How many rows a table has, as this client sees it.
async fn count(client: &tokio_postgres::Client, table: &str) -> i64 {
    let count = format!("SELECT count(*) FROM {table}");
    client.query_one(&count, &[]).await.unwrap().get(0)
}

async fn pid(client: &Client) -> i32 {
    let answer = client.simple_query("SELECT pg_backend_pid()").await;
    let pid = answer.unwrap().iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    });
    pid.expect("a process id")
}

/// Asks something that runs for ever, until the context ends: the error.
async fn ended_in(ctx: &Context, pool: &Pool) -> Error {
    let work = ctx.try_run(async {
        let client = pool.get().await?;
        client.batch_execute(SLEEP).await?;
        Ok::<_, pgdeadline_deadpool::Error>(())
    });
    found(&work.await.unwrap_err())
}

/// The same on a client that is there already.
async fn ended_on(ctx: &Context, client: &Client) -> Error {
    let error = ctx.try_run(client.batch_execute(SLEEP)).await;
    found(&error.unwrap_err())
}

/// The error of pgdeadline's that is found in another.
fn found(error: &(dyn std::error::Error + 'static)) -> Error {
    Error::find(error).unwrap_or_else(|| panic!("not pgdeadline's: {error:?}"))
}

/// A connector to a scripted server.
fn scripted(net: &Net) -> ConnectorBuilder {
    Connector::builder(net.config(), NoTls)
        .dial(net.clone())
        .eof_proof(EofProof::Proof)
}

/// A pool on a scripted server.
fn scripted_pool(net: &Net, set: impl FnOnce(Builder) -> Builder) -> Pool {
    let connector = scripted(net).build().unwrap();
    set(Builder::new(connector)).build().unwrap()
}

/// A scripted server that answers every simple query, and notes it.
#[derive(Clone, Default)]
struct Obedient {
    queries: Arc<Mutex<Vec<String>>>,
}

impl Obedient {
    /// Lets in whoever dials, as process 1, 2, ...
    fn serve(net: &Net) -> Obedient {
        let server = Obedient::default();
        let (net, this) = (net.clone(), server.clone());
        tokio::spawn(async move {
            for pid in 1.. {
                let mut backend = net.backend().await;
                let this = this.clone();
                tokio::spawn(async move {
                    backend.authenticate(pid, pid).await;
                    while let Frontend::Query { query } = backend.read().await {
                        let answer = match query.as_str() {
                            "" => message::empty_query_response(),
                            _ => message::command_complete("DONE"),
                        };
                        this.queries().push(query);
                        backend.send([answer, message::ready_for_query(b'I')]).await;
                    }
                });
            }
        });
        server
    }

    fn queries(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.queries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
