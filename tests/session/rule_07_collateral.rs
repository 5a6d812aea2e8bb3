//! Rule 7, no collateral: a neighbour on the same client is spared, and whose
//! a request is can be seen.

use pgdeadline::{Context, Phase};
use pgdeadline_tests::scripted::{Backend, Expect, message};
use tokio::time::{Instant, sleep};

use crate::stage::*;

#[tokio::test(start_paused = true)]
async fn of_two_contexts_joined_on_one_client_the_end_of_one_spares_the_other() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let began = Instant::now();
    let (hasty, patient) = (deadline(200), Context::background().child());
    let (ended, spared, ()) = tokio::join!(
        async {
            let ended = hasty.run(client.simple_query("SELECT 'hasty'")).await;
            assert_at(began, 200);
            ended
        },
        patient.run(client.simple_query("SELECT 'patient'")),
        async {
            backend.expect(Expect::query("SELECT 'hasty'")).await;
            backend.expect(Expect::query("SELECT 'patient'")).await;
            sleep(ms(5000)).await;
            net.assert_quiet().await;
            backend.send(rows(1)).await;
            backend.send(rows(2)).await;
        }
    );
    assert!(end_of(ended).is_deadline());
    assert_eq!(spared.unwrap().unwrap().len(), 4, "its own two rows");
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_neighbour_behind_is_spared_and_one_ahead_too() {
    for hasty_first in [true, false] {
        let Stage {
            net,
            client,
            mut backend,
            ..
        } = Stage::new().await;
        let hasty = deadline(200);
        let patient = Context::background().child();
        let names = if hasty_first {
            ["SELECT 'hasty'", "SELECT 'patient'"]
        } else {
            ["SELECT 'patient'", "SELECT 'hasty'"]
        };
        // One after the other, so that each is known to be its context's.
        let first = async {
            let ctx = if hasty_first { &hasty } else { &patient };
            ctx.run(client.simple_query(names[0])).await
        };
        let second = async {
            sleep(ms(10)).await;
            let ctx = if hasty_first { &patient } else { &hasty };
            ctx.run(client.simple_query(names[1])).await
        };
        let (first, second, ()) = tokio::join!(first, second, async {
            backend.expect(Expect::query(names[0])).await;
            backend.expect(Expect::query(names[1])).await;
            sleep(ms(1000)).await;
            net.assert_quiet().await;
            if hasty_first {
                // The ended one is over by itself; what is left is innocent.
                backend.send(rows(1)).await;
                sleep(ms(1000)).await;
                net.assert_quiet().await;
                backend.send(rows(2)).await;
            } else {
                backend.send(rows(2)).await;
                // Now nothing but the ended one is in flight.
                net.cancel().await.close();
                backend.send(canceled(b'I')).await;
            }
        });
        let (ended, spared) = if hasty_first {
            (first, second)
        } else {
            (second, first)
        };
        assert!(end_of(ended).is_deadline());
        assert_eq!(spared.unwrap().unwrap().len(), 4);
        serves_on(&client, &mut backend).await;
    }
}

#[tokio::test(start_paused = true)]
async fn contexts_one_after_another_are_told_apart() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    for _ in 0..3 {
        let patient = Context::background().child();
        let (answer, ()) = tokio::join!(patient.run(client.simple_query("SELECT 1")), async {
            backend.expect(Expect::query("SELECT 1")).await;
            backend.send(rows(1)).await;
        });
        answer.unwrap().unwrap();
        let (began, hasty) = (Instant::now(), deadline(200));
        let (ended, ()) = tokio::join!(hasty.run(client.simple_query(SLEEP)), async {
            backend.expect(Expect::query(SLEEP)).await;
            // The end of one whose work is over is nobody's.
            patient.cancel();
            net.assert_quiet().await;
        });
        assert!(end_of(ended).is_deadline());
        net.cancel().await.close();
        assert_at(began, 200);
        backend.send(canceled(b'I')).await;
    }
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn a_child_inside_a_check_out_reaches_the_server() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let (began, outer) = (Instant::now(), deadline(60_000));
    check_out(&session, &outer).await;
    serves_on(&client, &mut backend).await;
    let child = outer.with_timeout(ms(200));
    let error = end_of(child.run(client.batch_execute(SLEEP)).await);
    assert_at(began, 200);
    assert_eq!(error.phase(), Some(Phase::Read));
    backend.expect(Expect::query(SLEEP)).await;
    net.cancel().await.close();
    assert_at(began, 200);
    backend.send(canceled(b'I')).await;
    // The check-out goes on.
    serves_on(&client, &mut backend).await;
    assert!(!outer.is_ended());
    is_clean(&session).await;
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_stranger_inside_a_check_out_does_not() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let outer = Context::background().child();
    check_out(&session, &outer).await;
    // Not a descendant: the request is the check-out's.
    let stranger = deadline(200);
    let error = end_of(stranger.run(client.batch_execute(SLEEP)).await);
    assert!(error.is_deadline(), "{error}");
    backend.expect(Expect::query(SLEEP)).await;
    sleep(ms(1000)).await;
    net.assert_quiet().await;
    outer.cancel();
    net.cancel().await.close();
    backend.send(canceled(b'I')).await;
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
}

