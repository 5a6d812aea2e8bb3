//! What deadpool and tokio-postgres can do works as before.

use std::pin::pin;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, TryStreamExt};
use pgdeadline::Context;
use pgdeadline_deadpool::Error;

use super::{LONG, SHORT, SLEEP, Shared, count, ended_in, found, pid};

#[tokio::test]
async fn statements_stay_prepared_over_check_outs_and_ends() {
    let shared = Shared::pool(1).await;
    let sql = "SELECT $1::int4 * 2";
    let prepared = "SELECT count(*) FROM pg_prepared_statements WHERE statement = $1";
    for n in 0..3 {
        let ctx = Context::background().with_timeout(LONG);
        let doubled: i32 = ctx
            .try_run(async {
                let client = shared.pool.get().await?;
                let statement = client.prepare_cached(sql).await?;
                let row = client.query_one(&statement, &[&n]).await?;
                Ok::<_, Error>(row.try_get(0)?)
            })
            .await
            .unwrap();
        assert_eq!(doubled, 2 * n);
        let ctx = Context::background().with_timeout(SHORT);
        assert!(ended_in(&ctx, &shared.pool).await.is_deadline());
    }
    let client = shared.pool.get().await.unwrap();
    let row = client.query_one(prepared, &[&sql]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
    assert_eq!(client.statement_cache.size(), 1);
}

#[tokio::test]
async fn transactions_commit_roll_back_and_nest() {
    let shared = Shared::pool(1).await;
    let ctx = Context::background().with_timeout(LONG);
    let result = ctx.try_run(async {
        let mut client = shared.pool.get().await?;
        client.batch_execute("CREATE TEMP TABLE t (n int)").await?;
        let mut transaction = client.transaction().await?;
        transaction.execute("INSERT INTO t VALUES (1)", &[]).await?;
        {
            let savepoint = transaction.savepoint("here").await?;
            savepoint.execute("INSERT INTO t VALUES (2)", &[]).await?;
            savepoint.rollback().await?;
        }
        {
            let dropped = transaction.transaction().await?;
            dropped.execute("INSERT INTO t VALUES (3)", &[]).await?;
        }
        transaction.execute("INSERT INTO t VALUES (4)", &[]).await?;
        transaction.commit().await?;
        {
            let dropped = client.transaction().await?;
            dropped.execute("INSERT INTO t VALUES (5)", &[]).await?;
        }
        let rows = client.query("SELECT n FROM t ORDER BY n", &[]).await?;
        Ok::<Vec<i32>, Error>(rows.iter().map(|row| row.get(0)).collect())
    });
    assert_eq!(result.await.unwrap(), [1, 4]);
}

#[tokio::test]
async fn a_transaction_whose_context_ends_stores_nothing() {
    let shared = Shared::pool(1).await;
    let table = shared.table().await;
    let ctx = Context::background().with_timeout(SHORT);
    let ended = ctx.try_run(async {
        let mut client = shared.pool.get().await.unwrap();
        let transaction = client.transaction().await.unwrap();
        let insert = format!("INSERT INTO {table} VALUES (1)");
        transaction.batch_execute(&insert).await.unwrap();
        transaction.batch_execute(SLEEP).await?;
        transaction.commit().await
    });
    assert!(found(&ended.await.unwrap_err()).is_deadline());
    let client = shared.pool.get().await.unwrap();
    assert_eq!(count(&client, &table).await, 0);
}

#[tokio::test]
async fn rows_are_streamed_and_portals_read_in_parts() {
    let shared = Shared::pool(1).await;
    let ctx = Context::background().with_timeout(LONG);
    let result = ctx.try_run(async {
        let mut client = shared.pool.get().await?;
        let parameters: [&i32; 1] = [&1000];
        let stream = client
            .query_raw("SELECT generate_series(1, $1)", parameters)
            .await?;
        let streamed = stream
            .try_fold(0, |sum, row| async move { Ok(sum + row.get::<_, i32>(0)) })
            .await?;

        let transaction = client.transaction().await?;
        let portal = transaction
            .bind("SELECT generate_series(1, 10)", &[])
            .await?;
        let mut parts = Vec::new();
        loop {
            let rows = transaction.query_portal(&portal, 4).await?;
            if rows.is_empty() {
                break;
            }
            parts.push(rows.len());
        }
        Ok::<_, Error>((streamed, parts))
    });
    assert_eq!(result.await.unwrap(), (500_500, vec![4, 4, 2]));
    shared.next_pid().await;
}

#[tokio::test]
async fn an_unread_stream_keeps_nobody_from_the_connection() {
    let shared = Shared::pool(1).await;
    let before = shared.next_pid().await;
    let ctx = Context::background().with_timeout(SHORT);
    let ended = ctx.run(async {
        let client = shared.pool.get().await.unwrap();
        let none: [&i32; 0] = [];
        let mut stream = pin!(
            client
                .query_raw("SELECT generate_series(1, 100000000)", none)
                .await
                .unwrap()
        );
        stream.next().await.unwrap().unwrap();
        std::future::pending::<()>().await;
    });
    assert!(ended.await.unwrap_err().is_deadline());
    assert_eq!(
        tokio::time::timeout(LONG, shared.next_pid()).await,
        Ok(before)
    );
}

#[tokio::test]
async fn copy_goes_in_and_comes_out() {
    let shared = Shared::pool(1).await;
    let ctx = Context::background().with_timeout(LONG);
    let result = ctx.try_run(async {
        let client = shared.pool.get().await?;
        client.batch_execute("CREATE TEMP TABLE t (n int)").await?;
        let mut sink = pin!(client.copy_in("COPY t FROM STDIN").await?);
        for n in 0..100 {
            sink.send(Bytes::from(format!("{n}\n"))).await?;
        }
        let copied = sink.finish().await?;
        let out = client.copy_out("COPY t TO STDOUT").await?;
        let lines: Vec<Bytes> = out.try_collect().await?;
        Ok::<_, Error>((copied, lines.len()))
    });
    assert_eq!(result.await.unwrap(), (100, 100));
}

#[tokio::test]
async fn a_copy_that_is_not_fed_ends_and_leaves_the_backend() {
    let shared = Shared::pool(1).await;
    let before = shared.next_pid().await;
    let ctx = Context::background().with_timeout(SHORT);
    let ended = ctx.run(async {
        let client = shared.pool.get().await.unwrap();
        client
            .batch_execute("CREATE TEMP TABLE fed (n int)")
            .await
            .unwrap();
        let mut sink = pin!(client.copy_in("COPY fed FROM STDIN").await.unwrap());
        sink.send(Bytes::from_static(b"1\n")).await.unwrap();
        std::future::pending::<()>().await;
    });
    assert!(ended.await.unwrap_err().is_deadline());
    let client = tokio::time::timeout(LONG, shared.pool.get())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(pid(&client).await, before);
    let row = client
        .query_one("SELECT count(*) FROM fed", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), 0);
}

