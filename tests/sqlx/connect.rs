//! Connecting: what an end does to it, in each phase.

use std::net::SocketAddr;

use pgdeadline::{Connector, ConnectorBuilder, Context, MakeRustls, Phase};
use pgdeadline_sqlx::{Builder, PoolExt};
use pgdeadline_tests::black_hole::BlackHole;
use pgdeadline_tests::eventually;
use pgdeadline_tests::proxy::{Answers, Proxy};
use pgdeadline_tests::scripted::{Net, message};
use pgdeadline_tests::server::Server;
use sqlx::postgres::PgPool;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Config, NoTls};

use super::{LATE, SHORT, found, in_time, of_size, options_of, works};
use crate::tls::tls_config;

/// A connector to where connects are stuck in one phase, until `free` is
/// called.
struct Stuck {
    phase: Phase,
    config: Config,
    tls: Option<MakeRustls>,
    proxy: Option<Proxy>,
    _hole: Option<BlackHole>,
}

impl Stuck {
    /// 2. "On an address that drops packets; on a server that accepts and stays
    ///    silent; stuck in the TLS handshake; stuck in authentication."
    async fn everywhere() -> Vec<Stuck> {
        let server = Server::shared().await;
        let hole = BlackHole::open();
        let config = at(&server.config(), hole.address());
        let mut all = vec![Stuck {
            phase: Phase::Connect,
            config,
            tls: None,
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
            let (config, tls) = if encrypted {
                let config = tls_config(server, proxy.port(), "sslmode=require");
                let tls = MakeRustls::new(server.certificates().client_config());
                (config, Some(tls))
            } else {
                (proxy.config(), None)
            };
            all.push(Stuck {
                phase,
                config,
                tls,
                proxy: Some(proxy),
                _hole: None,
            });
        }
        all
    }

    fn pool(&self) -> PgPool {
        self.pool_with(|connector| connector)
    }

    fn pool_with(&self, set: impl FnOnce(ConnectorBuilder) -> ConnectorBuilder) -> PgPool {
        let config = self.config.clone();
        let connector = match &self.tls {
            Some(tls) => Connector::builder(config, tls.clone()),
            None => Connector::builder(config, NoTls),
        };
        let connector = set(connector).build().unwrap();
        Builder::new(connector, of_size(2), options_of(&self.config))
            .connect_lazy()
            .unwrap()
    }

    /// Once the server answers, the pool serves its full size.
    async fn free(self, pool: PgPool) {
        let Some(proxy) = &self.proxy else { return };
        proxy.answers(Answers::Pass);
        let mut one = in_time(pool.acquire()).await.unwrap();
        let mut two = in_time(pool.acquire()).await.unwrap();
        works(&mut one).await;
        works(&mut two).await;
        assert_eq!(pool.size(), 2);
    }
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

/// The phase is that of the pool's or, where it can be told, the connector's:
/// it is sqlx that connects, and it knows of no context.
fn assert_phase(error: &pgdeadline::Error, phase: Phase) {
    let told = error.phase().unwrap();
    assert!(told == phase || told == Phase::PoolWait, "{error}");
    assert_eq!(error.was_sent(), Some(false), "{error}");
}

/// 2. Time-outs.
#[tokio::test]
async fn a_deadline_ends_a_connect_that_is_stuck_in_whichever_phase() {
    for stuck in Stuck::everywhere().await {
        let (phase, pool) = (stuck.phase, stuck.pool());
        for _ in 0..3 {
            let ctx = Context::background().with_timeout(SHORT);
            let error = in_time(pool.acquire_under(&ctx)).await.unwrap_err();
            let error = found(&error);
            assert!(error.is_deadline(), "{phase:?}: {error}");
            assert_phase(&error, phase);

            let ctx = Context::background().with_timeout(SHORT);
            let error = in_time(ctx.run(pool.acquire())).await.unwrap_err();
            assert!(error.is_deadline(), "{phase:?}: {error}");
        }
        stuck.free(pool).await;
    }
}

/// 2. Where nobody has a context, the connector's own bound ends it, and says
/// where it was.
#[tokio::test]
async fn the_connectors_deadline_ends_a_connect_that_is_stuck_in_whichever_phase() {
    for stuck in Stuck::everywhere().await {
        let phase = stuck.phase;
        let pool = stuck.pool_with(|connector| connector.connect_deadline(SHORT));
        let error = in_time(pool.acquire()).await.unwrap_err();
        let error = found(&error);
        assert_eq!(error.phase(), Some(phase), "{error}");
        assert_eq!(error.was_sent(), Some(false), "{error}");
    }
}

/// 3. Cancelled, not timed out, in each of those phases; and dropped.
#[tokio::test]
async fn a_cancel_ends_a_connect_that_is_stuck_in_whichever_phase() {
    for stuck in Stuck::everywhere().await {
        let (phase, pool) = (stuck.phase, stuck.pool());
        let ctx = Context::background().child();
        let (error, ()) = tokio::join!(in_time(pool.acquire_under(&ctx)), async {
            sleep(SHORT).await;
            ctx.cancel_with("the user went away");
        });
        let error = found(&error.unwrap_err());
        assert!(error.is_cancelled(), "{phase:?}: {error}");
        assert_eq!(error.reason().unwrap().to_string(), "the user went away");
        assert_phase(&error, phase);

        let acquired = timeout(SHORT, pool.acquire()).await;
        assert!(acquired.is_err(), "{phase:?}");
        stuck.free(pool).await;
    }
}

/// 2. Stuck on the first of several hosts, the second being well: the time of
/// the whole is shared.
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
        let connector = Connector::builder(config.clone(), NoTls)
            .connect_deadline(SHORT * 10)
            .build()
            .unwrap();
        let pool = Builder::new(connector, of_size(1), options_of(&config));
        let pool = pool.connect_lazy().unwrap();
        let mut connection = in_time(pool.acquire()).await.unwrap();
        works(&mut connection).await;
    }
}

