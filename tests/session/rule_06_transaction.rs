//! Rule 6, inside a transaction: work that was told as ended fails it, whatever
//! the server made of that work. Nothing that would commit reaches the server.

use pgdeadline::Context;
use pgdeadline_tests::scripted::{Backend, Expect, Frontend, Message, message};
use tokio_postgres::Client;

use crate::stage::*;

const INSERT: &str = "INSERT INTO t VALUES (1)";
const UPDATE: &str = "UPDATE t SET n = 2";

/// What the server says to a statement in a failed transaction.
fn aborted() -> Message {
    [
        message::error("25P02", "current transaction is aborted"),
        message::ready_for_query(b'E'),
    ]
    .into()
}

/// An update is refused by the server, whose transaction has failed.
async fn update_is_refused(client: &Client, backend: &mut Backend) {
    let update = execute(client, backend, UPDATE, aborted()).await;
    assert_eq!(update.unwrap_err().code().unwrap().code(), "25P02");
}

/// The same where the session has to fail the transaction first, by a
/// statement that begins so.
async fn update_is_refused_once_failed(client: &Client, backend: &mut Backend, begins: &str) {
    let (update, ()) = tokio::join!(client.batch_execute(UPDATE), async {
        is_failed_by_the_session(backend, begins).await;
        backend.expect(Expect::query(UPDATE)).await;
        backend.send(aborted()).await;
    });
    assert_eq!(update.unwrap_err().code().unwrap().code(), "25P02");
}

/// Takes the statement by which the session fails the transaction, and plays
/// a server on which it does what it is for.
async fn is_failed_by_the_session(backend: &mut Backend, begins: &str) {
    let Frontend::Query { query } = backend.read().await else {
        panic!("expected the session's own statement");
    };
    assert!(query.starts_with(begins), "{query}");
    assert!(
        query.contains("ROLLBACK TO \"pgdeadline: told as ended"),
        "{query}"
    );
    if begins == "BEGIN" {
        backend.send(message::command_complete("BEGIN")).await;
    }
    backend
        .send([
            message::error("3B001", "savepoint does not exist"),
            message::ready_for_query(b'E'),
        ])
        .await;
}

#[tokio::test(start_paused = true)]
async fn update_and_commit_after_a_caught_end_are_never_written_under_the_ended_check_out() {
    let mut stage = Stage::new().await;
    let ctx = deadline(200);
    check_out(&stage.session, &ctx).await;
    // It won against the cancel.
    let well = done("INSERT 0 1", b'T');
    stage.end_in_transaction(None, INSERT, well).await;
    let Stage {
        client,
        session,
        mut backend,
        ..
    } = stage;
    for sql in [UPDATE, "COMMIT"] {
        let error = told(client.batch_execute(sql).await.unwrap_err());
        assert!(error.is_deadline() && error.was_sent() == Some(false));
        assert!(!error.is_in_doubt(), "never sent, so not in doubt");
    }
    session.check_in();
    rolls_back(&mut backend).await;
    session.check_out(None).await.unwrap();
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn update_and_commit_after_an_operations_end_find_the_transaction_failed() {
    let mut stage = Stage::new().await;
    let outer = Context::background().child();
    check_out(&stage.session, &outer).await;
    let inner = outer.with_timeout(ms(200));
    // It won against the cancel: the server's transaction is well.
    let well = done("INSERT 0 1", b'T');
    stage.end_in_transaction(Some(&inner), INSERT, well).await;
    let Stage {
        client,
        session,
        mut backend,
        ..
    } = stage;
    update_is_refused_once_failed(&client, &mut backend, "ROLLBACK TO").await;
    // A COMMIT of a failed transaction is a ROLLBACK.
    let commit = execute(&client, &mut backend, "COMMIT", done("ROLLBACK", b'I')).await;
    commit.unwrap();
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn a_commit_at_once_after_an_operations_end_does_not_commit() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let outer = Context::background().child();
    check_out(&session, &outer).await;
    begin(&client, &mut backend).await;
    let inner = outer.with_timeout(ms(200));
    end_of(inner.run(client.batch_execute(INSERT)).await);
    // Queued before the server has answered.
    let (_, ()) = tokio::join!(client.batch_execute("COMMIT"), async {
        backend.expect(Expect::query(INSERT)).await;
        net.cancel().await.close();
        backend.expect_silence(ms(10)).await;
        backend.send(done("INSERT 0 1", b'T')).await;
        is_failed_by_the_session(&mut backend, "ROLLBACK TO").await;
        backend.expect(Expect::query("COMMIT")).await;
        backend.send(done("ROLLBACK", b'I')).await;
    });
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_the_ended_work_itself_has_ended_is_failed_all_the_same() {
    let mut stage = Stage::new().await;
    let outer = Context::background().child();
    check_out(&stage.session, &outer).await;
    let inner = outer.with_timeout(ms(200));
    let both = "INSERT INTO t VALUES (1); COMMIT";
    let well = [
        message::command_complete("INSERT 0 1"),
        done("COMMIT", b'I'),
    ];
    stage
        .end_in_transaction(Some(&inner), both, well.into())
        .await;
    let Stage {
        client,
        session,
        mut backend,
        ..
    } = stage;
    // Outside any transaction this would commit by itself.
    update_is_refused_once_failed(&client, &mut backend, "BEGIN").await;
    update_is_refused(&client, &mut backend).await;
    session.check_in();
    rolls_back(&mut backend).await;
    session.check_out(None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_failed_on_the_server_too_is_left_to_it() {
    let mut stage = Stage::new().await;
    let outer = Context::background().child();
    check_out(&stage.session, &outer).await;
    let inner = outer.with_timeout(ms(200));
    let failed = canceled(b'E');
    stage.end_in_transaction(Some(&inner), INSERT, failed).await;
    let Stage {
        net,
        client,
        mut backend,
        ..
    } = stage;
    update_is_refused(&client, &mut backend).await;
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn work_that_ended_before_it_was_written_fails_the_transaction_too() {
    let Stage {
        client,
        session,
        mut backend,
        net,
        ..
    } = Stage::new().await;
    let outer = Context::background().child();
    check_out(&session, &outer).await;
    begin(&client, &mut backend).await;
    let inner = outer.with_timeout(ms(0));
    // Refused: never written. Its caller knows of it, and may go on without.
    let error = inner.scope(client.batch_execute(INSERT)).await.unwrap_err();
    assert_eq!(told(error).was_sent(), Some(false));
    update_is_refused_once_failed(&client, &mut backend, "ROLLBACK TO").await;
    net.assert_quiet().await;
}
