//! The rules of [`sayings`](super::super::sayings): a relay's client, which says
//! itself when a check-out ends.

use super::super::sayings::HUSH;
use super::super::*;
use super::pair::{MS, Pair, cancelled};
use crate::wire::saying::Saying;
use crate::wire::testing::{client, server};

fn check_out() -> Vec<u8> {
    client::query("pgdeadline check out 0000000000000005")
}

fn operation() -> Vec<u8> {
    client::query("pgdeadline operation 0000000000000006")
}

fn listening() -> Pair {
    Pair::listening(Settings::default())
}

/// Checked out, as by `run` or not, with a statement in flight.
fn running(runs: bool) -> (Pair, LeaseId) {
    let mut pair = listening();
    pair.send(&check_out());
    assert_eq!(pair.answer(), Some(Saying::CheckOut(5)));
    let lease = pair.machine.check_out_lease();
    if runs {
        pair.machine.set_runs(lease);
    }
    pair.send(&client::query("slow"));
    assert_eq!((pair.got(), pair.heard()), ("Q".into(), "Z".into()));
    (pair, lease)
}

/// The connection comes back, and is taken at once.
#[track_caller]
fn comes_back(pair: &mut Pair) {
    pair.send(&client::sync());
    pair.poll();
    assert_eq!(pair.answer(), Some(Saying::Return), "{:?}", pair.machine);
    assert_eq!((pair.got(), pair.heard()), (String::new(), "Z".into()));
    assert!(pair.machine.is_clean() && pair.machine.may_leave());
}

#[test]
fn rule_1_the_check_out_ends_where_the_client_says_so() {
    let (mut pair, lease) = running(false);
    pair.send(&client::sync()[..4]);
    assert!(!pair.machine.leases.released);
    pair.send(&client::sync()[4..]);
    assert!(pair.machine.leases.released && pair.machine.is_polled());
    pair.end(lease);
    pair.drain(b'I');
    pair.poll();
    assert_eq!(pair.answer(), Some(Saying::Return));
    // What comes then is nobody's, and not that check-out's.
    pair.send(&client::query("next"));
    assert_eq!(pair.got(), "Q");
    pair.receive(&server::ready(b'I'));
    assert_eq!(pair.heard(), "ZZZ");
    comes_back(&mut pair);
}

#[test]
fn rule_2_of_what_it_has_left_only_ready_for_query_goes_up() {
    let (mut pair, _) = running(false);
    pair.receive(&server::data_row("1"));
    assert_eq!(pair.heard(), "D");
    pair.send(&client::sync());
    pair.receive(&[server::data_row("2"), server::command_complete("2")].concat());
    assert_eq!(pair.heard(), "");
    assert_eq!(pair.output(), None, "it runs on");
    pair.receive(&server::ready(b'I'));
    pair.poll();
    assert_eq!(pair.answer(), Some(Saying::Return));
    assert_eq!(pair.heard(), "ZZ");
}

#[test]
fn rule_3_what_ends_a_check_out_is_answered_once_the_session_is_clean() {
    for said in [client::sync(), check_out()] {
        let (mut pair, _) = running(false);
        pair.send(&said);
        assert_eq!(pair.heard(), "Z", "of what was left");
        let attempt = pair.cancel();
        assert_eq!(pair.answer(), None, "in flight");
        pair.receive(&cancelled(b'T'));
        pair.poll();
        assert_eq!(pair.answer(), None, "a signal is on its way");
        pair.over(attempt, Outcome::Eof);
        assert_eq!(pair.answer(), None, "a transaction is open");
        assert_eq!(pair.got(), "Q");
        pair.receive(&[server::command_complete("ROLLBACK"), server::ready(b'I')].concat());
        pair.poll();
        assert!(pair.answer().is_some());
        assert_eq!(pair.heard(), "Z");
        assert!(
            pair.machine
                .poll_timeout()
                .is_none_or(|at| at > pair.now + HUSH / 4)
        );
    }
}

#[test]
fn rule_3_not_before_all_that_went_up_was_taken() {
    let (mut pair, _) = running(false);
    pair.receive(&server::ready(b'I'));
    pair.send(&client::sync());
    assert_eq!(pair.answer(), None);
    assert_eq!(pair.heard(), "Z");
    assert_eq!(pair.answer(), Some(Saying::Return));
}

