//! A server that goes away, at every point.

use pgdeadline_tests::scripted::{Expect, message};
use tokio::time::sleep;

use crate::say;
use crate::stage::*;

#[tokio::test(start_paused = true)]
async fn idle() {
    for resets in [false, true] {
        let Stage {
            net,
            mut client,
            backend,
            relay,
            ..
        } = Stage::new().await;
        match resets {
            true => backend.reset(),
            false => backend.close(),
        }
        let error = client.is_told_and_closed("08006").await;
        assert!(error.is_retired(), "{error}");
        assert!(ended(relay).await.unwrap_err().is_retired());
        net.assert_quiet().await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_last_word() {
    let Stage {
        mut client,
        mut backend,
        relay,
        ..
    } = Stage::new().await;
    let last = message::fatal("57P01", "terminating connection");
    backend.send(last).await;
    backend.close();
    let heard = client.hears_out().await;
    assert_eq!(heard[0].field(b'C'), "57P01");
    assert!(ended(relay).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn with_work_in_flight() {
    for resets in [false, true] {
        let Stage {
            net,
            mut client,
            mut backend,
            relay,
            ..
        } = Stage::new().await;
        client.says(say::query(SLEEP)).await;
        backend.expect(Expect::query(SLEEP)).await;
        backend.send(first_rows(1)).await;
        client.hears("TD").await;
        match resets {
            true => backend.reset(),
            false => backend.close(),
        }
        client.is_told_and_closed("08006").await;
        assert!(ended(relay).await.is_err());
        // A server that closes is done with it; one that was cut off may not be.
        if resets {
            net.cancel().await.close();
        }
        net.assert_quiet().await;
    }
}

#[tokio::test(start_paused = true)]
async fn while_a_return_waits() {
    let Stage {
        net,
        mut client,
        mut backend,
        relay,
        ..
    } = Stage::new().await;
    client.says(say::query(SLEEP)).await;
    backend.expect(Expect::query(SLEEP)).await;
    client.says(say::sync()).await;
    client.hears("Z").await;
    net.cancel().await.close();
    backend.close();
    client.is_told_and_closed("08006").await;
    assert!(ended(relay).await.is_err());
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn in_the_middle_of_a_message() {
    let row = message::data_row(&[Some(&[b'x'; 1000])]);
    for cut in [1, 4, 5, 100] {
        let Stage {
            mut client,
            mut backend,
            relay,
            ..
        } = Stage::new().await;
        client.says(say::query("SELECT 1")).await;
        backend.expect(Expect::query("SELECT 1")).await;
        backend.send(row.first(cut)).await;
        sleep(ms(10)).await;
        backend.close();
        // Nothing can be said inside of that message.
        assert_eq!(client.reads_out().await, row.bytes()[..cut]);
        assert!(ended(relay).await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_client_has_left() {
    let Stage {
        net,
        mut client,
        mut backend,
        relay,
        ..
    } = Stage::new().await;
    client.says(say::query("INSERT RETURNING")).await;
    backend.expect(Expect::query("INSERT RETURNING")).await;
    backend.send(first_rows(1)).await;
    client.hears("TD").await;
    drop(client);
    sleep(ms(100)).await;
    backend.close();
    ended(relay).await.unwrap();
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_binding_on_it_is_not_answered() {
    let mut stage = Stage::new().await;
    stage.check_out(None).await;
    stage.give_back().await;
    stage.backend.close();
    let binding = pgdeadline::relay::Binding::check_out(None);
    stage.client.says(say::query(&binding.statement())).await;
    // So sqlx replaces it.
    stage.client.hears_one("E").await;
    assert!(ended(stage.relay).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_black_hole_is_noticed_by_a_deadline() {
    let mut stage = Stage::new().await;
    let ctx = deadline(100);
    stage.check_out(Some(&ctx)).await;
    stage.client.says(say::query(SLEEP)).await;
    let heard = stage.client.hears("EZ").await;
    assert!(heard[0].error().is_deadline());
    stage.client.says(say::sync()).await;
    answer_cancels(&stage.net);
    let error = stage.client.is_told_and_closed("08006").await;
    assert!(error.is_retired(), "{error}");
    assert!(ended(stage.relay).await.is_err());
}
