//! No collateral, nothing left behind, no storm, never a success, asked for.

use std::time::Duration;

use super::super::*;
use super::pair::{MS, Pair, cancelled};
use crate::wire::testing::{client, message, server};

#[test]
fn rule_7_an_operation_takes_the_place_of_the_check_out() {
    let mut pair = Pair::open();
    let outer = pair.machine.check_out_lease();
    let operation = pair.begin();
    pair.send(&client::query("slow"));
    pair.end(operation);
    assert_eq!(pair.heard(), "EZ");
    pair.drain(b'I');
    pair.leave(operation);
    pair.poll();
    assert_eq!(pair.machine.base(), outer);
    assert_eq!(pair.got(), "Q");
    pair.assert_clean();
}

#[test]
fn rule_7_no_cancel_and_no_answer_while_somebody_elses_work_is_in_flight() {
    let mut pair = Pair::open();
    let (one, two) = (pair.beside(), pair.beside());
    pair.send_as(Some(one), &client::query("one"));
    pair.send_as(Some(two), &client::query("two"));
    pair.end(one);
    assert_eq!((pair.output(), pair.heard()), (None, "".into()));
    assert_eq!(
        pair.machine.poll_timeout(),
        Some(pair.now + Settings::default().sweep)
    );
    // Queued requests are written as ever.
    pair.send_as(Some(two), &client::query("three"));
    assert_eq!(pair.got(), "QQQ");
    // The real answer of ended work, for who still waits for it.
    pair.receive(&server::ready(b'I'));
    assert_eq!((pair.output(), pair.heard()), (None, "Z".into()));
    pair.receive(&[server::ready(b'I'), server::ready(b'I')].concat());
    assert_eq!(pair.heard(), "ZZ");
    pair.finish(two);
    pair.assert_clean();
}

#[test]
fn rule_7_once_the_neighbour_is_done_the_cancel_goes_out_with_its_own_grace() {
    let mut pair = Pair::open();
    let (one, two) = (pair.beside(), pair.beside());
    pair.send_as(Some(two), &client::query("two"));
    pair.send_as(Some(one), &client::query("one"));
    pair.end(one);
    pair.pass(Duration::from_secs(10));
    assert_eq!(pair.output(), None, "the grace has not begun");
    pair.receive(&server::ready(b'I'));
    assert_eq!(pair.heard(), "ZEZ");
    pair.drain(b'I');
    assert_eq!(pair.got(), "QQ");
    pair.finish(two);
    pair.assert_clean();
}

#[test]
fn rule_7_requests_behind_the_first_of_a_poll_are_the_check_outs() {
    let mut pair = Pair::open();
    let one = pair.beside();
    pair.send_as(
        Some(one),
        &[client::query("one"), client::query("whose?")].concat(),
    );
    pair.end(one);
    assert_eq!((pair.output(), pair.heard()), (None, "".into()));
    pair.receive(&[server::ready(b'I'), server::ready(b'I')].concat());
    assert_eq!((pair.got(), pair.heard()), ("QQ".into(), "ZZ".into()));
    pair.assert_clean();
}

#[test]
fn rule_7_what_was_told_later_is_attributed_unless_it_has_ended_otherwise() {
    let mut pair = Pair::open();
    let one = pair.beside();
    let number = pair.machine.next_request();
    pair.send(&client::query("whose?"));
    pair.machine.handle_attributed(number, one, pair.now);
    pair.end(one);
    assert_eq!(pair.heard(), "EZ");
    pair.drain(b'I');
    // Cancelled on demand, it does not come back to life.
    let two = pair.beside();
    let number = pair.machine.next_request();
    pair.send(&client::query("whose?"));
    assert!(pair.machine.handle_cancel(pair.now));
    pair.machine.handle_attributed(number, two, pair.now);
    pair.settle();
    assert_eq!(pair.heard(), "EZ");
    pair.drain(b'I');
    assert_eq!(pair.got(), "QQ");
    pair.assert_clean();
}

#[test]
fn rule_8_what_would_be_left_behind_is_known() {
    let mut pair = Pair::open();
    assert!(!pair.machine.leaves_work());
    pair.send(&client::query("work"));
    assert!(pair.machine.leaves_work());
    let lease = pair.machine.check_out_lease();
    pair.finish(lease);
    assert!(!pair.machine.leaves_work(), "it may run on");
    pair.receive(&server::ready(b'I'));
    pair.send(&client::query("ROLLBACK"));
    assert!(!pair.machine.leaves_work(), "clean-up is never cancelled");
    pair.receive(&server::ready(b'I'));
    assert_eq!((pair.got(), pair.heard()), ("QQ".into(), "ZZ".into()));
    pair.assert_clean();
}

