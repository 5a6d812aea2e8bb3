//! Nothing queued is missed.

use super::super::*;
use super::pair::{Pair, cancelled};
use crate::wire::message;
use crate::wire::testing::{client, server};

#[test]
fn rule_6_what_is_queued_when_its_lease_ends_is_answered_and_never_written() {
    let mut pair = Pair::open();
    let lease = pair.machine.check_out_lease();
    pair.end(lease);
    pair.send(&[client::query("UPDATE"), client::execute("s1")].concat());
    assert_eq!((pair.got(), pair.heard()), ("".into(), "EZEZ".into()));
    pair.assert_clean();
}

#[test]
fn rule_6_it_is_answered_in_the_clients_order() {
    let mut pair = Pair::open();
    let lease = pair.machine.check_out_lease();
    pair.send(&client::query("ROLLBACK"));
    pair.buffer.extend_from_slice(&client::query("queued"));
    pair.end(lease);
    pair.write(&mut None, usize::MAX);
    assert_eq!(pair.heard(), "", "the clean-up before it is not answered");
    pair.receive(&server::ready(b'I'));
    assert_eq!((pair.got(), pair.heard()), ("Q".into(), "ZEZ".into()));
    pair.assert_clean();
}

#[test]
fn rule_6_an_ended_check_out_stays_ended_until_the_next() {
    let (mut pair, lease) = Pair::in_transaction();
    pair.end(lease);
    pair.poll();
    // Its holder goes on: nothing is written but the clean-up.
    pair.send(&client::query("UPDATE"));
    assert_eq!((pair.got(), pair.heard()), ("".into(), "EZ".into()));
    pair.send(&client::query("ROLLBACK"));
    assert_eq!(pair.got(), "Q");
    pair.receive(&server::ready(b'I'));
    pair.send(&client::query("UPDATE"));
    assert_eq!((pair.got(), pair.heard()), ("".into(), "ZEZ".into()));
    pair.assert_clean();
    pair.check_out();
    pair.send(&client::query("SELECT 1"));
    assert_eq!(pair.got(), "Q");
}

#[test]
fn rule_6_not_clean_before_the_connection_was_polled_after_the_release() {
    let mut pair = Pair::open();
    let lease = pair.machine.check_out_lease();
    pair.end(lease);
    pair.poll();
    // Queued in the client, seen by nobody.
    pair.buffer.extend_from_slice(&client::query("UPDATE"));
    pair.release();
    assert!(!pair.machine.is_clean());
    pair.poll();
    assert_eq!((pair.got(), pair.heard()), ("".into(), "EZ".into()));
    pair.assert_rests();
}

#[test]
fn rule_6_nor_where_nothing_has_ended() {
    let mut pair = Pair::open();
    // A future dropped before the connection took its request.
    pair.buffer.extend_from_slice(&client::query("UPDATE"));
    pair.release();
    assert!(!pair.machine.is_clean());
    pair.poll();
    assert_eq!((pair.got(), pair.heard()), ("".into(), "EZ".into()));
    pair.poll();
    pair.assert_rests();
}

#[test]
fn rule_6_a_poll_that_began_before_the_release_does_not_count() {
    let mut pair = Pair::open();
    let mark = pair.machine.mark();
    pair.release();
    pair.machine.handle_polled(mark, pair.now);
    assert!(!pair.machine.is_clean());
    pair.poll();
    pair.assert_rests();
}

#[test]
fn rule_6_what_an_ended_operation_queued_is_refused_although_it_has_left() {
    let mut pair = Pair::open();
    let operation = pair.begin();
    pair.end(operation);
    pair.leave(operation);
    assert!(!pair.machine.is_polled(), "the next operation has to wait");
    // Its wake tells whose the first is; the next is the holder's, who must
    // not be told of an end that is not his.
    pair.send_as(Some(operation), &client::query("of the operation"));
    assert_eq!((pair.got(), pair.heard()), ("".into(), "EZ".into()));
    assert_eq!(pair.machine.base(), pair.machine.check_out_lease());
    pair.send(&client::query("of the check-out"));
    assert_eq!(pair.got(), "Q");
    pair.receive(&server::ready(b'I'));
    assert_eq!(pair.heard(), "Z");
    pair.poll();
    pair.assert_clean();
}

#[test]
fn rule_6_what_follows_an_operation_that_finished_is_the_check_outs() {
    let mut pair = Pair::open();
    let check_out = pair.machine.check_out_lease();
    let operation = pair.begin();
    pair.finish(operation);
    pair.leave(operation);
    pair.send(&client::query("of the check-out"));
    assert_eq!(pair.got(), "Q");
    pair.end(check_out);
    assert_eq!(pair.heard(), "EZ");
    pair.drain(b'I');
    pair.assert_clean();
}

