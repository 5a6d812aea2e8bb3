//! Messages larger than every buffer, and sides that are slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pgdeadline::{Connector, EofProof, MakeRustls};
use pgdeadline_tests::scripted::{Backend, Expect, Frontend, Net, message};
use pgdeadline_tests::server::Certificates;
use tokio::time::sleep;

use crate::say;
use crate::stage::*;

const LARGE: usize = 5 * 1024 * 1024;

#[tokio::test(start_paused = true)]
async fn a_message_larger_than_every_buffer_passes_both_ways() {
    for (socket, net) in [(SOCKET, Net::new()), (100, Net::with_capacity(100))] {
        let mut stage = Stage::on(net, socket, |builder| builder).await;
        let text = "x".repeat(LARGE / if socket == 100 { 50 } else { 1 });
        let query = say::query(&text);
        tokio::join!(stage.client.says(&query), async {
            stage.backend.expect(Expect::query(&text)).await;
        });
        let row = message::data_row(&[Some(text.as_bytes())]);
        let answer = [row.clone(), done("SELECT 1", b'I')];
        let (heard, ()) = tokio::join!(stage.client.hears("DCZ"), stage.backend.send(answer));
        assert_eq!(heard[0].body, row.bytes()[5..]);
        stage.assert_ends_well().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_large_message_is_not_kept_back_under_tls() {
    let certificates = Certificates::generate();
    let net = Net::with_tls(&certificates);
    net.name("localhost", ["192.0.2.1".parse().unwrap()]);
    let mut config = tokio_postgres::Config::new();
    config
        .host("localhost")
        .ssl_mode(tokio_postgres::config::SslMode::Require);
    let tls = MakeRustls::new(certificates.client_config());
    let connector = Connector::builder(config, tls)
        .dial(net.clone())
        .eof_proof(EofProof::Proof)
        .build()
        .unwrap();
    let Stage {
        mut client,
        mut backend,
        ..
    } = Stage::open(net, &connector, SOCKET).await;
    // More than the socket takes at once, while the server does not read.
    for length in [60_000, 65_000, 70_000, 100_000] {
        let text = "x".repeat(length);
        client.says(say::query(&text)).await;
        sleep(ms(10)).await;
        backend.expect(Expect::query(&text)).await;
        backend.send(rows(1)).await;
        client.hears("TDCZ").await;
        // The same where something of the client's has to stay behind.
        client
            .says([say::query(&text), say::query("ROLLBACK")].concat())
            .await;
        sleep(ms(10)).await;
        backend.expect(Expect::query(&text)).await;
        backend.send(rows(1)).await;
        client.hears("TDCZ").await;
        backend.expect(Expect::query("ROLLBACK")).await;
        backend.send(done("ROLLBACK", b'I')).await;
        client.hears("CZ").await;
    }
}

/// Writes rows until it was so many bytes, and counts them.
async fn pour(mut backend: Backend, bytes: usize, poured: Arc<AtomicUsize>) -> Backend {
    let rows = message::rows(100);
    while poured.load(Ordering::SeqCst) < bytes {
        backend.send(rows.clone()).await;
        poured.fetch_add(rows.bytes().len(), Ordering::SeqCst);
    }
    backend
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_holds_the_server_up_and_the_relay_keeps_little() {
    const SMALL: usize = 1024;
    for size in [10, LARGE] {
        let net = Net::with_capacity(SMALL);
        let mut stage = Stage::on(net, SMALL, |builder| builder).await;
        stage.asks("SELECT many").await;
        let row = message::data_row(&[Some(&vec![b'x'; size])]);
        let poured = Arc::new(AtomicUsize::new(0));
        let counted = poured.clone();
        let mut backend = stage.backend;
        let pouring = tokio::spawn(async move {
            loop {
                for piece in row.bytes().chunks(64) {
                    let piece = message::raw(piece.to_vec());
                    if backend.try_send(piece).await.is_err() {
                        return;
                    }
                    counted.fetch_add(64, Ordering::SeqCst);
                }
            }
        });
        sleep(ms(1000)).await;
        let kept = poured.load(Ordering::SeqCst) - 2 * SMALL;
        assert!(kept <= 64 * 1024, "{kept} bytes are kept");
        sleep(ms(1000)).await;
        assert_eq!(poured.load(Ordering::SeqCst) - 2 * SMALL, kept);
        // It goes on as soon as the client does.
        if size == 10 {
            stage.client.hears("DDDD").await;
        }
        stage.client.reads(200_000).await;
        assert!(poured.load(Ordering::SeqCst) > 200_000);
        pouring.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_whose_work_has_ended_holds_up_nothing() {
    let net = Net::new();
    let mut stage = Stage::on(net, 1024, |builder| builder).await;
    let ctx = deadline(100);
    stage.check_out(Some(&ctx)).await;
    stage.asks("SELECT many").await;
    let poured = Arc::new(AtomicUsize::new(0));
    let pouring = tokio::spawn(pour(stage.backend, LARGE, poured.clone()));
    sleep(ms(50)).await;
    assert!(poured.load(Ordering::SeqCst) < 256 * 1024);
    stage.net.cancel().await.close();
    // What is left of it is dropped as it comes, whoever reads.
    let mut backend = pouring.await.unwrap();
    backend.send(canceled(b'I')).await;
    while stage.client.next_tag().await != b'E' {}
    stage.client.hears("Z").await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_server_holds_the_client_up() {
    const SMALL: usize = 1024;
    let net = Net::with_capacity(SMALL);
    let mut stage = Stage::on(net, SMALL, |builder| builder).await;
    stage.asks("COPY t FROM STDIN").await;
    stage.backend.send(message::copy_in_response()).await;
    stage.client.hears("G").await;
    let mut taken = 0;
    let row = say::copy_data(&[b'x'; 59]);
    while tokio::time::timeout(ms(100), stage.client.says(&row))
        .await
        .is_ok()
    {
        taken += row.len();
    }
    let kept = taken - 2 * SMALL;
    assert!(kept <= 64 * 1024, "{kept} bytes are kept");
    for _ in 0..taken / row.len() {
        let Frontend::CopyData { data } = stage.backend.read().await else {
            panic!("no row");
        };
        assert_eq!(data.len(), 59);
    }
}

/// A server that reads nothing for a while and then all at once: the relay's
/// buffer was full, and is empty in one step.
#[tokio::test(start_paused = true)]
async fn a_server_that_reads_again_gets_what_the_client_has_left_to_say() {
    let mut stage = Stage::new().await;
    let text = format!("SELECT '{}'", "x".repeat(300_000));
    for _ in 0..3 {
        let asks = async {
            stage.client.says(say::query(&text)).await;
            stage.client.hears("TDCZ").await
        };
        let answers = async {
            sleep(ms(10)).await;
            stage.backend.expect(Expect::query(&text)).await;
            stage.backend.send(rows(1)).await;
        };
        tokio::join!(asks, answers);
    }
    stage.give_back().await;
    stage.assert_ends_well().await;
}
