//! A compact suite for each version of PostgreSQL.

use pgdeadline::Context;
use pgdeadline_tests::server::Server;
use tokio::time::timeout;

use super::doors::{self, Door, under};
use super::{INNOCENT, LATE, Pace, SHORT, SLEEP, found, in_time, nobody_sleeps, short, was_ended};

async fn both() -> (&'static Server, [Door; 2]) {
    let server = Server::shared().await;
    (server, doors::both(&server.config(), 1, |c| c))
}

/// That the server has nothing to do for this pool, and goes on serving it by
/// this backend.
async fn serves_on(server: &Server, door: &Door, before: &str) {
    assert_eq!(door.next_pid().await, before, "{}", door.name);
    server.wait_idle(before.parse().unwrap(), LATE).await;
}

/// The version under test is the one that was asked for.
#[tokio::test]
async fn the_server_is_of_the_version_under_test() {
    let admin = Server::shared().await.admin().await;
    let version: String = admin
        .query_one("SHOW server_version", &[])
        .await
        .unwrap()
        .get(0);
    println!("PostgreSQL {version}");
    let asked = std::env::var("PGDEADLINE_TEST_MAJOR");
    if let (Ok(major), Err(_)) = (asked, std::env::var("PGDEADLINE_TEST_IMAGE")) {
        assert!(version.starts_with(&major), "{version}");
    }
}

#[tokio::test]
async fn a_deadline_ends_the_query_and_the_same_backend_serves_on() {
    let (server, doors) = both().await;
    for door in doors {
        let before = door.next_pid().await;
        assert!(
            was_ended(door.under(&short(), SLEEP).await),
            "{}",
            door.name
        );
        serves_on(server, &door, &before).await;

        let work = async { door.try_get().await?.ask(SLEEP).await };
        assert!(
            was_ended(in_time(short().scope(work)).await),
            "{}",
            door.name
        );
        serves_on(server, &door, &before).await;

        let mut held = door.get().await;
        assert!(was_ended(in_time(held.within(&short(), SLEEP)).await));
        assert_eq!(held.pid().await, before, "{}", door.name);

        // By the extended protocol, and a statement that is kept.
        let asleep = "SELECT 1 FROM pg_sleep($1)";
        let prepared = in_time(held.ask_prepared("SELECT $1::int", 1)).await;
        assert_eq!(prepared.unwrap(), 1);
        drop(held);
        let work = async {
            let sql = asleep.replace("$1", "$1::int");
            door.try_get().await?.ask_prepared(&sql, 600).await
        };
        assert!(was_ended(under(&short(), work).await), "{}", door.name);
        serves_on(server, &door, &before).await;
    }
}

#[tokio::test]
async fn an_explicit_cancel_reaches_the_server() {
    let (server, doors) = both().await;
    for door in doors {
        let before = door.next_pid().await;
        let ctx = Context::background().child();
        let work = door.under(&ctx, SLEEP);
        let cancel = async {
            server
                .wait_state(before.parse().unwrap(), "active", LATE)
                .await;
            ctx.cancel_with("enough");
        };
        let (result, ()) = tokio::join!(work, cancel);
        let error = found(&result.unwrap_err());
        assert!(error.is_cancelled(), "{error}");
        assert_eq!(error.reason().unwrap().to_string(), "enough");
        serves_on(server, &door, &before).await;
    }
}

#[tokio::test]
async fn a_future_that_is_dropped_is_cancelled_on_the_server() {
    let (server, doors) = both().await;
    for door in doors {
        let before = door.next_pid().await;
        let work = async { door.try_get().await?.ask(SLEEP).await };
        assert!(timeout(SHORT, work).await.is_err(), "it sleeps");
        // Nobody asks for the connection meanwhile.
        server.wait_idle(before.parse().unwrap(), LATE).await;
        serves_on(server, &door, &before).await;
    }
    nobody_sleeps(server).await;
}

#[tokio::test]
async fn an_end_in_a_transaction_fails_it_and_keeps_the_connection() {
    let (server, doors) = both().await;
    for door in doors {
        let mut held = door.get().await;
        let before = held.pid().await;
        in_time(held.ask("BEGIN; CREATE TEMP TABLE lost (n int)"))
            .await
            .unwrap();
        assert!(was_ended(in_time(held.within(&short(), SLEEP)).await));
        let error = in_time(held.ask("SELECT 1")).await.unwrap_err();
        assert!(format!("{error:?}").contains("25P02"), "{error:?}");
        in_time(held.ask("COMMIT")).await.unwrap();
        let lost = in_time(held.ask("SELECT to_regclass('lost') IS NULL")).await;
        assert_eq!(lost.unwrap(), "t", "{}", door.name);
        assert_eq!(held.pid().await, before, "{}", door.name);

        // And of a check-out that is over with its transaction open.
        drop(held);
        let work = async {
            let mut held = door.try_get().await?;
            held.ask("BEGIN").await?;
            held.ask(SLEEP).await
        };
        assert!(was_ended(under(&short(), work).await), "{}", door.name);
        serves_on(server, &door, &before).await;
    }
}

#[tokio::test]
async fn copies_are_ended_in_both_directions() {
    let (server, doors) = both().await;
    let admin = server.admin().await;
    for door in doors {
        let table = door.application.replace('-', "_");
        let create = format!("CREATE TABLE {table} (n int)");
        admin.batch_execute(&create).await.unwrap();
        let copying = async { door.try_get().await?.copy_in_and_stop(&table).await };
        assert!(was_ended(under(&short(), copying).await), "{}", door.name);
        door.assert_full().await;

        let endless = "COPY (SELECT generate_series(1, 100000000), repeat('x', 1000)) TO STDOUT";
        let copying = async { door.try_get().await?.copy_out(endless).await };
        assert!(was_ended(under(&short(), copying).await), "{}", door.name);
        door.assert_full().await;

        // Not always by the same backend: sqlx miscounts what it drops.
        let pid = door.next_pid().await.parse().unwrap();
        server.wait_idle(pid, LATE).await;
        let count = format!("SELECT count(*) FROM {table}");
        assert_eq!(
            admin.query_one(&count, &[]).await.unwrap().get::<_, i64>(0),
            0
        );
    }
}

/// A few hundred rounds of a query whose deadline falls about at its own
/// duration, each followed at once by an innocent one.
#[tokio::test]
async fn the_next_query_is_spared() {
    const ROUNDS: usize = 250;
    let (_, doors) = both().await;
    for door in doors {
        let before = door.next_pid().await;
        let (mut pace, mut ended) = (Pace::new(), 0);
        for round in 0..ROUNDS {
            let ctx = Context::background().with_timeout(Pace::LIMIT);
            let was = was_ended(door.under(&ctx, &pace.statement()).await);
            let innocent = in_time(door.get().await.ask(INNOCENT)).await;
            let innocent = innocent.unwrap_or_else(|e| panic!("{}, {round}: {e}", door.name));
            assert_eq!(innocent, before, "{}, {round}", door.name);
            pace.follow(was);
            ended += usize::from(was);
        }
        println!("{}: {ended} of {ROUNDS} ended, none hit", door.name);
        let share = ended * 100 / ROUNDS;
        assert!((10..=90).contains(&share), "no race: {share} % ended");
    }
}
