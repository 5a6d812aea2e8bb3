//! Rule 9, same door: what a cancel goes through.

use tokio::time::Instant;

use super::*;
use crate::connect::peer::{Peer, PeerTls};
use crate::error::Phase;
use tokio_postgres::config::SslNegotiation;

fn peer(tls: bool) -> Peer {
    Peer {
        address: Address::Tcp(address("10.0.0.1:5432")),
        options: SocketOptions::default(),
        connect_timeout: None,
        tls: tls.then(|| PeerTls {
            negotiation: SslNegotiation::Postgres,
            name: Some("db".into()),
        }),
    }
}

fn network(conduct: Conduct) -> (Network, Connector) {
    let network = Network::new(&[("10.0.0.1:5432", conduct)]);
    let connector = network.connector("host=db user=me");
    (network, connector)
}

#[tokio::test(start_paused = true)]
async fn rule_9_a_redial_goes_to_the_address_and_looks_nothing_up() {
    let (network, connector) = network(Conduct::Silent);
    let transport = connector
        .redial(&peer(false), Instant::now() + S)
        .await
        .unwrap();
    assert!(!transport.is_tls());
    assert_eq!(network.dialled(), ["10.0.0.1:5432"]);
    assert_eq!(network.state().resolved, 0);
}

#[tokio::test(start_paused = true)]
async fn rule_9_a_session_under_tls_is_never_cancelled_in_the_clear() {
    let (_network, connector) = network(Conduct::AnswersTls(b"N"));
    let error = connector
        .redial(&peer(true), Instant::now() + S)
        .await
        .unwrap_err();
    assert_eq!(error.phase(), Some(Phase::Tls));
    assert!(error.to_string().contains("does not offer TLS"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn rule_2_a_redial_ends_at_its_deadline_in_either_phase() {
    for (conduct, tls, phase) in [
        (Conduct::BlackHole, false, Phase::Connect),
        (Conduct::Silent, true, Phase::Tls),
    ] {
        let (network, connector) = network(conduct);
        let start = Instant::now();
        let error = connector
            .redial(&peer(tls), start + 40 * MS)
            .await
            .unwrap_err();
        assert_eq!(start.elapsed(), 40 * MS);
        assert_eq!(error.phase(), Some(phase));
        assert!(error.to_string().contains("10.0.0.1:5432"), "{error}");
        nothing_is_open(&network).await;
    }
}

#[test]
fn rule_8_a_redial_works_on_a_runtime_of_its_own() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let first = runtime();
    let connector = Connector::from_url(&format!("postgres://me@{to}"), NoTls).unwrap();
    let peer = Peer {
        address: Address::Tcp(to),
        ..peer(false)
    };
    let redial = || async {
        connector
            .redial(&peer, Instant::now() + 60 * S)
            .await
            .map(drop)
    };
    first.block_on(redial()).unwrap();
    drop(first);

    let helper = || runtime().block_on(redial()).unwrap();
    std::thread::scope(|scope| scope.spawn(helper).join().unwrap());

    assert!(listener.accept().is_ok() && listener.accept().is_ok());
}
