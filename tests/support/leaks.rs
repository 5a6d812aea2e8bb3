use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use pgdeadline_tests::leaks::Count;
use pgdeadline_tests::server::Server;

#[tokio::test(start_paused = true)]
async fn a_task_that_ends_is_waited_for() {
    let before = Count::tasks();
    tokio::spawn(tokio::time::sleep(std::time::Duration::from_secs(1)));
    before.assert_no_more(None).await;
}

#[tokio::test(start_paused = true)]
async fn a_task_that_stays_is_a_leak() {
    let before = Count::tasks();
    tokio::spawn(std::future::pending::<()>());
    let outcome = AssertUnwindSafe(before.assert_no_more(None))
        .catch_unwind()
        .await;
    let panic = outcome.unwrap_err();
    let message = panic.downcast_ref::<String>().unwrap();
    assert!(message.starts_with("left behind: there were "), "{message}");
    assert!(message.contains("tasks"), "{message}");
}

#[tokio::test]
async fn descriptors_and_backends_are_counted() {
    let server = Server::shared().await;
    let config = server.config();
    let name = config.get_application_name().unwrap();
    let before = Count::tasks()
        .and_descriptors()
        .and_backends(server, name)
        .await;
    assert_eq!(before.backends, Some(0));

    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let during = Count::tasks()
        .and_descriptors()
        .and_backends(server, name)
        .await;
    assert_eq!(during.backends, Some(1));
    // Other tests of this binary open descriptors too: only that ours is in
    // the count can be said.
    assert!(during.descriptors.unwrap() > 0);

    drop(client);
    connection.await.unwrap().unwrap();
    Count {
        descriptors: None,
        ..before
    }
    .assert_no_more(Some((server, name)))
    .await;
}
