//! Every server and what stands before it, through both doors.
//!
//! | module | what |
//! | --- | --- |
//! | [`versions`], [`encrypted`] | a compact suite for each version of PostgreSQL; TLS, channel binding, client certificates |
//! | [`eof`] | whether the end of a cancel's connection proves anything behind a pooler |
//! | [`pgbouncer`], [`transactions`] | pgbouncer in session and in transaction mode |
//! | [`astray`] | two pgbouncers behind one address: cancels that reach the other one |
//! | [`failover`] | a primary that dies under load, and its standby |
//! | [`adversity`] | no connection left, all connections lost, a packet filter |
//!
//! `PGDEADLINE_TEST_MAJOR` (17 unless set) says which PostgreSQL, and which
//! Debian release pgbouncer and HAProxy are of; `PGDEADLINE_ALL_SERVERS=1
//! .ci/run` runs this binary for each. The results are in
//! `docs/reliability.md`.
//!
//! No test asserts on a short time: a deadline of [`SHORT`] round work of
//! [`SLEEP`] is late only when it is later than [`LATE`].

mod adversity;
mod astray;
mod doors;
mod encrypted;
mod eof;
mod failover;
mod pgbouncer;
mod transactions;
mod versions;

use std::time::Duration;

use pgdeadline::{Context, Error, Guard};
use pgdeadline_tests::bounds::{LATE, SHORT, SLEEP, in_time};
use pgdeadline_tests::eventually;
use pgdeadline_tests::server::Server;

fn short() -> Guard {
    Context::background().with_timeout(SHORT)
}

/// The error of pgdeadline's that is found in another.
#[track_caller]
fn found(error: &doors::Failed) -> Error {
    Error::find(&**error).unwrap_or_else(|| panic!("not pgdeadline's: {error:?}"))
}

/// Whether it was ended by its deadline; whatever else went wrong is a failure.
#[track_caller]
fn was_ended<T>(result: Result<T, doors::Failed>) -> bool {
    match result {
        Ok(_) => false,
        Err(error) => {
            assert!(found(&error).is_deadline(), "{error}");
            true
        }
    }
}

/// That the connection was closed by us: a client that asks when it is, is told
/// by us, and one that asks later by his own side of it.
#[track_caller]
fn assert_retired(error: &doors::Failed) {
    match Error::find(&**error) {
        Some(error) => assert!(error.is_retired(), "{error}"),
        None => {
            let text = format!("{error:?}");
            let closed = ["Closed", "BrokenPipe", "UnexpectedEof", "ConnectionReset"];
            assert!(closed.iter().any(|kind| text.contains(kind)), "{text}");
        }
    }
}

/// Waits until no backend of the server sleeps.
async fn nobody_sleeps(server: &Server) {
    let admin = server.admin().await;
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = $1";
    eventually(LATE, "nobody sleeps on the server", async || {
        let row = admin.query_one(asleep, &[&SLEEP]).await.unwrap();
        (row.get::<_, i64>(0) == 0).then_some(())
    })
    .await;
}

/// The pace of a race between a query's own end and its deadline: the query is
/// shorter after a round that was ended, longer after one that was not.
struct Pace(Duration);

impl Pace {
    const LIMIT: Duration = Duration::from_millis(5);
    const STEP: Duration = Duration::from_micros(700);

    fn new() -> Pace {
        Pace(Pace::LIMIT / 2)
    }

    fn statement(&self) -> String {
        format!("SELECT pg_sleep({:.6})", self.0.as_secs_f64())
    }

    fn follow(&mut self, ended: bool) {
        self.0 = if ended {
            self.0.saturating_sub(Pace::STEP)
        } else {
            (self.0 + Pace::STEP).min(Pace::LIMIT * 2)
        };
    }
}

/// Sleeps a little, for a late signal to find it.
const INNOCENT: &str = "SELECT pg_backend_pid() FROM pg_sleep(0.002)";
