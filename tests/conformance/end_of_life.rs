//! The end of a pool, of a runtime, of a process, with work in flight.

use std::process::Command;
use std::sync::mpsc;

use deadpool_postgres::Pool;
use pgdeadline::{Connector, Context};
use pgdeadline_deadpool::Builder;
use pgdeadline_tests::server::Server;
use tokio::runtime::Runtime;
use tokio_postgres::{Config, NoTls};

use super::{Bench, LATE, SHORT, SLEEP, found, in_time, works};

/// 25. Closing while busy: who works goes on until his own end, who waits is
/// told, and nothing is left.
#[tokio::test]
async fn a_pool_closed_while_busy_lets_go_of_everything() {
    let bench = Bench::pool(1).await;
    let ctx = Context::background().with_timeout(SHORT * 2);
    let work = ctx.try_run(async {
        let client = bench.pool.get().await?;
        Ok::<_, pgdeadline_deadpool::Error>(client.query(SLEEP, &[]).await?)
    });
    let (error, waiter, ()) = tokio::join!(
        in_time(work),
        async {
            tokio::task::yield_now().await;
            in_time(bench.pool.get()).await
        },
        async {
            tokio::time::sleep(SHORT).await;
            bench.pool.close();
        }
    );
    assert!(found(&error.unwrap_err()).is_deadline());
    assert!(waiter.unwrap_err().to_string().contains("closed"));
    assert!(bench.pool.get().await.is_err());
    bench.wait_quiet(0).await;
}

/// 25. A pool dropped with work in flight that nobody waits for any more.
#[tokio::test]
async fn a_pool_dropped_with_abandoned_work_leaves_none() {
    let bench = Bench::pool(2).await;
    let one = bench.get().await;
    assert!(
        tokio::time::timeout(SHORT, one.query(SLEEP, &[]))
            .await
            .is_err()
    );
    let two = deadpool_postgres::Object::take(bench.get().await);
    assert!(
        tokio::time::timeout(SHORT, two.query(SLEEP, &[]))
            .await
            .is_err()
    );
    let Bench { server, name, pool } = bench;
    drop((one, two, pool));
    server.wait_quiet(&name, 0, LATE).await;
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
        // The pool still holds its client, on no runtime.
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
            "end_of_life::a_process_that_ends_stops_its_work_on_the_server",
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
fn leave_work(runtime: &Runtime, config: Config) -> Pool {
    let connector = Connector::new(config, NoTls).unwrap();
    let pool = Builder::new(connector).max_size(1).build().unwrap();
    let working = pool.clone();
    runtime.spawn(async move {
        let client = working.get().await.unwrap();
        Context::background().run(client.query(SLEEP, &[])).await
    });
    pool
}

/// 25. A client that outlives its connection task's end says so, and takes
/// nothing down with it.
#[tokio::test]
async fn a_client_of_a_runtime_that_is_gone_fails_at_once() {
    let bench = Bench::pool(1).await;
    let config = bench.server.config();
    let client = tokio::task::spawn_blocking(move || {
        let runtime = Runtime::new().unwrap();
        let connector = Connector::new(config, NoTls).unwrap();
        let pool = Builder::new(connector).max_size(1).build().unwrap();
        let client = runtime.block_on(pool.get()).unwrap();
        drop(runtime);
        client
    });
    let client = client.await.unwrap();
    let error = in_time(client.query("SELECT 1", &[])).await.unwrap_err();
    assert!(error.is_closed(), "{error}");
    works(&bench.get().await).await;
}
