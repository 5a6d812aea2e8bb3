//! COPY when its context ends, when its caller stops, when its server does.

use bytes::Bytes;
use futures_util::SinkExt;
use pgdeadline::Context;
use pgdeadline_tests::scripted::{Backend, Expect, Frontend, Message, Net, message};
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use crate::stage::*;

const COPY_IN: &str = "COPY t FROM STDIN";
const COPY_OUT: &str = "COPY t TO STDOUT";

/// The server opens a COPY FROM STDIN.
async fn opens_copy_in(backend: &mut Backend) {
    backend.answer_prepare(COPY_IN, &[], &[]).await;
    backend.expect_execution().await;
    backend
        .send([message::bind_complete(), message::copy_in_response()])
        .await;
}

/// The server reads the COPY up to its end, and the Sync behind it.
async fn reads_to_the_end(backend: &mut Backend) -> Frontend {
    loop {
        match backend.read().await {
            Frontend::CopyData { .. } => {}
            end => {
                backend.expect(Expect::sync()).await;
                break end;
            }
        }
    }
}

/// What the server says to a COPY FROM STDIN that its client gave up.
fn copy_failed() -> Message {
    [
        message::error("57014", "COPY from stdin failed"),
        message::ready_for_query(b'I'),
    ]
    .into()
}

/// The session asks with an empty Query whether all of the COPY is answered.
async fn fences(backend: &mut Backend) {
    backend.expect(Expect::query("")).await;
    backend.send(fenced()).await;
}

fn fenced() -> Message {
    [
        message::empty_query_response(),
        message::ready_for_query(b'I'),
    ]
    .into()
}

/// The same where it may know without, and the client closes its statement.
async fn fences_if_need_be_and_closes(backend: &mut Backend) {
    loop {
        match backend.read().await {
            Frontend::Query { query } if query.is_empty() => backend.send(fenced()).await,
            Frontend::Close { .. } => break,
            other => panic!("got {other}"),
        }
    }
    backend.expect(Expect::sync()).await;
    backend
        .send([message::close_complete(), message::ready_for_query(b'I')])
        .await;
}

/// A COPY that only its context ends.
async fn copies_in_for_ever(client: &Client) -> Result<(), tokio_postgres::Error> {
    let sink = client.copy_in::<_, Bytes>(COPY_IN).await?;
    let mut sink = std::pin::pin!(sink);
    loop {
        sink.send(Bytes::from(vec![b'x'; 10_000])).await?;
    }
}

