//! From a client's first byte to its first ReadyForQuery.

use pgdeadline::EofProof;
use pgdeadline_tests::scripted::{Backend, DialOutcome, Expect, Frontend, Net, message};
use tokio::time::{Instant, sleep};

use crate::say;
use crate::stage::*;

#[tokio::test(start_paused = true)]
async fn encryption_is_refused_and_all_else_passes_through_unchanged() {
    let net = Net::new();
    let (mut client, relay) = relay(&over(&net).build().unwrap(), SOCKET);
    for request in [say::gss_request(), say::ssl_request()] {
        client.says(request).await;
        assert_eq!(client.hears_byte().await, b'N');
    }
    client.says(say::start_up()).await;
    let mut backend = net.backend().await;
    let parameters: Vec<_> = backend.parameters().iter().collect();
    let expected = [
        ("application_name", "test"),
        ("database", "mine"),
        ("user", "me"),
    ];
    for ((name, value), expected) in parameters.into_iter().zip(expected) {
        assert_eq!((name.as_str(), value.as_str()), expected);
    }
    let asks = message::authentication_cleartext_password();
    backend.send(asks.clone()).await;
    assert_eq!(client.reads(asks.bytes().len()).await, asks.bytes()[..]);
    client.says(say::password("secret")).await;
    let Frontend::Password { data } = backend.expect(Expect::password()).await else {
        unreachable!("it was expected");
    };
    assert_eq!(&data[..], b"secret\0");
    backend.authenticate(PID, KEY).await;
    let heard = client.hears(WELCOME).await;
    assert_eq!(&heard[1].body[..], b"server_version\x0017.0\0");
    assert_eq!(&heard[7].body[..], b"\0\0\0\x2a\0\0\0\x07");
    serves_on(&mut client, &mut backend).await;
    drop(client);
    assert!(backend.wait_close().await);
    ended(relay).await.unwrap();
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn it_may_come_byte_by_byte_both_ways() {
    let net = Net::with_capacity(1);
    let (mut client, _relay) = relay(&over(&net).build().unwrap(), 1);
    client.says(say::ssl_request()).await;
    assert_eq!(client.hears_byte().await, b'N');
    client.says(say::start_up()).await;
    let mut backend = net.backend().await;
    let authenticates = async {
        client.hears("R").await;
        client.says(say::password("secret")).await;
    };
    tokio::join!(authenticates, async {
        backend
            .send(message::authentication_cleartext_password())
            .await;
        backend.expect(Expect::password()).await;
    });
    let (_, ()) = tokio::join!(client.hears(WELCOME), backend.authenticate(PID, KEY));
    let asks = async {
        client.says(say::query("SELECT 'next'")).await;
        client.hears("TDCZ").await;
    };
    tokio::join!(asks, async {
        backend.expect(Expect::query("SELECT 'next'")).await;
        backend.send(rows(1)).await;
    });
    drop(client);
    assert!(backend.wait_close().await);
}

#[tokio::test(start_paused = true)]
async fn what_the_server_adds_behind_its_first_ready_for_query_goes_up_too() {
    let net = Net::new();
    let (mut client, _relay) = relay(&over(&net).build().unwrap(), SOCKET);
    client.says(say::start_up()).await;
    let mut backend = net.backend().await;
    let notice = message::notice("by the way");
    let welcome = [
        message::authentication_ok(),
        message::backend_key_data(PID, KEY),
        message::ready_for_query(b'I'),
        notice.first(9),
    ];
    backend.send(welcome).await;
    client.hears("RKZ").await;
    backend.send(notice.rest(9)).await;
    let heard = client.hears_one("N").await;
    assert_eq!(&heard.body[..], &notice.bytes()[5..]);
    serves_on(&mut client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_client_says_too_early_waits_for_its_turn() {
    let net = Net::new();
    let connector = over(&net).eof_proof(EofProof::Automatic).build().unwrap();
    let (mut client, _relay) = relay(&connector, SOCKET);
    let early = [say::start_up(), say::query("SELECT 'next'")].concat();
    client.says(&early[..early.len() - 3]).await;
    let mut backend = net.backend().await;
    backend.authenticate(PID, KEY).await;
    client.says(&early[early.len() - 3..]).await;
    answer_pid(&mut backend, PID).await;
    client.hears(WELCOME).await;
    backend.expect(Expect::query("SELECT 'next'")).await;
    backend.send(rows(1)).await;
    client.hears("TDCZ").await;
}

/// The server is asked for its process id, and says this.
async fn answer_pid(backend: &mut Backend, pid: i32) {
    backend
        .expect(Expect::query("SELECT pg_backend_pid()"))
        .await;
    backend
        .send([
            message::row_description(&[("pg_backend_pid", message::INT4)]),
            message::data_row(&[Some(pid.to_string().as_bytes())]),
            done("SELECT 1", b'I'),
        ])
        .await;
}

#[tokio::test(start_paused = true)]
async fn whether_eof_proves_anything_is_asked_once_a_server() {
    let net = Net::new();
    let connector = over(&net).eof_proof(EofProof::Automatic).build().unwrap();
    let (mut client, _relay) = relay(&connector, SOCKET);
    client.says(say::start_up()).await;
    let mut backend = net.backend().await;
    backend.authenticate(PID, KEY).await;
    client.hears("RSSSSSSK").await;
    // A notice beside the answer is the client's all the same.
    backend.send(message::notice("by the way")).await;
    answer_pid(&mut backend, PID).await;
    client.hears("NZ").await;
    serves_on(&mut client, &mut backend).await;
    Stage::open(net, &connector, SOCKET).await.serves_on().await;
}

#[tokio::test(start_paused = true)]
async fn behind_a_pooler_a_cancelled_session_is_retired() {
    let net = Net::new();
    let connector = over(&net).eof_proof(EofProof::Automatic).build().unwrap();
    let (mut client, relay) = relay(&connector, SOCKET);
    client.says(say::start_up()).await;
    let mut backend = net.backend().await;
    backend.authenticate(PID, KEY).await;
    answer_pid(&mut backend, PID + 1).await;
    client.hears(WELCOME).await;
    client.says(say::query(SLEEP)).await;
    backend.expect(Expect::query(SLEEP)).await;
    client.says(say::sync()).await;
    // The abandoned query's goes up, and no answer to the return.
    client.hears("Z").await;
    net.cancel().await.close();
    // Not before its work is off the server: the pooler knows a cancel by this
    // connection.
    backend.send(canceled(b'I')).await;
    let error = client.is_told_and_closed("08006").await;
    assert!(error.is_retired(), "{error}");
    assert!(ended(relay).await.unwrap_err().is_retired());
    assert!(!backend.wait_close().await);
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_may_leave_at_any_time() {
    let net = Net::new();
    let connector = over(&net).build().unwrap();
    for said in [
        vec![],
        say::ssl_request(),
        say::start_up()[..7].to_vec(),
        say::start_up()[..20].to_vec(),
    ] {
        let (mut client, relay) = relay(&connector, SOCKET);
        client.says(said).await;
        drop(client);
        ended(relay).await.unwrap();
    }
    assert_eq!(net.dials(), 0);

    // While it is connected,
    net.next_dials([DialOutcome::BlackHole]);
    let (mut client, relay) = relay(&connector, SOCKET);
    let began = Instant::now();
    client.says(say::start_up()).await;
    sleep(ms(100)).await;
    assert_eq!(net.dials(), 1);
    drop(client);
    ended(relay).await.unwrap();
    assert_at(began, 100);

    // while it authenticates,
    let (mut client, relay) = crate::stage::relay(&connector, SOCKET);
    client.says(say::start_up()).await;
    let mut backend = net.backend().await;
    backend
        .send(message::authentication_cleartext_password())
        .await;
    client.hears("R").await;
    client.says(&say::password("secret")[..6]).await;
    sleep(ms(100)).await;
    drop(client);
    assert!(!backend.wait_close().await);
    ended(relay).await.unwrap();

    // and while the server is asked something that the client knows nothing of.
    let connector = over(&net).eof_proof(EofProof::Automatic).build().unwrap();
    let (mut client, relay) = crate::stage::relay(&connector, SOCKET);
    client.says(say::start_up()).await;
    let mut backend = net.backend().await;
    backend.authenticate(PID, KEY).await;
    backend
        .expect(Expect::query("SELECT pg_backend_pid()"))
        .await;
    let began = Instant::now();
    drop(client);
    ended(relay).await.unwrap();
    assert_at(began, 0);
    net.assert_quiet().await;
}
