//! Queries that wait for others: the server must stop waiting too.

use pgdeadline::{Connector, Context};
use pgdeadline_deadpool::Error;
use pgdeadline_tests::server::Server;
use tokio_postgres::{AsyncMessage, NoTls};

use super::query::ends_softly;
use super::{Bench, LATE, SHORT, SLEEP, found, in_time, pid, works};

/// 8. A blocked `UPDATE` gives up its place in the queue for the lock.
#[tokio::test]
async fn a_blocked_update_stops_waiting_and_stores_nothing() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let table = bench.table("n int").await;
    let mut admin = bench.server.admin().await;
    admin
        .batch_execute(&format!("INSERT INTO {table} VALUES (0)"))
        .await
        .unwrap();
    let holder = admin.transaction().await.unwrap();
    holder
        .batch_execute(&format!("UPDATE {table} SET n = 1"))
        .await
        .unwrap();

    let ctx = Context::background().with_timeout(SHORT * 2);
    let update = format!("UPDATE {table} SET n = 2");
    let work = ctx.try_run(async {
        let client = bench.pool.get().await?;
        Ok::<_, Error>(client.execute(&update, &[]).await?)
    });
    let (error, ()) = tokio::join!(
        in_time(work),
        bench.server.wait_event_type(before, "Lock", LATE)
    );
    ends_softly(&bench, found(&error.unwrap_err()), before).await;

    holder.commit().await.unwrap();
    let ones = format!("{table} WHERE n = 1");
    assert_eq!(bench.count(&ones).await, 1, "the update came to nothing");
}

/// 8. The same for an advisory lock, which is not left behind either.
#[tokio::test]
async fn an_advisory_lock_is_not_waited_for_and_not_taken() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let admin = bench.server.admin().await;
    let key = i64::from(before);
    admin
        .execute("SELECT pg_advisory_lock($1)", &[&key])
        .await
        .unwrap();

    let ctx = Context::background().with_timeout(SHORT * 2);
    let work = ctx.try_run(async {
        let client = bench.pool.get().await?;
        let lock = "SELECT pg_advisory_lock($1)";
        Ok::<_, Error>(client.execute(lock, &[&key]).await?)
    });
    let (error, ()) = tokio::join!(
        in_time(work),
        bench.server.wait_event_type(before, "Lock", LATE)
    );
    ends_softly(&bench, found(&error.unwrap_err()), before).await;

    admin
        .execute("SELECT pg_advisory_unlock($1)", &[&key])
        .await
        .unwrap();
    let free = admin
        .query_one("SELECT pg_try_advisory_lock($1)", &[&key])
        .await
        .unwrap();
    assert!(free.get::<_, bool>(0), "nobody got it meanwhile");
}

/// A deadlock is the server's own error, and not taken for an end.
#[tokio::test]
async fn a_deadlock_is_told_as_the_servers() {
    let bench = Bench::pool(2).await;
    let ctx = Context::background().with_timeout(LATE);
    let work = ctx.try_run(async {
        let (mut one, mut two) = (bench.pool.get().await?, bench.pool.get().await?);
        let key = i64::from(pid(&one).await) << 8;
        let lock = "SELECT pg_advisory_xact_lock($1)";
        let (one, two) = (one.transaction().await?, two.transaction().await?);
        one.execute(lock, &[&key]).await?;
        two.execute(lock, &[&(key + 1)]).await?;
        let first = async {
            let result = one.execute(lock, &[&(key + 1)]).await;
            one.rollback().await?;
            Ok::<_, Error>(result)
        };
        let second = async {
            let result = two.execute(lock, &[&key]).await;
            two.rollback().await?;
            Ok(result)
        };
        tokio::try_join!(first, second)
    });
    let (first, second) = in_time(work).await.unwrap();
    let error = first.and(second).expect_err("one of the two is the victim");
    assert_eq!(error.code().unwrap().code(), "40P01", "{error}");
    assert!(pgdeadline::Error::find(&error).is_none(), "{error}");
    bench.assert_full().await;
}

/// An administrator who ends a backend is told as what he is, and a deadline
/// that passes later does not change that.
#[tokio::test]
async fn a_terminated_backend_is_told_as_the_servers_and_replaced() {
    let bench = Bench::pool(1).await;
    let ctx = Context::background().with_timeout(LATE);
    let client = ctx.scope(bench.pool.get()).await.unwrap();
    let before = pid(&client).await;
    let (error, ()) = tokio::join!(in_time(ctx.run(client.query(SLEEP, &[]))), async {
        bench.server.wait_state(before, "active", LATE).await;
        let admin = bench.server.admin().await;
        let terminate = "SELECT pg_terminate_backend($1)";
        admin.execute(terminate, &[&before]).await.unwrap();
    });
    let error = error.expect("no end of a context").unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("57P01"));
    assert!(!pgdeadline::Error::find(&error).is_some_and(|found| found.is_end()));
    drop(client);
    let next = bench.get().await;
    works(&next).await;
    assert_ne!(pid(&next).await, before);
}

/// A cancel that somebody else sent is not taken for ours.
#[tokio::test]
async fn somebody_elses_cancel_is_told_as_the_servers() {
    let bench = Bench::pool(1).await;
    let ctx = Context::background().with_timeout(LATE);
    let client = ctx.scope(bench.pool.get()).await.unwrap();
    let before = pid(&client).await;
    let (error, ()) = tokio::join!(in_time(ctx.scope(client.query(SLEEP, &[]))), async {
        bench.server.wait_state(before, "active", LATE).await;
        let admin = bench.server.admin().await;
        let cancel = "SELECT pg_cancel_backend($1)";
        admin.execute(cancel, &[&before]).await.unwrap();
    });
    let error = error.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "57014");
    assert!(pgdeadline::Error::find(&error).is_none(), "{error}");
    drop(client);
    assert_eq!(bench.next_pid().await, before);
}

/// Notices come through in order, those of work that ended too: the drain
/// drops rows, not what the server says about itself.
#[tokio::test]
async fn notices_of_ended_work_come_through() {
    let server = Server::shared().await;
    let connector = Connector::new(server.config(), NoTls).unwrap();
    let ctx = Context::background().with_timeout(LATE);
    let (client, mut connection) = connector.connect(&ctx).await.unwrap();
    let (told, mut notices) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut next = async || std::future::poll_fn(|cx| connection.poll_message(cx)).await;
        while let Some(Ok(message)) = next().await {
            if let AsyncMessage::Notice(notice) = message {
                let _ = told.send(notice.message().to_owned());
            }
        }
    });
    let both = "DO $$ BEGIN
        RAISE NOTICE 'before';
        BEGIN PERFORM pg_sleep(600);
        EXCEPTION WHEN query_canceled THEN RAISE NOTICE 'after';
        END;
    END $$";
    let short = Context::background().with_timeout(SHORT);
    let error = in_time(short.scope(client.batch_execute(both))).await;
    assert!(found(&error.unwrap_err()).is_deadline());
    assert_eq!(in_time(notices.recv()).await.unwrap(), "before");
    assert_eq!(in_time(notices.recv()).await.unwrap(), "after");
    in_time(client.batch_execute("SELECT 1")).await.unwrap();
}
