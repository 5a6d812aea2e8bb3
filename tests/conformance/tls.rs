//! Everything of scenario 8 over TLS, with the rustls connector of the crate.

use pgdeadline::{Connector, ConnectorBuilder, Context, MakeRustls};
use pgdeadline_deadpool::{Builder, Error};
use pgdeadline_tests::proxy::Proxy;
use pgdeadline_tests::server::{DATABASE, PASSWORD, Server, USER};

use super::query::ends_softly;
use super::{Bench, SHORT, SLEEP, ended, found, in_time};

/// A connector over TLS to the shared server, by whatever port.
pub(crate) fn tls(server: &Server, port: u16, options: &str) -> ConnectorBuilder {
    let name = server.config();
    let name = name.get_application_name().unwrap();
    let config = format!(
        "host=localhost hostaddr=127.0.0.1 port={port} user={USER} password={PASSWORD} \
         dbname={DATABASE} application_name={name} {options}"
    );
    let rustls = MakeRustls::new(server.certificates().client_config());
    Connector::builder(config.parse().unwrap(), rustls)
}

async fn bench(options: &str) -> Bench {
    let server = Server::shared().await;
    let connector = tls(server, server.port(), options).build().unwrap();
    let name = connector.config().unwrap().get_application_name().unwrap();
    let name = name.to_owned();
    let pool = Builder::new(connector).max_size(1).build().unwrap();
    Bench { server, name, pool }
}

/// 8 and 23. The deadline reaches the server, by a cancel over TLS.
#[tokio::test]
async fn a_query_over_tls_ends_at_its_deadline_whichever_way_that_was_given() {
    for options in [
        "sslmode=prefer",
        "sslmode=require",
        "sslmode=require channel_binding=require",
        "sslmode=require sslnegotiation=direct",
        "sslmode=require sslnegotiation=direct channel_binding=require",
    ] {
        let bench = bench(options).await;
        let before = bench.next_pid().await;
        assert!(is_encrypted(&bench).await, "{options}");

        let ctx = Context::background().with_timeout(SHORT);
        let work = ctx.run(async {
            let client = bench.pool.get().await.unwrap();
            client.query(SLEEP, &[]).await
        });
        ends_softly(&bench, ended(in_time(work).await), before).await;

        let ctx = Context::background().with_timeout(SHORT);
        let work = ctx.scope(async {
            let client = bench.pool.get().await?;
            Ok::<_, Error>(client.query(SLEEP, &[]).await?)
        });
        let error = in_time(work).await.unwrap_err();
        ends_softly(&bench, found(&error), before).await;
    }
}

/// 23. A session over TLS is cancelled over TLS: by a proxy that can read a
/// CancelRequest, none is seen.
#[tokio::test]
async fn the_cancel_of_a_session_over_tls_is_not_sent_in_the_clear() {
    let server = Server::shared().await;
    let proxy = Proxy::before(server).await;
    let connector = tls(server, proxy.port(), "sslmode=require").build();
    let connector = connector.unwrap();
    let name = connector.config().unwrap().get_application_name().unwrap();
    let name = name.to_owned();
    let pool = Builder::new(connector).max_size(1).build().unwrap();
    let bench = Bench { server, name, pool };
    let before = bench.next_pid().await;
    let ctx = Context::background().with_timeout(SHORT);
    let work = ctx.run(async {
        let client = bench.pool.get().await.unwrap();
        client.query(SLEEP, &[]).await
    });
    ends_softly(&bench, ended(in_time(work).await), before).await;
    assert_eq!(proxy.cancels(), 0);
}

async fn is_encrypted(bench: &Bench) -> bool {
    let client = bench.get().await;
    let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    client.query_one(encrypted, &[]).await.unwrap().get(0)
}