#[tokio::test(start_paused = true)]
async fn an_operation_takes_the_place_of_its_check_out_for_its_time() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let outer = deadline(60_000);
    check_out(&session, &outer).await;
    // It need not descend from the check-out's context.
    let inner = deadline(200);
    let operation = session.operation(&inner).await.unwrap();
    let (first, second) = tokio::join!(client.batch_execute(SLEEP), client.batch_execute(SLEEP));
    for error in [first.unwrap_err(), second.unwrap_err()] {
        assert!(told(error).is_deadline());
    }
    drop(operation);
    net.cancel().await.close();
    for _ in 0..2 {
        backend.expect(Expect::query(SLEEP)).await;
        backend.send(canceled(b'I')).await;
    }
    serves_on(&client, &mut backend).await;
    is_clean(&session).await;
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn several_steps_of_one_context_are_all_its_own() {
    // Parse, the answer, Bind: each comes out of a poll of its own.
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let outer = Context::background().child();
    check_out(&session, &outer).await;
    let (began, child) = (Instant::now(), outer.with_timeout(ms(200)));
    let (ended, ()) = tokio::join!(
        child.run(async {
            let statement = client.prepare("SELECT 1").await?;
            client.query(&statement, &[]).await
        }),
        async {
            backend
                .answer_prepare("SELECT 1", &[], &[("n", message::INT4)])
                .await;
            backend.expect_execution().await;
        }
    );
    assert!(end_of(ended).is_deadline());
    net.cancel().await.close();
    assert_at(began, 200);
    backend.send(canceled(b'I')).await;
    closes_statement(&mut backend).await;
    serves_on(&client, &mut backend).await;
}

/// How the context of one request is given.
#[derive(Clone, Copy, Debug)]
enum Given {
    Run,
    TryRun,
    Scope,
}

/// The server serves a query by text, whose statement is then closed.
async fn serves_by_text(backend: &mut Backend, sql: &str) {
    backend
        .answer_prepare(sql, &[], &[("n", message::INT4)])
        .await;
    backend.expect_execution().await;
    backend
        .send([message::bind_complete(), done("SELECT 0", b'I')])
        .await;
    closes_statement(backend).await;
}

/// A client that was checked out with a context, or without one: right behind a
/// query by text the same task asks for one thing under a context of its own.
async fn right_behind_a_query_by_text(given: Given, checked_out: bool) {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let outer = Context::background().child();
    if checked_out {
        check_out(&session, &outer).await;
    }
    let (statement, ()) = tokio::join!(
        client.prepare("SELECT 2"),
        backend.answer_prepare("SELECT 2", &[], &[("n", message::INT4)])
    );
    let statement = statement.unwrap();
    let (began, child) = (Instant::now(), outer.with_timeout(ms(200)));
    let (error, ()) = tokio::join!(
        async {
            // Its Close is queued here, outside of the child.
            assert!(client.query("SELECT 1", &[]).await.unwrap().is_empty());
            let single = client.query(&statement, &[]);
            match given {
                Given::Run => end_of(child.run(single).await),
                Given::TryRun => told(child.try_run(single).await.unwrap_err()),
                Given::Scope => told(child.scope(single).await.unwrap_err()),
            }
        },
        async {
            serves_by_text(&mut backend, "SELECT 1").await;
            backend.expect_execution().await;
        }
    );
    assert!(error.is_deadline(), "{given:?}: {error}");
    assert_at(began, 200);
    net.cancel().await.close();
    assert_at(began, 200);
    backend.send(canceled(b'I')).await;
    assert!(!outer.is_ended());
    serves_on(&client, &mut backend).await;
    is_clean(&session).await;
    net.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_right_behind_a_query_by_text_is_its_contexts() {
    for given in [Given::Run, Given::TryRun, Given::Scope] {
        right_behind_a_query_by_text(given, true).await;
    }
}

#[tokio::test(start_paused = true)]
async fn and_on_a_client_that_was_checked_out_without_a_context() {
    for given in [Given::Run, Given::TryRun, Given::Scope] {
        right_behind_a_query_by_text(given, false).await;
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_contexts_joined_on_one_client_each_is_known() {
    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    let (began, hasty) = (Instant::now(), deadline(200));
    let patient = Context::background().child();
    let (spared, ended, ()) = tokio::join!(
        patient.run(client.simple_query("SELECT 'patient'")),
        hasty.scope(client.simple_query(SLEEP)),
        async {
            backend.expect(Expect::query("SELECT 'patient'")).await;
            backend.expect(Expect::query(SLEEP)).await;
            backend.send(rows(2)).await;
            // Now the hasty one is alone.
            net.cancel().await.close();
            assert_at(began, 200);
            backend.send(canceled(b'I')).await;
        }
    );
    assert_eq!(spared.unwrap().unwrap().len(), 4, "its own two rows");
    assert!(told(ended.unwrap_err()).is_deadline());
    is_clean(&session).await;
    serves_on(&client, &mut backend).await;
    net.assert_quiet().await;
}
