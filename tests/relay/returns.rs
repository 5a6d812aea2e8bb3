//! A connection that comes back to its pool, by a lone Sync.

use pgdeadline_tests::scripted::{Expect, message};
use tokio::time::{Instant, sleep};

use crate::say;
use crate::stage::*;

#[tokio::test(start_paused = true)]
async fn an_idle_one_is_answered_at_once_and_the_server_hears_nothing_of_it() {
    let mut stage = Stage::new().await;
    let began = Instant::now();
    stage.check_out(None).await;
    stage.give_back().await;
    // One that was not taken, and one again.
    stage.give_back().await;
    stage.give_back().await;
    assert_at(began, 0);
    stage.backend.expect_silence(ms(100)).await;
    stage.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn at_any_byte_of_it_nothing_happens_before_the_last() {
    let mut stage = Stage::new().await;
    for byte in say::sync() {
        stage.client.hears_nothing(ms(1)).await;
        stage.client.says([byte]).await;
    }
    stage.client.hears("Z").await;
    stage.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn work_without_a_row_is_cancelled_and_nothing_of_it_goes_up() {
    for said in [say::query(SLEEP), say::execute()] {
        let mut stage = Stage::new().await;
        let ctx = deadline(60_000);
        stage.check_out(Some(&ctx)).await;
        stage.client.says(&said).await;
        stage.backend.read().await;
        let began = Instant::now();
        stage.client.says(say::sync()).await;
        assert_eq!(stage.client.hears_one("Z").await.status(), b'I');
        answer_cancels(&stage.net);
        stage.client.hears_nothing(ms(700)).await;
        // Rows that come now come too late.
        if said[0] == b'B' {
            let rest = [Expect::execute(), Expect::close(), Expect::sync()];
            stage.backend.expect_all(rest).await;
        }
        stage.backend.send(first_rows(100)).await;
        stage.backend.send(canceled(b'I')).await;
        assert_eq!(stage.client.hears_one("Z").await.status(), b'I');
        assert_at(began, 700);
        stage.assert_ends_well().await;
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_is_done_before_the_cancel_was_written_is_done() {
    let mut stage = Stage::new().await;
    stage.asks("SELECT 1").await;
    stage.client.says(say::sync()).await;
    // The cancel is on its way, and is not wanted any more.
    stage.backend.send(rows(1)).await;
    stage.client.hears("ZZ").await;
    stage.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn work_of_which_a_row_went_up_runs_on_and_is_not_heard() {
    let mut stage = Stage::new().await;
    stage.check_out(None).await;
    stage.asks("INSERT RETURNING").await;
    stage.backend.send(first_rows(1)).await;
    stage.client.hears("TD").await;
    let began = Instant::now();
    stage.client.says(say::sync()).await;
    stage.client.hears_nothing(ms(5000)).await;
    let notice = message::notice("by the way");
    stage
        .backend
        .send([message::rows(1000), notice, done("INSERT 0 1001", b'I')])
        .await;
    // What belongs to nobody's request is passed on; then both.
    stage.client.hears("NZZ").await;
    assert_at(began, 5000);
    stage.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn until_its_bound() {
    let mut stage = Stage::with(|builder| builder.finish_bound(ms(1000))).await;
    stage.asks("INSERT RETURNING").await;
    stage.backend.send(first_rows(1)).await;
    stage.client.hears("TD").await;
    let began = Instant::now();
    stage.client.says(say::sync()).await;
    stage.client.hears("Z").await;
    assert_at(began, 1000);
    stage.net.cancel().await.close();
    stage.backend.send(canceled(b'I')).await;
    stage.client.hears("Z").await;
    stage.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn inside_a_transaction_the_session_rolls_back() {
    let mut stage = Stage::new().await;
    stage.begin().await;
    stage.client.says(say::sync()).await;
    stage.backend.expect(Expect::query("ROLLBACK")).await;
    stage.client.hears_nothing(ms(100)).await;
    stage.backend.send(done("ROLLBACK", b'I')).await;
    assert_eq!(stage.client.hears_one("Z").await.status(), b'I');
    stage.check_out(None).await;
    stage.assert_ends_well().await;
}

/// A user's own ping looks the same. What he goes on with is no part of the
/// transaction that he believes in, and must not be stored by itself.
#[tokio::test(start_paused = true)]
async fn whoever_goes_on_in_a_transaction_that_was_rolled_back_is_told() {
    let mut stage = Stage::new().await;
    stage.check_out(None).await;
    stage.begin().await;
    stage.client.says(say::sync()).await;
    stage.backend.expect(Expect::query("ROLLBACK")).await;
    stage.backend.send(done("ROLLBACK", b'I')).await;
    stage.client.hears("Z").await;
    stage.client.says(say::query("INSERT")).await;
    let fails = "BEGIN; ROLLBACK TO \"pgdeadline: told as ended, so failed\"";
    stage.backend.expect(Expect::query(fails)).await;
    let no_such = message::error("3B001", "no such savepoint");
    stage
        .backend
        .send([no_such, message::ready_for_query(b'E')])
        .await;
    stage.backend.expect(Expect::query("INSERT")).await;
    let aborted = message::error("25P02", "current transaction is aborted");
    stage
        .backend
        .send([aborted, message::ready_for_query(b'E')])
        .await;
    stage.client.hears("EZ").await;
    // His own ROLLBACK puts an end to it.
    stage.asks("ROLLBACK").await;
    stage.backend.send(done("ROLLBACK", b'I')).await;
    stage.client.hears("CZ").await;
    stage.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn a_begin_that_was_left_leaves_no_transaction() {
    let mut stage = Stage::new().await;
    stage.asks("BEGIN").await;
    stage.client.says(say::sync()).await;
    stage.backend.send(done("BEGIN", b'T')).await;
    answer_cancels(&stage.net);
    stage.client.hears("Z").await;
    stage.backend.expect(Expect::query("ROLLBACK")).await;
    stage.backend.send(done("ROLLBACK", b'I')).await;
    assert_eq!(stage.client.hears_one("Z").await.status(), b'I');
    stage.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn the_clients_own_rollback_in_front_of_it_will_do() {
    let mut stage = Stage::new().await;
    stage.begin().await;
    stage
        .client
        .says([say::query("ROLLBACK"), say::sync()].concat())
        .await;
    stage.backend.expect(Expect::query("ROLLBACK")).await;
    stage.client.hears_nothing(ms(100)).await;
    stage.backend.send(done("ROLLBACK", b'I')).await;
    stage.client.hears("ZZ").await;
    stage.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn behind_a_query_of_its_transaction_the_rollback_waits() {
    let mut stage = Stage::new().await;
    let ctx = deadline(60_000);
    stage.check_out(Some(&ctx)).await;
    stage.begin().await;
    stage.asks(SLEEP).await;
    stage
        .client
        .says([say::query("ROLLBACK"), say::sync()].concat())
        .await;
    stage.client.hears("Z").await;
    stage.net.cancel().await.close();
    stage.backend.expect_silence(ms(40)).await;
    stage.backend.send(canceled(b'E')).await;
    stage.backend.expect(Expect::query("ROLLBACK")).await;
    stage.backend.send(done("ROLLBACK", b'I')).await;
    let heard = stage.client.hears("ZZ").await;
    assert_eq!(heard[0].status(), b'I');
    stage.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_that_fails_retires_the_session() {
    let mut stage = Stage::new().await;
    stage.begin().await;
    stage.client.says(say::sync()).await;
    stage.backend.expect(Expect::query("ROLLBACK")).await;
    let error = message::error("XX000", "no");
    stage
        .backend
        .send([error, message::ready_for_query(b'E')])
        .await;
    let error = stage.client.is_told_and_closed("08006").await;
    assert!(error.is_retired(), "{error}");
    assert!(ended(stage.relay).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn behind_several_requests_each_has_its_ready_for_query() {
    let mut stage = Stage::new().await;
    stage.check_out(None).await;
    let said = [
        say::query("SELECT 1"),
        say::execute(),
        say::prepare("SELECT 3"),
        say::query("SELECT 4"),
    ];
    stage.client.says(said.concat()).await;
    for text in ["SELECT 1", "SELECT 4"] {
        while stage.backend.read().await.text() != Some(text) {}
    }
    stage.client.says(say::sync()).await;
    stage.client.hears("ZZZZ").await;
    answer_cancels(&stage.net);
    for status in [b'I'; 4] {
        stage.backend.send(canceled(status)).await;
    }
    stage.client.hears("Z").await;
    stage.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn what_stands_before_it_unwritten_is_never_written() {
    let mut stage = Stage::new().await;
    stage.check_out(None).await;
    let said = [say::query("UPDATE t"), say::execute(), say::sync()];
    stage.client.says(said.concat()).await;
    stage.client.hears("ZZZ").await;
    stage.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_half_read_is_read_to_the_end_of_its_message() {
    let mut stage = Stage::new().await;
    let row = message::data_row(&[Some(&[b'x'; 1000])]);
    stage.asks("SELECT long").await;
    stage
        .backend
        .send([
            message::row_description(&[("n", message::TEXT)]),
            row.first(100),
        ])
        .await;
    stage.client.hears("T").await;
    stage.client.says(say::sync()).await;
    stage.client.tries_to_hear(ms(10)).await;
    stage
        .backend
        .send([row.rest(100), message::rows(3), done("SELECT 4", b'I')])
        .await;
    stage.client.hears("DZZ").await;
    stage.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_become_clean_is_not_answered() {
    let mut stage = Stage::new().await;
    stage.check_out(None).await;
    stage.asks(SLEEP).await;
    let began = Instant::now();
    stage.client.says(say::sync()).await;
    stage.client.hears("Z").await;
    answer_cancels(&stage.net);
    let error = stage.client.is_told_and_closed("08006").await;
    assert_at(began, 2000);
    assert!(error.is_retired(), "{error}");
    assert!(ended(stage.relay).await.unwrap_err().is_retired());
    assert!(!stage.backend.wait_close().await);
}

#[tokio::test(start_paused = true)]
async fn behind_clean_up_that_the_server_never_answers_it_is_bounded_too() {
    let mut stage = Stage::new().await;
    stage.check_out(None).await;
    stage
        .client
        .says([say::close(), say::sync()].concat())
        .await;
    let began = Instant::now();
    let error = stage.client.is_told_and_closed("08006").await;
    assert_at(began, 2000);
    assert!(error.is_retired(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_caller_of_scope_has_its_error_and_the_return_none() {
    let mut stage = Stage::new().await;
    let ctx = deadline(100);
    stage.check_out(Some(&ctx)).await;
    stage.asks(SLEEP).await;
    stage.client.hears("EZ").await;
    answer_cancels(&stage.net);
    stage.client.says(say::sync()).await;
    stage.client.hears_nothing(ms(300)).await;
    stage.backend.send(canceled(b'I')).await;
    stage.client.hears("Z").await;
    stage.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn a_transaction_told_as_failed_is_nothing_to_the_next_holder() {
    let mut stage = Stage::new().await;
    let ctx = deadline(100);
    stage.check_out(Some(&ctx)).await;
    stage.begin().await;
    // Prepared: whether it ends the transaction only its answer tells.
    stage.client.says(say::prepare("COMMIT")).await;
    stage
        .backend
        .expect_all([Expect::parse("COMMIT"), Expect::describe(), Expect::sync()])
        .await;
    let heard = stage.client.hears("EZ").await;
    assert_eq!(heard[1].status(), b'E');
    stage.net.cancel().await.close();
    stage.backend.send(done("COMMIT", b'I')).await;
    sleep(ms(10)).await;
    stage.give_back().await;
    stage.check_out(None).await;
    stage.serves_on().await;
    stage.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_may_stand_right_behind_it() {
    let mut stage = Stage::new().await;
    let ctx = deadline(100);
    stage.check_out(Some(&ctx)).await;
    stage.asks(SLEEP).await;
    stage
        .client
        .says([say::sync(), say::query("SELECT 2")].concat())
        .await;
    stage.client.hears("Z").await;
    answer_cancels(&stage.net);
    stage.backend.expect_silence(ms(300)).await;
    stage.backend.send(canceled(b'I')).await;
    stage.client.hears("Z").await;
    stage.backend.expect(Expect::query("SELECT 2")).await;
    // Outside that check-out, and its deadline.
    stage.backend.send(rows(1)).await;
    stage.client.hears("TDCZ").await;
    stage.assert_ends_well().await;
}
