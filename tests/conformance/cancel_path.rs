//! The cancel's own way to the server: what becomes of the session when it
//! does not get through.

use pgdeadline::{Connector, Context, EofProof};
use pgdeadline_deadpool::Builder;
use pgdeadline_tests::proxy::{CancelFate, Proxy};
use pgdeadline_tests::scripted::{Expect, Net, message};
use pgdeadline_tests::server::Server;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};
use tokio_postgres::NoTls;

use super::{Bench, LATE, SHORT, SLEEP, ended, found, in_time, works};

const GRACE: Duration = Duration::from_millis(700);

/// 9. Hard: the server withholds its answer to the cancel. The caller is back
/// at the deadline, the connection is retired after the grace.
#[tokio::test]
async fn a_cancel_that_is_never_answered_retires_the_connection_at_the_grace() {
    let server = Server::shared().await;
    let proxy = Proxy::before(server).await;
    proxy.all_cancels(CancelFate::Hold);
    let bench = Bench::of(server, proxy.config(), 1, |c| c.grace(GRACE));
    let client = bench.get().await;
    let before = super::pid(&client).await;
    let ctx = Context::background().with_timeout(SHORT);
    let error = in_time(ctx.scope(client.query(SLEEP, &[]))).await;
    let ended = Instant::now();
    assert!(found(&error.unwrap_err()).is_deadline());
    assert!(!client.is_closed(), "not before the grace");
    pgdeadline_tests::eventually(LATE, "the connection is retired", async || {
        client.is_closed().then_some(())
    })
    .await;
    // The grace began before the caller was told.
    let slack = Duration::from_millis(100);
    assert!(ended.elapsed() > GRACE - slack, "{:?}", ended.elapsed());
    drop(client);
    assert_ne!(bench.next_pid().await, before);
    bench.assert_full().await;
}

/// 9. Not earlier and not later, to the millisecond, where time can be had so:
/// on a scripted server.
#[tokio::test(start_paused = true)]
async fn the_grace_is_kept_to_the_millisecond() {
    let net = Net::new();
    let connector = Connector::builder(net.config(), NoTls)
        .dial(net.clone())
        .eof_proof(EofProof::Proof)
        .grace(GRACE)
        .build()
        .unwrap();
    let pool = Builder::new(connector).max_size(1).build().unwrap();
    let server = async {
        let mut backend = net.backend().await;
        backend.authenticate(1, 2).await;
        backend.expect(Expect::query("SELECT slow()")).await;
        // One cancel, unanswered: no second while it is.
        let cancel = net.cancel().await;
        backend.wait_close().await;
        let closed = Instant::now();
        drop(cancel);
        closed
    };
    let caller = async {
        let client = pool.get().await.unwrap();
        let ctx = Context::background().with_timeout(SHORT);
        let began = Instant::now();
        let error = ctx.scope(client.batch_execute("SELECT slow()")).await;
        assert!(found(&error.unwrap_err()).is_deadline());
        assert_eq!(began.elapsed(), SHORT);
        (client, began + SHORT)
    };
    let (closed, (client, ended)) = tokio::join!(server, caller);
    let grain = Duration::from_millis(1);
    let after = closed - ended;
    assert!(after >= GRACE && after <= GRACE + grain, "{after:?}");
    assert!(client.is_closed());

    // The pool goes on with another one.
    drop(client);
    let server = async {
        let mut backend = net.backend().await;
        backend.authenticate(3, 4).await;
        backend.expect(Expect::query("SELECT 1")).await;
        let answer = [
            message::command_complete("SELECT 1"),
            message::ready_for_query(b'I'),
        ];
        backend.send(answer).await;
        backend
    };
    let (_backend, client) = tokio::join!(server, async {
        let client = pool.get().await.unwrap();
        client.batch_execute("SELECT 1").await.unwrap();
        client
    });
    drop(client);
}

/// 9. Or by the pool, when a check-out gives up on it: the next caller does not
/// wait for the grace.
#[tokio::test]
async fn a_check_out_does_not_wait_for_the_grace() {
    let server = Server::shared().await;
    let proxy = Proxy::before(server).await;
    proxy.all_cancels(CancelFate::Hold);
    // A grace longer than any wait here.
    let wait = Duration::from_millis(50);
    let bench = Bench::of(server, proxy.config(), 1, |c| {
        c.grace(LATE * 3).checkout_wait(wait)
    });
    let before = bench.next_pid().await;
    let ctx = Context::background().with_timeout(SHORT);
    let work = ctx.run(async {
        let client = bench.pool.get().await.unwrap();
        client.query(SLEEP, &[]).await
    });
    assert!(ended(in_time(work).await).is_deadline());
    assert_ne!(bench.next_pid().await, before);
    bench.assert_full().await;
    assert_eq!(bench.pool.status().size, 1);
}

