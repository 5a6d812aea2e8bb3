//! A check-out that meets sessions which are still draining.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use deadpool_postgres::Pool;
use pgdeadline::Context;
use pgdeadline_tests::scripted::{Backend, Cancel, Expect, Net, message};
use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{self, Layer};

use super::scripted_pool;

const SLOW: &str = "SELECT slow()";

/// A pool whose connections all drain: each has a query that was ended and a
/// cancel that nothing came of yet. In the order in which they are idle.
async fn draining(net: &Net, size: usize) -> (Pool, Vec<(Backend, Cancel)>) {
    let pool = scripted_pool(net, |builder| builder.max_size(size));
    let ctx = Context::background().child();
    let mut working: Vec<_> = (0..size)
        .map(|_| Box::pin(ctx.run(work_of(&pool))))
        .collect();
    let mut backends = Vec::new();
    for (pid, work) in (1..).zip(&mut working) {
        let server = async {
            let mut backend = net.backend().await;
            backend.authenticate(pid, pid).await;
            backend.expect(Expect::query(SLOW)).await;
            backend
        };
        tokio::select! {
            _ = work => panic!("it is not answered"),
            backend = server => backends.push(backend),
        }
    }
    ctx.cancel();
    for work in working {
        // Told by the session or by `run`, whichever was first.
        let _ = work.await;
    }
    let mut cancels = Vec::new();
    for _ in 0..size {
        cancels.push(net.cancel().await);
    }
    cancels.sort_by_key(Cancel::pid);
    (pool, backends.into_iter().zip(cancels).collect())
}

async fn work_of(pool: &Pool) {
    let client = pool.get().await.unwrap();
    let _ = client.batch_execute(SLOW).await;
}

/// The server acts on a cancel.
async fn stop((backend, cancel): &mut (Backend, Option<Cancel>)) {
    let stopped = [
        message::error("57014", "stopped"),
        message::ready_for_query(b'I'),
    ];
    backend.send(stopped).await;
    drop(cancel.take());
}

fn holding(draining: Vec<(Backend, Cancel)>) -> Vec<(Backend, Option<Cancel>)> {
    draining
        .into_iter()
        .map(|(backend, cancel)| (backend, Some(cancel)))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_clean_in_a_short_while_is_waited_for() {
    let net = Net::new();
    let (pool, draining) = draining(&net, 1).await;
    let mut draining = holding(draining);
    let began = Instant::now();
    let (client, ()) = tokio::join!(pool.get(), async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        stop(&mut draining[0]).await;
    });
    assert_eq!(began.elapsed(), Duration::from_millis(30));
    assert!(!client.unwrap().is_closed());
    assert_eq!(pool.status().size, 1);
    assert_eq!(net.dials(), 2, "one session, one cancel");
}

#[tokio::test(start_paused = true)]
async fn after_a_short_while_another_is_opened() {
    let net = Net::new();
    let (pool, _draining) = draining(&net, 1).await;
    let began = Instant::now();
    let (client, mut backend) = tokio::join!(pool.get(), async {
        let mut backend = net.backend().await;
        assert_eq!(began.elapsed(), Duration::from_millis(50));
        backend.authenticate(2, 2).await;
        backend
    });
    let client = client.unwrap();
    drop(client);
    drop(pool);
    backend.wait_close().await;
}

#[tokio::test(start_paused = true)]
async fn the_short_while_is_spent_once_a_check_out() {
    let net = Net::new();
    let (pool, draining) = draining(&net, 3).await;
    let mut draining = holding(draining);
    let began = Instant::now();
    let (client, ()) = tokio::join!(pool.get(), async {
        // The first is refused after 50 ms; the second is worth waiting for.
        tokio::time::sleep(Duration::from_millis(400)).await;
        stop(&mut draining[1]).await;
    });
    assert_eq!(began.elapsed(), Duration::from_millis(400));
    assert!(!client.unwrap().is_closed());
    assert_eq!(pool.status().size, 2, "only the first was closed");
}

#[tokio::test(start_paused = true)]
async fn it_stays_spent_over_connections_that_are_lost() {
    let net = Net::new();
    let (pool, draining) = draining(&net, 4).await;
    let mut draining = holding(draining);
    draining.remove(1).0.close();
    let began = Instant::now();
    let (client, ()) = tokio::join!(pool.get(), async {
        // The first is refused, the second was lost before, the third is
        // while it is waited for.
        tokio::time::sleep(Duration::from_millis(100)).await;
        draining.remove(1).0.close();
        tokio::time::sleep(Duration::from_millis(300)).await;
        stop(&mut draining[1]).await;
    });
    assert_eq!(began.elapsed(), Duration::from_millis(400));
    assert!(!client.unwrap().is_closed());
    assert_eq!(pool.status().size, 1);
}

