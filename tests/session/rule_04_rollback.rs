//! Rule 4, the transaction: a check-out that is over leaves none open, an
//! operation's end leaves its caller's open.

use pgdeadline::Context;
use pgdeadline_tests::scripted::Expect;
use tokio::time::sleep;

use crate::stage::*;

#[tokio::test(start_paused = true)]
async fn a_transaction_left_open_at_check_in_is_rolled_back_by_the_session() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    begin(&client, &mut backend).await;
    session.check_in();
    let (checked_out, ()) = tokio::join!(session.check_out(None), async {
        backend.expect(Expect::query("ROLLBACK")).await;
        sleep(ms(20)).await;
        backend.send(done("ROLLBACK", b'I')).await;
    });
    checked_out.unwrap();
    serves_on(&client, &mut backend).await;
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn after_an_end_the_open_transaction_is_rolled_back_once_the_check_out_is_over() {
    let mut stage = Stage::new().await;
    let ctx = deadline(200);
    check_out(&stage.session, &ctx).await;
    let failed = canceled(b'E');
    stage.end_in_transaction(None, SLEEP, failed).await;
    let Stage {
        client,
        session,
        mut backend,
        ..
    } = stage;
    backend.expect_silence(ms(1000)).await;
    session.check_in();
    rolls_back(&mut backend).await;
    session.check_out(None).await.unwrap();
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn the_callers_own_rollback_is_enough() {
    let mut stage = Stage::new().await;
    let ctx = deadline(200);
    check_out(&stage.session, &ctx).await;
    let failed = canceled(b'E');
    stage.end_in_transaction(None, SLEEP, failed).await;
    let Stage {
        client,
        session,
        mut backend,
        ..
    } = stage;
    let (rolled_back, ()) =
        tokio::join!(client.batch_execute("ROLLBACK"), rolls_back(&mut backend));
    rolled_back.unwrap();
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn an_operations_end_leaves_its_callers_transaction_open_but_failed() {
    let mut stage = Stage::new().await;
    let outer = Context::background().child();
    check_out(&stage.session, &outer).await;
    let inner = outer.with_timeout(ms(200));
    let failed = canceled(b'E');
    stage.end_in_transaction(Some(&inner), SLEEP, failed).await;
    let Stage {
        client,
        session,
        mut backend,
        ..
    } = stage;
    backend.expect_silence(ms(5000)).await;
    let rolled_back = execute(
        &client,
        &mut backend,
        "ROLLBACK TO sp",
        done("ROLLBACK", b'T'),
    )
    .await;
    rolled_back.unwrap();
    let committed = execute(&client, &mut backend, "COMMIT", done("COMMIT", b'I')).await;
    committed.unwrap();
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn a_begin_that_was_told_as_ended_and_took_effect_is_rolled_back() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let ctx = deadline(200);
    let error = ctx.scope(client.batch_execute("BEGIN")).await.unwrap_err();
    assert!(told(error).is_deadline());
    backend.expect(Expect::query("BEGIN")).await;
    // It won against the cancel. Its caller believes to be outside.
    net.cancel().await.close();
    backend.send(done("BEGIN", b'T')).await;
    rolls_back(&mut backend).await;
    serves_on(&client, &mut backend).await;
    is_clean(&session).await;
}
