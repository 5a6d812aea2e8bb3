//! Rule 14, asked for: only an end cancels; what was abandoned is found.

use futures_util::TryStreamExt;
use pgdeadline::Context;
use pgdeadline_tests::scripted::{Backend, Expect, message};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Client, Error, SimpleQueryMessage};

use crate::stage::*;

const EFFECTS: &str = "SELECT effects()";

/// Asks for the first message of an answer, and leaves the rest.
async fn first_only(client: &Client) -> Result<SimpleQueryMessage, Error> {
    let stream = client.simple_query_raw(EFFECTS).await?;
    let mut stream = std::pin::pin!(stream);
    stream.try_next().await?;
    Ok(stream.try_next().await?.expect("a row"))
}

/// The server sends a first row, and works on.
async fn sends_a_row(backend: &mut Backend) {
    backend.expect(Expect::query(EFFECTS)).await;
    backend
        .send([
            message::row_description(&[("n", message::TEXT)]),
            message::rows(1),
        ])
        .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_when_a_context_finishes_runs_on_until_the_deadline() {
    let Stage {
        net,
        client,
        mut backend,
        session,
        ..
    } = Stage::new().await;
    let (began, ctx) = (Instant::now(), deadline(5000));
    let (first, ()) = tokio::join!(ctx.run(first_only(&client)), sends_a_row(&mut backend));
    first.unwrap().unwrap();
    // Nobody can end it any more but the time.
    ctx.cancel();
    backend.expect_silence(ms(4990)).await;
    net.assert_quiet().await;
    net.cancel().await.close();
    assert_at(began, 5000);
    backend.send(canceled(b'I')).await;
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn where_there_was_no_deadline_it_runs_on_until_the_finish_bound() {
    let Stage {
        net,
        client,
        mut backend,
        ..
    } = Stage::new().await;
    let ctx = Context::background().child();
    let (first, ()) = tokio::join!(ctx.run(first_only(&client)), sends_a_row(&mut backend));
    first.unwrap().unwrap();
    let began = Instant::now();
    net.cancel().await.close();
    assert_at(began, 30_000);
    backend.send(canceled(b'I')).await;
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn what_finishes_by_itself_is_left_alone() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let ctx = deadline(5000);
    let (first, ()) = tokio::join!(ctx.run(first_only(&client)), sends_a_row(&mut backend));
    first.unwrap().unwrap();
    sleep(ms(1000)).await;
    backend.send(done("SELECT 1", b'I')).await;
    sleep(ms(10_000)).await;
    net.assert_quiet().await;
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn abandoned_work_without_a_row_is_cancelled_at_check_in() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    for with_context in [false, true] {
        let outer = deadline(60_000);
        let context = with_context.then(|| outer.context());
        session.check_in();
        session.check_out(context).await.unwrap();
        // Somebody's own time-out.
        let abandoned = timeout(ms(200), client.batch_execute(SLEEP)).await;
        assert!(abandoned.is_err());
        backend.expect(Expect::query(SLEEP)).await;
        sleep(ms(1000)).await;
        net.assert_quiet().await;
        let began = Instant::now();
        session.check_in();
        let cancel = net.cancel().await;
        assert_at(began, 0);
        backend.send(canceled(b'I')).await;
        cancel.close();
        session.check_out(None).await.unwrap();
        serves_on(&client, &mut backend).await;
        net.assert_quiet().await;
    }
}

#[tokio::test(start_paused = true)]
async fn abandoned_work_with_rows_runs_on_to_its_bound() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::with(|builder| builder.finish_bound(ms(3000))).await;
    let (first, ()) = tokio::join!(first_only(&client), sends_a_row(&mut backend));
    first.unwrap();
    let began = Instant::now();
    session.check_in();
    backend.expect_silence(ms(2990)).await;
    net.assert_quiet().await;
    net.cancel().await.close();
    assert_at(began, 3000);
    backend.send(canceled(b'I')).await;
    session.check_out(None).await.unwrap();
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn abandoned_work_in_the_queue_is_cancelled_or_never_written() {
    // Queued by a future that is dropped before the connection is polled.
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let query = client.batch_execute(SLEEP);
    assert!(futures_util::FutureExt::now_or_never(query).is_none());
    session.check_in();
    let checked_out = session.check_out(None).await;
    checked_out.unwrap();
    serves_on(&client, &mut backend).await;
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_pool_is_told_of_a_request_that_is_in_flight_for_long() {
    let Stage {
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    session.on_busy(move || sender.send(Instant::now()).unwrap());
    serves_on(&client, &mut backend).await;
    sleep(ms(5000)).await;
    assert!(told.try_recv().is_err(), "nothing was in flight for long");
    let began = Instant::now();
    let (answer, ()) = tokio::join!(client.simple_query(SLEEP), async {
        backend.expect(Expect::query(SLEEP)).await;
        sleep(ms(350)).await;
        backend.send(rows(1)).await;
    });
    answer.unwrap();
    let times: Vec<_> = std::iter::from_fn(|| told.try_recv().ok()).collect();
    assert_eq!(times.len(), 3, "every 100 ms: {times:?}");
    assert!(times[0] - began >= ms(100) && times[0] - began <= ms(102));
    sleep(ms(5000)).await;
    assert!(told.try_recv().is_err(), "nothing is in flight any more");
}
