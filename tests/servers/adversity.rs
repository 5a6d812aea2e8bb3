//! A server that has no connection left, one that loses them all at once, and a
//! packet filter that keeps cancels out.

use std::time::Duration;

use pgdeadline::Context;
use pgdeadline_tests::between::Filter;
use pgdeadline_tests::eventually;
use pgdeadline_tests::server::{Server, StartOptions};
use tokio::task::JoinSet;
use tokio_postgres::NoTls;

use super::doors::{self, Door};
use super::{LATE, SLEEP, assert_retired, found, in_time, nobody_sleeps, short, was_ended};

/// PostgreSQL takes a CancelRequest before it counts connections.
#[tokio::test]
async fn a_cancel_gets_through_to_a_server_that_has_no_connection_left() {
    let options = StartOptions::default().settings(["max_connections=9"]);
    let server = Server::start(options).await;
    let doors = doors::both(&server.direct_config().await, 1, |c| c);
    let mut before = Vec::new();
    for door in &doors {
        before.push(door.next_pid().await);
    }
    // Whatever is left, the superuser's own places included.
    let mut taken = Vec::new();
    let refused = loop {
        assert!(taken.len() < 9, "it never ran out");
        match server.config().connect(NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                taken.push(client);
            }
            Err(error) => break error,
        }
    };
    let code = refused.code().map(|code| code.code().to_owned());
    assert_eq!(code.as_deref(), Some("53300"), "{refused}");

    for (door, before) in doors.iter().zip(before) {
        assert!(
            was_ended(door.under(&short(), SLEEP).await),
            "{}",
            door.name
        );
        assert_eq!(door.next_pid().await, before, "{}", door.name);
        let idle = "SELECT state FROM pg_stat_activity WHERE pid = $1";
        eventually(LATE, "the server's query has ended", async || {
            let pid: i32 = before.parse().unwrap();
            let state: String = taken[0].query_one(idle, &[&pid]).await.unwrap().get(0);
            (state == "idle").then_some(())
        })
        .await;
    }
    // Who can't be served meanwhile is told at his deadline, or why.
    let [deadpool, _] = doors::both(&server.direct_config().await, 1, |c| c);
    let error = in_time(deadpool.under(&short(), "SELECT 1"))
        .await
        .unwrap_err();
    assert!(format!("{error:?}").contains("53300"), "{error:?}");
    drop(taken);
    eventually(LATE, "there is room again", async || {
        deadpool
            .under(&Context::background(), "SELECT 1")
            .await
            .ok()
    })
    .await;
    deadpool.assert_full().await;
}

/// All of a pool's connections at once, busy and idle ones.
#[tokio::test]
async fn a_pool_that_loses_all_its_connections_is_whole_again() {
    const SIZE: usize = 8;
    let server = Server::shared().await;
    for door in doors::both(&server.config(), SIZE, |c| c) {
        door.assert_full().await;
        let mut busy = JoinSet::new();
        for _ in 0..SIZE / 2 {
            let door = door.clone();
            busy.spawn(async move {
                let ctx = Context::background().with_timeout(LATE * 2);
                door.under(&ctx, SLEEP).await.unwrap_err()
            });
        }
        let admin = server.admin().await;
        let asleep = "SELECT count(*) FROM pg_stat_activity \
                      WHERE state = 'active' AND application_name = $1";
        eventually(LATE, "half of them are busy", async || {
            let row = admin.query_one(asleep, &[&door.application]).await.unwrap();
            (row.get::<_, i64>(0) == SIZE as i64 / 2).then_some(())
        })
        .await;
        let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                    WHERE application_name = $1";
        let row = admin.query_one(kill, &[&door.application]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), SIZE as i64);
        // They are told by the server; no context of theirs has ended.
        for error in in_time(busy.join_all()).await {
            assert!(format!("{error:?}").contains("57P01"), "{error:?}");
        }
        // An idle one may have to be told by its first query.
        let mut served = 0;
        eventually(LATE, "the pool serves again", async || {
            let ctx = Context::background().with_timeout(LATE);
            let well = door.under(&ctx, "SELECT 1").await.is_ok();
            served = if well { served + 1 } else { 0 };
            (served > SIZE).then_some(())
        })
        .await;
        door.assert_full().await;
    }
}

/// A packet filter between the pool and its server: connections that are there
/// go on, and no new one comes about, so no cancel either.
#[tokio::test]
async fn a_cancel_that_is_kept_out_ends_in_retirement() {
    let server = Server::start(StartOptions::default()).await;
    let config = server.direct_config().await;
    let admin = server.admin().await;
    for filter in [Filter::Refuse, Filter::Drop] {
        for door in doors::both(&config, 2, |c| c.grace(GRACE)) {
            let what = format!("{filter:?}, {}", door.name);
            door.assert_full().await;
            let mut held = door.get().await;
            filter.apply(&server).await.unwrap_or_else(|error| {
                panic!("this test filters packets in a container, with nft: {error}")
            });

            let error = in_time(held.within(&short(), SLEEP)).await;
            assert!(found(&error.unwrap_err()).is_deadline(), "{what}");
            let error = in_time(held.ask("SELECT 1")).await.unwrap_err();
            assert_retired(&error);
            drop(held);
            // Those who come next: the other connection serves, a new one can't
            // be had, and nobody waits past his deadline.
            late_comers(&door, &what).await;

            Filter::Pass.apply(&server).await.unwrap();
            door.assert_full().await;
            // A query that no cancel could reach is the server's to end.
            let left = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                        WHERE state = 'active' AND query = $1";
            let row = admin.query_one(left, &[&SLEEP]).await.unwrap();
            println!("{what}: {} left on the server", row.get::<_, i64>(0));
            nobody_sleeps(&server).await;
        }
    }
}

async fn late_comers(door: &Door, what: &str) {
    let mut callers = JoinSet::new();
    for _ in 0..4 {
        let door = door.clone();
        callers.spawn(async move {
            let ctx = Context::background().with_timeout(GRACE);
            door.under(&ctx, "SELECT pg_sleep(0.1)").await
        });
    }
    let results = in_time(callers.join_all()).await;
    let served = results.iter().filter(|result| result.is_ok()).count();
    println!("{what}: {served} of {} served", results.len());
    assert!(served > 0, "{what}: the connection that was left serves");
}

/// Shorter than [`LATE`], which would be a long wait for nothing.
const GRACE: Duration = Duration::from_secs(1);