#[test]
fn rule_3_an_operation_begins_at_once() {
    let mut pair = listening();
    pair.send(&check_out());
    pair.answer();
    let outer = pair.machine.base();
    pair.send(&operation());
    assert_eq!(pair.answer(), Some(Saying::Operation(6)));
    let first = pair.machine.base();
    assert_ne!(first, outer);
    pair.send(&client::query("slow"));
    pair.end(first);
    pair.leave(first);
    assert_eq!(pair.machine.base(), outer);
    // The next one, although that work is in flight.
    pair.send(&operation());
    assert_eq!(pair.answer(), Some(Saying::Operation(6)));
    pair.send(&client::query("next"));
    assert_eq!(pair.got(), "Q", "it waits");
    pair.drain(b'I');
    pair.write(&mut None, usize::MAX);
    assert_eq!(pair.got(), "Q");
}

#[test]
fn rule_3_a_session_that_is_retired_answers_nothing_more() {
    let (mut pair, _) = running(false);
    pair.send(&client::sync());
    pair.heard();
    pair.pass(Settings::default().grace);
    pair.assert_retired(&Retired::Grace);
    pair.receive(&cancelled(b'I'));
    pair.poll();
    assert_eq!(pair.answer(), None);
}

#[test]
fn rule_3_the_next_holder_is_told_what_is() {
    let (mut pair, lease) = running(false);
    pair.receive(&server::ready(b'T'));
    pair.send(&client::prepare("COMMIT"));
    assert_eq!(pair.got(), "PDS");
    pair.end(lease);
    let attempt = pair.cancel();
    pair.receive(&[server::command_complete("COMMIT"), server::ready(b'I')].concat());
    pair.over(attempt, Outcome::Eof);
    assert_eq!(pair.heard(), "ZEZ");
    assert_eq!(pair.machine.ledger.client_status().byte(), b'E');
    pair.send(&client::sync());
    assert_eq!(pair.answer(), Some(Saying::Return));
    assert_eq!(pair.up.last(), Some(&b'I'));
    pair.heard();
    pair.send(&client::query("next"));
    assert_eq!(pair.got(), "Q", "and nothing before it");
}

#[test]
fn rule_4_a_caller_of_run_is_told_after_all_if_it_stays_away() {
    let (mut pair, lease) = running(true);
    pair.end(lease);
    let attempt = pair.cancel();
    pair.receive(&cancelled(b'I'));
    pair.over(attempt, Outcome::Eof);
    pair.pass(HUSH - MS);
    assert_eq!(pair.heard(), "", "it may be on its way");
    pair.pass(MS);
    assert_eq!(pair.heard(), "EZ");
    comes_back(&mut pair);

    // Whom nobody brings back is told at once.
    let (mut pair, lease) = running(false);
    pair.end(lease);
    assert_eq!(pair.heard(), "EZ");
}

#[test]
fn rule_4_a_caller_of_run_that_is_back_hears_ready_for_query_alone() {
    let (mut pair, lease) = running(true);
    pair.end(lease);
    pair.send(&client::sync());
    assert_eq!(pair.heard(), "Z");
    pair.drain(b'I');
    pair.poll();
    assert_eq!(pair.answer(), Some(Saying::Return));
}

#[test]
fn rule_4_what_it_asked_for_behind_waits_as_well() {
    let (mut pair, lease) = running(true);
    pair.end(lease);
    pair.send(&client::query("never"));
    assert_eq!((pair.got(), pair.heard()), (String::new(), String::new()));
    pair.pass(HUSH);
    assert_eq!(pair.heard(), "EZEZ");
}

#[test]
fn rule_4_an_operations_caller_is_waited_for_however_long() {
    let mut pair = listening();
    pair.send(&check_out());
    pair.answer();
    pair.send(&operation());
    pair.answer();
    let operation = pair.machine.base();
    pair.machine.set_runs(operation);
    pair.send(&client::query("slow"));
    pair.heard();
    pair.end(operation);
    pair.pass(HUSH * 2);
    assert_eq!(pair.heard(), "");
    pair.leave(operation);
    assert_eq!(pair.heard(), "Z");
    assert_eq!(pair.machine.retired, None);
}

#[test]
fn rule_4_so_is_who_let_go_of_what_runs_on() {
    let (mut pair, lease) = running(true);
    pair.receive(&server::data_row("1"));
    assert_eq!(pair.heard(), "D");
    pair.finish(lease);
    pair.pass(Settings::default().finish_bound);
    assert_eq!(pair.heard(), "", "the connection may be on its way back");
    pair.send(&client::sync());
    assert_eq!(pair.heard(), "Z");
}

