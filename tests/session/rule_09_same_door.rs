//! Rule 9, same door: a cancel goes where the session is.

use std::net::{IpAddr, SocketAddr};

use pgdeadline::dial::Address;
use pgdeadline::{Connector, Context, EofProof, MakeRustls};
use pgdeadline_tests::scripted::{DialOutcome, Expect, Net};
use pgdeadline_tests::server::Certificates;

use crate::stage::*;

#[tokio::test(start_paused = true)]
async fn a_cancel_goes_to_the_sessions_address_though_the_name_has_moved() {
    let net = Net::new();
    let (dead, here, moved): (SocketAddr, SocketAddr, IpAddr) = (
        "198.51.100.1:5432".parse().unwrap(),
        "198.51.100.2:5432".parse().unwrap(),
        "198.51.100.3".parse().unwrap(),
    );
    net.name("scripted.test", [dead.ip(), here.ip()]);
    net.dials_to(dead, DialOutcome::Refuse);
    let Stage {
        net,
        client,
        mut backend,
        ..
    } = Stage::on(net, |builder| builder).await;
    net.name("scripted.test", [moved]);
    let ctx = deadline(200);
    end_of(ctx.run(client.batch_execute(SLEEP)).await);
    net.cancel().await.close();
    let here = Address::Tcp(here);
    assert_eq!(net.dialled(), [Address::Tcp(dead), here.clone(), here]);
    backend.expect(Expect::query(SLEEP)).await;
    backend.send(canceled(b'I')).await;
    serves_on(&client, &mut backend).await;
}

/// A session under TLS on a network that speaks it.
async fn encrypted(certificates: &Certificates) -> Stage {
    let net = Net::with_tls(certificates);
    let mut config = net.config();
    config.ssl_mode(tokio_postgres::config::SslMode::Require);
    net.name("localhost", ["192.0.2.1".parse().unwrap()]);
    let mut at_localhost = tokio_postgres::Config::new();
    at_localhost
        .host("localhost")
        .user("postgres")
        .dbname("postgres")
        .ssl_mode(config.get_ssl_mode());
    let tls = MakeRustls::new(certificates.client_config());
    let builder = Connector::builder(at_localhost, tls)
        .dial(net.clone())
        .eof_proof(EofProof::Proof);
    Stage::open(net, builder.build().unwrap()).await
}

#[tokio::test(start_paused = true)]
async fn a_cancel_goes_over_tls_when_the_session_does() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = encrypted(&Certificates::generate()).await;
    assert!(backend.is_encrypted());
    let ctx = Context::background().child();
    let (ended, ()) = tokio::join!(ctx.run(client.batch_execute(SLEEP)), async {
        backend.expect(Expect::query(SLEEP)).await;
        ctx.cancel();
    });
    assert!(end_of(ended).is_cancelled());
    let cancel = net.cancel().await;
    assert!(cancel.is_encrypted());
    assert_eq!((cancel.pid(), cancel.key()), (PID, &KEY.to_be_bytes()[..]));
    cancel.close();
    backend.send(canceled(b'I')).await;
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_whose_tls_stalls_is_bounded_by_the_grace() {
    let Stage {
        net,
        client,
        mut backend,
        ..
    } = encrypted(&Certificates::generate()).await;
    net.all_dials(DialOutcome::Unread);
    let began = ended_at_200(&client, &mut backend).await;
    let _stalled = net.unread_connection().await;
    assert!(!backend.wait_close().await);
    assert_at(began, 2200);
}
