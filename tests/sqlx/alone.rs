//! A test in a process of its own: file descriptors and memory are the
//! process's, and the tests of this binary share one.

use std::process::Stdio;

use pgdeadline::{Connector, ConnectorBuilder};
use pgdeadline_sqlx::Builder;
use pgdeadline_tests::server::Server;
use sqlx::postgres::PgPool;
use tokio::process::Command;
use tokio_postgres::NoTls;

use super::{LATE, in_some_minutes, of_size, options_of};

/// How a test knows that it is the process: where its server is.
const ALONE: &str = "PGDEADLINE_TEST_ALONE";

/// Runs the test of this name once more, by itself; `None`: it has, and was
/// well. The one by itself gets the server's URL.
pub(crate) async fn alone(test: &str) -> Option<String> {
    if let Ok(url) = std::env::var(ALONE) {
        return Some(url);
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", test])
        .env(ALONE, Server::shared().await.url())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = in_some_minutes(child).await.unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stdout) + &text(&output.stderr);
    print!("{said}");
    assert!(output.status.success(), "{test} by itself failed:\n{said}");
    assert!(said.contains("1 passed"), "no such test: {test}\n{said}");
    None
}

/// A pool on that server.
pub(crate) fn pool(
    url: &str,
    size: u32,
    set: impl FnOnce(ConnectorBuilder) -> ConnectorBuilder,
) -> PgPool {
    let config: tokio_postgres::Config = url.parse().unwrap();
    let options = options_of(&config);
    let connector = set(Connector::builder(config, NoTls).grace(LATE));
    let connector = connector.build().unwrap();
    let pool = Builder::new(connector, of_size(size), options);
    pool.connect_lazy().unwrap()
}

/// Everybody who has the name of that URL, but who asks.
pub(crate) async fn backends(url: &str) -> i64 {
    let config: tokio_postgres::Config = url.parse().unwrap();
    let name = config.get_application_name().unwrap().to_owned();
    let (client, connection) = config.connect(NoTls).await.unwrap();
    let driving = tokio::spawn(connection);
    let count = "SELECT count(*) FROM pg_stat_activity \
                 WHERE application_name = $1 AND pid <> pg_backend_pid()";
    let backends = client.query_one(count, &[&name]).await.unwrap().get(0);
    drop(client);
    let _ = driving.await;
    backends
}
