//! What transaction mode asks for more: a server's connection is another
//! client's as soon as a transaction ends, so a cancel that comes late hits
//! somebody else's query, and a prepared statement is not where it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pgdeadline::{Context, EofProof};
use pgdeadline_tests::between::{Mode, Pgbouncer};
use pgdeadline_tests::server::{Server, StartOptions};
use tokio::task::JoinSet;

use super::doors::{self, Door};
use super::{INNOCENT, Pace, SLEEP, in_time, nobody_sleeps, short, was_ended};

const ROUNDS: usize = 75;

/// What came of a race.
#[derive(Default)]
struct Tally {
    ended: AtomicUsize,
    hit: AtomicUsize,
}

/// Four callers with a deadline at about the length of their query, and four
/// whose query nobody ends, on two connections to the server.
async fn race(doors: &[Door; 2]) -> Arc<Tally> {
    let tally = Arc::new(Tally::default());
    let mut callers = JoinSet::new();
    for caller in 0..8 {
        let (door, tally) = (doors[caller / 2 % 2].clone(), Arc::clone(&tally));
        callers.spawn(async move {
            let mut pace = Pace::new();
            for round in 0..ROUNDS {
                if caller % 2 == 0 {
                    let mut held = door.get().await;
                    let ctx = Context::background().with_timeout(Pace::LIMIT);
                    let statement = pace.statement();
                    let ended = was_ended(in_time(held.within(&ctx, &statement)).await);
                    pace.follow(ended);
                    tally.ended.fetch_add(usize::from(ended), Ordering::Relaxed);
                } else if let Err(error) = in_time(door.get().await.ask(INNOCENT)).await {
                    let text = format!("{error:?}");
                    assert!(text.contains("57014"), "{}, {round}: {text}", door.name);
                    tally.hit.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    for caller in callers.join_all().await {
        let () = caller;
    }
    tally
}

/// A race of some hundred rounds: nobody's query is hit by a cancel that was
/// another's, from pgbouncer 1.18 on. Before, pgbouncer itself lets cancels
/// come late, whoever sends them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cancels_of_some_hit_no_one_else() {
    let server = Server::start(StartOptions::default()).await;
    for proof in [EofProof::Automatic, EofProof::Proof] {
        let pgbouncer =
            Pgbouncer::before(&server, Mode::Transaction, "default_pool_size = 2").await;
        let version = pgbouncer.version().await;
        let doors = doors::both(&pgbouncer.config(), 4, |c| c.eof_proof(proof));
        let tally = race(&doors).await;
        let (ended, hit) = (
            tally.ended.load(Ordering::Relaxed),
            tally.hit.load(Ordering::Relaxed),
        );
        println!(
            "pgbouncer {version:?}, {proof:?}: of {} rounds {ended} ended, {hit} innocent hit",
            ROUNDS * 4
        );
        let share = ended * 100 / (ROUNDS * 4);
        assert!((10..=90).contains(&share), "no race: {share} % ended");
        if version >= (1, 18) {
            assert_eq!(hit, 0, "{proof:?}");
        }
        nobody_sleeps(&server).await;
        for door in &doors {
            door.assert_full().await;
        }
    }
}

/// From 1.21 on pgbouncer carries prepared statements from one connection to
/// the other; before, the clients' own way does not work in this mode, with or
/// without us.
#[tokio::test]
async fn prepared_statements_are_carried_along() {
    let server = Server::start(StartOptions::default()).await;
    let more = "default_pool_size = 2";
    let pgbouncer = Pgbouncer::before(&server, Mode::Transaction, more).await;
    let version = pgbouncer.version().await;
    if version < (1, 21) {
        println!("pgbouncer {version:?} carries no prepared statements");
        return;
    }
    let more = format!("{more}\nmax_prepared_statements = 100");
    let pgbouncer = Pgbouncer::before(&server, Mode::Transaction, &more).await;
    for proof in [EofProof::Automatic, EofProof::Proof] {
        for door in doors::both(&pgbouncer.config(), 3, |c| c.eof_proof(proof)) {
            for round in 0..20 {
                let mut all = Vec::new();
                for _ in 0..3 {
                    all.push(door.get().await);
                }
                // By turns on either connection to the server, three times the
                // same statement.
                for (n, held) in all.iter_mut().enumerate() {
                    let n = i32::try_from(n).unwrap() + round;
                    let double = held.ask_prepared("SELECT $1::int * 2", n);
                    assert_eq!(in_time(double).await.unwrap(), n * 2, "{}", door.name);
                }
                if round % 5 == 0 {
                    let mut held = all.pop().unwrap();
                    let asleep = held.ask_prepared("SELECT 1 FROM pg_sleep($1::int)", 600);
                    assert!(was_ended(doors::under(&short(), asleep).await));
                }
            }
            let prepared = async || {
                let mut held = door.try_get().await?;
                held.ask_prepared("SELECT 1 FROM pg_sleep($1::int)", 600)
                    .await
            };
            assert!(
                was_ended(doors::under(&short(), prepared()).await),
                "{}",
                door.name
            );
            assert!(
                was_ended(door.under(&short(), SLEEP).await),
                "{}",
                door.name
            );
            nobody_sleeps(&server).await;
            door.assert_full().await;
        }
    }
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' \
                  AND query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()";
    let row = server.admin().await.query_one(asleep, &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 0);
}
