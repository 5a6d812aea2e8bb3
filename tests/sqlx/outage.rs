//! The whole server: paused, and restarted. A server of the test's own.

use pgdeadline::{Connector, Context};
use pgdeadline_sqlx::Builder;
use pgdeadline_tests::eventually;
use pgdeadline_tests::server::{Server, StartOptions};
use tokio::task::JoinSet;
use tokio::time::Duration;
use tokio_postgres::NoTls;

use super::{LATE, SHORT, SLEEP, asleep, code, found, in_time, of_size, options_of, works};

const SIZE: u32 = 3;
const GRACE: Duration = Duration::from_millis(500);

/// 2, 7, 9. A server that is paused: callers return at their deadlines, busy
/// sessions are retired at the grace, new ones can't be opened, and after the
/// pause the pool serves its full size. Then all connections are lost at once
/// by a restart, and it does so again.
#[tokio::test]
async fn a_server_that_is_paused_and_restarted_leaves_the_pool_whole() {
    let server = Server::start(StartOptions::default()).await;
    let config = server.config();
    let options = options_of(&config);
    let connector = Connector::builder(config, NoTls)
        .grace(GRACE)
        .build()
        .unwrap();
    let pool = Builder::new(connector, of_size(SIZE), options);
    let pool = pool.connect_lazy().unwrap();
    let full = async || {
        let mut connections = Vec::new();
        for _ in 0..SIZE {
            connections.push(in_time(pool.acquire()).await.unwrap());
        }
        for connection in &mut connections {
            works(connection).await;
        }
        assert_eq!(pool.size(), SIZE);
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
            let work = sqlx::query("SELECT 1").execute(&pool);
            let work = pgdeadline_sqlx::try_run(&ctx, work);
            found(&in_time(work).await.unwrap_err())
        });
    }
    for error in callers.join_all().await {
        assert!(error.is_deadline(), "{error}");
    }
    // What is held while the server is away is given up at the grace.
    eventually(LATE, "all are given up", async || {
        (pool.size() == 0).then_some(())
    })
    .await;
    server.unpause().await;
    full().await;

    let mut busy = JoinSet::new();
    for _ in 0..SIZE - 1 {
        let pool = pool.clone();
        busy.spawn(async move {
            let ctx = Context::background().with_timeout(LATE);
            let work = in_time(ctx.run(asleep(&pool))).await;
            work.map(|result| result.unwrap_err())
        });
    }
    let admin = server.admin().await;
    let active = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = $1";
    eventually(LATE, "all but one are busy", async || {
        let row = admin.query_one(active, &[&SLEEP]).await.unwrap();
        (row.get::<_, i64>(0) == i64::from(SIZE) - 1).then_some(())
    })
    .await;
    server.restart().await;
    for result in busy.join_all().await {
        let error = result.expect("no context ended");
        assert_eq!(code(&error), "57P01", "{error}");
    }
    full().await;
}
