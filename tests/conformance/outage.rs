//! The whole server: paused, and restarted. A server of the test's own.

use pgdeadline::{Connector, Context};
use pgdeadline_deadpool::{Builder, Error};
use pgdeadline_tests::eventually;
use pgdeadline_tests::server::{Server, StartOptions};
use tokio::task::JoinSet;
use tokio::time::Duration;
use tokio_postgres::NoTls;

use super::{LATE, SHORT, SLEEP, found, in_time, pid, works};

const SIZE: usize = 3;
const GRACE: Duration = Duration::from_millis(500);

/// 2, 7, 9. A server that is paused: callers return at their deadlines, busy
/// sessions are retired at the grace, new ones can't be opened, and after the
/// pause the pool serves its full size. Then all connections are lost at once
/// by a restart, and it does so again.
#[tokio::test]
async fn a_server_that_is_paused_and_restarted_leaves_the_pool_whole() {
    let server = Server::start(StartOptions::default()).await;
    let connector = Connector::builder(server.config(), NoTls)
        .grace(GRACE)
        .build()
        .unwrap();
    let pool = Builder::new(connector).max_size(SIZE).build().unwrap();
    let full = async || {
        let ctx = Context::background().with_timeout(LATE);
        let mut clients = Vec::new();
        for _ in 0..SIZE {
            clients.push(in_time(ctx.scope(pool.get())).await.unwrap());
        }
        for client in &clients {
            works(client).await;
        }
        assert_eq!(pool.status().size, SIZE);
    };
    full().await;

    server.pause().await;
    // Twice as many as there are places: those that retire, and those that
    // wait for new connections which nobody answers.
    let mut callers = JoinSet::new();
    for _ in 0..SIZE * 2 {
        let pool = pool.clone();
        callers.spawn(async move {
            let ctx = Context::background().with_timeout(SHORT);
            let work = ctx.try_run(async {
                let client = pool.get().await?;
                Ok::<_, Error>(client.query("SELECT 1", &[]).await?)
            });
            found(&in_time(work).await.unwrap_err())
        });
    }
    for error in callers.join_all().await {
        assert!(error.is_deadline(), "{error}");
    }
    // What is held while the server is away is retired at the grace.
    let ctx = Context::background().with_timeout(SHORT);
    if let Ok(client) = ctx.scope(pool.get()).await {
        let error = in_time(ctx.scope(client.query(SLEEP, &[]))).await;
        let error = found(&error.unwrap_err());
        assert!(error.is_deadline() || error.is_retired(), "{error}");
        eventually(LATE, "it is retired", async || {
            client.is_closed().then_some(())
        })
        .await;
    }
    server.unpause().await;
    full().await;

    let mut busy = JoinSet::new();
    for _ in 0..SIZE - 1 {
        let pool = pool.clone();
        busy.spawn(async move {
            let ctx = Context::background().with_timeout(LATE);
            let client = ctx.scope(pool.get()).await.unwrap();
            let work = client.query(SLEEP, &[]);
            in_time(ctx.run(work))
                .await
                .map(|result| result.unwrap_err())
        });
    }
    let admin = server.admin().await;
    let active = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = $1";
    eventually(LATE, "all but one are busy", async || {
        let row = admin.query_one(active, &[&SLEEP]).await.unwrap();
        (row.get::<_, i64>(0) == SIZE as i64 - 1).then_some(())
    })
    .await;
    server.restart().await;
    for result in busy.join_all().await {
        let error = result.expect("no context ended");
        assert_eq!(
            error.code().map(|code| code.code()),
            Some("57P01"),
            "{error}"
        );
    }
    // An idle client may have to be told by its first query.
    eventually(LATE, "the pool serves again", async || {
        let client = pool.get().await.ok()?;
        client.query("SELECT 1", &[]).await.ok()
    })
    .await;
    full().await;
    assert!(pid(&pool.get().await.unwrap()).await > 0);
}
