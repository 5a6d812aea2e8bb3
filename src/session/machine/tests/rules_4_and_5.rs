//! Proven, persistent.

use std::time::Duration;

use super::super::*;
use super::pair::{MS, Pair, cancelled};
use crate::wire::testing::{client, server};

#[test]
fn rule_4_reused_only_with_nothing_in_flight_and_after_eof() {
    let (mut pair, lease) = Pair::running();
    pair.end(lease);
    pair.release();
    pair.poll();
    pair.heard();
    let attempt = pair.cancel();
    assert!(!pair.machine.is_clean());
    pair.receive(&cancelled(b'I'));
    pair.poll();
    assert!(
        !pair.machine.is_clean(),
        "the second signal may be on its way"
    );
    pair.over(attempt, Outcome::Eof);
    pair.poll();
    pair.assert_rests();
}

#[test]
fn rule_4_eof_before_the_answer_is_not_enough_either() {
    let (mut pair, lease) = Pair::running();
    pair.end(lease);
    pair.release();
    pair.heard();
    let attempt = pair.cancel();
    pair.over(attempt, Outcome::Eof);
    pair.poll();
    assert!(!pair.machine.is_clean());
    pair.receive(&cancelled(b'I'));
    pair.poll();
    pair.assert_rests();
}

#[test]
fn rule_4_an_attempt_that_broke_off_after_a_byte_proves_nothing() {
    let (mut pair, outer) = Pair::running();
    pair.receive(&[server::bind_complete(), server::ready(b'I')].concat());
    pair.poll();
    let operation = pair.begin();
    pair.send(&client::query("slow"));
    pair.got();
    pair.end(operation);
    pair.leave(operation);
    pair.poll();
    assert_eq!(pair.machine.base(), outer);
    pair.send(&client::query("innocent"));
    let attempt = pair.cancel();
    pair.over(attempt, Outcome::BrokenOff);
    pair.receive(&cancelled(b'T'));
    assert_eq!(pair.got(), "", "not even clean-up is written");
    pair.heard();
    pair.assert_retired(&Retired::Unproven);
}

#[test]
fn rule_4_an_attempt_of_which_no_byte_was_written_does_no_harm() {
    let (mut pair, lease) = Pair::running();
    pair.end(lease);
    let attempt = pair.dialed();
    pair.over(attempt, Outcome::NotWritten);
    pair.pass(Settings::default().resend[0]);
    let attempt = pair.cancel();
    pair.receive(&cancelled(b'I'));
    pair.over(attempt, Outcome::Eof);
    pair.heard();
    pair.assert_clean();
}

#[test]
fn rule_4_where_eof_proves_nothing_a_cancelled_session_is_retired() {
    let (mut pair, lease) = Pair::running();
    pair.machine.set_eof_proves(false);
    pair.end(lease);
    pair.heard();
    let attempt = pair.cancel();
    pair.over(attempt, Outcome::Eof);
    assert_eq!(pair.output(), None, "its work is still on the server");
    // Sent again, for as long as that is so: nobody's work comes after it.
    pair.pass(Settings::default().resend[0]);
    let attempt = pair.cancel();
    pair.receive(&cancelled(b'I'));
    assert_eq!(pair.output(), None, "a signal may be on its way");
    pair.over(attempt, Outcome::Eof);
    pair.assert_retired(&Retired::NoProof);
    // One that was not cancelled is as good as ever.
    let (mut pair, lease) = Pair::running();
    pair.machine.set_eof_proves(false);
    pair.end(lease);
    let attempt = pair.dialed();
    pair.receive(&cancelled(b'I'));
    assert!(!pair.connected(attempt));
    pair.heard();
    pair.assert_clean();
}

#[test]
fn rule_4_what_can_be_written_no_more_does_not_hold_that_up() {
    let (mut pair, lease) = Pair::running();
    pair.send(&[client::query("ROLLBACK"), client::query("behind it")].concat());
    pair.end(lease);
    assert_eq!(pair.heard(), "EZ");
    let attempt = pair.cancel();
    pair.over(attempt, Outcome::BrokenOff);
    pair.assert_retired(&Retired::Unproven);
}

#[test]
fn rule_4_it_is_retired_only_once_its_callers_are_answered() {
    let (mut pair, lease) = Pair::running();
    pair.receive(&server::data_row("1")[..9]);
    pair.end(lease);
    let attempt = pair.cancel();
    pair.over(attempt, Outcome::BrokenOff);
    assert_eq!(pair.output(), None, "the caller has half a row");
    pair.receive(&server::data_row("1")[9..]);
    assert_eq!(pair.output(), None, "the caller has not read it");
    assert_eq!(pair.heard(), "DEZ");
    pair.assert_retired(&Retired::Unproven);
}

#[test]
fn rule_4_a_transaction_left_open_is_rolled_back_by_the_session() {
    let mut pair = Pair::open();
    pair.send(&client::query("BEGIN"));
    pair.receive(&server::ready(b'T'));
    pair.poll();
    assert_eq!((pair.got(), pair.heard()), ("Q".into(), "Z".into()));
    pair.release();
    assert_eq!(pair.got(), "", "the client's own ROLLBACK may be queued");
    pair.poll();
    pair.drive();
    assert_eq!(pair.wire, crate::wire::message::ROLLBACK);
    assert!(!pair.machine.is_clean());
    pair.got();
    pair.receive(&[server::command_complete("ROLLBACK"), server::ready(b'I')].concat());
    assert_eq!(pair.heard(), "");
    pair.assert_rests();
}

