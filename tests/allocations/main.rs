//! Rule 12, cheap: what a session allocates for an operation that does not
//! reach its deadline, next to what bare tokio-postgres does.
//!
//! Client and server share one thread, so that each count is the same in every
//! run. The allocator that counts is the whole process's: this is a test
//! binary of its own. Run it with `--nocapture` for the figures.

use std::time::Duration;

use allocation_counter::measure;
use futures_util::FutureExt;
use pgdeadline::{Connector, Context, EofProof, Session};
use pgdeadline_tests::scripted::{Backend, Frontend, Message, Net, message};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

const OPERATIONS: u64 = 1000;
/// Before the count: buffers and tables reach the size that they keep.
const WARM_UP: u64 = 100;
/// Long enough never to be reached.
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn rule_12_an_operation_allocates_no_more_than_bare() {
    let bare = bare(simple);
    let without = in_session(|_| (), simple);
    println!("Query: bare {bare}, in a session without a context {without}");
    assert_eq!(without, bare);
}

#[test]
fn rule_12_under_a_check_outs_deadline_it_allocates_no_more_either() {
    let context = Context::background().with_timeout(HOUR);
    let check_out = |session: &Session| {
        session.check_in();
        let checked_out = session.check_out(Some(&context)).now_or_never();
        checked_out.expect("a clean session").unwrap();
    };
    let (simple_bare, extended_bare) = (bare(simple), bare(extended));
    let (simple_bound, extended_bound) = (
        in_session(check_out, simple),
        in_session(check_out, extended),
    );
    println!("Query: bare {simple_bare}, under a check-out's deadline {simple_bound}");
    println!("Parse to Sync: bare {extended_bare}, under a check-out's deadline {extended_bound}");
    assert_eq!((simple_bound, extended_bound), (simple_bare, extended_bare));
}

#[test]
fn rule_12_run_allocates_its_own_node_and_nothing_in_the_session() {
    let timed = bare(async |client: &Client| timeout(HOUR, simple(client)).await.unwrap());
    let context = Context::background().with_timeout(HOUR);
    let run = in_session(
        |_| (),
        async |client: &Client| context.run(simple(client)).await.unwrap(),
    );
    println!("Query: bare in tokio's timeout {timed}, in run {run}");
    assert_eq!(run, timed + NODE * OPERATIONS);
}

/// The child that `run` works in. (`timeout` allocates nothing: its timer is
/// in its own future.)
const NODE: u64 = 1;

async fn simple(client: &Client) {
    let messages = client.simple_query("SELECT 1").await.unwrap();
    assert_eq!(messages.len(), 3);
}

async fn extended(client: &Client) {
    let rows = client.query_typed("SELECT 1", &[]).await.unwrap();
    assert_eq!(rows.len(), 1);
}

/// The allocations of all operations on a client of tokio-postgres's own.
fn bare(operation: impl AsyncFn(&Client)) -> u64 {
    let runtime = runtime();
    let client = runtime.block_on(async {
        let net = Net::new();
        tokio::spawn(serve(net.clone()));
        let stream = net.connect().await.unwrap();
        let (client, connection) = net.config().connect_raw(stream, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    });
    count(&runtime, &client, operation)
}

/// The same on a connector's client, once its session was prepared.
fn in_session(prepare: impl FnOnce(&Session), operation: impl AsyncFn(&Client)) -> u64 {
    let runtime = runtime();
    let client = runtime.block_on(async {
        let net = Net::new();
        tokio::spawn(serve(net.clone()));
        let connector = Connector::builder(net.config(), NoTls)
            .dial(net.clone())
            .eof_proof(EofProof::Proof)
            .build()
            .unwrap();
        let context = Context::background();
        let (client, connection) = connector.connect(&context).await.unwrap();
        prepare(connection.session());
        tokio::spawn(connection);
        client
    });
    count(&runtime, &client, operation)
}

fn count(runtime: &Runtime, client: &Client, operation: impl AsyncFn(&Client)) -> u64 {
    let operations = async |count| {
        for _ in 0..count {
            operation(client).await;
        }
    };
    runtime.block_on(operations(WARM_UP));
    measure(|| runtime.block_on(operations(OPERATIONS))).count_total
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A server that answers whatever it is asked with one row.
async fn serve(net: Net) {
    let mut backend: Backend = net.backend().await;
    backend.authenticate(42, 7).await;
    let simple: Message = [
        message::row_description(&[("n", message::TEXT)]),
        message::rows(1),
        message::command_complete("SELECT 1"),
        message::ready_for_query(b'I'),
    ]
    .into();
    let extended: Message = [
        message::parse_complete(),
        message::bind_complete(),
        message::parameter_description(&[]),
        simple.clone(),
    ]
    .into();
    loop {
        match backend.read().await {
            Frontend::Query { .. } => backend.send(simple.clone()).await,
            Frontend::Sync => backend.send(extended.clone()).await,
            _ => {}
        }
    }
}
