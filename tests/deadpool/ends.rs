//! Ends of a context, through a pool of one.

use std::pin::pin;

use pgdeadline::Context;
use pgdeadline_deadpool::Error;
use tokio::time::timeout;

use super::{LONG, SHORT, SLEEP, Shared, ended_in, found, pid};

#[tokio::test]
async fn a_query_ended_by_run_leaves_its_backend_for_the_next() {
    let shared = Shared::pool(1).await;
    let before = shared.next_pid().await;
    for how in ["deadline", "cancelled", "dropped"] {
        let ctx = Context::background().child();
        match how {
            "deadline" => {
                let ctx = ctx.with_timeout(SHORT);
                assert!(ended_in(&ctx, &shared.pool).await.is_deadline());
            }
            "cancelled" => {
                let mut ending = pin!(ended_in(&ctx, &shared.pool));
                assert!(timeout(SHORT, &mut ending).await.is_err());
                ctx.cancel_with("a reason");
                let error = ending.await;
                assert_eq!(error.reason().unwrap().to_string(), "a reason");
            }
            _ => assert!(timeout(SHORT, ended_in(&ctx, &shared.pool)).await.is_err()),
        }
        let next = timeout(LONG, shared.next_pid()).await;
        assert_eq!(next, Ok(before), "{how}");
    }
    shared.server.wait_idle(before, LONG).await;
    assert_eq!(shared.pids().await, [before], "no other was opened");
}

#[tokio::test]
async fn under_scope_the_query_itself_tells_the_end() {
    let shared = Shared::pool(1).await;
    let before = shared.next_pid().await;
    let ctx = Context::background().with_timeout(SHORT);
    let client = ctx.scope(shared.pool.get()).await.unwrap();
    let error = ctx.scope(client.batch_execute(SLEEP)).await.unwrap_err();
    assert!(found(&error).is_deadline(), "{error}");
    assert_eq!(found(&error).was_sent(), Some(true));

    // The holder of a check-out that has ended gets nothing more done.
    let error = client.batch_execute("SELECT 1").await.unwrap_err();
    assert!(found(&error).is_deadline(), "{error}");
    assert_eq!(found(&error).was_sent(), Some(false));
    drop(client);
    assert_eq!(shared.next_pid().await, before);
}

#[tokio::test]
async fn an_end_has_one_shape_with_question_marks_on_both_errors() {
    let shared = Shared::pool(1).await;
    let pool = &shared.pool;

    let ctx = Context::background().with_timeout(SHORT);
    let ours = ctx.try_run(async {
        let client = pool.get().await?;
        let rows = client.query(SLEEP, &[]).await?;
        Ok::<_, Error>(rows)
    });
    match ours.await {
        Err(Error::Database(error)) => assert!(error.is_deadline(), "{error}"),
        other => panic!("{other:?}"),
    }

    let ctx = Context::background().with_timeout(SHORT);
    let boxed = ctx.try_run(async {
        let client = pool.get().await?;
        let rows = client.query(SLEEP, &[]).await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(rows)
    });
    assert!(found(&*boxed.await.unwrap_err()).is_deadline());

    let ctx = Context::background().with_timeout(SHORT);
    let anyhow = ctx.try_run(async {
        let client = pool.get().await?;
        let rows = client.query(SLEEP, &[]).await?;
        anyhow::Ok(rows)
    });
    assert!(found(anyhow.await.unwrap_err().as_ref()).is_deadline());
}

#[tokio::test]
async fn an_error_of_the_database_is_told_as_such() {
    let shared = Shared::pool(1).await;
    let ctx = Context::background().with_timeout(LONG);
    let result = ctx.try_run(async {
        let client = shared.pool.get().await?;
        client.batch_execute("SELECT 1/0").await?;
        Ok::<_, Error>(())
    });
    let error = result.await.unwrap_err();
    let postgres = error.database().unwrap().as_postgres().unwrap();
    assert_eq!(postgres.code().unwrap().code(), "22012");
}

#[tokio::test]
async fn work_that_is_done_in_time_is_left_alone() {
    let shared = Shared::pool(2).await;
    let ctx = Context::background().with_timeout(LONG);
    let pids = ctx
        .try_run(async {
            let (one, two) = (shared.pool.get().await?, shared.pool.get().await?);
            Ok::<_, Error>([pid(&one).await, pid(&two).await])
        })
        .await
        .unwrap();
    assert_ne!(pids[0], pids[1]);
    let mut after = shared.pids().await;
    after.sort_unstable();
    let mut before = pids;
    before.sort_unstable();
    assert_eq!(after, before);
}
