//! LISTEN and NOTIFY, by sqlx's `PgListener`.

use pgdeadline::Context;
use sqlx::postgres::PgListener;
use tokio::time::{sleep, timeout};

use super::{Bench, LATE, SHORT, asleep, found, in_time, sql};

/// Somebody else notifies; the channel is the test's name.
async fn notify(bench: &Bench, payload: &str) {
    let admin = bench.server.admin().await;
    let notify = "SELECT pg_notify($1, $2)";
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&bench.name, &payload];
    admin.execute(notify, &parameters).await.unwrap();
}

async fn expect(listener: &mut PgListener, payload: &str) {
    let told = in_time(listener.recv()).await.unwrap();
    assert_eq!(told.payload(), payload);
}

async fn listening(bench: &Bench) -> PgListener {
    let mut listener = PgListener::connect_with(&bench.pool).await.unwrap();
    in_time(listener.listen(&bench.name)).await.unwrap();
    listener
}

#[tokio::test]
async fn notifications_come_through_in_order() {
    let bench = Bench::pool(2).await;
    let mut listener = listening(&bench).await;
    for n in 0..50 {
        notify(&bench, &format!("{n}")).await;
    }
    for n in 0..50 {
        expect(&mut listener, &format!("{n}")).await;
    }
    // From this pool's other connection, and while the listener's own is used.
    let notify = sqlx::query("SELECT pg_notify($1, 'a')").bind(&bench.name);
    in_time(notify.execute(&bench.pool)).await.unwrap();
    let notify = sqlx::query("SELECT pg_notify($1, 'b')").bind(&bench.name);
    in_time(notify.execute(&mut listener)).await.unwrap();
    expect(&mut listener, "a").await;
    expect(&mut listener, "b").await;
    in_time(listener.unlisten_all()).await.unwrap();
}

/// A context that ends round `recv` is the caller's: the listener, acquired
/// outside of it, stays.
#[tokio::test]
async fn a_listener_outlives_the_context_that_waits_on_it() {
    let bench = Bench::pool(1).await;
    let mut listener = listening(&bench).await;
    let backend = bench.backends().await.remove(0).pid;
    for round in 0..3 {
        let ctx = Context::background().with_timeout(SHORT / 3);
        let error = in_time(ctx.run(listener.recv())).await.unwrap_err();
        assert!(error.is_deadline(), "{error}");
        let waited = timeout(SHORT / 3, listener.recv()).await;
        assert!(waited.is_err(), "{waited:?}");
        let ctx = Context::background().with_timeout(SHORT / 3);
        let scope = timeout(SHORT, ctx.scope(listener.recv())).await;
        assert!(scope.is_err(), "{scope:?}");
        let payload = format!("round {round}");
        notify(&bench, &payload).await;
        expect(&mut listener, &payload).await;
    }
    assert_eq!(bench.backends().await.remove(0).pid, backend);
}

/// A default deadline is a statement's, and waiting is none.
#[tokio::test]
async fn a_default_deadline_does_not_end_a_listener() {
    let bench = Bench::with(1, |connector| connector.default_deadline(SHORT)).await;
    let mut listener = listening(&bench).await;
    let (told, ()) = tokio::join!(in_time(listener.recv()), async {
        sleep(SHORT * 3).await;
        notify(&bench, "late").await;
    });
    assert_eq!(told.unwrap().payload(), "late");
}

/// One that was acquired inside a context that ends hears on: what the server
/// says by itself is always passed up. But it can't ask for more.
#[tokio::test]
async fn a_listener_hears_on_after_the_end_of_its_context() {
    let bench = Bench::pool(1).await;
    let ctx = Context::background().with_timeout(SHORT * 2);
    let mut listener = ctx.scope(listening(&bench)).await;
    sleep(SHORT * 3).await;
    notify(&bench, "after the end").await;
    expect(&mut listener, "after the end").await;
    let error = in_time(listener.listen("another")).await.unwrap_err();
    assert!(found(&error).is_deadline(), "{error}");
}

/// A listener that is dropped leaves no subscription to the next user of its
/// connection, whether its context has ended by then or not.
#[tokio::test]
async fn a_listener_that_is_dropped_leaves_no_subscription() {
    let bench = Bench::pool(1).await;
    for ends in [false, true] {
        let ctx = Context::background().with_timeout(if ends { SHORT } else { LATE });
        let listener = ctx.scope(listening(&bench)).await;
        if ends {
            sleep(SHORT * 2).await;
        }
        drop(listener);
        let channels = "SELECT count(*) FROM pg_listening_channels()";
        let channels = sqlx::query_scalar::<_, i64>(channels).fetch_one(&bench.pool);
        assert_eq!(in_time(channels).await.unwrap(), 0, "ends: {ends}");
    }
}

/// Work that ended, on a connection that listens, loses no notification.
#[tokio::test]
async fn a_notification_during_work_that_ended_is_heard() {
    let bench = Bench::pool(1).await;
    let mut listener = listening(&bench).await;
    let ctx = Context::background().with_timeout(SHORT);
    let sleep = sqlx::query("SELECT pg_sleep(600)").execute(&mut listener);
    // The connection was acquired outside: it is only the future that ends.
    assert!(in_time(ctx.run(sleep)).await.is_err());
    let admin = bench.server.admin().await;
    let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = $1";
    notify(&bench, "meanwhile").await;
    admin.execute(cancel, &[&bench.name]).await.unwrap();
    let told = in_time(async {
        loop {
            // The first thing it reads may be how that query ended.
            if let Ok(told) = listener.recv().await {
                return told;
            }
        }
    });
    assert_eq!(told.await.payload(), "meanwhile");
}

/// A connection that is lost is told once, and replaced.
#[tokio::test]
async fn a_listener_whose_backend_is_lost_listens_again() {
    let bench = Bench::pool(2).await;
    let mut listener = listening(&bench).await;
    let before = bench.backends().await.remove(0).pid;
    let admin = bench.server.admin().await;
    let terminate = "SELECT pg_terminate_backend($1)";
    admin.execute(terminate, &[&before]).await.unwrap();
    let lost = in_time(listener.try_recv()).await.unwrap();
    assert!(lost.is_none(), "{lost:?}");
    notify(&bench, "again").await;
    expect(&mut listener, "again").await;
    // The others on the pool have their deadlines meanwhile.
    let ctx = Context::background().with_timeout(SHORT);
    let error = in_time(ctx.scope(asleep(&bench.pool))).await.unwrap_err();
    assert!(found(&error).is_deadline(), "{error}");
}

/// A payload of any text, and a channel of any name.
#[tokio::test]
async fn channels_and_payloads_of_any_text_come_through() {
    let bench = Bench::pool(2).await;
    let mut listener = PgListener::connect_with(&bench.pool).await.unwrap();
    let channel = format!("{} \"Ä\"", bench.name);
    in_time(listener.listen_all([&*channel, &*bench.name]))
        .await
        .unwrap();
    let payload = "x".repeat(7_900);
    let quoted = channel.replace('"', "\"\"");
    let notify = sql(format!("NOTIFY \"{quoted}\", '{payload}'"));
    in_time(sqlx::raw_sql(notify).execute(&bench.pool))
        .await
        .unwrap();
    let told = in_time(listener.recv()).await.unwrap();
    assert_eq!((told.channel(), told.payload()), (&*channel, &*payload));
}