#[test]
fn rule_8_without_its_client_a_session_ends_what_is_in_flight() {
    let mut pair = Pair::open();
    pair.send(&client::query("slow"));
    pair.machine.handle_client_gone(pair.now);
    pair.send(&client::terminate());
    assert_eq!(pair.got(), "Q", "first comes the drain");
    pair.drain(b'I');
    pair.write(&mut None, usize::MAX);
    assert_eq!((pair.got(), pair.heard()), ("X".into(), "EZ".into()));
    pair.poll();
    pair.assert_rests();
}

#[test]
fn rule_10_attempts_for_one_session_never_overlap() {
    let mut pair = Pair::open();
    let lease = pair.machine.check_out_lease();
    pair.send(&client::query("slow"));
    pair.end(lease);
    let attempt = pair.cancel();
    pair.pass(Settings::default().grace - MS);
    assert_eq!(pair.output(), None, "the one is not over");
    assert!(!pair.connected(attempt), "it is not written twice");
    pair.over(attempt, Outcome::Eof);
    assert_eq!(pair.output(), None, "the back-off begins with its end");
}

#[test]
fn rule_10_a_late_report_of_an_attempt_that_was_given_up_means_nothing() {
    let mut pair = Pair::open();
    let operation = pair.begin();
    pair.send(&client::query("one"));
    pair.end(operation);
    let first = pair.dialed();
    pair.receive(&cancelled(b'I'));
    assert_eq!(pair.output(), Some(Output::Drained));
    pair.leave(operation);
    pair.poll();
    let operation = pair.begin();
    pair.send(&client::query("two"));
    pair.end(operation);
    let second = pair.cancel();
    assert!(!pair.connected(first));
    pair.over(first, Outcome::BrokenOff);
    pair.receive(&cancelled(b'I'));
    pair.leave(operation);
    assert_eq!(pair.output(), None, "the second is not over");
    pair.over(second, Outcome::Eof);
    assert_eq!(pair.output(), Some(Output::Drained));
    pair.poll();
    assert_eq!((pair.got(), pair.heard()), ("QQ".into(), "EZEZ".into()));
    pair.assert_clean();
}

#[test]
fn rule_13_never_a_success_for_work_that_was_told_as_ended() {
    let mut pair = Pair::open();
    let lease = pair.machine.check_out_lease();
    pair.send(&client::execute("s1"));
    pair.receive(&[server::bind_complete(), server::data_row("1")].concat());
    pair.end(lease);
    let attempt = pair.cancel();
    for said in [
        server::data_row("2"),
        server::command_complete("SELECT 2"),
        message(b's', b""),
        server::copy_done(),
        server::ready(b'I'),
    ] {
        pair.receive(&said);
    }
    pair.over(attempt, Outcome::Eof);
    assert_eq!((pair.got(), pair.heard()), ("BES".into(), "2DEZ".into()));
    pair.assert_clean();
}

#[test]
fn rule_13_asynchronous_messages_and_fatal_errors_are_passed_up_in_order() {
    let mut pair = Pair::open();
    let lease = pair.machine.check_out_lease();
    pair.send(&client::query("slow"));
    pair.end(lease);
    assert_eq!(pair.heard(), "EZ");
    for said in [
        server::notification(),
        server::data_row("1"),
        server::notice("careful"),
        server::parameter_status("a", "b"),
        server::error("ERROR", "cancelled"),
        server::error("FATAL", "shutting down"),
    ] {
        pair.receive(&said);
    }
    assert_eq!(pair.heard(), "ANSE");
    assert!(pair.up.is_empty());
}

#[test]
fn rule_13_the_session_reads_on_by_itself() {
    let mut pair = Pair::open();
    let lease = pair.machine.check_out_lease();
    pair.send(&client::query("slow"));
    assert!(!pair.machine.drains());
    pair.end(lease);
    assert!(pair.machine.drains() && pair.machine.wants_filter());
    pair.drain(b'I');
    assert!(!pair.machine.drains() && !pair.machine.wants_filter());
}

