//! Two pgbouncers behind one address: a cancel that reaches the other one is
//! useless there, and must harm nobody.

use std::time::Duration;

use pgdeadline_tests::between::Haproxy;
use pgdeadline_tests::server::{Server, StartOptions};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::doors::{self, Door};
use super::{LATE, SLEEP, assert_retired, found, in_time, nobody_sleeps, short, was_ended};

/// Shorter than [`LATE`], so that it shows which of the two was waited for.
const GRACE: Duration = Duration::from_secs(1);

/// Neighbours of the one that is cancelled, whose work nobody may touch.
fn innocent(door: &Door) -> JoinSet<String> {
    let mut all = JoinSet::new();
    for _ in 0..3 {
        let door = door.clone();
        all.spawn(async move {
            let answer = door.get().await.ask("SELECT 7 FROM pg_sleep(3)").await;
            answer.unwrap_or_else(|error| panic!("{}: it was hit: {error:?}", door.name))
        });
    }
    all
}

async fn end_one(door: &Door) -> Duration {
    let mut held = door.get().await;
    let innocent = innocent(door);
    let ended = in_time(held.within(&short(), SLEEP)).await;
    let error = found(&ended.expect_err("it was ended"));
    assert!(error.is_deadline(), "{error}");
    let told = Instant::now();
    // Not clean and not proven, so retired: at once if the cancel came through,
    // else at the end of the grace.
    let error = in_time(held.ask("SELECT 1")).await.unwrap_err();
    assert_retired(&error);
    let waited = told.elapsed();
    assert!(
        in_time(innocent.join_all())
            .await
            .iter()
            .all(|answer| answer == "7")
    );
    waited
}

/// Cancels that always reach the other one: the caller is back, the session is
/// retired at the grace, the pool is whole, and nobody was hit. The query
/// itself is left to the server: see `client_connection_check_interval`.
#[tokio::test]
async fn a_cancel_that_goes_astray_ends_in_retirement() {
    let server = Server::start(
        StartOptions::default().settings(CHECKS.iter().copied().filter(|_| has_checks())),
    )
    .await;
    let haproxy = Haproxy::before_two_pgbouncers(&server, false).await;
    for door in doors::both(&haproxy.astray(), 4, |c| c.grace(GRACE)) {
        let waited = end_one(&door).await;
        println!(
            "{}: retired {waited:?} after the caller was told",
            door.name
        );
        assert!(
            was_ended(door.under(&short(), SLEEP).await),
            "{}",
            door.name
        );
        door.assert_full().await;
    }
    if has_checks() {
        // The server notices that pgbouncer has closed its connection.
        nobody_sleeps(&server).await;
    }
}

/// Either in turn: one attempt or the next reaches the right one.
#[tokio::test]
async fn a_cancel_that_is_sent_again_reaches_the_right_one_in_turn() {
    let server = Server::start(StartOptions::default()).await;
    let haproxy = Haproxy::before_two_pgbouncers(&server, false).await;
    for door in doors::both(&haproxy.config(), 4, |c| c.grace(LATE)) {
        let waited = end_one(&door).await;
        println!("{}: over {waited:?} after the caller was told", door.name);
        nobody_sleeps(&server).await;
        door.assert_full().await;
    }
}

/// Where the two know each other, the other one passes the cancel on.
#[tokio::test]
async fn peers_pass_a_cancel_on() {
    let server = Server::start(StartOptions::default()).await;
    let haproxy = Haproxy::before_two_pgbouncers(&server, false).await;
    let version = haproxy.pgbouncer_version().await;
    if version < (1, 19) {
        println!("pgbouncer {version:?} knows no peers");
        return;
    }
    let haproxy = Haproxy::before_two_pgbouncers(&server, true).await;
    for door in doors::both(&haproxy.astray(), 4, |c| c.grace(LATE)) {
        let waited = end_one(&door).await;
        println!("{}: over {waited:?} after the caller was told", door.name);
        nobody_sleeps(&server).await;
        door.assert_full().await;
    }
}

/// PostgreSQL 14 and later look now and then whether their client is there.
const CHECKS: [&str; 1] = ["client_connection_check_interval=500ms"];

fn has_checks() -> bool {
    let major = std::env::var("PGDEADLINE_TEST_MAJOR");
    major.map_or(true, |major| major.parse::<u32>().unwrap() >= 14)
}
