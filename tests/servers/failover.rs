//! A primary that is lost under load, and its standby that takes its place.
//!
//! The pools are left to themselves: each finds the new primary, by the two
//! hosts of its configuration or by HAProxy before them. No caller waits past
//! its deadline meanwhile, and each is told what became of his query.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pgdeadline::{Context, Error, Guard};
use pgdeadline_tests::between::Haproxy;
use pgdeadline_tests::eventually;
use pgdeadline_tests::server::{DATABASE, PASSWORD, Server, StartOptions, USER};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_postgres::Config;

use super::doors::{self, Door, Failed, under};

/// How the primary is lost.
#[derive(Clone, Copy, Debug)]
enum Loss {
    /// All its processes are killed, and its address is nobody's.
    Killed,
    /// It stops answering, and closes nothing.
    Stopped,
}

/// A caller's deadline, and by how much he may be late on a machine that
/// stalls.
const DEADLINE: Duration = Duration::from_secs(2);
const DELAY: Duration = Duration::from_secs(8);

/// How long a pool may take to serve again once there is a primary.
const RECOVERY: Duration = Duration::from_secs(30);

const SIZE: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_is_killed_under_load_is_replaced() {
    fail_over(Loss::Killed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_stops_under_load_is_replaced() {
    fail_over(Loss::Stopped).await;
}

async fn fail_over(loss: Loss) {
    let primary = Server::start(StartOptions::default().primary()).await;
    let standby = Server::start_standby(&primary).await;
    let admin = primary.admin().await;
    admin
        .batch_execute("CREATE TABLE work (n serial PRIMARY KEY)")
        .await
        .unwrap();
    let haproxy = Haproxy::before_primary([&primary, &standby]).await;
    println!("{loss:?}, HAProxy {}", haproxy.version().await);

    let mut loads = Vec::new();
    let hosts = two_hosts(&primary, &standby).await;
    for (way, config) in [("two hosts", hosts), ("HAProxy", haproxy.config())] {
        for door in doors::both(&config, SIZE, |c| c.grace(GRACE)) {
            loads.push(Load::start(format!("{way}, {}", door.name), door));
        }
    }
    for load in &loads {
        load.wait_served(20, "before the loss").await;
    }

    match loss {
        Loss::Killed => primary.kill().await,
        Loss::Stopped => primary.pause().await,
    }
    // For a while there is no primary.
    sleep(DEADLINE).await;
    let promote = standby
        .admin()
        .await
        .batch_execute("SELECT pg_promote()")
        .await;
    promote.unwrap();
    let promoted = Instant::now();
    for load in &loads {
        load.wait_served(50, "after the promotion").await;
        println!(
            "  {}: serves {:?} after the promotion",
            load.name,
            promoted.elapsed()
        );
    }
    let mut stored = 0;
    for load in loads {
        let door = load.door.clone();
        stored += load.finish().await;
        door.assert_full().await;
        // It writes, and so to the new primary.
        let recovering = door.get().await.ask("SELECT pg_is_in_recovery()").await;
        assert_eq!(recovering.unwrap(), "f");
    }
    println!("  {stored} writes were told as done");
    if let Loss::Stopped = loss {
        primary.unpause().await;
    }
}

async fn two_hosts(primary: &Server, standby: &Server) -> Config {
    let name = primary.config();
    let config = format!(
        "host={},{} port=5432,5432 user={USER} password={PASSWORD} dbname={DATABASE} \
         application_name={} target_session_attrs=read-write connect_timeout=1",
        primary.address().await,
        standby.address().await,
        name.get_application_name().unwrap()
    );
    config.parse().unwrap()
}

/// Callers without end on one pool.
struct Load {
    name: String,
    door: Door,
    served: watch::Receiver<usize>,
    stop: Guard,
    told: Arc<Told>,
    callers: JoinSet<()>,
}

/// How often which kind of error was told.
type Told = Mutex<BTreeMap<String, usize>>;

impl Load {
    fn start(name: String, door: Door) -> Load {
        let (served, receiver) = watch::channel(0);
        let (served, told) = (Arc::new(served), Arc::new(Told::default()));
        let stop = Context::background().child();
        let mut callers = JoinSet::new();
        // More than there are connections, so that some wait for one.
        for caller in 0..SIZE + 2 {
            let (door, served) = (door.clone(), Arc::clone(&served));
            let (told, stop) = (Arc::clone(&told), Context::clone(&stop));
            callers.spawn(async move {
                while !stop.is_ended() {
                    match call(&door, caller).await {
                        Ok(()) => served.send_modify(|served| *served += 1),
                        Err(error) => {
                            let mut told = told.lock().unwrap();
                            *told.entry(what_was_told(&error)).or_default() += 1;
                        }
                    }
                    sleep(Duration::from_millis(10)).await;
                }
            });
        }
        Load {
            name,
            door,
            served: receiver,
            stop,
            told,
            callers,
        }
    }

    async fn wait_served(&self, more: usize, when: &str) {
        let goal = *self.served.borrow() + more;
        let what = format!("{} serves {more} {when}", self.name);
        eventually(RECOVERY, what, async || {
            (*self.served.borrow() >= goal).then_some(())
        })
        .await;
    }

    /// Stops the callers, says what they were told, and how much was done.
    async fn finish(self) -> usize {
        self.stop.cancel();
        for caller in self.callers.join_all().await {
            let () = caller;
        }
        let served = *self.served.borrow();
        println!("  {}: {served} served; told otherwise:", self.name);
        for (what, times) in self.told.lock().unwrap().iter() {
            println!("    {times:4} x {what}");
        }
        served
    }
}

/// One caller: a write, and sometimes a query that would last too long.
async fn call(door: &Door, caller: usize) -> Result<(), Failed> {
    let began = Instant::now();
    let ctx = Context::background().with_timeout(DEADLINE);
    let work = async {
        let mut held = door.try_get().await?;
        if caller == 0 {
            held.ask("SELECT pg_sleep(0.5)").await?;
        }
        held.ask("INSERT INTO work DEFAULT VALUES").await.map(drop)
    };
    let result = under(&ctx, work).await;
    let took = began.elapsed();
    assert!(
        took < DEADLINE + DELAY,
        "{}: a caller waited {took:?}",
        door.name
    );
    result
}

/// The kind of error, without what differs from one to the next.
fn what_was_told(error: &Failed) -> String {
    if let Some(error) = Error::find(&**error) {
        let kind = match () {
            () if error.is_deadline() => "deadline",
            () if error.is_retired() => "retired",
            () if error.is_config() => panic!("{error}"),
            () => "other",
        };
        return format!(
            "{kind}, phase {:?}, sent {:?}, in doubt {}{}",
            error.phase(),
            error.was_sent(),
            error.is_in_doubt(),
            if kind == "other" {
                format!(": {error}")
            } else {
                String::new()
            }
        );
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text.truncate(150);
    text
}

const GRACE: Duration = Duration::from_millis(500);
