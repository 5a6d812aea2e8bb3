//! Bytes that nobody should say: passed on, or named; no panic, no hang.

use std::time::Duration;

use pgdeadline_tests::scripted::{Net, message};
use proptest::prelude::*;
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep, timeout};

use crate::say;
use crate::stage::*;

#[tokio::test(start_paused = true)]
async fn a_client_that_speaks_no_postgresql_is_told_so() {
    for said in [
        &b"?\0\0\0\x04"[..],
        b"Q\0\0\0\x03",
        b"Q\xff\xff\xff\xff",
        b"p\0\0\0\x08abc\0",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\0\0\x08\x04\xd2\x16\x2f",
    ] {
        let mut stage = Stage::new().await;
        stage.client.says(said).await;
        let error = stage.client.is_told_and_closed("08006").await;
        assert!(error.is_protocol(), "{error}");
        assert!(ended(stage.relay).await.unwrap_err().is_protocol());
        assert!(!stage.backend.wait_close().await, "{said:?}");
        stage.net.assert_quiet().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_speaks_no_postgresql_is_told_of() {
    for said in [
        &b"Z\0\0\0\x05I"[..],
        b"D\0\0\0\x04",
        b"?\0\0\0\x04",
        b"R\0\0\0\x08\0\0\0\0",
    ] {
        let mut stage = Stage::new().await;
        stage.backend.send(message::raw(said)).await;
        let error = stage.client.is_told_and_closed("08006").await;
        assert!(error.is_protocol(), "{error}");
        assert!(ended(stage.relay).await.unwrap_err().is_protocol());
    }
    for said in [&b"Z\0\0\0\x05?"[..], b"Z\0\0\0\x04", b"D\0\0\0\x03"] {
        let mut stage = Stage::new().await;
        stage.asks(SLEEP).await;
        stage.backend.send(message::raw(said)).await;
        // Whether anything can still be said depends on how it was cut.
        stage.client.reads_out().await;
        assert!(ended(stage.relay).await.unwrap_err().is_protocol());
        stage.net.cancel().await.close();
    }
}

fn block_on(test: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(test);
}

/// Whatever they say, with a deadline on it, all is over in time.
async fn survives(said: Vec<(bool, Vec<u8>)>) {
    let net = Net::new();
    let mut stage = Stage::on(net, SOCKET, |builder| builder.finish_bound(ms(500))).await;
    answer_cancels(&stage.net);
    let ctx = deadline(100);
    stage.check_out(Some(&ctx)).await;
    stage.client.says(say::query("SELECT 1")).await;
    for (by_client, bytes) in said {
        match by_client {
            true => stage.client.tries_to_say(&bytes, ms(1)).await,
            false => {
                let _ = stage.backend.try_send(message::raw(bytes)).await;
            }
        }
        sleep(ms(1)).await;
    }
    let began = Instant::now();
    drop(stage.client);
    let reads = async { while stage.backend.next_bytes().await {} };
    let over = timeout(Duration::from_secs(60), async {
        tokio::join!(stage.relay, reads).0
    });
    let over = over.await.expect("it ends");
    assert!(over.is_ok(), "it panicked: {over:?}");
    assert!(began.elapsed() < ms(3000), "{:?}", began.elapsed());
}

/// Well-formed messages get further than noise.
fn messages(tags: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    (0..tags.len(), 0_usize..12, any::<bool>()).prop_map(|(tag, length, is_text)| {
        let fill = if is_text { b'I' } else { 0 };
        say::message(tags[tag], &vec![fill; length])
    })
}

fn anything() -> impl Strategy<Value = (bool, Vec<u8>)> {
    let said = prop_oneof![
        2 => prop::collection::vec(any::<u8>(), 0..60).prop_map(|bytes| (None, bytes)),
        5 => messages(b"QPBDECHSSSdcfXF").prop_map(|bytes| (Some(true), bytes)),
        5 => messages(b"123ACDEEGGHINSTWZZZZcdnst").prop_map(|bytes| (Some(false), bytes)),
        1 => Just((Some(true), say::query("pgdeadline check out 0000000000000001"))),
        1 => Just((Some(true), say::query("pgdeadline operation 0000000000000001"))),
        1 => Just((Some(true), say::query("COPY t FROM STDIN"))),
    ];
    (any::<bool>(), said).prop_map(|(either, (by, bytes))| (by.unwrap_or(either), bytes))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_they_say_it_ends(said in prop::collection::vec(anything(), 0..25)) {
        block_on(survives(said));
    }

    #[test]
    fn any_opening_is_taken_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        answer in prop::collection::vec(any::<u8>(), 0..60),
        starts in any::<bool>(),
    ) {
        block_on(async {
            let net = Net::new();
            let (mut client, relay) = relay(&over(&net).build().unwrap(), SOCKET);
            if starts {
                client.says(say::start_up()).await;
                let mut backend = net.backend().await;
                client.tries_to_say(&bytes, ms(1)).await;
                let _ = backend.try_send(message::raw(answer)).await;
                sleep(ms(10)).await;
            } else {
                // No scripted server takes any other start-up message.
                let bytes = [&[0, 1], &bytes[..]].concat();
                client.tries_to_say(&bytes, ms(1)).await;
            }
            drop(client);
            let over = timeout(Duration::from_secs(60), relay).await.expect("it ends");
            assert!(over.is_ok(), "it panicked: {over:?}");
        });
    }
}
