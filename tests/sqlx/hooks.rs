//! The user's own hooks, given to the builder under sqlx's names: they run
//! after ours.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use pgdeadline::{Connector, Context};
use pgdeadline_sqlx::Builder;
use pgdeadline_tests::server::Server;
use sqlx::Executor;
use sqlx::postgres::PgPool;
use tokio::time::timeout;
use tokio_postgres::NoTls;

use super::{Bench, LATE, SHORT, asleep, asleep_on, found, in_time, of_size, options_of};

/// A pool of one, built with hooks.
async fn bench(hooks: impl FnOnce(Builder) -> Builder) -> Bench {
    let server = Server::shared().await;
    let config = server.config();
    let name = config.get_application_name().unwrap().to_owned();
    let options = options_of(&config);
    let connector = Connector::builder(config, NoTls).grace(LATE);
    let connector = connector.build().unwrap();
    let builder = Builder::new(connector, of_size(1), options);
    let pool: PgPool = hooks(builder).connect_lazy().unwrap();
    Bench { server, name, pool }
}

/// What hooks have done, in order.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<&'static str>>>);

impl Diary {
    fn note(&self, what: &'static str) {
        self.0.lock().unwrap().push(what);
    }

    fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[tokio::test]
async fn hooks_of_the_users_run_after_ours() {
    let diary = Diary::default();
    let (connects, acquires, releases) = (diary.clone(), diary.clone(), diary.clone());
    let bench = bench(|builder| {
        builder
            .after_connect(move |connection, _| {
                let diary = connects.clone();
                Box::pin(async move {
                    connection.execute("SET work_mem = '9MB'").await?;
                    diary.note("after_connect");
                    Ok(())
                })
            })
            .before_acquire(move |connection, meta| {
                let diary = acquires.clone();
                Box::pin(async move {
                    assert!(meta.age >= meta.idle_for);
                    connection.execute("SELECT 1").await?;
                    diary.note("before_acquire");
                    Ok(true)
                })
            })
            .after_release(move |connection, _| {
                let diary = releases.clone();
                Box::pin(async move {
                    connection.execute("SELECT 2").await?;
                    diary.note("after_release");
                    Ok(true)
                })
            })
    })
    .await;
    let ctx = Context::background().with_timeout(LATE);
    let mut connection = in_time(ctx.scope(bench.pool.acquire())).await.unwrap();
    let before = super::pid(&mut connection).await;
    let memory = sqlx::query_scalar::<_, String>("SHOW work_mem").fetch_one(&mut *connection);
    assert_eq!(in_time(memory).await.unwrap(), "9MB");
    drop(connection);
    bench.assert_free(before).await;
    let all = ["after_connect", "after_release", "before_acquire"];
    assert_eq!(diary.take()[..3], all);

    // And still bind: the deadline is the server's too.
    let ctx = Context::background().with_timeout(SHORT);
    let error = in_time(ctx.scope(asleep(&bench.pool))).await.unwrap_err();
    assert!(found(&error).is_deadline(), "{error}");
    bench.assert_free(before).await;
}

/// A statement in `after_release` does not wait behind what was abandoned, and
/// is not ended with it.
#[tokio::test]
async fn a_hook_after_release_comes_after_what_was_abandoned() {
    let released = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&released);
    let bench = bench(|builder| {
        builder.after_release(move |connection, _| {
            let count = Arc::clone(&count);
            Box::pin(async move {
                connection.execute("SELECT pg_sleep(0.05)").await?;
                count.fetch_add(1, Ordering::Relaxed);
                Ok(true)
            })
        })
    })
    .await;
    let before = bench.next_pid().await;
    assert!(timeout(SHORT, asleep(&bench.pool)).await.is_err());
    bench.assert_free(before).await;
    let ctx = Context::background().with_timeout(SHORT);
    let mut connection = ctx.scope(bench.pool.acquire()).await.unwrap();
    let error = in_time(asleep_on(&mut connection)).await.unwrap_err();
    assert!(found(&error).is_deadline(), "{error}");
    drop(connection);
    bench.assert_free(before).await;
    assert!(released.load(Ordering::Relaxed) >= 4);
}

/// A hook that refuses a connection has it closed, as sqlx says; one that
/// fails too.
#[tokio::test]
async fn a_hook_of_the_users_may_refuse() {
    for fails in [false, true] {
        let times = Arc::new(AtomicUsize::new(0));
        let asked = Arc::clone(&times);
        let bench = bench(|builder| {
            builder.before_acquire(move |_, _| {
                let first = asked.fetch_add(1, Ordering::Relaxed) == 0;
                Box::pin(async move {
                    match (first, fails) {
                        (true, true) => Err(sqlx::Error::WorkerCrashed),
                        (first, _) => Ok(!first),
                    }
                })
            })
        })
        .await;
        let before = bench.next_pid().await;
        assert_ne!(bench.next_pid().await, before, "it was refused");
        bench.server.wait_gone(before, LATE).await;
        bench.assert_full().await;
        assert!(times.load(Ordering::Relaxed) > 1);
    }
}

/// The deadline of a check-out counts in the user's own `before_acquire`.
#[tokio::test]
async fn a_hook_before_acquire_is_under_the_check_outs_deadline() {
    let slow = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&slow);
    let bench = bench(|builder| {
        builder.before_acquire(move |connection, _| {
            let slow = asked.load(Ordering::Relaxed) == 1;
            Box::pin(async move {
                if slow {
                    asleep_on(connection).await?;
                }
                Ok(true)
            })
        })
    })
    .await;
    bench.next_pid().await;
    slow.store(1, Ordering::Relaxed);
    let ctx = Context::background().with_timeout(SHORT);
    let acquired = in_time(ctx.run(bench.pool.acquire())).await;
    assert!(acquired.is_err(), "{acquired:?}");
    slow.store(0, Ordering::Relaxed);
    bench.assert_full().await;
    bench.wait_quiet(1).await;
}
