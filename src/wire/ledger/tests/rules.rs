//! The rules of the ledger, by number, and what no protocol allows.

use super::*;
use crate::wire::statement::Verb;

#[test]
fn rule_1_a_request_is_kept_from_its_first_byte_to_its_last_ready_for_query() {
    let mut line = Line::open();
    line.queue(&client::query("SELECT 1")[..1]);
    assert_eq!(line.ledger.requests().count(), 1);
    assert!(!line.ledger.any_in_flight(), "no byte of it is written");
    line.queue(&client::query("SELECT 1")[1..]);
    line.write(1);
    assert!(line.ledger.any_in_flight(), "a byte of it is written");
    assert!(line.ledger.requests().next().unwrap().half_written());
    line.write(usize::MAX);
    line.receive(&server::command_complete("SELECT 1"));
    assert!(line.ledger.any_in_flight(), "ReadyForQuery has not come");
    line.receive(&server::ready(b'I'));
    line.assert_over();
}

#[test]
fn rule_1_an_extended_request_reaches_to_its_sync() {
    let mut line = Line::open();
    line.send(&client::parse("SELECT 1"));
    line.send(&client::flush());
    let request = line.ledger.requests().next().unwrap();
    assert!(request.works() && request.half_written());
    assert!(!line.ledger.may_inject());
    line.send(&client::sync());
    assert_eq!(line.ledger.requests().count(), 1);
    assert!(line.ledger.may_inject());
}

#[test]
fn rule_2_a_part_remembers_whose_unwritten_bytes_are() {
    let mut line = Line::open();
    let (one, two) = (client::query("one"), client::execute("two"));
    line.queue(&[one.clone(), two.clone()].concat());
    let parts: Vec<_> = line.ledger.parts().copied().collect();
    assert_eq!(parts.len(), 2);
    assert_eq!((parts[0].len, parts[1].len), (one.len(), two.len()));
    line.write(one.len() + 1);
    let stages: Vec<_> = line
        .ledger
        .requests()
        .map(|r| (r.stage, r.unwritten))
        .collect();
    assert_eq!(
        stages,
        [(Stage::InFlight, 0), (Stage::InFlight, two.len() - 1)]
    );
    assert!(!line.ledger.may_inject(), "in the middle of a request");
}

#[test]
fn rule_3_answers_go_to_requests_in_the_order_of_writing() {
    let mut line = Line::open();
    line.send(&[client::query("a"), client::query("b")].concat());
    line.receive(&server::ready(b'T'));
    assert_eq!(line.ledger.requests().count(), 1);
    assert_eq!(line.ledger.server_status(), Status::InTransaction);
    assert_eq!(line.ledger.client_status(), Status::InTransaction);
    line.receive(&server::ready(b'E'));
    assert_eq!(line.ledger.server_status(), Status::Failed);
    line.assert_over();
}

#[test]
fn rule_3_a_refused_request_is_answered_in_the_clients_order() {
    let mut line = Line::open();
    line.send(&client::query("in flight"));
    line.lease = 2;
    line.queue(&client::query("refused"));
    let number = line.ledger.next_request() - 1;
    line.ledger.refuse(number);
    line.ledger.dropped(line.queued.len());
    line.queued.clear();
    line.settle(2);
    assert_eq!(line.news(), "", "the one before it has not been answered");
    line.receive(&server::command_complete("SELECT 1"));
    line.receive(&server::ready(b'I'));
    line.settle(2);
    assert_eq!(line.news(), "CZEZ");
    line.assert_over();
}

#[test]
fn rule_3_what_was_answered_early_hears_no_more() {
    let mut line = Line::open();
    line.send(&client::query("slow"));
    line.receive(&server::row_description());
    line.settle(1);
    assert_eq!(line.news(), "TEZ");
    line.receive(&server::data_row("1"));
    line.receive(&server::error("ERROR", "cancelled"));
    assert!(line.ledger.any_in_flight());
    line.receive(&server::ready(b'I'));
    assert_eq!(line.news(), "");
    line.assert_over();
}

#[test]
fn rule_3_an_answer_waits_for_the_end_of_a_message_that_has_begun() {
    let mut line = Line::open();
    line.send(&client::query("slow"));
    let row = server::data_row("a long row");
    line.receive(&row[..7]);
    assert!(line.ledger.mid_message_up());
    line.settle(1);
    assert_eq!(line.up, row[..7]);
    line.receive(&row[7..]);
    line.settle(1);
    assert_eq!(line.news(), "DEZ");
}