#[tokio::test]
async fn an_error_of_the_servers_own_is_not_taken_for_an_end() {
    let shared = Shared::pool(1).await;
    let ctx = Context::background().with_timeout(LONG);
    let result = ctx.scope(async {
        let client = shared.pool.get().await.unwrap();
        client
            .batch_execute("SET statement_timeout = 50")
            .await
            .unwrap();
        client.batch_execute(SLEEP).await
    });
    let error = result.await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "57014");
    assert!(pgdeadline::Error::find(&error).is_none(), "{error}");

    let client = shared.pool.get().await.unwrap();
    let ctx = Context::background().with_timeout(SHORT);
    client
        .batch_execute("SET statement_timeout = 0")
        .await
        .unwrap();
    let error = ctx.scope(client.batch_execute(SLEEP)).await.unwrap_err();
    assert!(found(&error).is_deadline());
}

#[tokio::test]
async fn a_client_taken_out_of_the_pool_still_ends_its_queries() {
    let shared = Shared::pool(1).await;
    let client = deadpool_postgres::Object::take(shared.pool.get().await.unwrap());
    let ctx = Context::background().with_timeout(SHORT);
    let ended = ctx.try_run(client.batch_execute(SLEEP)).await;
    assert!(found(&ended.unwrap_err()).is_deadline());
    client.batch_execute("SELECT 1").await.unwrap();
    let row = client
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .unwrap();
    drop(client);
    shared.server.wait_gone(row.get(0), LONG).await;
}
