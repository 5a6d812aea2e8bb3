//! What a review found: each a bug once.

use std::pin::pin;
use std::task::Waker;

use pgdeadline::Context;
use pgdeadline_tests::scripted::{Expect, message};
use tokio::time::{sleep, timeout};

use crate::stage::*;

fn advance_without_yield(by: u64) {
    let mut advance = pin!(tokio::time::advance(ms(by)));
    let _ = advance
        .as_mut()
        .poll(&mut std::task::Context::from_waker(Waker::noop()));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_nobody_noticed_is_noticed_at_a_check_out() {
    let stage = Stage::new().await;
    let session = stage.session.clone();
    let ctx = deadline(100);
    check_out(&session, &ctx).await;
    advance_without_yield(150);
    session.check_out(Some(&ctx)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_nobody_noticed_is_noticed_by_an_operation() {
    let stage = Stage::new().await;
    let session = stage.session.clone();
    let ctx = deadline(100);
    check_out(&session, &ctx).await;
    advance_without_yield(150);
    assert!(session.operation(&ctx).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_is_over_leaves_no_promise_behind() {
    let stage = Stage::new().await;
    let session = stage.session.clone();
    let ctx = deadline(100);
    let began = tokio::time::Instant::now();
    let op = session.operation(&ctx).await.unwrap();
    drop(op);
    sleep(ms(10)).await;
    let r = timeout(ms(10_000), ctx.run(std::future::pending::<()>())).await;
    assert!(
        began.elapsed() < ms(200),
        "run came back {:?} {:?}",
        began.elapsed(),
        r.is_ok()
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_on_the_second_check_out_of_one_context_is_told_as_sent() {
    let Stage {
        session,
        client,
        mut backend,
        ..
    } = Stage::new().await;
    let ctx = Context::background().child();
    let (result, ()) = tokio::join!(
        ctx.run(async {
            let cur = Context::current().unwrap();
            check_out(&session, &cur).await;
            let st = client.prepare("SELECT 1").await.unwrap();
            let up = client.prepare("UPDATE t").await.unwrap();
            drop(st);
            sleep(ms(1)).await;
            session.check_out(Some(&cur)).await.unwrap();
            client.execute(&up, &[]).await
        }),
        async {
            backend.answer_prepare("SELECT 1", &[], &[]).await;
            backend.answer_prepare("UPDATE t", &[], &[]).await;
            sleep(ms(50)).await;
            ctx.cancel_with("enough");
        }
    );
    let error = end_of(result);
    eprintln!(
        "{error} sent={:?} retry_safe={} phase={:?}",
        error.was_sent(),
        error.is_retry_safe(),
        error.phase()
    );
    // What did the server get?
    backend.expect(Expect::close()).await;
    backend.expect(Expect::sync()).await;
    backend.expect(Expect::bind()).await;
    assert_ne!(error.was_sent(), Some(false));
}

#[tokio::test(start_paused = true)]
async fn an_impossible_message_leaves_no_work_behind() {
    let Stage {
        net,
        client,
        mut backend,
        connection,
        ..
    } = Stage::new().await;
    let (result, ()) = tokio::join!(client.simple_query(SLEEP), async {
        backend.expect(Expect::query(SLEEP)).await;
        backend.send(message::raw(&b"?\0\0\0\x04"[..])).await;
    });
    assert!(result.is_err() && connection.await.unwrap().is_err());
    net.cancel().await.close();
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_reset_leaves_no_work_behind() {
    let Stage {
        net,
        client,
        mut backend,
        connection,
        ..
    } = Stage::new().await;
    let (result, ()) = tokio::join!(client.simple_query(SLEEP), async {
        backend.expect(Expect::query(SLEEP)).await;
        backend.reset();
    });
    assert!(result.is_err() && connection.await.unwrap().is_err());
    net.cancel().await.close();
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_reset_while_ended_work_drains_closes_the_session() {
    let Stage {
        net,
        client,
        mut backend,
        session,
        connection,
        ..
    } = Stage::new().await;
    ended_at_200(&client, &mut backend).await;
    let cancel = net.cancel().await;
    backend.reset();
    session.closed().await;
    assert!(connection.await.unwrap().is_err());
    cancel.close();
}