#[test]
fn rule_4_the_clients_own_rollback_will_do() {
    let mut pair = Pair::open();
    pair.send(&client::query("BEGIN"));
    pair.receive(&server::ready(b'T'));
    pair.got();
    pair.buffer.extend_from_slice(&client::query("ROLLBACK"));
    pair.release();
    pair.poll();
    assert_eq!((pair.got(), pair.heard()), ("Q".into(), "Z".into()));
    assert!(!pair.machine.is_clean(), "the transaction is open");
    pair.receive(&[server::command_complete("ROLLBACK"), server::ready(b'I')].concat());
    assert_eq!(pair.heard(), "CZ");
    pair.assert_rests();
}

#[test]
fn rule_4_clean_up_that_fails_gets_the_session_retired() {
    let mut pair = Pair::open();
    pair.send(&client::query("BEGIN"));
    pair.receive(&server::ready(b'T'));
    pair.release();
    pair.poll();
    pair.got();
    pair.receive(&cancelled(b'E'));
    pair.assert_retired(&Retired::CleanUp);
}

#[test]
fn rule_4_what_went_up_has_to_be_taken_up() {
    let (mut pair, lease) = Pair::running();
    pair.end(lease);
    let attempt = pair.cancel();
    pair.receive(&cancelled(b'I'));
    pair.over(attempt, Outcome::Eof);
    pair.release();
    // The connection was polled, but a slow reader keeps it from reading.
    let mark = pair.machine.mark();
    pair.machine.handle_polled(mark, pair.now);
    assert!(!pair.machine.is_clean());
    assert_eq!(pair.heard(), "EZ");
    pair.assert_rests();
}

#[test]
fn rule_4_what_was_dropped_nobody_has_to_take_up() {
    let (mut pair, lease) = Pair::running();
    pair.end(lease);
    pair.release();
    pair.poll();
    assert_eq!(pair.heard(), "EZ");
    let attempt = pair.cancel();
    pair.receive(&cancelled(b'I'));
    pair.over(attempt, Outcome::Eof);
    pair.assert_rests();
}

#[test]
fn rule_4_a_copy_that_its_client_has_not_ended_is_not_clean() {
    let (mut pair, lease) = Pair::running();
    pair.receive(&[server::bind_complete(), server::copy_in_response()].concat());
    pair.end(lease);
    assert_eq!(pair.got(), "fS");
    let attempt = pair.cancel();
    pair.receive(&cancelled(b'I'));
    pair.over(attempt, Outcome::Eof);
    assert_eq!(pair.got(), "Q");
    pair.receive(&[server::empty_query_response(), server::ready(b'I')].concat());
    pair.heard();
    pair.release();
    pair.poll();
    assert!(!pair.machine.is_clean(), "the sink is still held");
    pair.send(&[client::copy_data(b"late"), client::copy_done()].concat());
    assert_eq!(pair.got(), "", "nobody waits for it");
    pair.assert_rests();
}

#[test]
fn rule_5_the_cancel_is_sent_again_with_back_off() {
    let (mut pair, lease) = Pair::running();
    pair.end(lease);
    let mut attempt = pair.cancel();
    let resend = Settings::default().resend;
    for pause in resend.into_iter().chain([resend[3]]) {
        pair.over(attempt, Outcome::Eof);
        pair.pass(pause - MS);
        assert_eq!(pair.output(), None, "sooner than {pause:?}");
        pair.pass(MS);
        attempt = pair.cancel();
    }
    pair.receive(&cancelled(b'I'));
    pair.over(attempt, Outcome::Eof);
    pair.heard();
    pair.assert_clean();
}

#[test]
fn rule_5_it_is_not_sent_again_once_the_work_is_over() {
    let (mut pair, lease) = Pair::running();
    pair.end(lease);
    let attempt = pair.cancel();
    pair.over(attempt, Outcome::Eof);
    pair.receive(&cancelled(b'I'));
    assert_eq!(pair.output(), Some(Output::Drained));
    pair.pass(Settings::default().grace);
    assert_eq!(pair.output(), None);
    pair.heard();
    pair.assert_clean();
}

#[test]
fn rule_5_a_resend_that_is_not_aimed_does_not_spin() {
    // Failed, but its last Sync is still the client's to send.
    let (mut pair, lease) = Pair::running();
    pair.receive(&[server::bind_complete(), server::copy_in_response()].concat());
    pair.receive(&server::error("ERROR", "in a trigger"));
    pair.end(lease);
    assert_eq!(pair.output(), None);
    // One whose resend falls due while there is nothing to aim at.
    let (mut pair, lease) = Pair::running();
    pair.end(lease);
    let attempt = pair.cancel();
    pair.over(attempt, Outcome::Eof);
    pair.receive(&server::error("ERROR", "cancelled"));
    pair.pass(Duration::from_secs(1));
    pair.receive(&server::ready(b'I'));
    pair.heard();
    pair.assert_clean();
}
