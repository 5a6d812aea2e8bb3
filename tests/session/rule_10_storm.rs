//! Rule 10, no storm: cancels to one server are capped.

use std::time::Duration;

use pgdeadline::Context;
use pgdeadline_tests::scripted::{Cancel, Net};
use tokio::time::sleep;

use crate::stage::*;

/// The cancels that have come, and no more after them.
async fn cancels(net: &Net) -> Vec<Cancel> {
    sleep(Duration::from_millis(5)).await;
    std::iter::from_fn(|| net.try_cancel()).collect()
}

#[tokio::test(start_paused = true)]
async fn of_twenty_sessions_that_end_at_once_eight_have_a_cancel_under_way() {
    let net = Net::new();
    let connector = over(&net).build().unwrap();
    let mut stages = Vec::new();
    for _ in 0..20 {
        stages.push(Stage::open(net.clone(), connector.clone()).await);
    }
    let (request, mut backends) = (Context::background().child(), Vec::new());
    let mut queries = tokio::task::JoinSet::new();
    for Stage {
        client, backend, ..
    } in stages
    {
        let request = request.context().clone();
        backends.push(backend);
        queries.spawn(async move {
            let ended = request.run(client.batch_execute(SLEEP)).await;
            (end_of(ended), client)
        });
    }
    sleep(ms(10)).await;
    request.cancel();
    let ended = queries.join_all().await;
    assert!(ended.iter().all(|(error, _)| error.is_cancelled()));
    let first = cancels(&net).await;
    assert_eq!(first.len(), 8);
    assert_eq!(net.dials(), 20 + 8);
    // One that is over makes room for one, until each has had its own.
    let (mut open, mut sent) = (first, 8);
    while sent < 20 {
        open.pop().expect("one of eight").close();
        let more = cancels(&net).await;
        assert_eq!(more.len(), 1);
        sent += 1;
        open.extend(more);
        assert_eq!(open.len(), 8);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_whose_work_finished_while_it_waited_for_its_turn_is_not_sent() {
    let net = Net::new();
    let connector = over(&net).cancel_dials(1).build().unwrap();
    let first = Stage::open(net.clone(), connector.clone()).await;
    let mut second = Stage::open(net.clone(), connector).await;
    let (early, late) = (deadline(200), deadline(210));
    let (one, other) = tokio::join!(
        early.run(first.client.batch_execute(SLEEP)),
        late.run(second.client.batch_execute(SLEEP)),
    );
    assert!(end_of(one).is_deadline() && end_of(other).is_deadline());
    let cancel = net.cancel().await;
    second.backend.read().await;
    second.backend.send(rows(1)).await;
    is_clean(&second.session).await;
    cancel.close();
    // The gate is free again, and only the first one's cancel may come.
    sleep(ms(20)).await;
    net.assert_quiet().await;
    serves_on(&second.client, &mut second.backend).await;
    drop(first);
}
