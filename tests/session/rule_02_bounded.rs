//! Rule 2, bounded: one budget, the grace, covers everything after the end.

use pgdeadline_tests::scripted::{DialOutcome, Expect, Net};
use tokio::time::Instant;

use crate::stage::*;

/// The session is retired at the end of the grace, neither earlier nor later.
async fn retired_at_the_grace(began: Instant, mut stage: Stage) {
    stage.backend.expect_silence(ms(1995)).await;
    assert!(!stage.session.is_closed());
    assert!(!stage.backend.wait_close().await, "no farewell");
    assert_at(began, 2200);
    assert!(stage.session.is_closed());
    assert!(stage.connection.await.unwrap().unwrap_err().is_retired());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_withholds_its_answer_is_left_at_the_grace() {
    let mut stage = Stage::new().await;
    let began = ended_at_200(&stage.client, &mut stage.backend).await;
    answer_cancels(&stage.net);
    retired_at_the_grace(began, stage).await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_that_finds_a_black_hole_is_left_at_the_grace() {
    let mut stage = Stage::new().await;
    stage.net.all_dials(DialOutcome::BlackHole);
    let began = ended_at_200(&stage.client, &mut stage.backend).await;
    retired_at_the_grace(began, stage).await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_whose_eof_never_comes_is_left_at_the_grace() {
    let mut stage = Stage::new().await;
    let began = ended_at_200(&stage.client, &mut stage.backend).await;
    let _held = stage.net.cancel().await;
    stage.backend.send(canceled(b'I')).await;
    retired_at_the_grace(began, stage).await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_that_is_accepted_and_never_read_is_left_at_the_grace() {
    let mut stage = Stage::new().await;
    stage.net.all_dials(DialOutcome::Unread);
    let began = ended_at_200(&stage.client, &mut stage.backend).await;
    let _unread = stage.net.unread_connection().await;
    stage.backend.send(canceled(b'I')).await;
    retired_at_the_grace(began, stage).await;
}

#[tokio::test(start_paused = true)]
async fn a_clean_up_that_is_never_answered_is_left_at_the_grace() {
    let mut stage = Stage::new().await;
    let (began, ctx) = (Instant::now(), deadline(200));
    check_out(&stage.session, &ctx).await;
    begin(&stage.client, &mut stage.backend).await;
    stage.client.batch_execute(SLEEP).await.unwrap_err();
    stage.session.check_in();
    stage.backend.expect(Expect::query(SLEEP)).await;
    stage.net.cancel().await.close();
    stage.backend.send(canceled(b'E')).await;
    stage.backend.expect(Expect::query("ROLLBACK")).await;
    retired_at_the_grace(began, stage).await;
}

#[tokio::test(start_paused = true)]
async fn the_budget_is_one_for_cancel_and_clean_up() {
    let mut stage = Stage::new().await;
    let (began, ctx) = (Instant::now(), deadline(200));
    check_out(&stage.session, &ctx).await;
    begin(&stage.client, &mut stage.backend).await;
    stage.client.batch_execute(SLEEP).await.unwrap_err();
    stage.session.check_in();
    stage.backend.expect(Expect::query(SLEEP)).await;
    let cancel = stage.net.cancel().await;
    stage.backend.expect_silence(ms(1500)).await;
    cancel.close();
    stage.backend.send(canceled(b'E')).await;
    stage.backend.expect(Expect::query("ROLLBACK")).await;
    stage.backend.expect_silence(ms(495)).await;
    assert!(!stage.backend.wait_close().await);
    assert_at(began, 2200);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_clean_in_time_is_not_retired_later() {
    let mut stage = Stage::new().await;
    ended_at_200(&stage.client, &mut stage.backend).await;
    stage.net.cancel().await.close();
    stage.backend.expect_silence(ms(1990)).await;
    // Lost signals in between are told under rule 5.
    while let Some(cancel) = stage.net.try_cancel() {
        cancel.close();
    }
    stage.backend.send(canceled(b'I')).await;
    stage.backend.expect_silence(ms(10_000)).await;
    is_clean(&stage.session).await;
    serves_on(&stage.client, &mut stage.backend).await;
}

#[tokio::test(start_paused = true)]
async fn a_grace_of_ones_own_counts() {
    let mut stage = Stage::on(Net::new(), |builder| builder.grace(ms(300))).await;
    let began = ended_at_200(&stage.client, &mut stage.backend).await;
    answer_cancels(&stage.net);
    stage.backend.expect_silence(ms(295)).await;
    assert!(!stage.backend.wait_close().await);
    assert_at(began, 500);
}
