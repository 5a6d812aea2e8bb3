//! The pool's own life: lifetimes, closing, and an end with work in flight.

use std::process::Command;
use std::sync::mpsc;

use pgdeadline::{Connector, Context};
use pgdeadline_sqlx::Builder;
use pgdeadline_tests::eventually;
use pgdeadline_tests::server::Server;
use sqlx::postgres::{PgPool, PgPoolOptions};
use tokio::runtime::Runtime;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Config, NoTls};

use super::{
    Bench, LATE, SHORT, SLEEP, asleep, asleep_on, found, in_time, of_size, options_of, works,
};

/// A connection that is too old is replaced, and its backend is gone.
#[tokio::test]
async fn a_connection_beyond_its_lifetime_is_replaced() {
    let options = PgPoolOptions::new().max_connections(1).max_lifetime(SHORT);
    let bench = Bench::pooled(options).await;
    let before = bench.next_pid().await;
    sleep(SHORT * 2).await;
    eventually(LATE, "another backend serves", async || {
        (bench.next_pid().await != before).then_some(())
    })
    .await;
    bench.server.wait_gone(before, LATE).await;
}

/// One that nobody uses is closed.
#[tokio::test]
async fn an_idle_connection_is_closed_at_its_time_out() {
    let options = PgPoolOptions::new().max_connections(2).idle_timeout(SHORT);
    let bench = Bench::pooled(options).await;
    bench.assert_full().await;
    bench.wait_quiet(0).await;
    assert_eq!(bench.pool.size(), 0);
    bench.assert_full().await;
}

/// `min_connections` are opened, and bound to nobody.
#[tokio::test]
async fn a_pool_keeps_its_least_number_of_connections() {
    let options = PgPoolOptions::new().max_connections(4).min_connections(2);
    let server = Server::shared().await;
    let config = server.config();
    let name = config.get_application_name().unwrap().to_owned();
    let connector = Connector::new(config.clone(), NoTls).unwrap();
    let builder = Builder::new(connector, options, options_of(&config));
    // Only this way does sqlx open them at once.
    let ctx = Context::background().with_timeout(SHORT);
    let pool = in_time(ctx.scope(builder.connect())).await.unwrap();
    let bench = Bench { server, name, pool };
    bench.wait_quiet(2).await;
    sleep(SHORT).await;
    for _ in 0..2 {
        bench.next_pid().await;
    }
    bench.assert_full().await;
}

/// 25. Closing while busy: who works goes on until his own end, who waits is
/// told, and nothing is left.
#[tokio::test]
async fn a_pool_closed_while_busy_lets_go_of_everything() {
    let bench = Bench::pool(1).await;
    let ctx = Context::background().with_timeout(SHORT * 2);
    let work = pgdeadline_sqlx::try_run(&ctx, asleep(&bench.pool));
    let (error, waiter, ()) = tokio::join!(
        in_time(work),
        async {
            tokio::task::yield_now().await;
            in_time(bench.pool.acquire()).await.map(drop)
        },
        async {
            sleep(SHORT).await;
            in_time(bench.pool.close()).await;
        }
    );
    assert!(found(&error.unwrap_err()).is_deadline());
    assert!(matches!(waiter, Err(sqlx::Error::PoolClosed)), "{waiter:?}");
    bench.wait_quiet(0).await;
}

/// 25. Closing a pool does not wait for what was abandoned on it.
#[tokio::test]
async fn a_pool_with_abandoned_work_closes() {
    let bench = Bench::pool(1).await;
    assert!(timeout(SHORT, asleep(&bench.pool)).await.is_err());
    in_time(bench.pool.close()).await;
    bench.wait_quiet(0).await;
}

/// 25. A pool, and a connection taken out of it, dropped with abandoned work.
#[tokio::test]
async fn a_pool_dropped_with_abandoned_work_leaves_none() {
    let bench = Bench::pool(3).await;
    let mut one = bench.acquire().await;
    assert!(timeout(SHORT, asleep_on(&mut one)).await.is_err());
    let mut two = bench.acquire().await.detach();
    assert!(timeout(SHORT, asleep_on(&mut two)).await.is_err());
    let mut three = bench.acquire().await;
    assert!(timeout(SHORT, asleep_on(&mut three)).await.is_err());
    three.close_on_drop();
    let Bench { server, name, pool } = bench;
    drop((one, two, three, pool));
    server.wait_quiet(&name, 0, LATE).await;
}

