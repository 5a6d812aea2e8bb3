//! Rule 8, at the end of a runtime: on real sockets, in real time.

use std::time::Duration;

use pgdeadline::{Connector, Context, EofProof};
use pgdeadline_tests::scripted::{Expect, Listener, Net};
use tokio_postgres::NoTls;

use crate::stage::*;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

fn connector(net: &Net, listener: &Listener) -> Connector {
    let mut config = net.config();
    config
        .hostaddr(listener.address().ip())
        .port(listener.address().port());
    let builder = Connector::builder(config, NoTls);
    let builder = builder.eof_proof(EofProof::Proof);
    // Long enough for a machine that stalls; what is waited for comes at once.
    builder.exit_bound(LONG).grace(LONG).build().unwrap()
}

/// Runs `session` in a runtime of its own, that ends when it returns.
fn in_a_runtime_that_ends<F: Future<Output = ()>>(
    session: impl FnOnce() -> F + Send + 'static,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().unwrap();
        runtime.block_on(session());
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_that_ends_with_work_in_flight_sends_a_cancel() {
    let net = Net::new();
    let listener = net.listen().await;
    let connector = connector(&net, &listener);
    let (written, is_written) = tokio::sync::oneshot::channel::<()>();
    let ending = in_a_runtime_that_ends(move || async move {
        let context = Context::background();
        let (client, connection) = connector.connect(&context).await.unwrap();
        tokio::spawn(connection);
        tokio::spawn(async move { client.batch_execute(SLEEP).await });
        is_written.await.unwrap();
    });
    let mut backend = net.backend().await;
    backend.authenticate(PID, KEY).await;
    backend.expect(Expect::query(SLEEP)).await;
    written.send(()).unwrap();
    let cancel = net.cancel().await;
    assert_eq!((cancel.pid(), cancel.key()), (PID, &KEY.to_be_bytes()[..]));
    cancel.close();
    // Whoever ends the runtime has waited for that, and for no longer.
    tokio::task::spawn_blocking(|| ending.join().unwrap())
        .await
        .unwrap();
    backend.wait_close().await;
    net.assert_quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_that_ends_while_a_cancel_is_under_way_sends_it_again() {
    let net = Net::new();
    let listener = net.listen().await;
    let connector = connector(&net, &listener);
    let (written, is_written) = tokio::sync::oneshot::channel::<()>();
    let (cancelled, is_cancelled) = tokio::sync::oneshot::channel::<()>();
    let ending = in_a_runtime_that_ends(move || async move {
        let context = Context::background();
        let (client, connection) = connector.connect(&context).await.unwrap();
        tokio::spawn(connection);
        let ctx = context.child();
        let (ended, ()) = tokio::join!(ctx.run(client.batch_execute(SLEEP)), async {
            is_written.await.unwrap();
            ctx.cancel();
        });
        assert!(end_of(ended).is_cancelled());
        is_cancelled.await.unwrap();
    });
    let mut backend = net.backend().await;
    backend.authenticate(PID, KEY).await;
    backend.expect(Expect::query(SLEEP)).await;
    written.send(()).unwrap();
    // Without an EOF nobody knows whether its signal was sent.
    let first = net.cancel().await;
    cancelled.send(()).unwrap();
    net.cancel().await.close();
    answer_cancels(&net);
    tokio::task::spawn_blocking(|| ending.join().unwrap())
        .await
        .unwrap();
    first.close();
    backend.wait_close().await;
}
