//! Rule 4 of the design reuses a session once the connection of its cancel has
//! ended. Behind what closes it before the server has that proves nothing.
//!
//! So here the server is stopped while a cancel is on its way to it: whoever
//! closes the cancel's connection meanwhile has not waited for the server.

use std::time::Duration;

use pgdeadline_tests::between::{Haproxy, Mode, Pgbouncer};
use pgdeadline_tests::eventually;
use pgdeadline_tests::server::{Server, StartOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::config::Host;
use tokio_postgres::{Config, NoTls};

use super::{LATE, SLEEP, in_time, nobody_sleeps};

/// When the connection of a cancel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// While the server was stopped.
    BeforeTheServer,
    /// When the server went on.
    AfterTheServer,
}

/// Longer than it takes to pass a cancel on, however slow the machine; shorter
/// than any time-out of pgbouncer's.
const STOPPED: Duration = Duration::from_secs(4);

/// A query by one way to the server, its cancel by another.
async fn cancel_while_stopped(server: &Server, config: &Config, cancels: &Config) -> Ended {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let cancel = {
        // The CancelRequest as it is on the wire.
        let (mut near, far) = tokio::io::duplex(64);
        client
            .cancel_token()
            .cancel_query_raw(far, NoTls)
            .await
            .unwrap();
        let mut cancel = Vec::new();
        near.read_to_end(&mut cancel).await.unwrap();
        cancel
    };
    let asleep = tokio::spawn(async move { client.simple_query(SLEEP).await });
    let admin = server.admin().await;
    let active = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = $1";
    eventually(LATE, "it sleeps on the server", async || {
        let row = admin.query_one(active, &[&SLEEP]).await.unwrap();
        (row.get::<_, i64>(0) == 1).then_some(())
    })
    .await;

    server.pause().await;
    let Host::Tcp(host) = &cancels.get_hosts()[0] else {
        panic!("a server that listens on a port")
    };
    let mut dial = TcpStream::connect((host.as_str(), cancels.get_ports()[0]))
        .await
        .unwrap();
    dial.write_all(&cancel).await.unwrap();
    let mut nothing = Vec::new();
    let early = tokio::time::timeout(STOPPED, dial.read_to_end(&mut nothing)).await;
    server.unpause().await;
    let ended = match early {
        Ok(_) => Ended::BeforeTheServer,
        Err(_) => {
            // A reset is an end too.
            let _ = in_time(dial.read_to_end(&mut nothing)).await;
            Ended::AfterTheServer
        }
    };
    // It was a good cancel, whoever waited for it.
    let error = in_time(asleep).await.unwrap().unwrap_err();
    println!("    the query ended with: {:?}", error.code());
    nobody_sleeps(server).await;
    connection.abort();
    ended
}

/// For each packaged version; the table in `docs/reliability.md` is this one.
#[tokio::test]
async fn whether_pgbouncer_waits_for_the_server() {
    let server = Server::start(StartOptions::default()).await;
    for mode in [Mode::Session, Mode::Transaction] {
        let pgbouncer = Pgbouncer::before(&server, mode, "").await;
        let version = pgbouncer.version().await;
        let config = pgbouncer.config();
        let ended = cancel_while_stopped(&server, &config, &config).await;
        println!("pgbouncer {version:?}, {mode:?}: {ended:?}");
        let waits = version >= (1, 18);
        let expected = match waits {
            true => Ended::AfterTheServer,
            false => Ended::BeforeTheServer,
        };
        assert_eq!(ended, expected, "pgbouncer {version:?}, {mode:?}");
    }
}

/// HAProxy passes bytes and ends on: it waits, unless it loses its patience
/// with a server that is silent.
#[tokio::test]
async fn haproxy_waits_for_the_server_for_as_long_as_its_patience_lasts() {
    let server = Server::start(StartOptions::default()).await;
    let patient = Haproxy::impatient(&server, 3_600_000).await;
    println!("HAProxy {}", patient.version().await);
    let config = patient.config();
    let ended = cancel_while_stopped(&server, &config, &config).await;
    assert_eq!(ended, Ended::AfterTheServer);

    // Of another connection's silence it must not tire here, so the sleeper
    // goes by the patient one's door, and the cancel alone by this one's.
    let impatient = Haproxy::impatient(&server, 1_000).await;
    let ended = cancel_while_stopped(&server, &config, &impatient.config()).await;
    assert_eq!(ended, Ended::BeforeTheServer);
}

/// Docker's own proxy for published ports, which the other tests go through.
#[tokio::test]
async fn dockers_proxy_waits_for_the_server() {
    let server = Server::start(StartOptions::default()).await;
    let config = server.config();
    let ended = cancel_while_stopped(&server, &config, &config).await;
    assert_eq!(ended, Ended::AfterTheServer);
}