/// 21. A cancel that is reset after it was sent: the session can't be proven
/// clean any more, and is replaced.
#[tokio::test]
async fn a_cancel_that_breaks_off_retires_the_connection() {
    let server = Server::shared().await;
    let proxy = Proxy::before(server).await;
    proxy.next_cancels([CancelFate::Reset]);
    let bench = Bench::behind(&proxy, 1).await;
    let before = bench.next_pid().await;
    let ctx = Context::background().with_timeout(SHORT);
    let work = ctx.run(async {
        let client = bench.pool.get().await.unwrap();
        client.query(SLEEP, &[]).await
    });
    assert!(ended(in_time(work).await).is_deadline());
    assert_ne!(bench.next_pid().await, before);
    // The work is not left to itself: a last cancel goes out once the session
    // is gone, when it can hit nobody else.
    bench.server.wait_gone(before, LATE).await;
    assert!(proxy.cancels() <= 2, "{}", proxy.cancels());
    bench.assert_full().await;
}

/// 24. The lost signal: sent again, and it ends.
#[tokio::test]
async fn a_cancel_that_is_lost_is_sent_again() {
    let server = Server::shared().await;
    let proxy = Proxy::before(server).await;
    proxy.next_cancels([CancelFate::Lose, CancelFate::Lose]);
    let bench = Bench::of(server, proxy.config(), 1, |c| c.grace(LATE));
    let client = bench.get().await;
    let before = super::pid(&client).await;
    let ctx = Context::background().with_timeout(SHORT);
    let error = in_time(ctx.scope(client.query(SLEEP, &[]))).await;
    assert!(found(&error.unwrap_err()).is_deadline());
    works(&client).await;
    assert_eq!(super::pid(&client).await, before, "the same backend");
    assert_eq!(proxy.cancels(), 3);
    drop(client);
    bench.wait_quiet(1).await;
}

/// 24. The same where the server gets it and its function shrugs it off.
#[tokio::test]
async fn a_function_that_catches_the_cancel_is_cancelled_again() {
    let bench = Bench::with(1, |c| c.grace(LATE)).await;
    let client = bench.get().await;
    let before = super::pid(&client).await;
    let stubborn = "DO $$ BEGIN
        FOR i IN 1..2 LOOP
            BEGIN PERFORM pg_sleep(600);
            EXCEPTION WHEN query_canceled THEN NULL;
            END;
        END LOOP;
    END $$";
    let ctx = Context::background().with_timeout(SHORT);
    let error = in_time(ctx.scope(client.batch_execute(stubborn))).await;
    // The server says that it is done, and well.
    assert!(found(&error.unwrap_err()).is_deadline());
    works(&client).await;
    assert_eq!(super::pid(&client).await, before);
}

/// 22. A hundred cancels at once: capped, none lost, none misdirected.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_cancels_at_once_are_capped_and_find_their_own() {
    const ALL: usize = 100;
    let server = Server::shared().await;
    let proxy = Proxy::before(server).await;
    // An address proven good by one cancel; a machine that is busy with a
    // hundred backends may take its time.
    let bench = Bench::of(server, proxy.config(), ALL + 5, |c| {
        c.grace(LATE).cancel_dials(4)
    });
    let mut innocent = JoinSet::new();
    for _ in 0..5 {
        let client = bench.get().await;
        innocent.spawn(async move { client.query_one("SELECT 7 FROM pg_sleep(3)", &[]).await });
    }
    let (start, _) = tokio::sync::broadcast::channel::<()>(1);
    let ctx = Context::background().child();
    let mut ended = JoinSet::new();
    for _ in 0..ALL {
        let client = ctx.scope(bench.pool.get()).await.unwrap();
        let mut start = start.subscribe();
        ended.spawn(async move {
            let _ = start.recv().await;
            let error = client.query(SLEEP, &[]).await.unwrap_err();
            (client, error)
        });
    }
    start.send(()).unwrap();
    let admin = server.admin().await;
    pgdeadline_tests::eventually(LATE, "all are busy", async || {
        let all = server.backends_seen_by(&admin, &bench.name).await;
        let asleep = all
            .iter()
            .filter(|b| b.state == "active" && b.query == SLEEP);
        (asleep.count() == ALL).then_some(())
    })
    .await;
    ctx.cancel_with("all of them");
    for (client, error) in in_time(ended.join_all()).await {
        assert!(found(&error).is_cancelled(), "{error}");
        drop(client);
    }
    for row in in_time(innocent.join_all()).await {
        assert_eq!(row.unwrap().get::<_, i32>(0), 7);
    }
    bench.wait_quiet(bench.pool.status().size).await;
    assert!(proxy.cancels() >= ALL, "{}", proxy.cancels());
    assert!(proxy.cancels_at_once() <= 4, "{}", proxy.cancels_at_once());
}
