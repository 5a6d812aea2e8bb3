//! Rule 3, aimed: a cancel can find nobody else's query.

use pgdeadline_tests::scripted::{Expect, Net, message};
use tokio::time::{Instant, sleep};

use crate::stage::*;

#[tokio::test(start_paused = true)]
async fn no_byte_of_a_later_request_goes_out_until_drained_and_the_attempt_over() {
    let Stage {
        net,
        client,
        mut backend,
        ..
    } = Stage::new().await;
    ended_at_200(&client, &mut backend).await;
    let (next, ()) = tokio::join!(client.simple_query("SELECT 'later'"), async {
        let cancel = net.cancel().await;
        backend.expect_silence(ms(300)).await;
        backend.send(canceled(b'I')).await;
        backend.expect_silence(ms(300)).await;
        cancel.close();
        backend.expect(Expect::query("SELECT 'later'")).await;
        backend.send(rows(1)).await;
    });
    assert_eq!(next.unwrap().len(), 3);
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn after_eof_a_later_request_still_waits_for_the_drain() {
    let Stage {
        net,
        client,
        mut backend,
        ..
    } = Stage::new().await;
    ended_at_200(&client, &mut backend).await;
    let (next, ()) = tokio::join!(client.simple_query("SELECT 'later'"), async {
        net.cancel().await.close();
        backend.expect_silence(ms(40)).await;
        backend.send(canceled(b'I')).await;
        backend.expect(Expect::query("SELECT 'later'")).await;
        backend.send(rows(1)).await;
    });
    assert_eq!(next.unwrap().len(), 3);
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn no_cancel_is_sent_when_the_work_finished_while_it_was_dialled() {
    let net = Net::new();
    let dial = SlowDial::new(&net);
    let Stage {
        client,
        session,
        mut backend,
        ..
    } = Stage::on(net.clone(), |builder| builder.dial(dial.clone())).await;
    dial.takes(50);
    let (began, ctx) = (Instant::now(), deadline(200));
    let error = end_of(ctx.run(client.batch_execute(SLEEP)).await);
    assert!(error.is_deadline(), "{error}");
    backend.expect(Expect::query(SLEEP)).await;
    sleep(ms(30)).await;
    backend.send(rows(1)).await;
    // The dial has come to nothing, and nobody waits for it.
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
    assert!(began.elapsed() < ms(240), "{:?}", began.elapsed());
    sleep(ms(1000)).await;
    assert_eq!(net.dials(), 2, "it was dialled");
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_that_connects_too_late_does_not_find_the_next_query() {
    let net = Net::new();
    let dial = SlowDial::new(&net);
    let Stage {
        client,
        mut backend,
        ..
    } = Stage::on(net.clone(), |builder| builder.dial(dial.clone())).await;
    dial.takes(50);
    ended_at_200(&client, &mut backend).await;
    backend.send(rows(1)).await;
    // In flight while the dial connects, and innocent.
    let (next, ()) = tokio::join!(client.simple_query("SELECT 'later'"), async {
        backend.expect(Expect::query("SELECT 'later'")).await;
        sleep(ms(1000)).await;
        net.assert_quiet().await;
        backend.send(rows(1)).await;
    });
    next.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_dial_that_was_given_up_is_not_the_next_ends_dial() {
    let net = Net::new();
    let dial = SlowDial::new(&net);
    let Stage {
        client,
        session,
        mut backend,
        ..
    } = Stage::on(net.clone(), |builder| builder.dial(dial.clone())).await;
    dial.takes(500);
    let first = deadline(200);
    end_of(first.run(client.batch_execute(SLEEP)).await);
    backend.expect(Expect::query(SLEEP)).await;
    backend.send(rows(1)).await;
    // Ends while the first dial is under way, and dials anew.
    dial.takes(10);
    let second = deadline(100);
    end_of(second.run(client.batch_execute(SLEEP)).await);
    is_made_to_cancel(&net, &mut backend, SLEEP, canceled(b'I')).await;
    sleep(ms(1000)).await;
    net.assert_quiet().await;
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_transactions_rollback_is_written_alone_and_never_cancelled() {
    let Stage {
        net,
        mut client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let ctx = deadline(200);
    let (result, ()) = tokio::join!(
        ctx.run(async {
            let transaction = client.transaction().await?;
            transaction.batch_execute(SLEEP).await
        }),
        async {
            backend.expect(Expect::query("START TRANSACTION")).await;
            backend.send(done("BEGIN", b'T')).await;
            backend.expect(Expect::query(SLEEP)).await;
        }
    );
    assert!(end_of(result).is_deadline());
    // Dropped with the future, the transaction has queued its ROLLBACK.
    let cancel = net.cancel().await;
    backend.expect_silence(ms(100)).await;
    backend.send(canceled(b'E')).await;
    backend.expect_silence(ms(100)).await;
    cancel.close();
    backend.expect(Expect::query("ROLLBACK")).await;
    // In flight for long, and nobody cancels it.
    backend.expect_silence(ms(1500)).await;
    net.assert_quiet().await;
    backend.send(done("ROLLBACK", b'I')).await;
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_waits_until_nothing_is_in_flight_although_nothing_has_ended() {
    let Stage {
        net,
        mut client,
        mut backend,
        ..
    } = Stage::new().await;
    // Somebody's own time-out: no context has ended, and the work goes on.
    let work = tokio::time::timeout(ms(200), async {
        let transaction = client.transaction().await?;
        transaction.batch_execute(SLEEP).await
    });
    let (timed_out, ()) = tokio::join!(work, async {
        backend.expect(Expect::query("START TRANSACTION")).await;
        backend.send(done("BEGIN", b'T')).await;
        backend.expect(Expect::query(SLEEP)).await;
    });
    assert!(timed_out.is_err());
    backend.expect_silence(ms(500)).await;
    backend.send(done("SELECT 1", b'T')).await;
    rolls_back(&mut backend).await;
    serves_on(&client, &mut backend).await;
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_statements_close_is_written_although_its_context_has_ended() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let ctx = deadline(200);
    let (result, ()) = tokio::join!(
        ctx.run(async {
            let statement = client.prepare("SELECT 1").await?;
            client.execute(&statement, &[]).await
        }),
        async {
            backend.answer_prepare("SELECT 1", &[], &[]).await;
            backend.expect_execution().await;
            backend.send(message::bind_complete()).await;
        }
    );
    assert!(end_of(result).is_deadline());
    let cancel = net.cancel().await;
    backend.expect_silence(ms(50)).await;
    backend.send(canceled(b'I')).await;
    cancel.close();
    backend.expect_all([Expect::close(), Expect::sync()]).await;
    net.assert_quiet().await;
    backend
        .send([message::close_complete(), message::ready_for_query(b'I')])
        .await;
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
}