#[tokio::test(start_paused = true)]
async fn copy_in_works_as_before() {
    let Stage {
        client,
        session,
        mut backend,
        net,
        ..
    } = Stage::new().await;
    let ctx = deadline(60_000);
    let (copied, ()) = tokio::join!(
        ctx.run(async {
            let sink = client.copy_in::<_, Bytes>(COPY_IN).await?;
            let mut sink = std::pin::pin!(sink);
            sink.send(Bytes::from_static(b"1\n2\n")).await?;
            sink.finish().await
        }),
        async {
            opens_copy_in(&mut backend).await;
            assert_eq!(reads_to_the_end(&mut backend).await, Frontend::CopyDone);
            backend.send(done("COPY 2", b'I')).await;
            closes_statement(&mut backend).await;
        }
    );
    assert_eq!(copied.unwrap().unwrap(), 2);
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_whose_caller_stops_writing_is_ended_at_the_deadline() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    answer_cancels(&net);
    let (began, ctx) = (Instant::now(), deadline(200));
    let (ended, ()) = tokio::join!(
        ctx.run(async {
            let sink = client.copy_in::<_, Bytes>(COPY_IN).await?;
            let mut sink = std::pin::pin!(sink);
            sink.send(Bytes::from_static(b"1\n")).await?;
            std::future::pending::<Result<(), tokio_postgres::Error>>().await
        }),
        async {
            opens_copy_in(&mut backend).await;
            // A server that waits for data does not act on a cancel.
            let end = reads_to_the_end(&mut backend).await;
            assert_at(began, 200);
            assert!(matches!(end, Frontend::CopyFail { .. }), "{end}");
            backend.send(copy_failed()).await;
        }
    );
    assert!(end_of(ended).is_deadline());
    // Whether that ReadyForQuery was the last is asked with a fence, if at all.
    fences_if_need_be_and_closes(&mut backend).await;
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_whose_caller_holds_the_sink_is_ended_by_the_session() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    answer_cancels(&net);
    let (began, ctx) = (Instant::now(), deadline(200));
    let (copied, ()) = tokio::join!(
        ctx.scope(async {
            let sink = client.copy_in::<_, Bytes>(COPY_IN).await.unwrap();
            let mut sink = Box::pin(sink);
            sink.send(Bytes::from_static(b"1\n")).await.unwrap();
            sleep(ms(1000)).await;
            // Whole as far as the caller knows; told as ended all the same.
            sink.as_mut().finish().await
        }),
        async {
            opens_copy_in(&mut backend).await;
            let end = reads_to_the_end(&mut backend).await;
            assert_at(began, 200);
            assert!(matches!(end, Frontend::CopyFail { .. }), "{end}");
            backend.send(copy_failed()).await;
            fences(&mut backend).await;
            closes_statement(&mut backend).await;
        }
    );
    assert!(told(copied.unwrap_err()).is_deadline());
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_whose_caller_drops_the_sink_is_failed_by_the_client() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let ctx = deadline(60_000);
    let (dropped, ()) = tokio::join!(
        ctx.run(async {
            let sink = client.copy_in::<_, Bytes>(COPY_IN).await?;
            let mut sink = Box::pin(sink);
            sink.send(Bytes::from_static(b"1\n")).await
        }),
        async {
            opens_copy_in(&mut backend).await;
            let end = reads_to_the_end(&mut backend).await;
            assert!(matches!(end, Frontend::CopyFail { .. }), "{end}");
            backend.send(copy_failed()).await;
        }
    );
    dropped.unwrap().unwrap();
    fences_if_need_be_and_closes(&mut backend).await;
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_whose_server_stops_reading_is_left_at_the_grace() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::on(Net::with_capacity(1024), |builder| builder).await;
    answer_cancels(&net);
    let (began, ctx) = (Instant::now(), deadline(200));
    let (ended, ()) = tokio::join!(
        ctx.run(copies_in_for_ever(&client)),
        opens_copy_in(&mut backend),
    );
    assert_at(began, 200);
    assert!(end_of(ended).is_deadline());
    session.closed().await;
    assert_at(began, 2200);
}

#[tokio::test(start_paused = true)]
async fn a_copy_whose_server_reads_on_after_the_end_ends_in_order() {
    // Held up in the middle of a CopyData at the end: its rest is written,
    // then CopyFail, and nothing of what the caller had queued behind it.
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::on(Net::with_capacity(1024), |builder| builder).await;
    let cancels = answer_cancels(&net);
    let ctx = deadline(200);
    let (ended, ()) = tokio::join!(
        ctx.run(copies_in_for_ever(&client)),
        opens_copy_in(&mut backend),
    );
    assert!(end_of(ended).is_deadline());
    let end = reads_to_the_end(&mut backend).await;
    assert!(matches!(end, Frontend::CopyFail { .. }), "{end}");
    backend.send(copy_failed()).await;
    fences(&mut backend).await;
    closes_statement(&mut backend).await;
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
    assert!(cancels.load(std::sync::atomic::Ordering::SeqCst) >= 1);
}

#[tokio::test(start_paused = true)]
async fn copy_out_that_ends_half_way_is_drained_and_no_success() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::on(Net::with_capacity(1024), |builder| builder).await;
    answer_cancels(&net);
    let ctx = Context::background().child();
    let (copied, ()) = tokio::join!(
        ctx.scope(async {
            let stream = client.copy_out(COPY_OUT).await.unwrap();
            read_to_the_error(stream).await
        }),
        async {
            backend.answer_prepare(COPY_OUT, &[], &[]).await;
            backend.expect_execution().await;
            backend
                .send([message::bind_complete(), message::copy_out_response()])
                .await;
            backend.send(message::copy_data(b"1\n")).await;
            sleep(ms(10)).await;
            ctx.cancel();
            for _ in 0..1000 {
                backend.send(message::copy_data(&[b'x'; 500])).await;
            }
            backend
                .send([message::copy_done(), done("COPY 1001", b'I')])
                .await;
        }
    );
    let (read, error) = copied;
    assert_eq!(read, 1);
    assert!(error.is_cancelled(), "{error}");
    closes_statement(&mut backend).await;
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
}
