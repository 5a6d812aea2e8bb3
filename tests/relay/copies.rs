//! COPYs that are left, and how often sqlx counts on a ReadyForQuery then.
//!
//! sqlx 0.9 counts on one for each Query and Sync that it sends, but not for the
//! Query of a COPY, whose own it takes by itself (or doesn't, if it is left).

use pgdeadline_tests::scripted::{Expect, message};
use tokio::time::Instant;

use crate::say;
use crate::stage::*;

const COPY_IN: &str = "COPY t FROM STDIN";
const COPY_OUT: &str = "COPY t TO STDOUT";

/// A client in copy-in mode.
async fn copying_in() -> Stage {
    let mut stage = Stage::new().await;
    stage.check_out(None).await;
    stage.asks(COPY_IN).await;
    stage.backend.send(message::copy_in_response()).await;
    stage.client.hears("G").await;
    stage
}

#[tokio::test(start_paused = true)]
async fn both_work() {
    let mut stage = copying_in().await;
    let said = [say::copy_data(b"1\n"), say::copy_data(b"2\n")].concat();
    stage.client.says(said).await;
    stage.client.says(say::copy_done()).await;
    stage
        .backend
        .expect_all([
            Expect::copy_data(),
            Expect::copy_data(),
            Expect::copy_done(),
        ])
        .await;
    stage.backend.send(done("COPY 2", b'I')).await;
    stage.client.hears("CZ").await;
    stage.asks(COPY_OUT).await;
    stage
        .backend
        .send([
            message::copy_out_response(),
            message::copy_data(b"1\n"),
            message::copy_done(),
            done("COPY 1", b'I'),
        ])
        .await;
    stage.client.hears("HdcCZ").await;
    stage.give_back().await;
    stage.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_in_that_its_client_ends_and_leaves() {
    let mut stage = copying_in().await;
    stage
        .client
        .says([say::copy_data(b"1\n"), say::copy_fail(), say::sync()].concat())
        .await;
    stage
        .backend
        .expect_all([Expect::copy_data(), Expect::copy_fail()])
        .await;
    stage.client.hears_nothing(ms(20)).await;
    answer_cancels(&stage.net);
    stage.backend.send(canceled(b'I')).await;
    stage.client.hears("Z").await;
    stage.client.hears_nothing(ms(1000)).await;
    stage.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_in_that_is_left_without_its_end_leaves_its_client_miscounting() {
    for said in [say::sync(), [say::copy_data(b"1\n"), say::sync()].concat()] {
        let mut stage = copying_in().await;
        stage.client.says(said).await;
        let error = stage.client.is_told_and_closed("08006").await;
        assert!(error.is_retired(), "{error}");
        assert!(ended(stage.relay).await.is_err());
        stage.net.cancel().await.close();
        stage.net.assert_quiet().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_in_that_was_done_but_not_awaited() {
    let mut stage = copying_in().await;
    stage
        .client
        .says([say::copy_done(), say::sync()].concat())
        .await;
    stage.backend.expect(Expect::copy_done()).await;
    stage.backend.send(done("COPY 0", b'I')).await;
    answer_cancels(&stage.net);
    stage.client.hears("Z").await;
    stage.client.hears_nothing(ms(1000)).await;
    stage.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_out_that_is_left_leaves_its_client_miscounting() {
    for rows in [0, 1] {
        let mut stage = Stage::new().await;
        stage.check_out(None).await;
        stage.asks(COPY_OUT).await;
        stage.backend.send(message::copy_out_response()).await;
        stage.client.hears("H").await;
        for _ in 0..rows {
            stage.backend.send(message::copy_data(b"1\n")).await;
            stage.client.hears("d").await;
        }
        stage.client.says(say::sync()).await;
        let error = stage.client.is_told_and_closed("08006").await;
        assert!(error.is_retired(), "{error}");
        assert!(ended(stage.relay).await.is_err());
        // Of what has sent rows nothing is cancelled; the server sees the close.
        if rows == 0 {
            stage.net.cancel().await.close();
        }
        stage.net.assert_quiet().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_left_before_it_has_begun_leaves_its_client_miscounting() {
    for text in [COPY_IN, COPY_OUT, " copy (SELECT 1) TO STDOUT"] {
        let mut stage = Stage::new().await;
        stage.asks(text).await;
        let began = Instant::now();
        stage.client.says(say::sync()).await;
        let error = stage.client.is_told_and_closed("08006").await;
        assert_at(began, 0);
        assert!(error.is_retired(), "{error}");
        assert!(ended(stage.relay).await.is_err());
        assert!(!stage.backend.wait_close().await);
        stage.net.cancel().await.close();
        stage.net.assert_quiet().await;
    }
}

#[tokio::test(start_paused = true)]
async fn to_prepare_a_copy_and_leave_it_is_nothing_special() {
    let mut stage = Stage::new().await;
    stage.client.says(say::prepare(COPY_OUT)).await;
    stage.backend.expect(Expect::parse(COPY_OUT)).await;
    stage.client.says(say::sync()).await;
    answer_cancels(&stage.net);
    stage.backend.send(canceled(b'I')).await;
    stage.client.hears("ZZ").await;
    stage
        .backend
        .expect_all([Expect::describe(), Expect::sync()])
        .await;
    stage.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_whose_caller_was_answered_is_answered_once() {
    let mut stage = Stage::new().await;
    let ctx = deadline(100);
    stage.check_out(Some(&ctx)).await;
    stage.asks(COPY_IN).await;
    stage.backend.send(message::copy_in_response()).await;
    stage.client.hears("GEZ").await;
    stage.backend.expect(Expect::copy_fail()).await;
    // sqlx says its own end too, and returns the connection.
    stage
        .client
        .says([say::copy_fail(), say::sync()].concat())
        .await;
    answer_cancels(&stage.net);
    stage.client.hears_nothing(ms(20)).await;
    stage.backend.send(canceled(b'I')).await;
    stage.client.hears("Z").await;
    stage.client.hears_nothing(ms(1000)).await;
    stage.assert_ends_well().await;
}
