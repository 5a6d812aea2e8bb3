//! A client that goes away, at every point: nothing of it stays behind.

use pgdeadline::Context;
use pgdeadline::relay::Binding;
use pgdeadline_tests::scripted::{Expect, Net, message};
use tokio::time::{Instant, sleep};

use crate::say;
use crate::stage::*;

#[tokio::test(start_paused = true)]
async fn idle() {
    let stage = Stage::new().await;
    stage.leave().assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn with_a_farewell_of_its_own() {
    for stays in [false, true] {
        let Stage {
            net,
            mut client,
            mut backend,
            relay,
            ..
        } = Stage::new().await;
        client.says(say::terminate()).await;
        let kept = stays.then_some(client);
        assert!(backend.wait_close().await, "with one Terminate");
        drop(backend);
        ended(relay).await.unwrap();
        if let Some(mut client) = kept {
            assert_eq!(client.hears_out().await, []);
        }
        net.assert_quiet().await;
    }
}

#[tokio::test(start_paused = true)]
async fn with_a_farewell_behind_work_that_is_cancelled() {
    for held in [false, true] {
        let mut stage = Stage::new().await;
        stage.asks(SLEEP).await;
        if held {
            stage.give_back().await;
        }
        stage.client.says(say::terminate()).await;
        let mut left = stage.leave();
        left.net.cancel().await.close();
        sleep(ms(10)).await;
        left.backend.send(canceled(b'I')).await;
        left.assert_ends_well().await;
    }
}

#[tokio::test(start_paused = true)]
async fn with_work_in_flight() {
    let mut stage = Stage::new().await;
    stage.asks(SLEEP).await;
    let mut left = stage.leave();
    left.net.cancel().await.close();
    left.backend.send(canceled(b'I')).await;
    left.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn with_work_that_does_not_stop() {
    let mut stage = Stage::new().await;
    stage.asks(SLEEP).await;
    answer_cancels(&stage.net);
    let began = Instant::now();
    let mut left = stage.leave();
    assert!(!left.backend.wait_close().await);
    assert_at(began, 2000);
    assert!(ended(left.relay).await.unwrap_err().is_retired());
}

#[tokio::test(start_paused = true)]
async fn with_work_that_has_sent_rows_and_runs_on() {
    let mut stage = Stage::new().await;
    stage.asks("INSERT RETURNING").await;
    stage.backend.send(first_rows(1)).await;
    stage.client.hears("TD").await;
    let mut left = stage.leave();
    // More than any buffer holds.
    for _ in 0..100 {
        left.backend.send(message::rows(1000)).await;
    }
    sleep(ms(5000)).await;
    left.backend.send(done("INSERT 0 1", b'I')).await;
    left.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn with_answers_unread() {
    let mut stage = Stage::on(Net::new(), 1024, |builder| builder).await;
    stage.asks("SELECT many").await;
    stage.backend.send(first_rows(1000)).await;
    sleep(ms(10)).await;
    let mut left = stage.leave();
    left.backend.send(done("SELECT 1000", b'I')).await;
    left.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn in_a_transaction() {
    let mut stage = Stage::new().await;
    stage.begin().await;
    let mut left = stage.leave();
    left.backend.expect(Expect::query("ROLLBACK")).await;
    left.backend.send(done("ROLLBACK", b'I')).await;
    left.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn while_its_return_waits() {
    let mut stage = Stage::new().await;
    stage.asks(SLEEP).await;
    stage.give_back().await;
    let mut left = stage.leave();
    left.net.cancel().await.close();
    sleep(ms(20)).await;
    left.backend.send(canceled(b'I')).await;
    left.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn while_its_binding_waits_and_requests_stand_behind_it() {
    let mut stage = Stage::new().await;
    stage.asks(SLEEP).await;
    let binding = Binding::check_out(Some(&Context::background()));
    let said = [say::query(&binding.statement()), say::query("UPDATE t")];
    stage.client.says(said.concat()).await;
    stage.client.hears("Z").await;
    let mut left = stage.leave();
    left.net.cancel().await.close();
    sleep(ms(20)).await;
    left.backend.send(canceled(b'I')).await;
    // Nobody has asked for that UPDATE who is still there.
    left.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn in_the_middle_of_a_message() {
    let cut = |bytes: Vec<u8>, at: usize| bytes[..at].to_vec();
    // What was written of it may have begun.
    for (said, is_written) in [
        (cut(say::query("SELECT 1"), 3), false),
        (cut(say::query("SELECT 1"), 9), false),
        (cut(say::query(&"x".repeat(5000)), 4000), true),
        (cut(say::execute(), 20), true),
        (cut(say::sync(), 1), false),
        (cut(say::sync(), 4), false),
        (cut(say::terminate(), 2), false),
    ] {
        let mut stage = Stage::new().await;
        stage.client.says(&said).await;
        sleep(ms(10)).await;
        let began = Instant::now();
        let mut left = stage.leave();
        let ended = ended(left.relay).await;
        assert_at(began, 0);
        assert!(ended.unwrap_err().is_retired(), "{said:?}");
        while left.backend.next_or_end().await.is_some() {}
        if is_written {
            left.net.cancel().await.close();
        }
        left.net.assert_quiet().await;
    }
}

#[tokio::test(start_paused = true)]
async fn in_the_middle_of_a_sync_behind_work() {
    let mut stage = Stage::new().await;
    stage.asks(SLEEP).await;
    stage.client.says(&say::sync()[..3]).await;
    sleep(ms(10)).await;
    let mut left = stage.leave();
    assert!(ended(left.relay).await.is_err());
    assert!(!left.backend.wait_close().await);
    left.net.cancel().await.close();
}

#[tokio::test(start_paused = true)]
async fn in_the_middle_of_a_request_behind_a_return_that_waits() {
    let mut stage = Stage::new().await;
    stage.asks(SLEEP).await;
    stage
        .client
        .says([&say::sync()[..], &say::query("SELECT 2")[..9]].concat())
        .await;
    stage.client.hears("Z").await;
    stage.net.cancel().await.close();
    let began = Instant::now();
    let mut left = stage.leave();
    assert!(ended(left.relay).await.unwrap_err().is_retired());
    assert_at(began, 0);
    assert!(!left.backend.wait_close().await);
    // It was not seen to stop.
    left.net.cancel().await.close();
    left.net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn in_copy_in_mode() {
    for (said, is_whole) in [
        (vec![], true),
        (say::copy_data(b"1\n"), true),
        (say::copy_data(b"12345\n")[..7].to_vec(), false),
        ([say::copy_data(b"1\n"), vec![b'd', 0]].concat(), false),
        (say::copy_fail()[..7].to_vec(), false),
    ] {
        let mut stage = Stage::new().await;
        stage.asks("COPY t FROM STDIN").await;
        stage.backend.send(message::copy_in_response()).await;
        stage.client.hears("G").await;
        stage.client.says(&said).await;
        sleep(ms(10)).await;
        let began = Instant::now();
        let mut left = stage.leave();
        if !is_whole {
            assert!(ended(left.relay).await.is_err(), "{said:?}");
            assert_at(began, 0);
            while left.backend.next_or_end().await.is_some() {}
            left.net.cancel().await.close();
            continue;
        }
        answer_cancels(&left.net);
        while left.backend.read().await.name() != "CopyFail" {}
        left.backend.send(canceled(b'I')).await;
        assert!(
            left.backend.wait_close().await,
            "{said:?}: with a Terminate"
        );
        ended(left.relay).await.unwrap();
        assert_at(began, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn with_clean_up_that_the_server_never_answers() {
    let Stage {
        mut client,
        mut backend,
        relay,
        ..
    } = Stage::new().await;
    client.says(say::close()).await;
    backend.expect_all([Expect::close(), Expect::sync()]).await;
    let began = Instant::now();
    drop(client);
    assert!(ended(relay).await.unwrap_err().is_retired());
    assert_at(began, 2000);
    assert!(!backend.wait_close().await);
}
