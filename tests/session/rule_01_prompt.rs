//! Rule 1, prompt: the caller is back when its context ends, whoever holds the
//! future.

use pgdeadline::{Context, Error, Phase};
use pgdeadline_tests::scripted::{Expect, message};
use tokio::time::{Instant, sleep};

use crate::stage::*;

#[tokio::test(start_paused = true)]
async fn run_is_back_at_the_deadline_and_the_cancel_goes_out_at_once() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let (began, ctx) = (Instant::now(), deadline(200));
    let error = end_of(ctx.run(client.batch_execute(SLEEP)).await);
    assert_at(began, 200);
    assert!(error.is_deadline() && !error.is_inherited(), "{error}");
    assert_eq!(
        (error.phase(), error.was_sent()),
        (Some(Phase::Read), Some(true))
    );

    let cancel = net.cancel().await;
    assert_at(began, 200);
    assert_eq!((cancel.pid(), cancel.key()), (PID, &KEY.to_be_bytes()[..]));
    backend.expect(Expect::query(SLEEP)).await;
    backend.send(canceled(b'I')).await;
    cancel.close();
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
    assert_at(began, 200);
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn run_is_back_at_once_when_cancelled() {
    let Stage {
        net,
        client,
        mut backend,
        ..
    } = Stage::new().await;
    let (began, ctx) = (Instant::now(), Context::background().child());
    let (result, ()) = tokio::join!(ctx.run(client.batch_execute(SLEEP)), async {
        backend.expect(Expect::query(SLEEP)).await;
        sleep(ms(100)).await;
        ctx.cancel_with("no longer wanted");
        // Whatever the server does.
        net.cancel().await.close();
    });
    let error = end_of(result);
    assert_at(began, 100);
    assert!(error.is_cancelled(), "{error}");
    assert_eq!(error.reason().unwrap().to_string(), "no longer wanted");
    backend.send(canceled(b'I')).await;
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn under_scope_the_session_answers_at_the_deadline() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let (began, ctx) = (Instant::now(), deadline(200));
    let error = ctx.scope(client.simple_query(SLEEP)).await.unwrap_err();
    assert_at(began, 200);
    assert_eq!(error.code().unwrap().code(), "57014");
    let error = told(error);
    assert!(error.is_deadline() && !error.is_inherited(), "{error}");
    assert_eq!(error.was_sent(), Some(true));

    is_made_to_cancel(&net, &mut backend, SLEEP, canceled(b'I')).await;
    is_clean(&session).await;
    // The server's own 57014 was dropped: this is answered by its own rows.
    serves_on(&client, &mut backend).await;
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn under_a_check_out_the_session_answers_at_the_deadline() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let (began, ctx) = (Instant::now(), deadline(200));
    check_out(&session, &ctx).await;
    let error = told(client.simple_query(SLEEP).await.unwrap_err());
    assert_at(began, 200);
    assert!(error.is_deadline(), "{error}");
    is_made_to_cancel(&net, &mut backend, SLEEP, canceled(b'I')).await;
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn under_a_default_deadline_the_session_answers_each_request_in_its_time() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::with(|builder| builder.default_deadline(ms(200))).await;
    let cancels = answer_cancels(&net);
    for round in 0..3 {
        let began = Instant::now();
        let (result, ()) = tokio::join!(client.simple_query(SLEEP), async {
            backend.expect(Expect::query(SLEEP)).await;
        });
        assert_at(began, 200);
        let error = told(result.unwrap_err());
        assert!(error.is_deadline(), "{error}");
        backend.send(canceled(b'I')).await;
        serves_on(&client, &mut backend).await;
        assert_eq!(cancels.load(std::sync::atomic::Ordering::SeqCst), round + 1);
    }
    assert!(!session.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_background_scope_opts_out_of_the_default_deadline() {
    let Stage {
        net,
        client,
        mut backend,
        ..
    } = Stage::with(|builder| builder.default_deadline(ms(200))).await;
    let began = Instant::now();
    let patient = Context::background();
    let (result, ()) = tokio::join!(patient.scope(client.simple_query(SLEEP)), async {
        backend.expect(Expect::query(SLEEP)).await;
        sleep(ms(5000)).await;
        backend.send(rows(1)).await;
    });
    assert_at(began, 5000);
    result.unwrap();
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_is_answered_whole_at_the_deadline() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let (began, ctx) = (Instant::now(), deadline(200));
    check_out(&session, &ctx).await;
    let (first, second) =
        tokio::join!(client.simple_query(SLEEP), client.batch_execute("SELECT 2"),);
    assert_at(began, 200);
    for error in [first.unwrap_err(), second.unwrap_err()] {
        assert!(told(error).is_deadline());
    }
    backend.expect(Expect::query(SLEEP)).await;
    is_made_to_cancel(&net, &mut backend, "SELECT 2", canceled(b'I')).await;
    backend.send(rows(1)).await;
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_is_answered_in_the_clients_order() {
    // The first request has got half of its answer, the second none: answers
    // that came in the wrong order would be of the wrong shape.
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let ctx = deadline(200);
    check_out(&session, &ctx).await;
    let stream = client.simple_query_raw("SELECT rows").await.unwrap();
    let (rows_of_first, prepared, ()) = tokio::join!(
        read_to_the_error(stream),
        client.prepare("SELECT 2"),
        async {
            backend.expect(Expect::query("SELECT rows")).await;
            backend
                .send([
                    message::row_description(&[("n", message::TEXT)]),
                    message::rows(2),
                ])
                .await;
        }
    );
    let (seen, error) = rows_of_first;
    assert_eq!(seen, 3, "what came before the end is the caller's");
    assert!(error.is_deadline(), "{error}");
    assert!(told(prepared.err().unwrap()).is_deadline());
    net.cancel().await.close();
}

#[tokio::test(start_paused = true)]
async fn try_run_has_one_shape_whoever_noticed_first() {
    let Stage {
        client,
        backend: _backend,
        ..
    } = Stage::new().await;
    // The session's own lease ends with the check-out's; run's end is told by
    // itself; both are this error.
    let ctx = deadline(200);
    let inner: Result<(), Error> = ctx
        .try_run(async {
            // A scope inside: the session answers first.
            let current = Context::current().unwrap();
            current.scope(client.batch_execute(SLEEP)).await?;
            Ok(())
        })
        .await;
    let error = inner.unwrap_err();
    assert!(error.is_deadline() && !error.is_inherited(), "{error}");
    assert_eq!(error.was_sent(), Some(true));
}
