//! Connecting: what an end does to it, in each phase.

use std::net::SocketAddr;
use std::pin::pin;

use deadpool_postgres::{Client, Pool};
use pgdeadline::{Connector, Context, Phase};
use pgdeadline_deadpool::{Builder, PoolExt};
use pgdeadline_tests::black_hole::BlackHole;
use pgdeadline_tests::proxy::{Answers, Proxy};
use pgdeadline_tests::server::Server;
use tokio::time::sleep;
use tokio_postgres::{Config, NoTls};

use super::{Bench, LATE, SHORT, found, in_time, works};
use crate::tls::tls;

/// 1. Under a context that has ended nothing is sent: no connection is opened.
#[tokio::test]
async fn an_ended_context_opens_no_connection() {
    let bench = Bench::pool(1).await;
    let ended = Context::background().with_timeout(std::time::Duration::ZERO);
    let config = bench.server.config();
    let connector = Connector::new(config.clone(), NoTls).unwrap();
    let error = connector.connect(&ended).await.err().unwrap();
    assert!(error.is_deadline(), "{error}");
    assert!(error.is_retry_safe(), "{error}");
    let error = bench.pool.acquire(&ended).await.unwrap_err();
    assert!(found(&error).is_deadline(), "{error}");
    assert!(found(&error).is_retry_safe(), "{error}");
    let error = ended.run(bench.pool.get()).await.unwrap_err();
    assert!(error.is_deadline(), "{error}");
    let error = ended.scope(bench.pool.get()).await.unwrap_err();
    assert!(found(&error).is_deadline(), "{error}");
    assert!(bench.backends().await.is_empty());
    let name = config.get_application_name().unwrap();
    assert!(bench.server.backends(name).await.is_empty());
    assert_eq!(bench.pool.status().size, 0);
}

/// 1. The same for query, prepare, batch, COPY, begin and ping, on a client
/// that is there already: by `run`, which does not poll them, and by `scope`,
/// where the session answers in the server's place.
#[tokio::test]
async fn an_ended_context_sends_nothing_on_a_connection_that_is_there() {
    let bench = Bench::pool(1).await;
    let mut client = bench.get().await;
    let before = last(&bench).await;
    let ended = Context::background().child();
    ended.cancel_with("enough");
    for operation in OPERATIONS {
        let work = attempt(operation, &mut client);
        let error = in_time(ended.run(work)).await.unwrap_err();
        assert_eq!(error.was_sent(), Some(false), "{operation}: {error}");
        let result = in_time(ended.scope(attempt(operation, &mut client))).await;
        assert_refused(operation, result);
        assert_nothing_sent(&bench, &before, operation).await;
    }
    works(&client).await;
    drop(client);

    // And on one that is checked out under it.
    let mut client = ended.scope(bench.pool.get()).await.unwrap();
    let before = last(&bench).await;
    for operation in OPERATIONS {
        let result = in_time(attempt(operation, &mut client)).await;
        assert_refused(operation, result);
        assert_nothing_sent(&bench, &before, operation).await;
    }
    drop(client);
    bench.assert_full().await;
    bench.wait_quiet(1).await;
}

const OPERATIONS: [&str; 7] = [
    "query", "prepare", "batch", "copy in", "copy out", "ping", "begin",
];

async fn attempt(operation: &str, client: &mut Client) -> Result<(), tokio_postgres::Error> {
    match operation {
        "query" => client.query("SELECT 1", &[]).await.map(drop),
        "prepare" => client.prepare_cached("SELECT 2").await.map(drop),
        "batch" => client.batch_execute("SELECT 3").await,
        "copy in" => {
            let copy = "COPY pg_temp.nowhere FROM STDIN";
            client.copy_in::<_, bytes::Bytes>(copy).await.map(drop)
        }
        "copy out" => client.copy_out("COPY (SELECT 4) TO STDOUT").await.map(drop),
        "begin" => client.transaction().await.map(drop),
        _ => client.check_connection().await,
    }
}

/// What the server was asked last by this pool of one.
async fn last(bench: &Bench) -> String {
    bench.backends().await.remove(0).query
}

/// DIFFERENCE: a ping is let through where the future itself goes on. It is a
/// lone Sync, which on the wire can't be told from what ends an extended query,
/// and which does nothing.
fn assert_refused(operation: &str, result: Result<(), tokio_postgres::Error>) {
    if operation == "ping" {
        return assert!(result.is_ok(), "{result:?}");
    }
    let error = found(&result.expect_err(operation));
    assert!(error.is_cancelled(), "{operation}: {error}");
    assert_eq!(error.was_sent(), Some(false), "{operation}: {error}");
}

/// DIFFERENCE: a ROLLBACK does not count. tokio-postgres queues one when a
/// `begin` comes to nothing, and clean-up is always written.
async fn assert_nothing_sent(bench: &Bench, before: &str, operation: &str) {
    let now = last(bench).await;
    assert!(now == before || now == "ROLLBACK", "{operation}: {now}");
}

