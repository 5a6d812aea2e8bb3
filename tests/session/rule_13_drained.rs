//! Rule 13, drained at the wire, and never a success.

use futures_util::TryStreamExt;
use futures_util::future::poll_fn;
use pgdeadline::Context;
use pgdeadline_tests::scripted::{Expect, Message, Net, message};
use tokio::time::{Instant, sleep};
use tokio_postgres::AsyncMessage;

use crate::stage::*;

/// Rows that no buffer on the way could hold.
fn flood() -> Message {
    message::rows(20_000)
}

#[tokio::test(start_paused = true)]
async fn rows_of_ended_work_are_drained_although_nobody_reads_them() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::on(Net::with_capacity(1024), |builder| builder).await;
    let ctx = deadline(200);
    check_out(&session, &ctx).await;
    let stream = client.simple_query_raw("SELECT many").await.unwrap();
    backend.expect(Expect::query("SELECT many")).await;
    let began = Instant::now();
    // Held up by the absent reader until the end; then it all goes through.
    backend
        .send([
            message::row_description(&[("n", message::TEXT)]),
            flood(),
            done("SELECT 20000", b'I'),
        ])
        .await;
    assert_at(began, 200);
    if let Some(cancel) = net.try_cancel() {
        cancel.close();
    }
    // The stream is still there, and ends with the error, not well.
    let (_, error) = read_to_the_error(stream).await;
    assert!(error.is_deadline(), "{error}");
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn rows_of_a_stream_that_was_dropped_are_drained_too() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::on(Net::with_capacity(1024), |builder| builder).await;
    answer_cancels(&net);
    let ctx = deadline(200);
    let (ended, ()) = tokio::join!(
        ctx.run(async {
            let stream = client.simple_query_raw("SELECT many").await?;
            let mut stream = std::pin::pin!(stream);
            stream.try_next().await?;
            // Reads no more.
            std::future::pending::<Result<(), tokio_postgres::Error>>().await
        }),
        async {
            backend.expect(Expect::query("SELECT many")).await;
            backend
                .send([
                    message::row_description(&[("n", message::TEXT)]),
                    flood(),
                    canceled(b'I'),
                ])
                .await;
        }
    );
    assert!(end_of(ended).is_deadline());
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn a_command_that_completes_after_the_end_is_no_success() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let ctx = deadline(200);
    let error = ctx.scope(client.execute("UPDATE t SET n = 1", &[]));
    let (result, ()) = tokio::join!(error, async {
        backend.answer_prepare("UPDATE t SET n = 1", &[], &[]).await;
        backend.expect_execution().await;
        sleep(ms(300)).await;
        backend
            .send([message::bind_complete(), done("UPDATE 1", b'I')])
            .await;
    });
    assert!(told(result.unwrap_err()).is_deadline());
    if let Some(cancel) = net.try_cancel() {
        cancel.close();
    }
    net.assert_quiet().await;
    closes_statement(&mut backend).await;
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_has_arrived_unread_when_the_end_comes_is_no_success() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let ctx = Context::background().child();
    let (result, ()) = tokio::join!(ctx.scope(client.simple_query("SELECT 1")), async {
        backend.expect(Expect::query("SELECT 1")).await;
        // The connection is not polled between these two.
        backend.send(rows(1)).await;
        ctx.cancel();
    });
    assert!(told(result.unwrap_err()).is_cancelled());
    sleep(ms(10)).await;
    assert!(net.try_cancel().is_none(), "its work was over by then");
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn half_an_answer_before_the_end_does_not_become_a_whole_one() {
    // CommandComplete before the end, ReadyForQuery after it.
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let ctx = deadline(200);
    let (result, ()) = tokio::join!(
        ctx.scope(client.batch_execute("SELECT 1; SELECT 2")),
        async {
            backend.expect(Expect::query("SELECT 1; SELECT 2")).await;
            backend.send(message::command_complete("SELECT 1")).await;
            sleep(ms(300)).await;
            backend.send(done("SELECT 1", b'I')).await;
        }
    );
    assert!(told(result.unwrap_err()).is_deadline());
    if let Some(cancel) = net.try_cancel() {
        cancel.close();
    }
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn notices_notifications_and_parameters_pass_while_ended_work_drains() {
    let net = Net::new();
    let connector = over(&net).build().unwrap();
    let context = Context::background();
    let (connected, mut backend) = tokio::join!(connector.connect(&context), async {
        let mut backend = net.backend().await;
        backend.authenticate(PID, KEY).await;
        backend
    });
    let (client, mut connection) = connected.unwrap();
    let (sender, mut heard) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            let text = match message {
                AsyncMessage::Notice(notice) => notice.message().to_owned(),
                AsyncMessage::Notification(note) => note.payload().to_owned(),
                _ => continue,
            };
            sender.send(text).unwrap();
        }
    });
    let ctx = deadline(200);
    end_of(ctx.run(client.simple_query(SLEEP)).await);
    backend.expect(Expect::query(SLEEP)).await;
    net.cancel().await.close();
    backend
        .send([
            message::row_description(&[("n", message::TEXT)]),
            message::notice("first"),
            message::rows(3),
            message::notification(PID, "channel", "second"),
            message::parameter_status("application_name", "changed"),
            message::rows(3),
            message::notice("third"),
            canceled(b'I'),
        ])
        .await;
    for expected in ["first", "second", "third"] {
        assert_eq!(heard.recv().await.unwrap(), expected);
    }
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn a_fatal_error_passes_while_ended_work_drains() {
    let Stage {
        net,
        client,
        connection,
        mut backend,
        ..
    } = Stage::new().await;
    answer_cancels(&net);
    let ctx = deadline(200);
    end_of(ctx.run(client.simple_query(SLEEP)).await);
    backend.expect(Expect::query(SLEEP)).await;
    let last_words = "terminating connection due to administrator command";
    backend.send(message::fatal("57P01", last_words)).await;
    backend.close();
    let error = connection.await.unwrap().unwrap_err();
    assert!(error.to_string().contains(last_words), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_row_stream_that_is_read_slowly_ends_with_the_error() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    answer_cancels(&net);
    let (began, ctx) = (Instant::now(), deadline(200));
    let (read, ()) = tokio::join!(
        ctx.scope(async {
            let mut stream = Box::pin(client.simple_query_raw("SELECT slowly").await.unwrap());
            let mut read = 0;
            loop {
                match stream.try_next().await {
                    Ok(Some(_)) => read += 1,
                    Ok(None) => panic!("ended well"),
                    Err(error) => break (read, told(error)),
                }
                sleep(ms(30)).await;
            }
        }),
        async {
            backend.expect(Expect::query("SELECT slowly")).await;
            backend
                .send(message::row_description(&[("n", message::TEXT)]))
                .await;
            for _ in 0..20 {
                sleep(ms(30)).await;
                // The drain takes what nobody reads.
                backend.send(message::rows(1)).await;
            }
            backend.send(canceled(b'I')).await;
        }
    );
    let (rows, error) = read;
    assert!(error.is_deadline(), "{error}");
    assert!((5..=8).contains(&rows), "{rows} messages before the end");
    assert_at(began, 600);
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
}
