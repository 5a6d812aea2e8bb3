//! Servers of the wrong kind (`target_session_attrs`).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use pgdeadline::{Connector, dial::Address};
use pgdeadline_tests::scripted::{Backend, Expect, Net, message};
use tokio_postgres::NoTls;
use tokio_postgres::config::TargetSessionAttrs;

use crate::client::Client;
use crate::say;
use crate::stage::*;

const FIRST: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const SECOND: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

/// A connector for two hosts.
fn connector(net: &Net, wanted: TargetSessionAttrs) -> Connector {
    net.name("first", [FIRST]);
    net.name("second", [SECOND]);
    let mut hosts = tokio_postgres::Config::new();
    hosts
        .host("first")
        .host("second")
        .target_session_attrs(wanted);
    Connector::builder(hosts, NoTls)
        .dial(net.clone())
        .eof_proof(pgdeadline::EofProof::Proof)
        .build()
        .unwrap()
}

/// A client whose server says this of itself.
async fn meets(net: &Net, connector: &Connector, read_only: &str) -> (Client, Backend) {
    let (mut client, _relay) = relay(connector, SOCKET);
    client.says(say::start_up()).await;
    let mut backend = net.backend().await;
    backend.authenticate(PID, KEY).await;
    backend
        .expect(Expect::query("SHOW transaction_read_only"))
        .await;
    backend
        .send([
            message::row_description(&[("transaction_read_only", message::TEXT)]),
            message::data_row(&[Some(read_only.as_bytes())]),
            done("SHOW", b'I'),
        ])
        .await;
    client.hears("RSSSSSSK").await;
    (client, backend)
}

fn dialled(net: &Net) -> Vec<IpAddr> {
    let address = |address: Address| match address {
        Address::Tcp(SocketAddr::V4(address)) => IpAddr::V4(*address.ip()),
        other => panic!("{other:?}"),
    };
    net.dialled().into_iter().map(address).collect()
}

#[tokio::test(start_paused = true)]
async fn a_client_of_the_wrong_kind_of_server_is_sent_away_and_finds_the_other() {
    for (wanted, wrong, right) in [
        (TargetSessionAttrs::ReadWrite, "on", "off"),
        (TargetSessionAttrs::ReadOnly, "off", "on"),
    ] {
        let net = Net::new();
        let connector = connector(&net, wanted);
        let (mut client, mut backend) = meets(&net, &connector, wrong).await;
        let error = client.is_told_and_closed("57P03").await;
        assert!(error.is_connect(), "{error}");
        assert!(backend.wait_close().await, "in order");

        let (mut client, mut backend) = meets(&net, &connector, right).await;
        assert_eq!(client.hears_one("Z").await.status(), b'I');
        serves_on(&mut client, &mut backend).await;
        assert_eq!(dialled(&net), [FIRST, SECOND]);

        // After a failover it is the other way round: both are asked again.
        let (mut client, _backend) = meets(&net, &connector, wrong).await;
        client.is_told_and_closed("57P03").await;
        let (mut client, _backend) = meets(&net, &connector, right).await;
        client.hears("Z").await;
        assert_eq!(dialled(&net), [FIRST, SECOND, SECOND, FIRST]);
        net.assert_quiet().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_say_is_not_taken() {
    let net = Net::new();
    let connector = connector(&net, TargetSessionAttrs::ReadWrite);
    let (mut client, _relay) = relay(&connector, SOCKET);
    client.says(say::start_up()).await;
    let mut backend = net.backend().await;
    backend.authenticate(PID, KEY).await;
    backend
        .expect(Expect::query("SHOW transaction_read_only"))
        .await;
    backend
        .send([
            message::error("42704", "unrecognized configuration parameter"),
            message::ready_for_query(b'I'),
        ])
        .await;
    client.hears("RSSSSSSK").await;
    client.is_told_and_closed("57P03").await;
    assert!(backend.wait_close().await);
}