/// A pool whose connects are stuck in one phase, until `free` is called.
struct Stuck {
    phase: Phase,
    pool: Pool,
    proxy: Option<Proxy>,
    _hole: Option<BlackHole>,
}

impl Stuck {
    /// 2. "On an address that drops packets; on a server that accepts and stays
    ///    silent; stuck in the TLS handshake; stuck in authentication."
    async fn everywhere() -> Vec<Stuck> {
        let server = Server::shared().await;
        let hole = BlackHole::open();
        let mut config = server.config();
        config = at(&config, hole.address());
        let mut all = vec![Stuck {
            phase: Phase::Connect,
            pool: pool(Connector::new(config, NoTls).unwrap()),
            proxy: None,
            _hole: Some(hole),
        }];
        // How much the server may say: nothing; "S" and part of its handshake;
        // the beginning of authentication.
        for (phase, encrypted, bytes) in [
            (Phase::StartUp, false, 0),
            (Phase::Tls, true, 0),
            (Phase::Tls, true, 1),
            (Phase::Tls, true, 100),
            (Phase::StartUp, false, 24),
            (Phase::StartUp, false, 30),
        ] {
            let proxy = Proxy::before(server).await;
            proxy.answers(Answers::First(bytes));
            let connector = if encrypted {
                tls(server, proxy.port(), "sslmode=require").build()
            } else {
                Connector::new(proxy.config(), NoTls)
            };
            all.push(Stuck {
                phase,
                pool: pool(connector.unwrap()),
                proxy: Some(proxy),
                _hole: None,
            });
        }
        all
    }

    /// Once the server answers, the pool serves its full size.
    async fn free(self) {
        let Some(proxy) = &self.proxy else { return };
        proxy.answers(Answers::Pass);
        let ctx = Context::background().with_timeout(LATE);
        let one = self.pool.acquire(&ctx).await.unwrap();
        let two = self.pool.acquire(&ctx).await.unwrap();
        works(&one).await;
        works(&two).await;
    }
}

fn pool(connector: Connector) -> Pool {
    Builder::new(connector).max_size(2).build().unwrap()
}

/// The same configuration for another address.
fn at(config: &Config, address: SocketAddr) -> Config {
    let mut moved = Config::new();
    moved
        .user(config.get_user().unwrap())
        .password(config.get_password().unwrap())
        .dbname(config.get_dbname().unwrap())
        .application_name(config.get_application_name().unwrap())
        .hostaddr(address.ip())
        .port(address.port());
    moved
}

/// 2. Time-outs.
#[tokio::test]
async fn a_deadline_ends_a_connect_that_is_stuck_in_whichever_phase() {
    for stuck in Stuck::everywhere().await {
        let phase = stuck.phase;
        for _ in 0..3 {
            let ctx = Context::background().with_timeout(SHORT);
            let error = in_time(stuck.pool.acquire(&ctx)).await.unwrap_err();
            let error = found(&error);
            assert!(error.is_deadline(), "{phase:?}: {error}");
            assert_eq!(error.phase(), Some(phase), "{error}");
            assert_eq!(error.was_sent(), Some(false), "{error}");
        }
        stuck.free().await;
    }
}

/// 3. Cancelled, not timed out, in each of those phases; and dropped.
#[tokio::test]
async fn a_cancel_ends_a_connect_that_is_stuck_in_whichever_phase() {
    for stuck in Stuck::everywhere().await {
        let phase = stuck.phase;
        let ctx = Context::background().child();
        let (error, ()) = tokio::join!(in_time(stuck.pool.acquire(&ctx)), async {
            sleep(SHORT).await;
            ctx.cancel_with("the user went away");
        });
        let error = found(&error.unwrap_err());
        assert!(error.is_cancelled(), "{phase:?}: {error}");
        assert_eq!(error.phase(), Some(phase), "{error}");
        assert_eq!(error.reason().unwrap().to_string(), "the user went away");
        assert_eq!(error.was_sent(), Some(false), "{error}");

        let ctx = Context::background().child();
        {
            let mut acquire = pin!(stuck.pool.acquire(&ctx));
            let acquired = tokio::time::timeout(SHORT, &mut acquire).await;
            assert!(acquired.is_err(), "{phase:?}");
        }
        stuck.free().await;
    }
}

/// 2. Stuck on the first of several hosts, the second being well: the deadline
/// of the whole leaves time for the second.
#[tokio::test]
async fn a_host_that_is_stuck_leaves_time_for_the_next() {
    let server = Server::shared().await;
    let hole = BlackHole::open();
    let silent = Proxy::before(server).await;
    silent.answers(Answers::Hold);
    for first in [hole.address().port(), silent.port()] {
        let mut config = server.config();
        let well = config.get_ports()[0];
        config = at(&config, (std::net::Ipv4Addr::LOCALHOST, first).into());
        config.hostaddr(std::net::Ipv4Addr::LOCALHOST.into());
        config.port(well);
        let pool = pool(Connector::new(config, NoTls).unwrap());
        let ctx = Context::background().with_timeout(SHORT * 10);
        let client = in_time(pool.acquire(&ctx)).await.unwrap();
        works(&client).await;
    }
}
