//! Ends that come about when their query does: the next query is spared.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pgdeadline::Context;
use pgdeadline_sqlx::{ConnectionExt, PoolExt};
use pgdeadline_tests::proxy::Proxy;
use pgdeadline_tests::server::Server;
use sqlx::Postgres;
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::Query;

use super::{Bench, found, in_some_minutes, in_time, pid};

/// How long the raced query sleeps, following the rounds before: shorter after
/// one that was ended, longer after one that was not, so that it stays a race
/// on any machine. Steps are wide, so that some ends come well before the
/// query's own and send a cancel, which a slow machine might not manage else.
struct Pace(Duration);

impl Pace {
    const LIMIT: Duration = Duration::from_millis(5);
    const STEP: Duration = Duration::from_micros(700);

    fn new() -> Pace {
        Pace(Pace::LIMIT / 2)
    }

    fn query(&self) -> Query<'static, Postgres, PgArguments> {
        sqlx::query("SELECT pg_sleep($1)").bind(self.0.as_secs_f64())
    }

    fn follow(&mut self, ended: bool) {
        self.0 = if ended {
            self.0.saturating_sub(Pace::STEP)
        } else {
            (self.0 + Pace::STEP).min(Pace::LIMIT * 2)
        };
    }
}

/// Whether it was ended; whatever else went wrong is a failure.
fn was_ended<T>(result: Result<T, &(dyn std::error::Error + 'static)>, round: usize) -> bool {
    let Err(error) = result else { return false };
    assert!(found(error).is_deadline(), "round {round}: {error}");
    true
}

/// Sleeps a little, for a late signal to find it; answers with its backend.
async fn innocent(connection: &mut PgConnection, round: usize) -> i32 {
    let innocent = "SELECT pg_backend_pid() FROM pg_sleep(0.002)";
    let innocent = sqlx::query_scalar(innocent).fetch_one(connection);
    let answer = in_time(innocent).await;
    answer.unwrap_or_else(|error| panic!("round {round}: {error}"))
}

/// That both ways to go were taken often enough to mean something.
fn assert_race(ended: usize, rounds: usize) {
    let share = ended * 100 / rounds;
    assert!((25..=80).contains(&share), "no race: {share} % ended");
}

/// `PGDEADLINE_ROUNDS`, or so many as there is time for in a test.
fn rounds() -> usize {
    let asked = std::env::var("PGDEADLINE_ROUNDS");
    asked.map_or(300, |rounds| rounds.parse().expect("a number of rounds"))
}

/// 12. One statement's deadline spares the next statement on the same
/// connection, 500 times in a row with the deadline at the statement's own
/// duration.
#[tokio::test]
async fn a_statements_deadline_spares_the_next_statement() {
    const ROUNDS: usize = 500;
    let bench = Bench::pool(1).await;
    let mut connection = bench.acquire().await;
    let before = pid(&mut connection).await;
    let (mut pace, mut all_ended) = (Pace::new(), 0);
    let all = async {
        for round in 0..ROUNDS {
            let query = pace.query();
            let short = Context::background().with_timeout(Pace::LIMIT);
            let work = connection.within(&short, async |c| query.execute(c).await);
            let result = in_time(work).await;
            let ended = was_ended(result.as_ref().map_err(|e| e as _), round);
            assert_eq!(innocent(&mut connection, round).await, before);
            pace.follow(ended);
            all_ended += usize::from(ended);
        }
    };
    in_some_minutes(all).await;
    assert_race(all_ended, ROUNDS);
}

/// 12. The same by the default deadline, which is each statement's: the
/// innocent one's too.
#[tokio::test]
async fn a_default_deadline_spares_the_next_statement() {
    const ROUNDS: usize = 300;
    let limit = Pace::LIMIT * 4;
    let bench = Bench::with(1, |connector| connector.default_deadline(limit)).await;
    let mut connection = Context::background()
        .scope(bench.pool.acquire())
        .await
        .unwrap();
    let before = pid(&mut connection).await;
    drop(connection);
    let mut connection = bench.acquire().await;
    let (mut pace, mut all_ended) = (Pace(limit / 2), 0);
    let all = async {
        for round in 0..ROUNDS {
            let result = in_time(pace.query().execute(&mut *connection)).await;
            let ended = was_ended(result.as_ref().map_err(|e| e as _), round);
            // Within a context that never ends, the default does not count.
            let long = Context::background();
            let innocent = "SELECT pg_backend_pid() FROM pg_sleep(0.002)";
            let innocent = sqlx::query_scalar::<_, i32>(innocent);
            let work = connection.within(&long, async |c| innocent.fetch_one(c).await);
            let backend = in_time(work).await;
            let backend = backend.unwrap_or_else(|error| panic!("round {round}: {error}"));
            assert_eq!(backend, before, "round {round}");
            pace.0 = match ended {
                true => pace.0.saturating_sub(Pace::STEP * 3),
                false => (pace.0 + Pace::STEP * 3).min(limit * 2),
            };
            all_ended += usize::from(ended);
        }
    };
    in_some_minutes(all).await;
    assert_race(all_ended, ROUNDS);
}

/// 12. The same through the pool: rounds of a query whose deadline falls about
/// at its own duration, each followed at once by an innocent one.
#[tokio::test]
async fn the_next_user_of_the_connection_is_spared() {
    let rounds = rounds();
    let proxy = Proxy::before(Server::shared().await).await;
    let bench = Bench::behind(&proxy, 1).await;
    let mut serving = bench.next_pid().await;
    let mut pace = Pace::new();
    let (mut all_ended, mut all_cancelled, mut reused) = (0, 0, 0);
    for round in 0..rounds {
        let sent_before = proxy.cancels();
        let query = pace.query();
        let short = Context::background().with_timeout(Pace::LIMIT);
        // The three ways to give a query of the pool a deadline, in turn.
        let ended = match round % 3 {
            0 => {
                let work = pgdeadline_sqlx::try_run(&short, query.execute(&bench.pool));
                was_ended(in_time(work).await.as_ref().map_err(|e| e as _), round)
            }
            1 => {
                let work = short.scope(query.execute(&bench.pool));
                was_ended(in_time(work).await.as_ref().map_err(|e| e as _), round)
            }
            _ => {
                let work = async {
                    let mut connection = bench.pool.acquire_under(&short).await?;
                    query.execute(&mut *connection).await?;
                    Ok::<_, pgdeadline_sqlx::Error>(())
                };
                was_ended(in_time(work).await.as_ref().map_err(|e| e as _), round)
            }
        };
        let mut connection = bench.acquire().await;
        let backend = innocent(&mut connection, round).await;
        // It is served only when no cancel is on its way any more.
        let cancelled = ended && proxy.cancels() > sent_before;
        reused += usize::from(cancelled && backend == serving);
        serving = backend;
        pace.follow(ended);
        all_ended += usize::from(ended);
        all_cancelled += usize::from(cancelled);
    }
    println!("{rounds} rounds: {all_ended} ended, {all_cancelled} cancelled, {reused} reused");
    assert_race(all_ended, rounds);
    // Optimised, half of them do; here the dial is often too late.
    assert!(
        all_cancelled * 10 >= all_ended,
        "no race: {all_cancelled} of {all_ended} sent a cancel"
    );
    assert!(
        reused * 10 >= all_cancelled * 9,
        "no race: {reused} of {all_cancelled} were reused"
    );
}

/// 12. With many at once on a small pool, by two threads: whoever has no
/// deadline is hit by nobody's, and not by a time-out of somebody's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbours_on_the_pool_are_spared() {
    let bench = Bench::pool(4).await;
    let served = Arc::new(AtomicUsize::new(0));
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..9 {
        let (pool, served) = (bench.pool.clone(), Arc::clone(&served));
        callers.spawn(async move {
            for round in 0..50 {
                let pace = Pace(Duration::from_micros(1_000 + round * 80));
                match caller % 3 {
                    0 => {
                        let short = Context::background().with_timeout(Pace::LIMIT);
                        let work = pace.query().execute(&pool);
                        let work = pgdeadline_sqlx::try_run(&short, work);
                        let result = in_time(work).await;
                        was_ended(result.as_ref().map_err(|e| e as _), round as usize);
                    }
                    1 => {
                        let work = pace.query().execute(&pool);
                        let _ = tokio::time::timeout(Pace::LIMIT, work).await;
                    }
                    _ => {
                        let mut connection = in_time(pool.acquire()).await.unwrap();
                        innocent(&mut connection, round as usize).await;
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
    }
    in_some_minutes(callers.join_all()).await;
    assert_eq!(served.load(Ordering::Relaxed), 3 * 50);
    bench.assert_full().await;
    bench.wait_quiet(4).await;
}
