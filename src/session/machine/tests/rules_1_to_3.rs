//! Prompt, bounded, aimed.

use std::time::Duration;

use super::super::*;
use super::pair::{MS, Pair, cancelled};
use crate::wire::testing::{client, server};

#[test]
fn rule_1_the_caller_is_answered_at_once_and_hears_no_more() {
    let (mut pair, lease) = Pair::running();
    pair.receive(&[server::bind_complete(), server::data_row("1")].concat());
    pair.end(lease);
    assert_eq!(pair.heard(), "2DEZ");
    let attempt = pair.cancel();
    pair.receive(&[server::data_row("2"), cancelled(b'I')].concat());
    pair.over(attempt, Outcome::Eof);
    assert_eq!(pair.heard(), "");
    pair.assert_clean();
}

#[test]
fn rule_1_every_request_in_flight_is_answered_in_the_clients_order() {
    let (mut pair, lease) = Pair::running();
    pair.send(&[client::query("two"), client::query("three")].concat());
    pair.end(lease);
    assert_eq!((pair.got(), pair.heard()), ("QQ".into(), "EZEZEZ".into()));
    let attempt = pair.cancel();
    for _ in 0..3 {
        pair.receive(&cancelled(b'I'));
    }
    pair.over(attempt, Outcome::Eof);
    pair.assert_clean();
}

#[test]
fn rule_1_a_message_that_has_begun_is_passed_to_its_end_first() {
    let (mut pair, lease) = Pair::running();
    let row = server::data_row("one of many");
    pair.receive(&row[..9]);
    pair.end(lease);
    assert_eq!(pair.up, row[..9]);
    pair.receive(&row[9..]);
    assert_eq!(pair.heard(), "DEZ");
}

#[test]
fn rule_1_a_server_that_stalls_inside_a_message_gets_the_session_retired() {
    let (mut pair, lease) = Pair::running();
    pair.receive(&server::data_row("1")[..9]);
    pair.poll();
    pair.end(lease);
    pair.pass(Settings::default().checkout_wait - MS);
    assert!(!pair.outputs.contains(&Output::Retire(Retired::Stalled)));
    pair.pass(MS);
    pair.assert_retired(&Retired::Stalled);
}

#[test]
fn rule_1_inside_a_transaction_the_answer_says_that_it_failed() {
    let mut pair = Pair::open();
    pair.send(&client::query("BEGIN"));
    pair.receive(&server::ready(b'T'));
    pair.send(&client::query("slow"));
    let lease = pair.machine.check_out_lease();
    pair.end(lease);
    assert!(pair.up.ends_with(&server::ready(b'E')));
}

#[test]
fn rule_2_a_server_that_never_answers_is_left_after_the_grace_and_not_before() {
    let (mut pair, lease) = Pair::running();
    pair.end(lease);
    let grace = Settings::default().grace;
    let mut spent = Duration::ZERO;
    // Dialled again and again, without an answer.
    while spent < grace - MS {
        if let Some(Output::Dial(number)) = pair.output() {
            pair.connected(number);
            pair.over(number, Outcome::Eof);
        }
        pair.pass(MS);
        spent += MS;
    }
    assert!(!pair.outputs.contains(&Output::Retire(Retired::Grace)));
    pair.pass(MS);
    pair.assert_retired(&Retired::Grace);
}

#[test]
fn rule_2_one_grace_covers_the_drain_and_the_clean_up() {
    let mut pair = Pair::open();
    pair.send(&client::query("BEGIN"));
    pair.receive(&server::ready(b'T'));
    pair.send(&client::query("slow"));
    let lease = pair.machine.check_out_lease();
    pair.end(lease);
    pair.release();
    pair.poll();
    let attempt = pair.cancel();
    pair.pass(Duration::from_millis(1500));
    pair.receive(&cancelled(b'E'));
    pair.over(attempt, Outcome::Eof);
    pair.poll();
    pair.drive();
    assert!(pair.wire.ends_with(b"ROLLBACK\0"));
    pair.pass(Duration::from_millis(499));
    assert!(!pair.outputs.contains(&Output::Retire(Retired::Grace)));
    pair.pass(MS);
    pair.assert_retired(&Retired::Grace);
}

#[test]
fn rule_2_clean_up_of_an_ended_lease_is_bounded_too() {
    let mut pair = Pair::open();
    let lease = pair.machine.check_out_lease();
    pair.send(&client::query("ROLLBACK"));
    pair.end(lease);
    assert_eq!(pair.output(), None, "it is not cancelled");
    pair.pass(Settings::default().grace);
    pair.assert_retired(&Retired::Grace);
}

#[test]
fn rule_2_a_released_session_that_does_not_come_to_rest_is_bounded_too() {
    let mut pair = Pair::open();
    pair.send(&client::query("ROLLBACK"));
    pair.release();
    pair.pass(Settings::default().grace);
    pair.assert_retired(&Retired::Grace);
}

