//! pgbouncer between the pool and its server, in both of its modes.
//!
//! The default finds out, by comparing the process id of the start-up with
//! `pg_backend_pid()`, that it can't know what the end of a cancel proves: a
//! session that was cancelled is retired. Who knows better says so.

use pgdeadline::{Context, EofProof};
use pgdeadline_tests::between::{Mode, Pgbouncer};
use pgdeadline_tests::eventually;
use pgdeadline_tests::server::{Server, StartOptions};

use super::doors::{self, Door};
use super::{LATE, SLEEP, assert_retired, found, in_time, nobody_sleeps, short, was_ended};

/// Whether the session went on after one of its operations was cancelled.
async fn survives_a_cancel(server: &Server, door: &Door) -> bool {
    let mut held = door.get().await;
    let before = held.pid().await;
    let ended = in_time(held.within(&short(), SLEEP)).await;
    let error = found(&ended.expect_err("it was ended"));
    assert!(error.is_deadline(), "{error}");
    // By the session's own cancel, not by pgbouncer's end of the connection.
    nobody_sleeps(server).await;
    match in_time(held.ask("SELECT pg_backend_pid()")).await {
        Ok(pid) => {
            assert_eq!(pid, before, "nobody else is here to take it");
            true
        }
        Err(error) => {
            assert_retired(&error);
            false
        }
    }
}

/// Caller back, the server's query ended, the session kept or retired as the
/// proof says, and the pool whole; on both doors.
#[tokio::test]
async fn a_deadline_reaches_the_server_and_the_session_is_kept_only_with_proof() {
    let server = Server::start(StartOptions::default()).await;
    for mode in [Mode::Session, Mode::Transaction] {
        let pgbouncer = Pgbouncer::before(&server, mode, "").await;
        for (proof, kept) in [
            (EofProof::Automatic, false),
            (EofProof::NoProof, false),
            (EofProof::Proof, true),
        ] {
            for door in doors::both(&pgbouncer.config(), 2, |c| c.eof_proof(proof)) {
                let what = format!("{mode:?}, {proof:?}, {}", door.name);
                assert_eq!(survives_a_cancel(&server, &door).await, kept, "{what}");
                // The same for a check-out of its own.
                assert!(was_ended(door.under(&short(), SLEEP).await), "{what}");
                nobody_sleeps(&server).await;
                door.assert_full().await;
                println!("{what}: {}", if kept { "kept" } else { "retired" });
            }
        }
    }
}

/// An explicit cancel, a future that is dropped, and a transaction whose
/// check-out ends.
#[tokio::test]
async fn every_kind_of_end_reaches_the_server_through_it() {
    let server = Server::start(StartOptions::default()).await;
    let admin = server.admin().await;
    for mode in [Mode::Session, Mode::Transaction] {
        let pgbouncer = Pgbouncer::before(&server, mode, "").await;
        for door in doors::both(&pgbouncer.config(), 2, |c| c) {
            let what = format!("{mode:?}, {}", door.name);
            let asleep = async || {
                let count = "SELECT count(*) FROM pg_stat_activity \
                             WHERE state = 'active' AND query = $1";
                eventually(LATE, "it sleeps on the server", async || {
                    let row = admin.query_one(count, &[&SLEEP]).await.unwrap();
                    (row.get::<_, i64>(0) == 1).then_some(())
                })
                .await;
            };

            let ctx = Context::background().child();
            let cancel = async {
                asleep().await;
                ctx.cancel();
            };
            let (result, ()) = tokio::join!(door.under(&ctx, SLEEP), cancel);
            assert!(found(&result.unwrap_err()).is_cancelled(), "{what}");
            nobody_sleeps(&server).await;

            let work = async { door.try_get().await?.ask(SLEEP).await };
            tokio::select! {
                _ = work => panic!("{what}: it came back"),
                () = asleep() => {}
            }
            nobody_sleeps(&server).await;

            let work = async {
                let mut held = door.try_get().await?;
                held.ask("BEGIN; CREATE TABLE lost (n int)").await?;
                held.ask(SLEEP).await
            };
            assert!(was_ended(doors::under(&short(), work).await), "{what}");
            nobody_sleeps(&server).await;
            eventually(LATE, "the transaction is rolled back", async || {
                let lost = "SELECT to_regclass('lost') IS NULL AND NOT EXISTS \
                            (SELECT FROM pg_locks WHERE locktype = 'relation' \
                             AND pid <> pg_backend_pid() AND mode = 'AccessExclusiveLock')";
                let row = admin.query_one(lost, &[]).await.unwrap();
                row.get::<_, bool>(0).then_some(())
            })
            .await;
            door.assert_full().await;
        }
    }
}