#[tokio::test(start_paused = true)]
async fn under_a_context_that_has_ended_it_is_handed_out_as_it_is() {
    let net = Net::new();
    let (pool, _draining) = draining(&net, 2).await;
    let began = Instant::now();
    let ended = Context::background().with_timeout(Duration::ZERO);
    let clients = ended.scope(async { [pool.get().await, pool.get().await] });
    for client in clients.await {
        let error = client.unwrap().batch_execute("SELECT 1").await.unwrap_err();
        assert!(super::found(&error).is_deadline(), "{error}");
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(pool.status().size, 2, "neither was closed");
}

#[tokio::test(start_paused = true)]
async fn what_never_becomes_clean_is_waited_for_until_it_is_retired() {
    let net = Net::new();
    let (pool, _draining) = draining(&net, 2).await;
    let began = Instant::now();
    let (client, backend) = tokio::join!(pool.get(), async {
        let mut backend = net.backend().await;
        backend.authenticate(3, 3).await;
        backend
    });
    // The grace began with the end, and is over before a patience as long.
    assert!(began.elapsed() <= Duration::from_secs(2));
    assert!(began.elapsed() > Duration::from_secs(1));
    assert_eq!(pool.status().size, 1);
    drop((client.unwrap(), backend));
}

#[tokio::test(start_paused = true)]
async fn the_next_check_out_has_a_short_while_of_its_own() {
    let net = Net::new();
    let (pool, _draining) = draining(&net, 1).await;
    let mut backends = Vec::new();
    for pid in 2..4 {
        // In the place of the one that drains another is opened, which then
        // drains too.
        let ctx = Context::background().child();
        let began = Instant::now();
        let (client, mut backend) = tokio::join!(ctx.scope(pool.get()), async {
            let mut backend = net.backend().await;
            backend.authenticate(pid, pid).await;
            backend
        });
        assert_eq!(began.elapsed(), Duration::from_millis(50), "{pid}");
        let client = client.unwrap();
        let (answer, ()) = tokio::join!(client.batch_execute(SLOW), async {
            backend.expect(Expect::query(SLOW)).await;
            ctx.cancel();
        });
        assert!(super::found(&answer.unwrap_err()).is_cancelled());
        backends.push(backend);
    }
}

#[tokio::test(start_paused = true)]
async fn the_wait_is_over_when_the_context_is() {
    let net = Net::new();
    let (pool, _draining) = draining(&net, 1).await;
    let began = Instant::now();
    let ctx = Context::background().with_timeout(Duration::from_millis(20));
    let client = ctx.scope(pool.get()).await.unwrap();
    assert_eq!(began.elapsed(), Duration::from_millis(20));
    let error = client.batch_execute("SELECT 1").await.unwrap_err();
    assert!(super::found(&error).is_deadline(), "{error}");
    assert_eq!(began.elapsed(), Duration::from_millis(20));
}

#[tokio::test(start_paused = true)]
async fn what_the_pool_closes_is_told_as_retired_by_it() {
    let net = Net::new();
    let (pool, _draining) = draining(&net, 2).await;
    let told = Told::default();
    let _listening = pgdeadline_tests::listen(told.clone());

    // The first is refused; the second is dropped while it is waited for.
    let waiting = tokio::time::timeout(Duration::from_millis(80), pool.get());
    assert!(waiting.await.is_err());
    assert_eq!(
        *told.0.lock().unwrap(),
        [
            "the connection is still busy with work that has ended; \
             it is closed instead of waited for",
            "its check-out was dropped",
        ]
    );
    assert_eq!(pool.status().size, 0);
}

/// Why the pool has retired sessions, by its events.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> Layer<S> for Told {
    fn on_event(&self, event: &tracing::Event<'_>, _: layer::Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        if fields.reason == "pool" {
            self.0.lock().unwrap().push(fields.why);
        }
    }
}

#[derive(Default)]
struct Fields {
    reason: String,
    why: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "reason" => self.reason = value.into(),
            "why" => self.why = value.into(),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}