#[test]
fn a_client_that_may_miscount_is_closed_and_told_nothing() {
    for by_operation in [false, true] {
        let mut pair = listening();
        let said = if by_operation {
            operation()
        } else {
            check_out()
        };
        pair.send(&said);
        pair.answer();
        pair.heard();
        let lease = pair.machine.base();
        pair.machine.set_runs(lease);
        pair.send(&client::query("COPY t TO STDOUT"));
        pair.end(lease);
        if by_operation {
            pair.leave(lease);
        } else {
            pair.send(&client::sync());
        }
        pair.assert_retired(&Retired::OutOfStep);
        assert_eq!((pair.heard().as_str(), pair.answer()), ("", None));
    }
}

#[test]
fn a_client_that_leaves_takes_its_work_with_it() {
    let (mut pair, _) = running(false);
    pair.machine.handle_left(pair.now);
    pair.settle();
    assert!(!pair.machine.may_leave());
    pair.drain(b'T');
    pair.poll();
    assert!(!pair.machine.may_leave(), "a transaction is open");
    assert_eq!(pair.got(), "Q");
    pair.receive(&server::ready(b'I'));
    assert!(pair.machine.may_leave());
    assert_eq!(
        pair.machine.poll_timeout().filter(|at| *at <= pair.now),
        None
    );
}

#[test]
fn a_client_that_leaves_has_nothing_done_behind_what_it_said() {
    for behind in [client::query("UPDATE t"), check_out(), client::sync()] {
        let (mut pair, _) = running(false);
        let said = [check_out(), behind, client::query("UPDATE u")].concat();
        pair.send(&said);
        assert_eq!(pair.answer(), None);
        pair.machine.handle_left(pair.now);
        pair.settle();
        while !pair.buffer.is_empty() {
            assert!(pair.write(&mut None, usize::MAX) || !pair.buffer.is_empty());
        }
        assert_eq!(pair.got(), "", "nothing more than was in flight");
        pair.drain(b'I');
        pair.poll();
        assert!(pair.machine.may_leave(), "{:?}", pair.machine);
    }
}

#[test]
fn a_copy_that_a_client_has_left_is_ended() {
    let mut pair = listening();
    pair.send(&client::query("COPY t FROM STDIN"));
    pair.receive(&server::copy_in_response());
    assert_eq!(pair.got(), "Q");
    pair.machine.handle_left(pair.now);
    pair.settle();
    assert_eq!(pair.got(), "f");
    pair.receive(&cancelled(b'I'));
    let attempt = pair.dialed();
    assert!(!pair.connected(attempt), "it has stopped");
    pair.over(attempt, Outcome::NotWritten);
    pair.poll();
    assert!(pair.machine.may_leave(), "{:?}", pair.machine);
}

#[test]
fn a_copy_that_begins_when_its_client_has_left_it_is_ended_and_over() {
    for leaves in [false, true] {
        let mut pair = listening();
        pair.send(&client::execute("copy"));
        assert_eq!(pair.got(), "BES");
        if leaves {
            pair.machine.handle_left(pair.now);
            pair.settle();
        } else {
            pair.send(&client::sync());
        }
        let attempt = pair.cancel();
        pair.receive(&[server::bind_complete(), server::copy_in_response()].concat());
        assert_eq!(pair.got(), "fS");
        pair.receive(&cancelled(b'I'));
        pair.over(attempt, Outcome::Eof);
        // Whether it had read the first Sync before that, a fence tells.
        assert_eq!(pair.got(), "Q");
        pair.receive(&[server::empty_query_response(), server::ready(b'I')].concat());
        pair.poll();
        assert!(pair.machine.may_leave(), "{:?}", pair.machine);
        assert_eq!(pair.answer().is_some(), !leaves);
    }
}

#[test]
fn what_stands_behind_a_client_that_has_left_is_bounded() {
    let mut pair = listening();
    let close = [client::close(), client::sync()].concat();
    pair.send(&[check_out(), close, check_out(), client::sync()].concat());
    pair.machine.handle_left(pair.now);
    pair.write(&mut None, usize::MAX);
    while !pair.buffer.is_empty() {
        pair.write(&mut None, usize::MAX);
    }
    assert_eq!(pair.got(), "CS");
    pair.pass(Settings::default().grace);
    pair.assert_retired(&Retired::Grace);
}
