//! What a client is told where its start-up fails, and what it finds there.

use pgdeadline::{Context, Error, Phase};
use pgdeadline_tests::scripted::{DialOutcome, Net, message};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::client::Client;
use crate::say;
use crate::stage::*;

/// A client that has said its start-up message.
async fn begun(net: &Net) -> (Client, JoinHandle<Result<(), Error>>) {
    let (mut client, relay) = relay(&over(net).build().unwrap(), SOCKET);
    client.says(say::start_up()).await;
    (client, relay)
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_may_be_tried_again() {
    let net = Net::new();
    net.all_dials(DialOutcome::Refuse);
    let (mut client, relay) = begun(&net).await;
    let error = client.is_told_and_closed("57P03").await;
    assert!(error.is_connect(), "{error}");
    let error = ended(relay).await.unwrap_err();
    assert_eq!(error.phase(), Some(Phase::Connect), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_black_hole_is_bounded_by_the_connectors_deadline() {
    let net = Net::new();
    net.all_dials(DialOutcome::BlackHole);
    let connector = over(&net).connect_deadline(ms(3000)).build().unwrap();
    let (mut client, relay) = relay(&connector, SOCKET);
    let began = Instant::now();
    // The client takes its time, and has it taken off.
    sleep(ms(500)).await;
    client.says(say::start_up()).await;
    let error = client.is_told_and_closed("08001").await;
    assert_at(began, 3000);
    assert!(error.is_connect(), "{error}");
    let error = ended(relay).await.unwrap_err();
    assert_eq!(error.phase(), Some(Phase::Connect), "{error}");
}

#[tokio::test(start_paused = true)]
async fn so_are_a_server_that_says_nothing_and_a_client_that_does_not() {
    let net = Net::new();
    let (mut client, relay) = begun(&net).await;
    let mut backend = net.backend().await;
    backend
        .send(message::authentication_cleartext_password())
        .await;
    let began = Instant::now();
    client.hears("R").await;
    let error = client.is_told_and_closed("08001").await;
    assert_at(began, 10_000);
    assert!(error.is_connect(), "{error}");
    let error = ended(relay).await.unwrap_err();
    assert_eq!(error.phase(), Some(Phase::StartUp), "{error}");
    assert!(!backend.wait_close().await);

    let (mut client, relay) = relay_of(&net);
    let began = Instant::now();
    client.is_told_and_closed("08001").await;
    assert_at(began, 10_000);
    assert!(ended(relay).await.is_err());
}

fn relay_of(net: &Net) -> (Client, JoinHandle<Result<(), Error>>) {
    relay(&over(net).build().unwrap(), SOCKET)
}

#[tokio::test(start_paused = true)]
async fn a_server_that_closes_without_a_word_is_told_of() {
    let net = Net::new();
    let (mut client, relay) = begun(&net).await;
    net.backend().await.close();
    let error = client.is_told_and_closed("08001").await;
    assert!(error.is_connect(), "{error}");
    assert!(ended(relay).await.unwrap_err().is_connect());

    let (mut client, relay) = begun(&net).await;
    net.backend().await.reset();
    client.is_told_and_closed("08001").await;
    assert!(ended(relay).await.unwrap_err().is_connect());
}

#[tokio::test(start_paused = true)]
async fn what_the_server_says_itself_is_enough() {
    let net = Net::new();
    let (mut client, relay) = begun(&net).await;
    let mut backend = net.backend().await;
    let refusal = message::fatal("28P01", "password authentication failed");
    backend.send(refusal.clone()).await;
    backend.close();
    let heard = client.hears_out().await;
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(&heard[0].body[..], &refusal.bytes()[5..]);
    assert!(ended(relay).await.unwrap_err().is_connect());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_goes_down_behind_the_scenes_is_told_of() {
    let net = Net::new();
    let connector = over(&net)
        .eof_proof(pgdeadline::EofProof::Automatic)
        .build()
        .unwrap();
    let (mut client, relay) = relay(&connector, SOCKET);
    client.says(say::start_up()).await;
    let mut backend = net.backend().await;
    backend.authenticate(PID, KEY).await;
    client.hears("RSSSSSSK").await;
    backend
        .send(message::fatal("57P01", "terminating connection"))
        .await;
    backend.close();
    let heard = client.hears_out().await;
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(heard[0].field(b'C'), "57P01", "{heard:?}");
    assert!(ended(relay).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_is_no_postgresql_server_is_named() {
    let net = Net::new();
    for said in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"R\0\0\0\x03",
        b"T\0\0\0\x06\0\0",
        b"Z\0\0\0\x05?",
        b"Z\0\0\0\x04",
    ] {
        let (mut client, relay) = begun(&net).await;
        net.backend().await.send(message::raw(said)).await;
        let error = client.is_told_and_closed("08001").await;
        let ended = ended(relay).await.unwrap_err();
        assert!(error.is_protocol() || error.is_connect(), "{error}");
        assert!(ended.is_protocol() || ended.is_connect(), "{ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_without_end_is_not_waited_for() {
    let net = Net::new();
    let (mut client, relay) = begun(&net).await;
    let mut backend = net.backend().await;
    let began = Instant::now();
    backend.send(message::raw(&b"E\x7f\xff\xff\xff"[..])).await;
    for _ in 0..4 {
        backend.send(message::raw(&[b'S'; 10_000][..])).await;
    }
    let error = client.is_told_and_closed("08001").await;
    assert_at(began, 0);
    assert!(error.is_connect(), "{error}");
    let error = ended(relay).await.unwrap_err();
    assert!(
        error.to_string().contains("could not start a process"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_cancel_request_is_nobodys() {
    let net = Net::new();
    let (mut client, relay) = relay_of(&net);
    client.says(say::cancel_request()).await;
    assert_eq!(client.hears_out().await, []);
    ended(relay).await.unwrap();
    assert_eq!(net.dials(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_postgresql_client_is_told_so() {
    let net = Net::new();
    for said in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 8],
        b"\xff\xff\xff\xff\0\x03\0\0".to_vec(),
        say::untagged(3 << 16, &[b'x'; 10_000]),
    ] {
        let (mut client, relay) = relay_of(&net);
        client.says(&said).await;
        let error = client.is_told_and_closed("08001").await;
        assert!(error.is_protocol(), "{error}");
        assert!(ended(relay).await.unwrap_err().is_protocol());
    }
    assert_eq!(net.dials(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_is_dropped_closes_both_sides() {
    let net = Net::new();
    let (mut client, relay) = begun(&net).await;
    let mut backend = net.backend().await;
    relay.abort();
    assert_eq!(client.hears_out().await, []);
    backend.wait_close().await;

    let Stage {
        net,
        mut client,
        mut backend,
        relay,
        ..
    } = Stage::new().await;
    let ctx = Context::background().child();
    client.says(say::query(SLEEP)).await;
    backend.read().await;
    relay.abort();
    assert_eq!(client.hears_out().await, []);
    net.cancel().await.close();
    assert!(!backend.wait_close().await);
    drop(ctx);
}
