//! A `begin()` that is dropped between BEGIN and its answer. sqlx queues no
//! ROLLBACK for it, since it does not know yet that there is a transaction.

use std::time::Duration;

use pgdeadline::Context;
use pgdeadline_sqlx::{ConnectionExt, PoolExt};
use pgdeadline_tests::eventually;
use pgdeadline_tests::proxy::{Answers, Proxy};
use pgdeadline_tests::server::{Backend, Server};
use sqlx::Connection;
use tokio::time::timeout;

use super::{Bench, LATE, SHORT, found, in_time, sql, works};

/// That the next one on the pool stores for himself, at once.
async fn assert_no_transaction(bench: &Bench, table: &str, round: u32) {
    let insert = sql(format!("INSERT INTO {table} VALUES ({round})"));
    let insert = sqlx::query(insert).execute(&bench.pool);
    in_time(insert).await.unwrap();
    let stored = format!("{table} WHERE n = {round}");
    assert_eq!(bench.count(&stored).await, 1, "round {round}");
}

/// The answer to BEGIN is held up until its caller has left.
#[tokio::test]
async fn a_begin_dropped_before_its_answer_leaves_no_transaction() {
    let server = Server::shared().await;
    let admin = server.admin().await;
    for way in 0..4_u32 {
        let proxy = Proxy::before(server).await;
        let bench = Bench::behind(&proxy, 1).await;
        let table = bench.table("n int").await;
        let before = bench.next_pid().await;
        let ctx = Context::background().with_timeout(SHORT * 2);
        let mut connection = match way {
            0 | 1 => bench.acquire().await,
            2 => in_time(ctx.scope(bench.pool.acquire())).await.unwrap(),
            _ => in_time(bench.pool.acquire_under(&ctx)).await.unwrap(),
        };
        works(&mut connection).await;
        proxy.answers(Answers::Hold);
        match way {
            0 => drop(timeout(SHORT, connection.begin()).await.unwrap_err()),
            1 => drop(in_time(ctx.run(connection.begin())).await.unwrap_err()),
            _ => {
                let begin = timeout(LATE, connection.begin()).await;
                let error = begin.expect("it ends").map(drop).unwrap_err();
                assert!(found(&error).is_deadline(), "{error}");
            }
        }
        drop(connection);
        // BEGIN is done there, whatever became of its answer.
        eventually(LATE, "BEGIN has reached the server", async || {
            let backends = server.backends_seen_by(&admin, &bench.name).await;
            let done = |b: &Backend| b.query == "BEGIN" || b.query == "ROLLBACK";
            backends.iter().any(done).then_some(())
        })
        .await;
        proxy.answers(Answers::Pass);
        assert_no_transaction(&bench, &table, way).await;
        bench.assert_free(before).await;
    }
}

/// Many rounds, with the time-out at about the time that a `begin` takes.
#[tokio::test]
async fn begins_dropped_at_any_time_leave_no_transaction() {
    let bench = Bench::pool(1).await;
    let table = bench.table("n int").await;
    bench.next_pid().await;
    let (mut dropped, mut begun) = (0, 0);
    let rounds = async {
        for round in 0..200_u32 {
            let limit = Duration::from_micros(u64::from(round) * 10);
            let ctx = Context::background().with_timeout(limit);
            let began = match round % 3 {
                0 => timeout(limit, bench.pool.begin()).await.is_ok(),
                1 => in_time(ctx.run(bench.pool.begin())).await.is_ok(),
                _ => in_time(ctx.scope(bench.pool.begin())).await.is_ok(),
            };
            if began {
                begun += 1;
            } else {
                dropped += 1;
            }
            assert_no_transaction(&bench, &table, round).await;
        }
    };
    super::in_some_minutes(rounds).await;
    assert!(dropped > 0, "{begun} begun");
    bench.wait_quiet(1).await;
}

/// A BEGIN that is told as ended, on a connection whose holder goes on: sqlx
/// knows of no transaction then, and will not roll one back. What its holder
/// does next works, and is stored.
#[tokio::test]
async fn a_begin_told_as_ended_leaves_its_holder_outside_a_transaction() {
    let proxy = Proxy::before(Server::shared().await).await;
    let bench = Bench::behind(&proxy, 1).await;
    let table = bench.table("n int").await;
    let mut connection = bench.acquire().await;
    let before = super::pid(&mut connection).await;
    proxy.answers(Answers::Hold);
    let ctx = Context::background().with_timeout(SHORT);
    let begin = connection.within(&ctx, async |c| c.begin().await.map(drop));
    let error = in_time(begin).await.unwrap_err();
    assert!(found(&error).is_deadline(), "{error}");
    proxy.answers(Answers::Pass);
    works(&mut connection).await;
    let insert = sql(format!("INSERT INTO {table} VALUES (1)"));
    let insert = sqlx::query(insert).execute(&mut *connection);
    in_time(insert).await.unwrap();
    assert_eq!(bench.count(&table).await, 1);
    let mut transaction = in_time(connection.begin()).await.unwrap();
    works(&mut transaction).await;
    in_time(transaction.commit()).await.unwrap();
    drop(connection);
    bench.assert_free(before).await;
}
