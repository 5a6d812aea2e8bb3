//! Check-outs that a client binds to a context by a statement, and what is asked
//! outside of any.

use futures_util::FutureExt;
use pgdeadline::Context;
use pgdeadline::relay::Binding;
use pgdeadline_tests::scripted::{Expect, message};
use tokio::time::Instant;

use crate::say;
use crate::stage::*;

#[tokio::test(start_paused = true)]
async fn a_check_outs_deadline_ends_its_work_on_the_server_and_for_the_client() {
    let mut stage = Stage::new().await;
    let ctx = deadline(200);
    let began = Instant::now();
    stage.check_out(Some(&ctx)).await;
    stage.asks(SLEEP).await;
    let heard = stage.client.hears("EZ").await;
    assert_at(began, 200);
    let error = heard[0].error();
    assert!(error.is_deadline() && !error.is_inherited(), "{error}");
    assert_eq!(
        (error.was_sent(), heard[0].field(b'C')),
        (Some(true), "57014".into())
    );
    assert_eq!(heard[1].status(), b'I');
    let cancel = stage.net.cancel().await;
    assert_eq!((cancel.pid(), cancel.key()), (PID, &KEY.to_be_bytes()[..]));
    assert_at(began, 200);
    cancel.close();
    // What comes later under the same context is told the same.
    stage.client.says(say::query("UPDATE t")).await;
    let heard = stage.client.hears("EZ").await;
    assert!(heard[0].error().is_deadline());
    assert_eq!(heard[0].error().was_sent(), Some(false));
    stage.backend.send(canceled(b'I')).await;
    stage.client.hears_nothing(ms(1000)).await;
    stage.give_back().await;
    stage.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn whom_run_brings_back_hears_nothing_until_the_connection_is_returned() {
    let mut stage = Stage::new().await;
    let ctx = deadline(200);
    let began = Instant::now();
    let brought_back = ctx
        .run(async {
            let current = Context::current();
            stage.check_out(current.as_ref()).await;
            stage.asks(SLEEP).await;
            stage.client.hears("nothing").await
        })
        .await;
    assert!(brought_back.unwrap_err().is_deadline());
    assert_at(began, 200);
    answer_cancels(&stage.net);
    stage.client.hears_nothing(ms(100)).await;
    stage.client.says(say::sync()).await;
    assert_eq!(stage.client.hears_one("Z").await.status(), b'I');
    // Clean only once the server has stopped.
    stage.client.hears_nothing(ms(200)).await;
    stage.backend.send(canceled(b'I')).await;
    assert_eq!(stage.client.hears_one("Z").await.status(), b'I');
    stage.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_not_brought_back_after_all_is_told() {
    let mut stage = Stage::new().await;
    let ctx = deadline(200);
    let began = Instant::now();
    let handed_out = ctx.run(async { Context::current().unwrap() }).await;
    // Its `run` has returned, so that context is finished: another, held.
    drop(handed_out);
    let (tell, told) = tokio::sync::oneshot::channel();
    let running = tokio::spawn(async move {
        let inner = ctx.run(async {
            tell.send(Context::current().unwrap()).ok();
            std::future::pending::<()>().await;
        });
        inner.await.unwrap_err()
    });
    let bound = told.await.unwrap();
    stage.check_out(Some(&bound)).await;
    stage.asks(SLEEP).await;
    // Its `run` lets go, but this client does not.
    let heard = stage.client.hears("EZ").await;
    assert_at(began, 400);
    assert!(heard[0].error().is_deadline());
    assert!(running.await.unwrap().is_deadline());
    stage.net.cancel().await.close();
    stage.backend.send(canceled(b'I')).await;
    stage.give_back().await;
    stage.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn a_binding_that_is_gone_or_never_was_is_refused() {
    let mut stage = Stage::new().await;
    let ctx = Context::background();
    let gone = Binding::check_out(Some(&ctx));
    let statements = [
        "pgdeadline check out 0000000000000001".to_string(),
        gone.statement().to_string(),
    ];
    drop(gone);
    for statement in statements {
        stage.client.says(say::query(&statement)).await;
        let heard = stage.client.hears("EZ").await;
        assert_eq!(heard[0].field(b'C'), "42602", "{heard:?}");
        assert_eq!(heard[1].status(), b'I');
        stage.serves_on().await;
    }
    // Of an operation nobody hears any more, and an error would be taken for that
    // of what is asked next.
    let gone = Binding::operation(&ctx);
    let statement = gone.statement().to_string();
    drop(gone);
    stage.client.says(say::query(&statement)).await;
    stage.client.hears("Z").await;
    stage.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn a_binding_dropped_while_its_statement_waits_is_refused() {
    let mut stage = Stage::new().await;
    stage.asks(SLEEP).await;
    let ctx = deadline(10_000);
    let binding = Binding::check_out(Some(&ctx));
    stage.client.says(say::query(&binding.statement())).await;
    stage.net.cancel().await.close();
    drop(binding);
    stage.backend.send(canceled(b'I')).await;
    let heard = stage.client.hears("ZEZ").await;
    assert_eq!(heard[1].field(b'C'), "42602");
    stage.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn a_check_out_ends_the_one_before_it_and_waits_until_that_is_clean() {
    let mut stage = Stage::new().await;
    stage.check_out(None).await;
    stage.begin().await;
    stage.asks(SLEEP).await;
    let (began, ctx) = (Instant::now(), deadline(500));
    let binding = Binding::check_out(Some(&ctx));
    stage.client.says(say::query(&binding.statement())).await;
    // Nobody heard the end of the old one.
    stage.client.hears("Z").await;
    stage.net.cancel().await.close();
    stage.backend.send(canceled(b'E')).await;
    stage.backend.expect(Expect::query("ROLLBACK")).await;
    stage.client.hears_nothing(ms(100)).await;
    stage.backend.send(done("ROLLBACK", b'I')).await;
    is_bound(&mut stage.client, &binding).await;
    stage.asks(SLEEP).await;
    let heard = stage.client.hears("EZ").await;
    assert!(heard[0].error().is_deadline());
    assert_at(began, 500);
    stage.net.cancel().await.close();
    stage.backend.send(canceled(b'I')).await;
    stage.give_back().await;
    stage.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn under_a_context_that_has_ended_nothing_is_written() {
    let mut stage = Stage::new().await;
    let ctx = Context::background().child();
    ctx.cancel();
    stage.check_out(Some(&ctx)).await;
    stage.client.says(say::query("UPDATE t")).await;
    let heard = stage.client.hears("EZ").await;
    let error = heard[0].error();
    assert!(error.is_cancelled() && error.is_retry_safe(), "{error}");
    stage.backend.expect_silence(ms(1000)).await;
    stage.give_back().await;
    stage.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_outside_any_check_out_has_the_default_deadline() {
    let mut stage = Stage::with(|builder| builder.default_deadline(ms(300))).await;
    for _ in 0..2 {
        let began = Instant::now();
        stage.asks(SLEEP).await;
        let heard = stage.client.hears("EZ").await;
        assert_at(began, 300);
        assert!(heard[0].error().is_deadline());
        stage.net.cancel().await.close();
        stage.backend.send(canceled(b'I')).await;
        // Of one request, not of what comes after it.
        stage.serves_on().await;
        stage.give_back().await;
    }
    stage.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn a_sync_inside_a_lease_ends_it() {
    let mut stage = Stage::new().await;
    let ctx = deadline(100);
    stage.check_out(Some(&ctx)).await;
    stage.give_back().await;
    stage.asks(SLEEP).await;
    stage.client.hears_nothing(ms(500)).await;
    assert!(stage.net.cancel().now_or_never().is_none());
    stage.backend.send(rows(1)).await;
    stage.client.hears("TDCZ").await;
    stage.assert_ends_well().await;
}

#[tokio::test(start_paused = true)]
async fn what_only_looks_like_a_statement_of_ours_is_the_servers() {
    let mut stage = Stage::new().await;
    for text in [
        "pgdeadline check out",
        "pgdeadline operation 0000000000000001;",
    ] {
        stage.asks(text).await;
        let error = message::error("42601", "syntax error");
        stage
            .backend
            .send([error, message::ready_for_query(b'I')])
            .await;
        stage.client.hears("EZ").await;
    }
    // Prepared, it is the server's too.
    stage
        .client
        .says(say::prepare("pgdeadline check out 0000000000000001"))
        .await;
    stage
        .backend
        .answer_prepare("pgdeadline check out 0000000000000001", &[], &[])
        .await;
    stage.client.hears("1tnZ").await;
    stage.assert_ends_well().await;
}
