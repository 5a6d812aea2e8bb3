//! Rule 5, persistent: a signal that was lost is sent again.

use pgdeadline_tests::scripted::{DialOutcome, Expect};
use tokio::time::{Instant, sleep};

use crate::stage::*;

#[tokio::test(start_paused = true)]
async fn a_lost_signal_is_sent_again_with_back_off_until_the_grace() {
    let Stage {
        net,
        client,
        mut backend,
        ..
    } = Stage::new().await;
    let began = ended_at_200(&client, &mut backend).await;
    // 50, 100, 200, then 500 ms after each EOF.
    for at in [200, 250, 350, 550, 1050, 1550, 2050] {
        let cancel = net.cancel().await;
        assert_at(began, at);
        cancel.close();
    }
    assert!(!backend.wait_close().await);
    assert_at(began, 2200);
}

#[tokio::test(start_paused = true)]
async fn it_is_not_sent_again_once_the_work_is_done() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let began = ended_at_200(&client, &mut backend).await;
    net.cancel().await.close();
    net.cancel().await.close();
    assert_at(began, 250);
    backend.send(canceled(b'I')).await;
    sleep(ms(5000)).await;
    net.assert_quiet().await;
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn the_pause_is_counted_from_the_attempts_end() {
    let Stage {
        net,
        client,
        mut backend,
        ..
    } = Stage::new().await;
    let began = ended_at_200(&client, &mut backend).await;
    let first = net.cancel().await;
    // Attempts never overlap: while one has no EOF there is no other.
    sleep(ms(400)).await;
    net.assert_quiet().await;
    first.close();
    net.cancel().await.close();
    assert_at(began, 650);
}

#[tokio::test(start_paused = true)]
async fn a_dial_that_is_refused_is_tried_again() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    net.next_dials([DialOutcome::Refuse, DialOutcome::Refuse]);
    let began = ended_at_200(&client, &mut backend).await;
    let cancel = net.cancel().await;
    assert_at(began, 350);
    backend.send(canceled(b'I')).await;
    cancel.close();
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn each_end_begins_with_the_shortest_pause() {
    let Stage {
        net,
        client,
        mut backend,
        ..
    } = Stage::with(|builder| builder.resend([ms(10), ms(20), ms(40), ms(80)])).await;
    for _ in 0..3 {
        let (began, ctx) = (Instant::now(), deadline(200));
        end_of(ctx.run(client.batch_execute(SLEEP)).await);
        backend.expect(Expect::query(SLEEP)).await;
        for at in [200, 210, 230, 270, 350] {
            let cancel = net.cancel().await;
            assert_at(began, at);
            cancel.close();
        }
        backend.send(canceled(b'I')).await;
        serves_on(&client, &mut backend).await;
    }
}