#[test]
fn rule_3_nothing_is_written_from_the_end_until_drained_and_every_attempt_over() {
    let (mut pair, outer) = Pair::running();
    pair.receive(&[server::bind_complete(), server::ready(b'I')].concat());
    pair.poll();
    let operation = pair.begin();
    pair.send(&client::query("slow"));
    pair.end(operation);
    pair.leave(operation);
    pair.poll();
    pair.got();
    assert_eq!(pair.machine.base(), outer);
    pair.send(&client::query("next"));
    assert_eq!(pair.got(), "", "the ended work is in flight");
    let attempt = pair.cancel();
    pair.receive(&cancelled(b'I'));
    pair.write(&mut None, usize::MAX);
    assert_eq!(pair.got(), "", "a second signal may be on its way");
    pair.over(attempt, Outcome::Eof);
    pair.write(&mut None, usize::MAX);
    assert_eq!(pair.got(), "Q");
    pair.receive(&server::ready(b'I'));
    assert_eq!(pair.heard(), "2ZEZZ");
    pair.assert_clean();
}

#[test]
fn rule_3_only_the_rest_of_a_request_that_has_begun_is_written() {
    let mut pair = Pair::open();
    let lease = pair.machine.check_out_lease();
    let half = client::execute("half");
    pair.buffer.extend_from_slice(&half);
    pair.write(&mut None, 3);
    pair.end(lease);
    pair.send(&client::query("next"));
    assert_eq!(pair.wire, half);
    assert_eq!(pair.heard(), "EZEZ", "the next one is answered unwritten");
}

#[test]
fn rule_3_no_cancel_unless_ended_work_is_in_flight() {
    let mut pair = Pair::open();
    let lease = pair.machine.check_out_lease();
    pair.end(lease);
    assert_eq!(pair.output(), None);
    pair.assert_clean();
}

#[test]
fn rule_3_what_is_in_flight_is_looked_at_again_before_the_bytes() {
    let (mut pair, lease) = Pair::running();
    pair.end(lease);
    let attempt = pair.dialed();
    pair.receive(&cancelled(b'I'));
    assert!(
        !pair.connected(attempt),
        "there is nothing to cancel any more"
    );
    pair.over(attempt, Outcome::NotWritten);
    pair.heard();
    pair.assert_clean();
}

#[test]
fn rule_3_no_cancel_while_clean_up_is_in_flight() {
    let mut pair = Pair::open();
    let lease = pair.machine.check_out_lease();
    let tidy = [client::close(), client::sync()].concat();
    pair.send(&[tidy, client::query("slow")].concat());
    assert_eq!(pair.got(), "CSQ");
    pair.end(lease);
    assert_eq!(pair.output(), None, "it would hit the Close");
    pair.receive(&[server::close_complete(), server::ready(b'I')].concat());
    let attempt = pair.cancel();
    pair.receive(&cancelled(b'I'));
    pair.over(attempt, Outcome::Eof);
    pair.heard();
    pair.assert_clean();
}

#[test]
fn rule_3_clean_up_is_written_alone_and_never_cancelled() {
    for clean_up in [
        client::query("ROLLBACK"),
        client::query("ROLLBACK TO sp"),
        [client::close(), client::sync()].concat(),
        client::sync(),
    ] {
        let (mut pair, lease) = Pair::running();
        pair.send(&clean_up);
        assert_eq!(pair.got(), "", "work is in flight");
        pair.end(lease);
        pair.write(&mut None, usize::MAX);
        assert_eq!(pair.got(), "");
        let attempt = pair.cancel();
        pair.receive(&cancelled(b'I'));
        pair.over(attempt, Outcome::Eof);
        pair.write(&mut None, usize::MAX);
        assert_eq!(pair.wire, clean_up, "written although its lease has ended");
        pair.wire.clear();
        assert_eq!(pair.output(), Some(Output::Drained));
        assert_eq!(pair.output(), None);
        pair.receive(&server::ready(b'I'));
        assert_eq!(pair.heard(), "EZZ", "the server's own answer to it");
        pair.assert_clean();
    }
}

#[test]
fn rule_3_the_fence_behind_a_copy_waits_for_every_attempt() {
    let (mut pair, lease) = Pair::running();
    pair.receive(&[server::bind_complete(), server::copy_in_response()].concat());
    pair.end(lease);
    assert_eq!(pair.got(), "fS", "the session ends the copy by itself");
    let attempt = pair.cancel();
    pair.receive(&cancelled(b'I'));
    pair.send(&client::copy_fail());
    assert_eq!(pair.got(), "", "a signal may be on its way");
    pair.over(attempt, Outcome::Eof);
    assert_eq!(pair.got(), "Q");
    pair.receive(&[server::empty_query_response(), server::ready(b'I')].concat());
    assert_eq!(pair.heard(), "2GEZ");
    pair.assert_clean();
}

#[test]
fn rule_3_no_cancel_for_what_has_failed_already() {
    let (mut pair, lease) = Pair::running();
    pair.receive(&server::error("ERROR", "division by zero"));
    pair.end(lease);
    assert_eq!(pair.output(), None, "only ReadyForQuery is to come");
    pair.receive(&server::ready(b'I'));
    assert_eq!(pair.heard(), "EZ");
    assert_eq!(pair.output(), Some(Output::Drained));
    pair.assert_clean();
}