#[test]
fn rule_3_nothing_goes_up_behind_the_message_in_whose_middle_the_end_came() {
    let mut line = Line::open();
    line.send(&[client::query("one"), client::query("two")].concat());
    let row = server::data_row("a long row");
    line.receive(&row[..7]);
    line.settle(1);
    // All the rest comes in one piece.
    let done = [server::command_complete("SELECT 1"), server::ready(b'I')].concat();
    line.receive(&[&row[7..], &done, &server::notification(), &done].concat());
    assert_eq!(line.news(), "DEZEZA");
    line.assert_over();
}

#[test]
fn rule_3_what_is_behind_an_answer_of_the_sessions_waits_for_it() {
    let mut line = Line::open();
    line.send(&client::query("one"));
    line.queue(&client::query("refused"));
    let number = line.ledger.next_request() - 1;
    line.ledger.refuse(number);
    line.ledger.dropped(line.queued.len());
    line.queued.clear();
    line.send(&client::query("three"));
    // The server answers the first and the third in one piece.
    let done = [server::command_complete("SELECT 1"), server::ready(b'I')].concat();
    line.receive(
        &[
            &done[..],
            &server::error("ERROR", "third"),
            &server::ready(b'I'),
        ]
        .concat(),
    );
    let said: Vec<_> = split(&line.up);
    assert_eq!(line.news(), "CZEZEZ");
    let text = |at: usize| String::from_utf8_lossy(&said[at].1).into_owned();
    assert!(text(2).contains("told") && text(4).contains("third"));
    line.assert_over();
}

#[test]
fn rule_3_an_error_that_went_up_is_not_told_twice() {
    let mut line = Line::open();
    line.send(&client::execute("fails"));
    line.receive(&server::error("ERROR", "of the server"));
    line.settle(1);
    line.settle(1);
    assert_eq!(line.news(), "EZ");
}

#[test]
fn rule_5_one_whose_ready_for_query_went_up_is_told_nothing_more() {
    let mut line = Line::open();
    line.send(&client::execute("copy"));
    line.send(&client::copy_fail());
    line.receive(&server::error("ERROR", "no such table"));
    line.receive(&server::ready(b'I'));
    line.settle(1);
    assert_eq!(line.news(), "EZ");
    assert!(
        line.ledger.any_in_flight(),
        "the tail's ReadyForQuery is owed"
    );
    line.receive(&server::ready(b'I'));
    assert_eq!(line.news(), "");
    line.assert_over();
}

#[test]
fn rule_6_answers_to_the_sessions_own_are_dropped() {
    for own in [Own::Rollback, Own::Fail] {
        let mut line = Line::open();
        line.own(own);
        assert!(line.ledger.any_in_flight() && line.ledger.wants_filter());
        line.receive(&server::notification());
        line.receive(&server::error("ERROR", "own"));
        line.receive(&server::command_complete("ROLLBACK"));
        line.receive(&server::ready(b'E'));
        assert_eq!(line.news(), "A", "asynchronous messages are nobody's");
        assert_eq!(line.ledger.server_status(), Status::Failed);
        assert_eq!(line.ledger.client_status(), Status::Idle);
        line.assert_over();
    }
}

#[test]
fn a_fatal_error_is_passed_up_out_of_dropped_work_however_it_is_cut() {
    let fatal = server::error("FATAL", &"terminating ".repeat(40));
    let error = server::error("ERROR", &"cancelled ".repeat(40));
    for cut in 0..fatal.len() {
        let mut line = Line::open();
        line.send(&client::query("slow"));
        line.settle(1);
        line.news();
        line.receive(&error[..cut.min(error.len())]);
        line.receive(&error[cut.min(error.len())..]);
        line.receive(&fatal[..cut]);
        line.receive(&fatal[cut..]);
        assert_eq!(line.up, fatal, "cut at {cut}");
    }
}

#[test]
fn a_fatal_error_that_nobody_asked_for_is_passed_up() {
    let mut line = Line::open();
    line.receive(&server::error("FATAL", "shutting down"));
    assert_eq!(line.news(), "E");
}

#[test]
fn rows_are_noted_once_they_went_up() {
    for row in [server::data_row("1"), server::copy_data(b"1")] {
        let mut line = Line::open();
        line.send(&client::execute("s1"));
        line.receive(&server::bind_complete());
        assert!(!line.ledger.requests().next().unwrap().rows_up);
        line.receive(&row);
        assert!(line.ledger.requests().next().unwrap().rows_up);
    }
}