/// A connection that is closed, or taken out of the pool and closed, ends its
/// backend, and the pool opens another.
#[tokio::test]
async fn a_connection_that_is_closed_ends_its_backend() {
    use sqlx::Connection;
    let bench = Bench::pool(1).await;
    for way in 0..4 {
        let mut connection = bench.acquire().await;
        let before = super::pid(&mut connection).await;
        match way {
            0 => in_time(connection.close()).await.unwrap(),
            1 => in_time(connection.detach().close()).await.unwrap(),
            2 => in_time(connection.detach().close_hard()).await.unwrap(),
            _ => {
                connection.close_on_drop();
                drop(connection);
            }
        }
        bench.server.wait_gone(before, LATE).await;
        bench.assert_full().await;
    }
    bench.wait_quiet(1).await;
}

/// 25. The runtime shuts down, in each way, with work in flight.
#[tokio::test]
async fn a_runtime_that_shuts_down_stops_its_work_on_the_server() {
    let server = Server::shared().await;
    for in_background in [false, true] {
        let config = server.config();
        let name = config.get_application_name().unwrap().to_owned();
        let (busy, shut_down) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = Runtime::new().unwrap();
            let pool = leave_work(&runtime, config);
            shut_down.recv().unwrap();
            if in_background {
                runtime.shutdown_background();
            } else {
                drop(runtime);
            }
            pool
        });
        server.wait_active(&name, SLEEP, LATE).await;
        busy.send(()).unwrap();
        // The pool still holds what it has, on no runtime.
        let pool = tokio::task::spawn_blocking(|| thread.join());
        let pool = in_time(pool).await.unwrap().unwrap();
        server.wait_quiet(&name, 0, LATE).await;
        drop(pool);
    }
}

/// 25. A process ends with work in flight: this very test, run once more by
/// itself, is that process.
#[tokio::test]
async fn a_process_that_ends_stops_its_work_on_the_server() {
    if let Ok(url) = std::env::var(CHILD) {
        std::thread::spawn(move || {
            let runtime = Runtime::new().unwrap();
            let pool = leave_work(&runtime, url.parse().unwrap());
            // As `main` does that was told to stop: it waits until the work is
            // under way, and returns.
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).unwrap();
            drop((runtime, pool));
        })
        .join()
        .unwrap();
        return;
    }
    let server = Server::shared().await;
    let url = server.url();
    let name = url.rsplit_once('=').unwrap().1.to_owned();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "lifetime::a_process_that_ends_stops_its_work_on_the_server",
        ])
        .env(CHILD, &url)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    server.wait_active(&name, SLEEP, LATE).await;
    drop(child.stdin.take());
    let status = in_time(tokio::task::spawn_blocking(move || child.wait()));
    assert!(status.await.unwrap().unwrap().success());
    server.wait_quiet(&name, 0, LATE).await;
}

/// How the test knows that it is the process.
const CHILD: &str = "PGDEADLINE_TEST_CHILD";

/// Begins a query under a context that never ends, in a task of this runtime.
fn leave_work(runtime: &Runtime, config: Config) -> PgPool {
    let _guard = runtime.enter();
    let options = options_of(&config);
    let connector = Connector::new(config, NoTls).unwrap();
    let pool = Builder::new(connector, of_size(1), options);
    let pool = pool.connect_lazy().unwrap();
    let working = pool.clone();
    runtime.spawn(async move { Context::background().run(asleep(&working)).await });
    pool
}

/// Other runtimes that end do not disturb a pool.
#[tokio::test]
async fn a_pool_outlives_somebody_elses_runtime() {
    let bench = Bench::pool(1).await;
    let pool = bench.pool.clone();
    let other = std::thread::spawn(move || {
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async { timeout(LATE, pool.close_event()).await.is_err() })
    });
    works(&mut *bench.acquire().await).await;
    in_time(bench.pool.close()).await;
    assert!(!other.join().unwrap());
    bench.wait_quiet(0).await;
}
