//! Operations that a client binds to a context of their own by a statement.

use pgdeadline::Context;
use pgdeadline::relay::Binding;
use pgdeadline_tests::scripted::{Expect, Message, message};
use tokio::time::{Instant, sleep};

use crate::say;
use crate::stage::*;

#[tokio::test(start_paused = true)]
async fn an_operation_takes_the_place_of_the_check_out() {
    let mut stage = Stage::new().await;
    let (outer, inner) = (deadline(1000), deadline(200));
    let began = Instant::now();
    stage.check_out(Some(&outer)).await;
    let binding = Binding::operation(&inner);
    stage.client.says(say::query(&binding.statement())).await;
    is_bound(&mut stage.client, &binding).await;
    let operation = binding.into_operation().expect("its hold");
    stage.asks(SLEEP).await;
    let heard = stage.client.hears("EZ").await;
    assert_at(began, 200);
    assert!(heard[0].error().is_deadline());
    stage.net.cancel().await.close();
    drop(operation);
    // The check-out lives: what is asked now waits for the drain and is done.
    stage.client.says(say::query("SELECT 2")).await;
    stage.backend.expect_silence(ms(20)).await;
    stage.backend.send(canceled(b'I')).await;
    stage.backend.expect(Expect::query("SELECT 2")).await;
    stage.backend.send(rows(2)).await;
    stage.client.hears("TDDCZ").await;
    stage.give_back().await;
    stage.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_has_ended_inside_a_transaction_fails_it() {
    let mut stage = Stage::new().await;
    stage.check_out(None).await;
    stage.begin().await;
    let inner = deadline(200);
    let binding = Binding::operation(&inner);
    stage.client.says(say::query(&binding.statement())).await;
    let heard = stage.client.hears("CZ").await;
    assert_eq!(heard[1].status(), b'T', "as the transaction is");
    let operation = binding.into_operation().unwrap();
    stage.asks("UPDATE t").await;
    let heard = stage.client.hears("EZ").await;
    assert_eq!(heard[1].status(), b'E');
    // The cancel came too late.
    stage.net.cancel().await.close();
    stage.backend.send(done("UPDATE 1", b'T')).await;
    drop(operation);
    stage.client.says(say::query("COMMIT")).await;
    let failing = stage.backend.read().await;
    assert!(failing.text().unwrap().starts_with("ROLLBACK TO"));
    stage
        .backend
        .send([
            message::error("3B001", "no such savepoint"),
            message::ready_for_query(b'E'),
        ])
        .await;
    stage.backend.expect(Expect::query("COMMIT")).await;
    stage.backend.send(done("ROLLBACK", b'I')).await;
    stage.client.hears("CZ").await;
    stage.give_back().await;
    stage.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn an_operation_may_begin_while_the_one_before_it_drains() {
    let mut stage = Stage::new().await;
    stage.check_out(None).await;
    let began = Instant::now();
    let first = deadline(100);
    let binding = Binding::operation(&first);
    stage.client.says(say::query(&binding.statement())).await;
    is_bound(&mut stage.client, &binding).await;
    let operation = binding.into_operation();
    stage.asks(SLEEP).await;
    stage.client.hears("EZ").await;
    drop(operation);
    let second = deadline(10_000);
    let binding = Binding::operation(&second);
    stage.client.says(say::query(&binding.statement())).await;
    is_bound(&mut stage.client, &binding).await;
    assert_at(began, 100);
    let operation = binding.into_operation();
    stage.client.says(say::query("SELECT 2")).await;
    stage.net.cancel().await.close();
    stage.backend.expect_silence(ms(30)).await;
    stage.backend.send(canceled(b'I')).await;
    stage.backend.expect(Expect::query("SELECT 2")).await;
    stage.backend.send(rows(0)).await;
    stage.client.hears("TCZ").await;
    drop(operation);
    stage.give_back().await;
    stage.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn an_operation_within_a_check_out_that_has_ended_is_refused_with_its_end() {
    let mut stage = Stage::new().await;
    let outer = deadline(100);
    stage.check_out(Some(&outer)).await;
    sleep(ms(200)).await;
    let binding = Binding::operation(&Context::background());
    stage.client.says(say::query(&binding.statement())).await;
    let heard = stage.client.hears("EZ").await;
    assert!(heard[0].error().is_deadline());
    assert!(binding.into_operation().is_none());
    stage.give_back().await;
    stage.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn an_operation_nobody_waits_for_is_over_at_once() {
    let mut stage = Stage::new().await;
    stage.check_out(None).await;
    let inner = Context::background().child();
    let binding = Binding::operation(&inner);
    stage.client.says(say::query(&binding.statement())).await;
    is_bound(&mut stage.client, &binding).await;
    drop(binding);
    inner.cancel();
    stage.serves_on().await;
    stage.give_back().await;
    stage.assert_ends_well().await;
}

/// An operation whose caller `run` brings back, and what of it is left.
async fn brought_back_from(stage: &mut Stage, text: &str, come: Option<Message>) {
    let inner = deadline(100);
    let brought_back = inner.run(async {
        let binding = Binding::operation(&Context::current().unwrap());
        stage.client.says(say::query(&binding.statement())).await;
        is_bound(&mut stage.client, &binding).await;
        let _operation = binding.into_operation();
        stage.asks(text).await;
        if let Some(come) = come {
            stage.backend.send(come).await;
        }
        std::future::pending::<()>().await;
    });
    assert!(brought_back.await.unwrap_err().is_deadline());
}

#[tokio::test(start_paused = true)]
async fn of_an_operation_whose_caller_was_brought_back_only_ready_for_query_is_heard() {
    let mut stage = Stage::new().await;
    stage.check_out(None).await;
    brought_back_from(&mut stage, SLEEP, None).await;
    // In the place of the answer that nobody reads; then the next one's.
    stage.client.says(say::query("SELECT 2")).await;
    stage.client.hears("Z").await;
    stage.net.cancel().await.close();
    stage.backend.send(canceled(b'I')).await;
    stage.backend.expect(Expect::query("SELECT 2")).await;
    stage.backend.send(rows(1)).await;
    stage.client.hears("TDCZ").await;
    stage.give_back().await;
    stage.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn an_operation_left_before_its_copy_has_begun_leaves_its_client_miscounting() {
    let mut stage = Stage::new().await;
    stage.check_out(None).await;
    brought_back_from(&mut stage, "COPY t TO STDOUT", None).await;
    let error = stage.client.is_told_and_closed("08006").await;
    assert!(error.is_retired(), "{error}");
    assert!(ended(stage.relay).await.is_err());
    // The operation's, and one for what is left behind.
    stage.net.cancel().await.close();
    stage.net.cancel().await.close();
    stage.net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn an_operation_left_inside_its_copy_leaves_its_client_miscounting() {
    let mut stage = Stage::new().await;
    stage.check_out(None).await;
    let begun = [message::copy_out_response(), message::copy_data(b"1\n")].into();
    brought_back_from(&mut stage, "COPY t TO STDOUT", Some(begun)).await;
    stage.client.hears("Hd").await;
    let error = stage.client.is_told_and_closed("08006").await;
    assert!(error.is_retired(), "{error}");
    assert!(ended(stage.relay).await.is_err());
    answer_cancels(&stage.net);
}
