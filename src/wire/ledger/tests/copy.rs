//! Rules 4 and 5: what ReadyForQuery messages a COPY FROM STDIN owes.

use super::*;

/// A client of tokio-postgres begins a COPY: Bind, Execute and a Sync.
fn begun() -> Line {
    let mut line = Line::open();
    line.send(&client::execute("copy"));
    line.receive(&server::bind_complete());
    line
}

/// The same in copy mode.
fn open() -> Line {
    let mut line = begun();
    line.receive(&server::copy_in_response());
    line.news();
    assert!(line.ledger.copying());
    line
}

/// Plays the answer to the fence, with so many ReadyForQuery before it.
#[track_caller]
fn fence(line: &mut Line, before: usize) {
    assert!(line.ledger.wants_fence(), "{:?}", line.ledger);
    line.own(Own::Fence);
    for _ in 0..before {
        line.receive(&server::ready(b'I'));
    }
    assert_eq!(line.ledger.requests().count(), 1, "the fence ends the COPY");
    line.receive(&server::empty_query_response());
    assert_eq!(line.ledger.own(), Some(Own::FencePassed));
    assert_eq!(line.ledger.requests().count(), 0);
    line.receive(&server::ready(b'I'));
}

#[test]
fn rule_4_the_sync_read_in_copy_mode_is_void() {
    let mut line = open();
    line.send(&client::copy_data(b"row"));
    line.send(&client::copy_done());
    assert!(!line.ledger.copying());
    line.receive(&server::command_complete("COPY 1"));
    line.receive(&server::ready(b'I'));
    assert_eq!(line.news(), "CZ");
    line.assert_over();
}

#[test]
fn rule_4_a_copy_that_is_given_up_after_its_sync_was_read() {
    let mut line = open();
    line.send(&client::copy_data(b"row"));
    line.send(&client::copy_fail());
    line.receive(&server::error("ERROR", "COPY failed"));
    fence(&mut line, 1);
    assert_eq!(line.news(), "EZ");
    line.assert_over();
}

#[test]
fn rule_4_the_server_fails_it_before_it_has_read_the_sync() {
    let mut line = open();
    line.receive(&server::error("ERROR", "in a trigger"));
    line.receive(&server::ready(b'I'));
    assert_eq!(line.news(), "EZ", "the caller is told at once");
    assert!(
        !line.ledger.wants_fence(),
        "the client's own end is to come"
    );
    line.send(&client::copy_fail());
    fence(&mut line, 1);
    assert_eq!(line.news(), "", "a second one is surplus");
    line.assert_over();
}

#[test]
fn rule_4_the_server_refuses_a_row() {
    let mut line = open();
    line.send(&client::copy_data(b"no number"));
    line.receive(&server::error("ERROR", "invalid input"));
    assert_eq!(line.news(), "E");
    line.sent();
    line.send(&[client::copy_data(b"late"), client::copy_done()].concat());
    assert_eq!(line.sent(), "dcS", "the Sync is what the server waits for");
    fence(&mut line, 1);
    assert_eq!(line.news(), "Z");
    line.assert_over();
}

#[test]
fn rule_4_a_copy_that_fails_at_its_very_end() {
    let mut line = open();
    line.send(&client::copy_done());
    line.receive(&server::error("ERROR", "deferred constraint"));
    fence(&mut line, 1);
    assert_eq!(line.news(), "EZ");
    line.assert_over();
}

#[test]
fn rule_5_it_fails_before_copy_mode_and_the_tail_was_sent() {
    let mut line = begun();
    line.send(&client::copy_fail());
    line.receive(&server::error("ERROR", "no such table"));
    line.receive(&server::ready(b'I'));
    assert!(
        line.ledger.any_in_flight(),
        "the tail's Sync is answered too"
    );
    line.receive(&server::ready(b'I'));
    assert_eq!(line.news(), "2EZ", "one ReadyForQuery a request");
    line.assert_over();
}

#[test]
fn rule_5_it_fails_before_copy_mode_and_the_tail_comes_later() {
    let mut line = begun();
    line.receive(&server::error("ERROR", "no such table"));
    line.receive(&server::ready(b'I'));
    line.assert_over();
    line.sent();
    line.send(&client::copy_fail());
    assert_eq!(line.sent(), "", "nothing would answer it");
    line.assert_over();
}

#[test]
fn rule_5_the_tail_is_between_client_and_server_when_it_fails() {
    let tail = client::copy_fail();
    // How much of the tail is written when the error arrives, and how many
    // ReadyForQuery the server owes then.
    for written in 0..=tail.len() {
        let mut line = begun();
        line.sent();
        line.queue(&tail);
        line.write(written);
        line.receive(&server::error("ERROR", "no such table"));
        line.receive(&server::ready(b'I'));
        line.write(usize::MAX);
        let sync = tail.len() - client::sync().len();
        let sent = line.sent();
        if written > sync {
            assert_eq!(sent, "fS", "{written} bytes");
            assert!(line.ledger.any_in_flight(), "{written} bytes");
            line.receive(&server::ready(b'I'));
        } else {
            let finished = if written > 0 { "f" } else { "" };
            assert_eq!(sent, finished, "{written} bytes");
        }
        assert_eq!(line.news(), "2EZ");
        line.assert_over();
    }
}

#[test]
fn rule_4_it_is_abandoned_before_copy_in_response() {
    let mut line = begun();
    line.send(&client::copy_fail());
    line.receive(&server::copy_in_response());
    assert!(!line.ledger.copying(), "the client has ended it already");
    line.receive(&server::error("ERROR", "COPY failed"));
    fence(&mut line, 1);
    assert_eq!(line.news(), "2GEZ");
    line.assert_over();
}

