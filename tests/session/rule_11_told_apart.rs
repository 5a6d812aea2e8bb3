//! Rule 11, told apart: cause, phase, sent, in doubt; found in stock types.

use pgdeadline::{Context, Error, Phase};
use pgdeadline_tests::scripted::{Backend, Expect, message};
use tokio::time::sleep;
use tokio_postgres::Client;

use crate::stage::*;

/// Runs a query whose context ends by `end` once the server has it.
async fn ended_by(
    client: &Client,
    backend: &mut Backend,
    ctx: &Context,
    sql: &str,
    end: impl FnOnce(),
) -> Error {
    let (ended, ()) = tokio::join!(ctx.scope(client.batch_execute(sql)), async {
        backend.expect(Expect::query(sql)).await;
        end();
    });
    told(ended.unwrap_err())
}

#[tokio::test(start_paused = true)]
async fn causes_are_told_apart_by_the_marker_alone() {
    let Stage {
        net,
        client,
        mut backend,
        ..
    } = Stage::new().await;
    answer_cancels(&net);
    let background = Context::background();

    let parent = background.child();
    let own = parent.child();
    let error = ended_by(&client, &mut backend, &own, SLEEP, || {
        own.cancel_with("not wanted")
    })
    .await;
    assert!(error.is_cancelled() && !error.is_inherited(), "{error}");
    assert_eq!(error.reason().unwrap().to_string(), "not wanted");
    backend.send(canceled(b'I')).await;

    let own = parent.child();
    let error = ended_by(&client, &mut backend, &own, SLEEP, || parent.cancel()).await;
    assert!(error.is_cancelled() && error.is_inherited(), "{error}");
    backend.send(canceled(b'I')).await;

    let own = background.child();
    let context = own.context().clone();
    let error = ended_by(&client, &mut backend, &context, SLEEP, || drop(own)).await;
    assert!(error.is_dropped() && !error.is_inherited(), "{error}");
    backend.send(canceled(b'I')).await;

    let parent = deadline(200);
    let own = parent.child();
    let error = ended_by(&client, &mut backend, &own, SLEEP, || ()).await;
    assert!(error.is_deadline() && error.is_inherited(), "{error}");
    backend.send(canceled(b'I')).await;
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn a_commit_in_flight_is_in_doubt_and_says_so() {
    let Stage {
        net,
        client,
        mut backend,
        ..
    } = Stage::new().await;
    answer_cancels(&net);
    begin(&client, &mut backend).await;
    let ctx = deadline(200);
    let error = ended_by(&client, &mut backend, &ctx, "COMMIT", || ()).await;
    assert!(error.is_in_doubt() && error.is_deadline(), "{error}");
    assert!(!error.is_retry_safe());
    assert!(error.to_string().contains("in doubt"), "{error}");
    // It won against the cancel.
    backend.send(done("COMMIT", b'I')).await;
    serves_on(&client, &mut backend).await;

    // By run too, whose error is made by itself.
    begin(&client, &mut backend).await;
    let ctx = deadline(200);
    let error = end_of(ctx.run(client.batch_execute("COMMIT")).await);
    assert!(error.is_in_doubt() && error.is_deadline(), "{error}");
    backend.expect(Expect::query("COMMIT")).await;
    backend.send(done("COMMIT", b'I')).await;
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn an_end_outside_the_database_sent_nothing() {
    let ctx = deadline(200);
    let error = ctx.run(sleep(ms(1000))).await.unwrap_err();
    assert_eq!(error.phase(), Some(Phase::Outside));
    assert_ne!(error.was_sent(), Some(true));

    // Bound, and before the first request.
    let Stage {
        session,
        client: _client,
        backend: _backend,
        ..
    } = Stage::new().await;
    let ctx = deadline(200);
    check_out(&session, &ctx).await;
    let error = ctx.run(sleep(ms(1000))).await.unwrap_err();
    assert_eq!(
        (error.phase(), error.was_sent()),
        (Some(Phase::Outside), Some(false))
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_before_the_end_counts_as_sent_although_it_was_answered() {
    let Stage {
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let ctx = deadline(200);
    check_out(&session, &ctx).await;
    let ended = ctx.run(async {
        serves_on(&client, &mut backend).await;
        sleep(ms(1000)).await;
    });
    let error = ended.await.unwrap_err();
    assert_eq!(
        (error.phase(), error.was_sent()),
        (Some(Phase::Outside), Some(true))
    );
}

#[tokio::test(start_paused = true)]
async fn the_servers_own_57014_is_not_taken_for_ours() {
    let Stage {
        net,
        client,
        mut backend,
        ..
    } = Stage::new().await;
    let ctx = deadline(60_000);
    let (result, ()) = tokio::join!(ctx.run(client.batch_execute(SLEEP)), async {
        backend.expect(Expect::query(SLEEP)).await;
        backend.send(canceled(b'I')).await;
    });
    let error = result.expect("its own result").unwrap_err();
    assert_eq!(error.code().unwrap().code(), "57014");
    assert!(Error::find(&error).is_none());
    // Nor where the statement's text quotes a marker of somebody else's.
    let ours = ended_by(&client, &mut backend, &deadline(200), SLEEP, || ()).await;
    assert!(ours.is_deadline());
    net.cancel().await.close();
    backend.send(canceled(b'I')).await;
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn the_marker_is_found_through_anyhow_and_boxes() {
    let Stage {
        net,
        client,
        mut backend,
        ..
    } = Stage::new().await;
    answer_cancels(&net);

    async fn in_a_box(client: &Client) -> Result<(), Box<dyn std::error::Error>> {
        client.batch_execute(SLEEP).await?;
        Ok(())
    }
    async fn in_a_sendable_box(
        client: &Client,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        client.batch_execute(SLEEP).await?;
        Ok(())
    }
    async fn in_anyhow(client: &Client) -> anyhow::Result<()> {
        use anyhow::Context as _;
        client.batch_execute(SLEEP).await.context("the nightly job")
    }
    for round in 0..3 {
        let ctx = deadline(200);
        let found = match round {
            0 => Error::find(&*ctx.scope(in_a_box(&client)).await.unwrap_err()),
            1 => Error::find(&*ctx.scope(in_a_sendable_box(&client)).await.unwrap_err()),
            _ => {
                let error = ctx.scope(in_anyhow(&client)).await.unwrap_err();
                Error::find(error.as_ref())
            }
        };
        let error = found.expect("our marker");
        assert!(
            error.is_deadline() && error.was_sent() == Some(true),
            "{error}"
        );
        backend.expect(Expect::query(SLEEP)).await;
        backend.send(canceled(b'I')).await;
    }
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn session_cancel_tells_the_caller_that_it_was_cancelled() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let (result, ()) = tokio::join!(client.batch_execute(SLEEP), async {
        backend.expect(Expect::query(SLEEP)).await;
        assert!(session.cancel());
        net.cancel().await.close();
    });
    let error = told(result.unwrap_err());
    assert!(error.is_cancelled(), "{error}");
    backend.send(canceled(b'I')).await;
    serves_on(&client, &mut backend).await;
    is_clean(&session).await;
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_the_server_ends_is_no_end_of_ours() {
    let Stage {
        client,
        connection,
        mut backend,
        ..
    } = Stage::new().await;
    let ctx = deadline(60_000);
    let (result, ()) = tokio::join!(ctx.run(client.batch_execute(SLEEP)), async {
        backend.expect(Expect::query(SLEEP)).await;
        let last_words = message::fatal("57P01", "terminating connection");
        backend.send(last_words).await;
        backend.close();
    });
    let error = result.expect("its own result").unwrap_err();
    assert_eq!(error.code().unwrap().code(), "57P01");
    assert!(Error::find(&error).is_none());
    let error = connection.await.unwrap().unwrap_err();
    assert!(!error.is_end(), "{error}");
}
