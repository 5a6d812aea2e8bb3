//! A context that has ended already, and ends that find nothing in flight:
//! nothing is sent.

use bytes::Bytes;
use pgdeadline::{Context, Error};
use pgdeadline_tests::scripted::{Expect, message};
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use crate::stage::*;

/// Each operation of a client that sends something, one after the other.
async fn every_operation(client: &mut Client, statement: &tokio_postgres::Statement) -> Vec<Error> {
    let mut errors = vec![
        told(client.query(statement, &[]).await.unwrap_err()),
        told(client.execute(statement, &[]).await.unwrap_err()),
        told(client.prepare("SELECT 2").await.err().unwrap()),
        told(client.batch_execute("SELECT 2").await.unwrap_err()),
        told(client.copy_out(statement).await.err().unwrap()),
        told(client.simple_query("").await.unwrap_err()),
        told(client.query_typed("SELECT 1", &[]).await.unwrap_err()),
    ];
    // These two leave something behind them in the queue (a COPY's tail, a
    // ROLLBACK): whose a request is that comes out together with it, nobody
    // can tell (rule 7).
    errors.push(told(
        client.copy_in::<_, Bytes>(statement).await.err().unwrap(),
    ));
    tokio::task::yield_now().await;
    errors.push(told(client.transaction().await.err().unwrap()));
    errors
}

#[tokio::test(start_paused = true)]
async fn under_a_context_that_has_ended_nothing_is_sent() {
    let Stage {
        net,
        mut client,
        session,
        mut backend,
        connector,
        ..
    } = Stage::new().await;
    let (statement, ()) = tokio::join!(
        client.prepare("SELECT 1"),
        backend.answer_prepare("SELECT 1", &[], &[])
    );
    let statement = statement.unwrap();
    let ctx = deadline(200);
    sleep(ms(201)).await;

    // The session answers.
    let errors = ctx.scope(every_operation(&mut client, &statement)).await;
    for (index, error) in errors.iter().enumerate() {
        assert!(error.is_deadline(), "{index}: {error}");
        assert_eq!(error.was_sent(), Some(false), "{index}: {error}");
    }
    // Run does not even poll.
    let error = end_of(ctx.run(client.batch_execute("SELECT 1")).await);
    assert_eq!(error.was_sent(), Some(false), "{error}");
    // Nor is a connection dialled.
    let error = connector.connect(&ctx).await.err().unwrap();
    assert!(error.is_deadline() && error.is_retry_safe(), "{error}");
    assert_eq!(net.dials(), 1);

    // tokio-postgres queues a ROLLBACK for a BEGIN that failed, whatever it
    // failed of. It is clean-up, which is written, and does nothing.
    rolls_back(&mut backend).await;
    backend.expect_silence(ms(1000)).await;
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn cancelling_while_nothing_is_in_flight_does_nothing() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    assert!(!session.cancel());
    let ctx = Context::background().child();
    check_out(&session, &ctx).await;
    serves_on(&client, &mut backend).await;
    assert!(!session.cancel());
    ctx.cancel();
    sleep(ms(1000)).await;
    assert_eq!(net.dials(), 1);
    let began = Instant::now();
    is_clean(&session).await;
    assert_at(began, 0);
    serves_on(&client, &mut backend).await;
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn an_end_between_parse_and_describe_is_drained() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let ctx = deadline(200);
    let (result, ()) = tokio::join!(ctx.scope(client.prepare("SELECT 1")), async {
        backend
            .expect_all([
                Expect::parse("SELECT 1"),
                Expect::describe(),
                Expect::sync(),
            ])
            .await;
        backend.send(message::parse_complete()).await;
        net.cancel().await.close();
        backend
            .send([
                message::parameter_description(&[]),
                message::no_data(),
                message::ready_for_query(b'I'),
            ])
            .await;
    });
    assert!(told(result.err().unwrap()).is_deadline());
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn an_end_between_bind_and_execute_is_drained() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let (statement, ()) = tokio::join!(
        client.prepare("SELECT 1"),
        backend.answer_prepare("SELECT 1", &[], &[("n", message::INT4)])
    );
    let statement = statement.unwrap();
    let ctx = deadline(200);
    let (result, ()) = tokio::join!(ctx.scope(client.query(&statement, &[])), async {
        backend.expect_execution().await;
        backend.send(message::bind_complete()).await;
        net.cancel().await.close();
        backend.send(canceled(b'I')).await;
    });
    assert!(told(result.unwrap_err()).is_deadline());
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
    net.assert_quiet().await;
}
