//! A server that does not end what was cancelled, and cancels that get lost.

use pgdeadline::Context;
use pgdeadline_tests::proxy::{CancelFate, Proxy};
use pgdeadline_tests::server::Server;
use tokio::time::{Duration, Instant, timeout};

use super::{Bench, LATE, SHORT, asleep, ended, found, in_time, of_size};

const GRACE: Duration = Duration::from_millis(700);

async fn bench(proxy: &Proxy, grace: Duration) -> Bench {
    let server = Server::shared().await;
    Bench::of(server, proxy.config(), of_size(1), |c| c.grace(grace))
}

/// 9. Hard: the server withholds its answer to the cancel. The caller is back
/// at the deadline; the connection is replaced after the grace, not earlier.
#[tokio::test]
async fn a_cancel_that_is_never_answered_replaces_the_connection_at_the_grace() {
    let server = Server::shared().await;
    for fate in [CancelFate::Hold, CancelFate::Lose] {
        let proxy = Proxy::before(server).await;
        proxy.all_cancels(fate);
        let bench = bench(&proxy, GRACE).await;
        let before = bench.next_pid().await;
        let ctx = Context::background().with_timeout(SHORT);
        let error = in_time(ctx.scope(asleep(&bench.pool))).await.unwrap_err();
        let ended = Instant::now();
        assert!(found(&error).is_deadline(), "{error}");
        assert_ne!(bench.next_pid().await, before, "{fate:?}");
        // The grace began before the caller was told.
        let slack = Duration::from_millis(100);
        assert!(ended.elapsed() > GRACE - slack, "{:?}", ended.elapsed());
        assert!(proxy.cancels() > 0);
        bench.assert_full().await;
    }
}

/// 9. The same for work that was abandoned by a time-out of its caller's own.
#[tokio::test]
async fn abandoned_work_that_can_not_be_ended_costs_one_connection_and_no_more() {
    let proxy = Proxy::before(Server::shared().await).await;
    proxy.all_cancels(CancelFate::Lose);
    let bench = bench(&proxy, GRACE).await;
    let before = bench.next_pid().await;
    assert!(timeout(SHORT, asleep(&bench.pool)).await.is_err());
    assert_ne!(bench.next_pid().await, before);
    bench.assert_full().await;
    assert_eq!(bench.pool.size(), 1);
}

/// A lost cancel is sent again, and the connection is kept.
#[tokio::test]
async fn a_cancel_that_is_lost_is_sent_again() {
    let proxy = Proxy::before(Server::shared().await).await;
    proxy.next_cancels([CancelFate::Lose, CancelFate::Lose]);
    let bench = bench(&proxy, LATE).await;
    let before = bench.next_pid().await;
    let ctx = Context::background().with_timeout(SHORT);
    let result = in_time(ctx.run(asleep(&bench.pool))).await;
    assert!(ended(result).is_deadline());
    bench.assert_free(before).await;
    assert!(proxy.cancels() >= 3, "{}", proxy.cancels());
}

/// A cancel that is reset after it was sent: nothing proves the session clean
/// any more, and it is replaced.
#[tokio::test]
async fn a_cancel_that_breaks_off_replaces_the_connection() {
    let proxy = Proxy::before(Server::shared().await).await;
    proxy.next_cancels([CancelFate::Reset]);
    let bench = bench(&proxy, LATE).await;
    let before = bench.next_pid().await;
    let ctx = Context::background().with_timeout(SHORT);
    let result = in_time(ctx.run(asleep(&bench.pool))).await;
    assert!(ended(result).is_deadline());
    assert_ne!(bench.next_pid().await, before);
    bench.assert_full().await;
}