#[test]
fn what_a_request_is_for_shows_with_its_last_byte() {
    for (bytes, class) in [
        (client::query("ROLLBACK"), Class::CleanUp),
        (client::query("ROLLBACK TO sp"), Class::CleanUp),
        (client::query("COMMIT"), Class::Work),
        (client::query("SELECT 1"), Class::Work),
        (client::sync(), Class::CleanUp),
        ([client::close(), client::sync()].concat(), Class::CleanUp),
        (
            [client::close(), client::close(), client::sync()].concat(),
            Class::CleanUp,
        ),
        (
            [client::close(), client::prepare("s")].concat(),
            Class::Work,
        ),
        (
            [client::close(), client::flush(), client::sync()].concat(),
            Class::Work,
        ),
        (client::prepare("ROLLBACK"), Class::Work),
    ] {
        let mut line = Line::open();
        for byte in &bytes[..bytes.len() - 1] {
            line.queue(&[*byte]);
            let so_far = line.ledger.requests().next().unwrap().class;
            let early = [Class::Undecided, Class::Work];
            assert!(early.contains(&so_far), "{}", bytes.escape_ascii());
        }
        line.queue(&bytes[bytes.len() - 1..]);
        let request = line.ledger.requests().next().unwrap();
        assert_eq!(request.class, class, "{}", bytes.escape_ascii());
        assert!(request.synced);
    }
}

#[test]
fn a_commit_that_was_told_as_ended_leaves_the_client_idle() {
    let mut line = Line::open();
    line.send(&client::query("BEGIN"));
    line.receive(&server::ready(b'T'));
    line.news();
    line.send(&client::query("SELECT 1"));
    line.settle(1);
    assert_eq!(line.ledger.client_status(), Status::Failed);
    line.send(&client::query("COMMIT"));
    assert_eq!(line.ledger.requests().last().unwrap().verb, Verb::Commit);
    line.settle(1);
    assert_eq!(line.ledger.client_status(), Status::Idle);
    // One that is only prepared ends nothing.
    let mut line = Line::open();
    line.send(&client::query("BEGIN"));
    line.receive(&server::ready(b'T'));
    line.send(&client::prepare("COMMIT"));
    line.settle(1);
    assert_eq!(line.ledger.client_status(), Status::Failed);
}

/// A client closes the statement that failed before it commits.
#[test]
fn a_transaction_that_was_told_as_failed_stays_so_after_a_close() {
    let mut line = Line::open();
    line.send(&client::query("BEGIN"));
    line.receive(&server::ready(b'T'));
    line.send(&client::execute("s0"));
    line.settle(1);
    let done = [
        server::bind_complete(),
        server::command_complete("INSERT 0 1"),
    ];
    line.receive(&done.concat());
    line.receive(&server::ready(b'T'));
    assert_eq!(line.ledger.client_status(), Status::Failed);
    line.lease = 2;
    for clean_up in [client::close(), Vec::new()] {
        line.send(&[clean_up, client::sync()].concat());
        line.receive(&server::ready(b'T'));
        assert_eq!(line.ledger.client_status(), Status::Failed);
    }
    // What ends it, or goes back before it, is another matter.
    line.send(&client::query("ROLLBACK TO s"));
    line.receive(&server::ready(b'T'));
    assert_eq!(line.ledger.client_status(), Status::InTransaction);
    line.assert_over();
}

#[test]
fn impossible_messages_are_named() {
    let during_start_up = |bytes: &[u8]| {
        let mut line = Line::new();
        line.send(&client::start_up());
        line.try_receive(bytes).unwrap_err().to_string()
    };
    let after = |sent: &[u8], bytes: &[u8]| {
        let mut line = Line::open();
        line.send(sent);
        line.try_receive(bytes).unwrap_err().to_string()
    };
    let query = client::query("SELECT 1");
    for (found, expected) in [
        (
            during_start_up(&server::data_row("1")),
            "the server sent message 'D', which is impossible during start-up",
        ),
        (
            after(&query, &server::authentication_ok()),
            "the server sent message 'R', which is impossible after start-up",
        ),
        (
            after(b"", &server::data_row("1")),
            "the server sent message 'D', which is impossible while nothing is in flight",
        ),
        (
            after(b"", &server::ready(b'I')),
            "the server sent a ReadyForQuery that no request asked for",
        ),
        (
            after(&query, &server::ready(b'?')),
            "ReadyForQuery has the unknown transaction status '?'",
        ),
        (
            after(&query, b"Z\0\0\0\x04"),
            "ReadyForQuery has the unknown transaction status 0x00",
        ),
        (
            after(&query, b"D\0\0\0\x03"),
            "message 'D' has the impossible length 3",
        ),
    ] {
        assert_eq!(found, expected);
    }
    let error = Line::open().try_queue(&client::password()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the client sent message 'p', which is impossible after start-up"
    );
}