#[test]
fn rule_14_what_is_in_flight_when_a_context_finishes_runs_on_until_its_deadline() {
    let mut pair = Pair::started(Settings::default());
    let deadline = pair.now + Duration::from_secs(5);
    let lease = pair
        .machine
        .handle_check_out(Some(deadline), true, pair.now);
    pair.send(&client::query("INSERT … RETURNING"));
    pair.receive(&server::data_row("1"));
    pair.finish(lease);
    pair.end(lease);
    pair.release();
    pair.poll();
    assert_eq!((pair.output(), pair.heard()), (None, "D".into()));
    assert!(!pair.machine.is_clean(), "the next would wait behind it");
    pair.pass(Duration::from_secs(5) - MS);
    assert_eq!(pair.output(), None);
    pair.pass(MS);
    assert_eq!(pair.heard(), "EZ");
    pair.drain(b'I');
    pair.poll();
    assert_eq!(pair.got(), "Q");
    pair.assert_rests();
}

#[test]
fn rule_14_where_there_was_no_deadline_finish_bound_is_one() {
    for seen in [false, true] {
        let mut pair = Pair::open();
        let (lease, who) = match seen {
            true => (pair.beside(), true),
            false => (pair.machine.check_out_lease(), false),
        };
        pair.send_as(who.then_some(lease), &client::query("INSERT"));
        pair.finish(lease);
        pair.pass(Settings::default().finish_bound - MS);
        assert_eq!(pair.output(), None);
        pair.pass(MS);
        pair.drain(b'I');
        assert_eq!((pair.got(), pair.heard()), ("Q".into(), "EZ".into()));
        pair.assert_clean();
    }
}

#[test]
fn rule_14_abandoned_work_without_a_row_is_cancelled_when_found_released() {
    let mut pair = Pair::open();
    pair.send(&client::execute("slow"));
    pair.receive(&server::bind_complete());
    pair.pass(Duration::from_secs(1));
    assert_eq!(pair.output(), None, "nobody has said that it is abandoned");
    pair.release();
    pair.drain(b'I');
    pair.poll();
    assert_eq!((pair.got(), pair.heard()), ("BES".into(), "2EZ".into()));
    pair.assert_rests();
}

#[test]
fn rule_14_abandoned_work_that_has_sent_rows_runs_on() {
    let mut pair = Pair::open();
    pair.send(&[client::execute("with rows"), client::execute("without")].concat());
    pair.receive(&server::data_row("1"));
    pair.release();
    pair.poll();
    assert_eq!((pair.output(), pair.heard()), (None, "D".into()));
    pair.receive(&server::ready(b'I'));
    assert_eq!(pair.heard(), "ZEZ", "the one behind it is cancelled");
    pair.drain(b'I');
    pair.poll();
    assert_eq!(pair.got(), "BESBES");
    pair.assert_rests();
}

#[test]
fn rule_14_abandoned_work_that_runs_on_does_so_until_its_bound() {
    let mut pair = Pair::open();
    pair.send(&client::query("row by row"));
    pair.receive(&server::data_row("1"));
    pair.release();
    pair.poll();
    pair.pass(Settings::default().finish_bound - MS);
    assert_eq!((pair.output(), pair.heard()), (None, "D".into()));
    pair.pass(MS);
    assert_eq!(pair.heard(), "EZ");
    pair.drain(b'I');
    pair.poll();
    assert_eq!(pair.got(), "Q");
    pair.assert_rests();
}

#[test]
fn rule_14_a_default_deadline_ends_one_request_and_not_its_check_out() {
    let settings = Settings {
        default_deadline: Some(Duration::from_millis(80)),
        ..Settings::default()
    };
    let mut pair = Pair::started(settings);
    let check_out = pair.machine.handle_check_out(None, false, pair.now);
    pair.send(&client::query("slow"));
    pair.pass(Duration::from_millis(79));
    assert_eq!((pair.output(), pair.heard()), (None, "".into()));
    pair.pass(MS);
    assert_eq!(pair.heard(), "EZ");
    pair.drain(b'I');
    assert!(!pair.machine.leases.ended(check_out));
    pair.send(&client::query("next"));
    pair.receive(&server::ready(b'I'));
    assert_eq!((pair.got(), pair.heard()), ("QQ".into(), "Z".into()));
    pair.assert_clean();
}

#[test]
fn asked_to_cancel_a_session_cancels_what_is_in_flight_and_nothing_later() {
    let mut pair = Pair::open();
    assert!(!pair.machine.handle_cancel(pair.now));
    pair.send(&client::query("slow"));
    assert!(pair.machine.handle_cancel(pair.now));
    pair.send(&client::query("next"));
    assert_eq!((pair.got(), pair.heard()), ("Q".into(), "EZ".into()));
    pair.drain(b'I');
    pair.write(&mut None, usize::MAX);
    pair.receive(&server::ready(b'I'));
    assert_eq!((pair.got(), pair.heard()), ("Q".into(), "Z".into()));
    pair.assert_clean();
}