/// A waiter who has left holds no connection to a server that stays silent.
#[tokio::test]
async fn a_connect_whose_waiter_has_left_is_given_up() {
    let net = Net::new();
    let listener = net.listen().await;
    let mut config = net.config();
    config.application_name("nobody").dbname("nothing");
    config.password("secret");
    let config = at(&config, listener.address());
    let connector = Connector::builder(config.clone(), NoTls)
        .connect_deadline(LATE)
        .build()
        .unwrap();
    let pool = Builder::new(connector, of_size(1), options_of(&config));
    let pool = pool.connect_lazy().unwrap();
    let acquire = pool.acquire();
    let (acquired, mut backend) = tokio::join!(timeout(SHORT, acquire), net.backend());
    assert!(acquired.is_err());
    in_time(backend.wait_close()).await;
    eventually(LATE, "the place is free", async || {
        (pool.size() == 0).then_some(())
    })
    .await;
}

/// A server that is starting up is waited for, as sqlx does it by itself.
#[tokio::test]
async fn a_server_that_starts_up_is_tried_again() {
    let net = Net::new();
    let listener = net.listen().await;
    let mut config = net.config();
    config.application_name("nobody").dbname("nothing");
    config.password("secret");
    let config = at(&config, listener.address());
    let connector = Connector::builder(config.clone(), NoTls)
        .eof_proof(pgdeadline::EofProof::Proof)
        .build()
        .unwrap();
    let pool = Builder::new(connector, of_size(1), options_of(&config));
    let pool = pool.connect_lazy().unwrap();
    let scripted = async {
        let mut backend = net.backend().await;
        let starting = message::error("57P03", "the database system is starting up");
        backend.send(starting).await;
        drop(backend);
        let mut backend = net.backend().await;
        backend.authenticate(1, 2).await;
        backend
    };
    let (acquired, backend) = in_time(async { tokio::join!(pool.acquire(), scripted) }).await;
    acquired.unwrap();
    drop(backend);
}