#[test]
fn rule_4_what_is_no_copy_at_all_answers_both_syncs() {
    // `copy_in` of a SELECT: the client gives up on its first row.
    let mut line = begun();
    line.send(&client::copy_fail());
    line.receive(&server::data_row("1"));
    line.receive(&server::command_complete("SELECT 1"));
    line.receive(&server::ready(b'I'));
    line.receive(&server::ready(b'I'));
    assert_eq!(line.news(), "2DCZ");
    line.assert_over();
}

#[test]
fn rule_4_the_session_ends_it_and_drops_the_clients_own_end() {
    let mut line = open();
    let (number, request, left) = line.ledger.waiting_copy().unwrap();
    assert!(!left && request.kind == Kind::Extended);
    assert_eq!(line.ledger.end_copy(number), Some(Kind::Extended));
    assert!(line.ledger.waiting_copy().is_none());
    line.settle(1);
    line.receive(&server::error("ERROR", "COPY failed"));
    line.sent();
    line.send(&[client::copy_data(b"late"), client::copy_done()].concat());
    assert_eq!(line.sent(), "");
    fence(&mut line, 1);
    assert_eq!(line.news(), "EZ");
    line.assert_over();
}

#[test]
fn rule_4_the_session_ends_it_in_the_middle_of_the_clients_message() {
    let mut line = open();
    let row = client::copy_data(b"a long row");
    line.queue(&row);
    line.write(8);
    let (number, ..) = line.ledger.waiting_copy().unwrap();
    line.ledger.end_copy(number);
    line.queue(&[client::copy_data(b"late"), client::copy_done()].concat());
    assert!(!line.ledger.may_inject(), "inside a message");
    let part = *line.ledger.parts().next().unwrap();
    assert_eq!(
        line.ledger.copy_fate(&part),
        CopyFate::Finish(row.len() - 8)
    );
    line.write(row.len() - 8);
    assert!(line.ledger.may_inject());
    line.sent();
    line.write(usize::MAX);
    assert_eq!(line.sent(), "");
}

#[test]
fn rule_4_a_copy_of_the_simple_protocol() {
    let mut line = Line::open();
    line.send(&client::query("COPY t FROM STDIN"));
    line.receive(&server::copy_in_response());
    line.send(&client::copy_data(b"row"));
    // No Sync in the simple protocol.
    line.send(&crate::wire::testing::message(b'c', b""));
    assert!(!line.ledger.copying());
    line.receive(&server::command_complete("COPY 1"));
    line.receive(&server::ready(b'I'));
    assert_eq!(line.news(), "GCZ");
    line.assert_over();
}

#[test]
fn rule_4_a_copy_of_the_simple_protocol_that_fails_leaves_no_doubt() {
    let mut line = Line::open();
    line.send(&client::query("COPY t FROM STDIN"));
    line.receive(&server::copy_in_response());
    line.receive(&server::error("ERROR", "in a trigger"));
    assert!(!line.ledger.wants_fence());
    line.receive(&server::ready(b'I'));
    assert_eq!(line.news(), "GEZ");
    line.sent();
    // The client may or may not say that it ends.
    line.send(&client::copy_data(b"row"));
    line.send(&crate::wire::testing::message(b'c', b""));
    assert_eq!(line.sent(), "");
    line.assert_over();
}

#[test]
fn rule_4_a_copy_of_the_simple_protocol_that_its_client_has_left() {
    let mut line = Line::open();
    line.send(&client::query("COPY t FROM STDIN"));
    line.receive(&server::copy_in_response());
    line.queue(&client::query("SELECT 1"));
    assert!(!line.ledger.copying());
    let (number, _, left) = line.ledger.waiting_copy().unwrap();
    assert!(left);
    assert_eq!(line.ledger.end_copy(number), Some(Kind::Simple));
}

#[test]
fn rule_4_a_copy_whose_one_sync_comes_last_leaves_no_doubt() {
    // Execute and Flush, then the data, then the only Sync.
    let mut line = Line::open();
    line.send(&[client::bind_execute("copy"), client::flush()].concat());
    line.receive(&[server::bind_complete(), server::copy_in_response()].concat());
    assert!(
        line.ledger.waiting_copy().is_none(),
        "the client is not done"
    );
    line.send(&[client::copy_data(b"row"), client::copy_done()].concat());
    line.receive(&server::command_complete("COPY 1"));
    line.receive(&server::ready(b'I'));
    line.assert_over();
    line.send(&[client::bind_execute("copy"), client::flush()].concat());
    line.receive(&[server::bind_complete(), server::copy_in_response()].concat());
    line.receive(&server::error("ERROR", "in a trigger"));
    line.send(&client::sync());
    assert!(!line.ledger.wants_fence());
    line.receive(&server::ready(b'I'));
    assert_eq!(line.news(), "2GCZ2GEZ");
    line.assert_over();
}

#[test]
fn rule_4_copies_out_owe_one() {
    let mut line = Line::open();
    line.send(&client::execute("copy out"));
    line.receive(&[server::bind_complete(), server::copy_out_response()].concat());
    line.receive(&server::copy_data(b"row"));
    line.receive(&server::copy_done());
    line.receive(&server::command_complete("COPY 1"));
    line.receive(&server::ready(b'I'));
    assert_eq!(line.news(), "2HdcCZ");
    line.assert_over();
}

#[test]
fn rule_4_a_refused_copy_takes_its_tail_with_it() {
    let mut line = Line::open();
    line.queue(&client::execute("copy"));
    let number = line.ledger.next_request() - 1;
    line.ledger.refuse(number);
    line.ledger.dropped(line.queued.len());
    line.queued.clear();
    line.settle(1);
    assert_eq!(line.news(), "EZ");
    line.send(&client::copy_fail());
    assert_eq!(line.sent(), "");
    line.assert_over();
}
