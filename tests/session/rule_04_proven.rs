//! Rule 4, proven: a session is reused only when nothing can be on its way to
//! it.

use futures_util::TryStreamExt;
use pgdeadline::{Context, EofProof, Refusal};
use pgdeadline_tests::scripted::{Expect, Net, message};
use tokio::time::{Instant, sleep};
use tokio_postgres::{NoTls, SimpleQueryStream};

use crate::stage::*;

#[tokio::test(start_paused = true)]
async fn cancelled_and_ready_is_no_proof_before_the_eof() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    ended_at_200(&client, &mut backend).await;
    let cancel = net.cancel().await;
    backend.send(canceled(b'I')).await;
    session.check_in();
    let began = Instant::now();
    assert_eq!(session.check_out(None).await, Err(Refusal::Busy));
    assert_at(began, 50);
    cancel.close();
    session.check_out(None).await.unwrap();
    assert_at(began, 50);
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn a_check_out_waits_for_the_eof_a_short_while() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    ended_at_200(&client, &mut backend).await;
    let cancel = net.cancel().await;
    backend.send(canceled(b'I')).await;
    let began = Instant::now();
    session.check_in();
    let (checked_out, ()) = tokio::join!(session.check_out(None), async {
        sleep(ms(30)).await;
        cancel.close();
    });
    checked_out.unwrap();
    assert_at(began, 30);
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_that_is_reset_after_its_bytes_gets_the_session_retired() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        connection,
        ..
    } = Stage::new().await;
    let ctx = deadline(200);
    check_out(&session, &ctx).await;
    begin(&client, &mut backend).await;
    // The caller is told all the same, and its next request is answered.
    assert!(told(client.batch_execute(SLEEP).await.unwrap_err()).is_deadline());
    backend.expect(Expect::query(SLEEP)).await;
    session.check_in();
    net.cancel().await.reset();
    // In a transaction, and no ROLLBACK is written: nothing more is.
    backend.send(canceled(b'E')).await;
    assert!(!backend.wait_close().await, "retired, without a farewell");
    assert!(session.is_closed());
    assert_eq!(session.check_out(None).await, Err(Refusal::Closed));
    let error = connection.await.unwrap().unwrap_err();
    assert!(
        error.to_string().contains("before its end was proven"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn where_eof_proves_nothing_a_cancelled_session_is_retired() {
    let Stage {
        net,
        client,
        mut backend,
        session,
        connection,
        ..
    } = Stage::with(|builder| builder.eof_proof(EofProof::NoProof)).await;
    let ctx = deadline(200);
    let error = ctx.scope(client.batch_execute(SLEEP)).await.unwrap_err();
    assert!(told(error).is_deadline(), "told before it is retired");
    backend.expect(Expect::query(SLEEP)).await;
    net.cancel().await.close();
    let _ = backend.try_send(canceled(b'I')).await;
    assert!(!backend.wait_close().await);
    assert!(session.is_closed());
    let error = connection.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("behind this proxy"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn where_eof_proves_nothing_a_session_without_a_cancel_is_reused() {
    let net = Net::new();
    let dial = SlowDial::new(&net);
    let set = |builder: pgdeadline::ConnectorBuilder| {
        builder.eof_proof(EofProof::NoProof).dial(dial.clone())
    };
    let Stage {
        client,
        session,
        mut backend,
        ..
    } = Stage::on(net.clone(), set).await;
    dial.takes(50);
    ended_at_200(&client, &mut backend).await;
    backend.send(rows(1)).await;
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
    net.assert_quiet().await;
}

/// Opens a connection whose server is asked for its process id, and says this.
async fn proven_by(net: &Net, connector: &pgdeadline::Connector, pid: &'static str) -> Stage {
    let context = Context::background();
    let (connected, backend) = tokio::join!(connector.connect(&context), async {
        let mut backend = net.backend().await;
        backend.authenticate(PID, KEY).await;
        let question = Expect::query("SELECT pg_backend_pid()");
        backend.expect(question).await;
        backend
            .send([
                message::row_description(&[("pg_backend_pid", message::INT4)]),
                message::data_row(&[Some(pid.as_bytes())]),
                done("SELECT 1", b'I'),
            ])
            .await;
        backend
    });
    let (client, connection) = connected.unwrap();
    Stage {
        net: net.clone(),
        connector: connector.clone(),
        client,
        session: connection.session().clone(),
        connection: tokio::spawn(connection),
        backend,
    }
}

fn automatic(net: &Net) -> pgdeadline::Connector {
    let builder = pgdeadline::Connector::builder(net.config(), NoTls);
    builder.dial(net.clone()).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_servers_own_process_id_is_found_to_be_proof_once_a_server() {
    let net = Net::new();
    let connector = automatic(&net);
    let first = proven_by(&net, &connector, "42").await;
    // Known by now, so nothing is asked.
    let second = Stage::open(net.clone(), connector).await;
    for mut stage in [first, second] {
        ended_at_200(&stage.client, &mut stage.backend).await;
        net.cancel().await.close();
        stage.backend.send(canceled(b'I')).await;
        is_clean(&stage.session).await;
        serves_on(&stage.client, &mut stage.backend).await;
    }
}

#[tokio::test(start_paused = true)]
async fn another_process_id_is_found_to_be_a_pooler() {
    let net = Net::new();
    let connector = automatic(&net);
    let first = proven_by(&net, &connector, "4711").await;
    let second = Stage::open(net.clone(), connector).await;
    for mut stage in [first, second] {
        ended_at_200(&stage.client, &mut stage.backend).await;
        let began = Instant::now();
        net.cancel().await.close();
        // A pooler knows a cancel by its client's connection, so that stays
        // until the work is off the server; lost, the cancel is sent again.
        let again = net.cancel().await;
        assert_at(began, 50);
        stage.backend.send(canceled(b'I')).await;
        sleep(ms(10)).await;
        assert!(!stage.session.is_closed(), "a signal may be on its way");
        again.close();
        assert!(!stage.backend.wait_close().await);
        assert_at(began, 60);
        assert!(stage.session.is_closed());
    }
    sleep(ms(5000)).await;
    net.assert_quiet().await;
}

/// Asks for many rows and reads the first message only; the server sends so
/// many pieces, the last of which ends the answer.
async fn unread(stage: &mut Stage, pieces: usize) -> std::pin::Pin<Box<SimpleQueryStream>> {
    let mut stream = Box::pin(stage.client.simple_query_raw("SELECT many").await.unwrap());
    let (first, ()) = tokio::join!(stream.try_next(), async {
        stage.backend.expect(Expect::query("SELECT many")).await;
        let columns = message::row_description(&[("n", message::TEXT)]);
        stage.backend.send(columns).await;
        for piece in 1..=pieces {
            // So that the client reads it in as many pieces.
            sleep(ms(1)).await;
            let end = if piece == pieces {
                done("SELECT", b'I')
            } else {
                message::rows(0)
            };
            stage.backend.send([message::rows(10), end]).await;
        }
    });
    first.unwrap().unwrap();
    sleep(ms(10)).await;
    stream
}

#[tokio::test(start_paused = true)]
async fn an_unread_row_stream_keeps_the_session_from_being_clean() {
    // Two pieces fit into tokio-postgres's channel; from the third on the
    // reader holds the connection up. With three the server's last word has
    // been passed up, with five it has not even been read.
    for pieces in [3, 5] {
        let mut stage = Stage::new().await;
        let mut stream = unread(&mut stage, pieces).await;
        stage.session.check_in();
        let refused = stage.session.check_out(None).await;
        assert_eq!(refused, Err(Refusal::Busy), "{pieces} pieces");
        // Read to its end, it lets go.
        while stream.try_next().await.unwrap().is_some() {}
        stage.session.check_out(None).await.unwrap();
        serves_on(&stage.client, &mut stage.backend).await;
    }
}
