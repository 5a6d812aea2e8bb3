//! Bad input: each a clear error that says what was wrong, as the person reads
//! it who has to put it right. No panic, no hang.

use std::time::Duration;

use deadpool_postgres::Pool;
use pgdeadline::{Connector, ConnectorBuilder, Context, Error};
use pgdeadline_deadpool::{Builder, PoolExt};
use pgdeadline_tests::server::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_postgres::{Config, NoTls};

use super::{Bench, LATE, SHORT, found, in_time};

/// What building says.
fn refused(result: Result<Connector, Error>) -> String {
    let error = result.expect_err("it can't work");
    assert!(error.is_config(), "{error}");
    error.to_string()
}

#[test]
fn urls_that_do_not_parse() {
    let expected = "expected postgres://user:password@host:port/database or \
                    \"host=... user=... dbname=...\"";
    for (url, said) in [
        ("", "the connection string is empty: "),
        (
            "mysql://me:secret@db/app",
            "the connection string has an unknown scheme: ",
        ),
        (
            "postgres://me:secret@db:many/app",
            "the connection string could not be read (invalid connection string: invalid value \
             for option `port`): ",
        ),
        (
            "postgres://me:secret@db/app?color=red",
            "the connection string could not be read (invalid connection string: unknown option \
             `color`): ",
        ),
    ] {
        let text = refused(Connector::from_url(url, NoTls));
        let whole = format!("invalid configuration: {said}{expected}");
        assert_eq!(text, whole, "{url}");
    }
}

#[test]
fn settings_that_can_not_work() {
    type Set = fn(ConnectorBuilder) -> ConnectorBuilder;
    let table: [(Set, &str); 4] = [
        (
            |c| c.grace(Duration::ZERO),
            "grace is zero: no session could become clean after an end; give it 10 ms to 60 s \
             (default 2 s)",
        ),
        (
            |c| c.grace(Duration::from_secs(61)),
            "grace is 61s: give it 10 ms to 60 s (default 2 s)",
        ),
        (
            |c| c.cancel_dials(0),
            "cancel_dials is zero: no cancel could be sent; give it at least 1 (default 8)",
        ),
        (
            |c| c.default_deadline(Duration::ZERO),
            "default_deadline is zero: give it a time longer than zero",
        ),
    ];
    for (set, text) in table {
        let config: Config = "postgres://me@db/app".parse().unwrap();
        let said = refused(set(Connector::builder(config, NoTls)).build());
        assert_eq!(said, format!("invalid configuration: {text}"));
    }
}

#[tokio::test]
async fn a_pool_of_no_connections() {
    let connector = Connector::from_url("postgres://me@db/app", NoTls).unwrap();
    let error = Builder::new(connector.clone()).max_size(0).build();
    assert_eq!(
        error.unwrap_err().to_string(),
        "the pool's max_size is 0, so that every get() would wait for ever: set it to 1 or more"
    );
    // One that was built elsewhere still ends at the deadline.
    let manager = deadpool_postgres::Manager::from_connect(
        Config::new(),
        pgdeadline_deadpool::PgConnect::new(connector),
        Default::default(),
    );
    let pool = Pool::builder(manager).max_size(0).build().unwrap();
    let ctx = Context::background().with_timeout(SHORT);
    let error = in_time(pool.acquire(&ctx)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "deadline passed while waiting for a pooled connection; no request was sent, so a retry \
         is safe (the pool may be too small, or connections are kept too long)"
    );
}

/// What a check-out says through a pool that is built well enough.
async fn said(config: Config) -> (Error, String) {
    let connector = Connector::new(config, NoTls).unwrap();
    let pool = Builder::new(connector).max_size(1).build().unwrap();
    let ctx = Context::background().with_timeout(LATE);
    let error = in_time(pool.acquire(&ctx)).await.unwrap_err();
    assert!(
        !found(&error).is_end(),
        "it waited for its deadline: {error}"
    );
    // The pool's own `get` says the same.
    let stock = in_time(ctx.scope(pool.get())).await.unwrap_err();
    assert_eq!(found(&stock).to_string(), found(&error).to_string());
    (found(&error), error.to_string())
}

#[tokio::test]
async fn a_host_that_nobody_knows() {
    let config = "postgres://me@no-such-host.invalid/app".parse().unwrap();
    let (error, text) = said(config).await;
    assert!(error.is_connect() && error.is_retry_safe());
    let begins = "no connection, failed while resolving the host name: \
                  no-such-host.invalid:5432: the host name \"no-such-host.invalid\" could not be \
                  looked up";
    assert!(text.starts_with(begins), "{text}");
    let ends = "check its spelling and the DNS";
    assert!(text.ends_with(ends), "{text}");
}

#[tokio::test]
async fn a_port_where_nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let config = format!("host=127.0.0.1 port={} user=me", address.port());
    let (error, text) = said(config.parse().unwrap()).await;
    assert!(error.is_connect() && error.is_retry_safe());
    let begins = format!("no connection, failed while connecting: {address}: Connection refused");
    assert!(text.starts_with(&begins), "{text}");
    let ends = "is PostgreSQL running there, and listening on this address?";
    assert!(text.ends_with(ends), "{text}");
}

#[tokio::test]
async fn a_wrong_password_a_wrong_database_and_a_wrong_user() {
    type Set = fn(&mut Config) -> &mut Config;
    let table: [(Set, &str); 3] = [
        (
            |c| c.password("wrong"),
            "password authentication failed for user \"postgres\" (28P01)",
        ),
        (
            |c| c.dbname("nowhere"),
            "database \"nowhere\" does not exist (3D000)",
        ),
        (
            |c| c.user("nobody"),
            "password authentication failed for user \"nobody\" (28P01)",
        ),
    ];
    for (set, text) in table {
        let mut config = Server::shared().await.config();
        set(&mut config);
        let (error, said) = said(config).await;
        assert!(error.is_connect() && error.is_retry_safe(), "{said}");
        let begins = "no connection, failed in start-up and authentication: ";
        assert!(said.starts_with(begins) && said.contains(text), "{said}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_postgresql() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 512]).await;
                let answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
                let _ = stream.write_all(answer).await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    let config = format!("host=127.0.0.1 port={port} user=me");
    let (error, text) = said(config.parse().unwrap()).await;
    assert!(error.is_retry_safe(), "{text}");
    assert!(text.contains("not a PostgreSQL server"), "{text}");
    let ends = "its answer begins with \"HTTP/\"; check host and port";
    assert!(text.ends_with(ends), "{text}");
}

#[tokio::test]
async fn a_deadline_already_past() {
    let bench = Bench::pool(1).await;
    let past = tokio::time::Instant::now() - Duration::from_secs(5);
    let ctx = Context::background().with_deadline(past);
    let text = "deadline passed outside the database; no request was sent, so a retry is safe";
    let error = ctx.run(bench.pool.get()).await.unwrap_err();
    assert_eq!(error.to_string(), text);
    let error = in_time(bench.pool.acquire(&ctx)).await.unwrap_err();
    assert_eq!(error.to_string(), text);
    // On a client that is there it is the session that says so.
    let client = bench.get().await;
    let error = in_time(ctx.scope(client.query("SELECT 1", &[]))).await;
    let error = found(&error.unwrap_err());
    assert_eq!(
        error.to_string(),
        "deadline passed while sending the request; no request was sent, so a retry is safe"
    );
}