#[test]
fn rule_6_what_was_told_as_ended_fails_its_transaction_whatever_the_server_made_of_it() {
    let (mut pair, _) = Pair::in_transaction();
    let operation = pair.begin();
    pair.send(&client::query("UPDATE one"));
    pair.end(operation);
    pair.leave(operation);
    // The server had done it before the signal came.
    let attempt = pair.cancel();
    pair.receive(&[server::command_complete("UPDATE 1"), server::ready(b'T')].concat());
    pair.over(attempt, Outcome::Eof);
    pair.poll();
    assert_eq!((pair.got(), pair.heard()), ("Q".into(), "EZ".into()));
    assert_eq!(pair.got(), "", "the transaction is left to its owner");
    // The owner goes on in its transaction: that has to fail first.
    pair.send(&client::query("UPDATE two"));
    pair.drive();
    assert!(pair.wire.starts_with(b"Q\0\0\0\x37ROLLBACK TO"));
    assert_eq!(pair.got(), "Q");
    pair.receive(&cancelled(b'E'));
    pair.write(&mut None, usize::MAX);
    assert_eq!(pair.got(), "Q", "and only then it is asked for");
    pair.receive(&cancelled(b'E'));
    assert_eq!(pair.heard(), "EZ", "the server's own 25P02");
    pair.send(&client::query("COMMIT"));
    assert_eq!(pair.got(), "Q", "which the server makes a ROLLBACK");
    pair.receive(&[server::command_complete("ROLLBACK"), server::ready(b'I')].concat());
    assert_eq!(pair.heard(), "CZ");
    pair.assert_clean();
}

#[test]
fn rule_6_the_next_check_out_is_not_told_of_it() {
    let (mut pair, lease) = Pair::in_transaction();
    pair.send(&client::query("UPDATE one"));
    pair.end(lease);
    pair.drain(b'E');
    pair.release();
    pair.poll();
    assert_eq!((pair.got(), pair.heard()), ("QQ".into(), "EZ".into()));
    pair.receive(&server::ready(b'I'));
    pair.check_out();
    pair.send(&client::query("UPDATE two"));
    assert_eq!(pair.wire, client::query("UPDATE two"));
}

#[test]
fn rule_6_the_owners_rollback_goes_out_without_that() {
    for text in ["ROLLBACK", "ROLLBACK TO sp"] {
        let (mut pair, _) = Pair::in_transaction();
        let operation = pair.begin();
        pair.send(&client::query("UPDATE one"));
        pair.end(operation);
        pair.leave(operation);
        pair.drain(b'T');
        pair.poll();
        assert_eq!((pair.got(), pair.heard()), ("Q".into(), "EZ".into()));
        pair.send(&client::query(text));
        assert_eq!(pair.wire, client::query(text));
        pair.got();
        let status = if text == "ROLLBACK" { b'I' } else { b'T' };
        pair.receive(&server::ready(status));
        pair.send(&client::query("UPDATE two"));
        assert_eq!(pair.wire, client::query("UPDATE two"));
    }
}

#[test]
fn rule_6_a_transaction_that_is_over_on_the_server_is_not_over_for_its_owner() {
    let (mut pair, _) = Pair::in_transaction();
    let operation = pair.begin();
    pair.send(&client::query("UPDATE; COMMIT"));
    pair.end(operation);
    pair.leave(operation);
    pair.drain(b'I');
    pair.poll();
    assert_eq!((pair.got(), pair.heard()), ("Q".into(), "EZ".into()));
    pair.send(&client::query("UPDATE two"));
    pair.drive();
    assert!(pair.wire.starts_with(b"Q\0\0\0\x3eBEGIN; ROLLBACK TO"));
    pair.got();
    pair.receive(&cancelled(b'E'));
    pair.write(&mut None, usize::MAX);
    assert_eq!(pair.got(), "Q");
    pair.receive(&cancelled(b'E'));
    pair.send(&client::query("ROLLBACK"));
    pair.receive(&server::ready(b'I'));
    pair.got();
    pair.heard();
    pair.assert_clean();
}

#[test]
fn rule_6_what_was_told_as_idle_is_made_idle() {
    // A COMMIT that was never written has ended its transaction for the client.
    let (mut pair, _) = Pair::in_transaction();
    let operation = pair.begin();
    pair.end(operation);
    pair.send(&client::query("COMMIT"));
    pair.leave(operation);
    assert!(pair.up.ends_with(&server::ready(b'I')));
    pair.drive();
    assert_eq!(pair.wire, message::ROLLBACK);
    pair.got();
    pair.send(&client::query("next"));
    assert_eq!(pair.got(), "", "behind the session's own");
    pair.receive(&server::ready(b'I'));
    pair.write(&mut None, usize::MAX);
    assert_eq!(pair.got(), "Q", "and after it");
    pair.receive(&server::ready(b'I'));
    pair.poll();
    pair.heard();
    pair.assert_clean();
}
