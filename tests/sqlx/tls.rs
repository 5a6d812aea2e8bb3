//! TLS is the connector's: what sqlx speaks to it stays in this process.

use pgdeadline::{Connector, Context, MakeRustls};
use pgdeadline_sqlx::Builder;
use pgdeadline_tests::proxy::Proxy;
use pgdeadline_tests::server::{DATABASE, PASSWORD, Server, USER};
use sqlx::postgres::PgSslMode;
use tokio_postgres::{Config, NoTls};

use super::{Bench, LATE, SHORT, asleep, ended, found, in_time, of_size, options_of};
use crate::query::ends_softly;

/// The shared server, by whatever port, with these options for TLS.
pub(crate) fn tls_config(server: &Server, port: u16, options: &str) -> Config {
    let name = server.config();
    let name = name.get_application_name().unwrap();
    let config = format!(
        "host=localhost hostaddr=127.0.0.1 port={port} user={USER} password={PASSWORD} \
         dbname={DATABASE} application_name={name} {options}"
    );
    config.parse().unwrap()
}

fn bench(server: &'static Server, config: &Config) -> Bench {
    let rustls = MakeRustls::new(server.certificates().client_config());
    let connector = Connector::builder(config.clone(), rustls).grace(LATE);
    let connector = connector.build().unwrap();
    let pool = Builder::new(connector, of_size(1), options_of(config));
    Bench {
        server,
        name: config.get_application_name().unwrap().to_owned(),
        pool: pool.connect_lazy().unwrap(),
    }
}

/// 8. The deadline reaches the server, by a cancel over TLS.
#[tokio::test]
async fn a_query_over_tls_ends_at_its_deadline() {
    let server = Server::shared().await;
    for options in [
        "sslmode=prefer",
        "sslmode=require",
        "sslmode=require sslnegotiation=direct",
    ] {
        let config = tls_config(server, server.port(), options);
        let bench = bench(server, &config);
        let before = bench.next_pid().await;
        let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let encrypted = sqlx::query_scalar(encrypted).fetch_one(&bench.pool);
        let encrypted: bool = in_time(encrypted).await.unwrap();
        assert!(encrypted, "{options}");

        let ctx = Context::background().with_timeout(SHORT);
        let result = in_time(ctx.run(asleep(&bench.pool))).await;
        ends_softly(&bench, ended(result), before).await;

        let ctx = Context::background().with_timeout(SHORT);
        let error = in_time(ctx.scope(asleep(&bench.pool))).await;
        ends_softly(&bench, found(&error.unwrap_err()), before).await;
    }
}

/// A session over TLS is cancelled over TLS: by a proxy that can read a
/// CancelRequest, none is seen.
#[tokio::test]
async fn the_cancel_of_a_session_over_tls_is_not_sent_in_the_clear() {
    let server = Server::shared().await;
    let proxy = Proxy::before(server).await;
    let config = tls_config(server, proxy.port(), "sslmode=require");
    let bench = bench(server, &config);
    let before = bench.next_pid().await;
    let ctx = Context::background().with_timeout(SHORT);
    let result = in_time(ctx.run(asleep(&bench.pool))).await;
    ends_softly(&bench, ended(result), before).await;
    assert_eq!(proxy.cancels(), 0);
}

/// sqlx's own `sslmode`, where it asks for what the connector does not do, is
/// refused, and the error names the side to configure.
#[tokio::test]
async fn an_sslmode_of_sqlx_that_the_connector_does_not_keep_is_refused() {
    let server = Server::shared().await;
    let config = server.config();
    for mode in [
        PgSslMode::Require,
        PgSslMode::VerifyCa,
        PgSslMode::VerifyFull,
    ] {
        let connector = Connector::new(config.clone(), NoTls).unwrap();
        let options = options_of(&config).ssl_mode(mode);
        let built = Builder::new(connector, of_size(1), options).connect_lazy();
        let error = built.map(drop).expect_err("it would not be encrypted");
        let text = error.to_string();
        assert!(text.contains("connector"), "{mode:?}: {text}");
    }
}

/// What the relay can't do is refused when the pool is built.
#[tokio::test]
async fn a_connector_that_requires_channel_binding_is_refused() {
    let server = Server::shared().await;
    let options = "sslmode=require channel_binding=require";
    let config = tls_config(server, server.port(), options);
    let rustls = MakeRustls::new(server.certificates().client_config());
    let connector = Connector::new(config.clone(), rustls).unwrap();
    let built = Builder::new(connector, of_size(1), options_of(&config)).connect_lazy();
    let error = built.map(drop).expect_err("sqlx can't bind a channel");
    let error = found(&error);
    assert!(error.is_config(), "{error}");
    assert!(error.to_string().contains("channel"), "{error}");
}
