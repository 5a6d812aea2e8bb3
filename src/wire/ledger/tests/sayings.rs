//! The rules of [`sayings`](super::super::sayings), and what a caller who is
//! gone still hears.

use super::*;
use crate::wire::saying::Saying;

/// A ledger that is spoken to, after start-up.
fn listening() -> Line {
    let mut line = Line::open();
    line.ledger.listen();
    line
}

impl Line {
    /// Says something of which so much is looked at.
    fn says(&mut self, bytes: &[u8]) -> usize {
        self.ledger.scan(bytes, &mut || LeaseId(1)).unwrap()
    }

    /// What was said to the session is taken off the client's bytes.
    fn take(&mut self) {
        let said = self.ledger.next_request() - 1;
        self.ledger.refuse(said);
        let last = self.ledger.parts().last().copied().unwrap();
        assert_eq!((last.kind, last.request), (PartKind::Request, said));
        self.ledger.dropped(last.len);
    }

    fn everybody_leaves(&mut self) -> bool {
        self.ledger.leave(|_| true)
    }
}

fn check_out() -> Vec<u8> {
    client::query("pgdeadline check out 0000000000000005")
}

#[test]
fn what_counts_as_said() {
    let close_and_sync = [client::close(), client::sync()].concat();
    let late = [client::parse("x"), check_out()].concat();
    for (bytes, saying) in [
        (client::sync(), Some(Saying::Return)),
        (check_out(), Some(Saying::CheckOut(5))),
        (
            client::query("pgdeadline operation 0000000000000006"),
            Some(Saying::Operation(6)),
        ),
        (client::execute("s"), None),
        (
            client::prepare("pgdeadline check out 0000000000000005"),
            None,
        ),
        (close_and_sync, None),
        (late, None),
        (client::query("ROLLBACK"), None),
    ] {
        // However it is cut.
        for cut in 0..bytes.len() {
            let mut line = listening();
            assert_eq!(line.says(&bytes[..cut]), cut);
            assert_eq!(line.ledger.saying(), None, "{cut} of {bytes:?}");
            assert_eq!(line.says(&bytes[cut..]), bytes.len() - cut);
            assert_eq!(line.ledger.saying(), saying, "{cut} of {bytes:?}");
        }
        let mut line = Line::open();
        line.says(&bytes);
        assert!(!line.ledger.is_spoken_to(), "it does not listen");
    }
}

#[test]
fn rule_1_all_before_it_is_known_and_nothing_behind_it_is_looked_at() {
    let mut line = listening();
    let said = [client::query("SELECT 1"), client::sync()].concat();
    let bytes = [&said[..], &client::query("SELECT 2")].concat();
    assert_eq!(line.says(&bytes), said.len());
    assert_eq!(line.ledger.requests().count(), 2);
    assert_eq!(line.says(&bytes[said.len()..]), 0);
    line.queued = said.clone();
    line.write(said.len() - 5);
    line.receive(&server::ready(b'I'));
    line.take();
    assert_eq!(line.says(&bytes[said.len()..]), 0, "not before the answer");
    line.ledger.answered_saying();
    assert_eq!(line.says(&bytes[said.len()..]), bytes.len() - said.len());
    assert_eq!(line.ledger.requests().count(), 1);
}

#[test]
fn rule_2_it_is_due_when_all_before_it_is_answered() {
    let mut line = listening();
    line.send(&client::query("SELECT 1"));
    line.says(&client::sync());
    assert_eq!(line.ledger.due_saying(), None, "its bytes are there");
    line.take();
    assert_eq!(line.ledger.due_saying(), None, "SELECT 1 is not answered");
    line.settle(1);
    assert_eq!(line.news(), "EZ");
    // In flight on the server, but the client waits for nothing else.
    assert_eq!(line.ledger.due_saying(), Some(Saying::Return));
    assert!(!line.ledger.has_answers(), "it is not answered by itself");
    line.receive(&server::ready(b'I'));
    assert_eq!((line.news().as_str(), line.ledger.is_empty()), ("", true));
    line.ledger.answered_saying();
    line.assert_over();
    assert_eq!(line.ledger.due_saying(), None);
}

#[test]
fn rule_2_not_inside_a_message_that_goes_up() {
    let mut line = listening();
    line.says(&client::sync());
    line.take();
    let notice = server::notice("long");
    line.receive(&notice[..7]);
    assert_eq!(line.ledger.due_saying(), None);
    line.receive(&notice[7..]);
    assert_eq!(line.ledger.due_saying(), Some(Saying::Return));
}

#[test]
fn of_what_its_caller_has_left_only_ready_for_query_goes_up() {
    let mut line = listening();
    line.send(&[client::query("SELECT 1"), client::execute("s")].concat());
    line.receive(&[server::row_description(), server::data_row("1")].concat());
    assert_eq!(line.news(), "TD");
    assert!(line.everybody_leaves());
    assert!(line.ledger.wants_filter());
    let rest = [
        server::data_row("2"),
        server::notice("passed"),
        server::command_complete("SELECT 2"),
        server::ready(b'I'),
        server::bind_complete(),
        server::error("ERROR", "dropped"),
        server::parameter_status("a", "b"),
        server::ready(b'I'),
    ];
    line.receive(&rest.concat());
    assert_eq!(line.news(), "NZSZ");
    line.assert_over();
}

#[test]
fn a_last_word_goes_up_whoever_is_gone() {
    let mut line = listening();
    line.send(&client::query("SELECT 1"));
    line.everybody_leaves();
    line.receive(&server::error("FATAL", "shutting down"));
    assert_eq!(line.news(), "E");
}

#[test]
fn an_answer_to_somebody_who_is_gone_is_ready_for_query_alone() {
    let mut line = listening();
    line.send(&client::query("SELECT 1"));
    line.everybody_leaves();
    line.settle(1);
    assert_eq!(line.news(), "Z");
    line.receive(&[server::error("ERROR", "cancelled"), server::ready(b'I')].concat());
    assert_eq!(line.news(), "");
    line.assert_over();
}

#[test]
fn a_copy_that_its_client_has_ended_is_not_counted_on() {
    let begun = || {
        let mut line = listening();
        line.send(&client::query("COPY t"));
        line.receive(&server::copy_in_response());
        // As sqlx does when its sink drops; no Sync belongs to it.
        line.send(&client::copy_fail()[..6]);
        line.news();
        assert!(line.everybody_leaves());
        line
    };
    let mut line = begun();
    line.receive(&[server::error("ERROR", "failed"), server::ready(b'I')].concat());
    assert_eq!(line.news(), "", "by the server");
    let mut line = begun();
    line.settle(1);
    assert_eq!(line.news(), "", "by the session");
}

#[test]
fn whether_one_that_was_left_in_the_middle_is_counted_on_nobody_knows() {
    for response in [server::copy_in_response(), server::copy_out_response()] {
        let mut line = listening();
        line.send(&client::query("COPY t"));
        line.receive(&response);
        line.news();
        assert!(!line.everybody_leaves());
        line.receive(&[server::error("ERROR", "cancelled"), server::ready(b'I')].concat());
        assert_eq!(line.news(), "");
    }
    // Prepared it is like any other statement.
    let mut line = listening();
    line.send(&client::execute("copy"));
    line.receive(&[server::bind_complete(), server::copy_out_response()].concat());
    assert!(line.everybody_leaves());
    line.receive(&[server::copy_done(), server::ready(b'I')].concat());
    assert_eq!(line.news(), "2HZ");
}

#[test]
fn whether_one_that_has_not_begun_is_counted_on_nobody_knows() {
    let mut line = listening();
    line.send(&client::query("copy t to stdout"));
    assert!(!line.everybody_leaves());
    line.settle(1);
    assert_eq!(line.news(), "", "so nothing more is said");

    let mut line = listening();
    line.send(&client::prepare("COPY t TO STDOUT"));
    assert!(line.everybody_leaves());

    let mut line = listening();
    line.send(&client::query("COPY t TO STDOUT"));
    line.settle(1);
    assert!(line.everybody_leaves(), "its caller has been answered");

    let mut line = listening();
    line.send(&client::query("COPY t TO STDOUT"));
    assert!(line.ledger.leave(|_| false), "that is not meant");
}

#[test]
fn what_is_hushed_waits_and_is_owed_when_the_server_was_first() {
    let mut line = listening();
    line.send(&client::query("SELECT 1"));
    for request in line.ledger.requests_mut() {
        request.hushed = true;
    }
    line.settle(1);
    assert_eq!(line.news(), "");
    line.receive(&[server::command_complete("SELECT 1"), server::ready(b'I')].concat());
    assert_eq!(line.news(), "", "not as a success");
    assert!(!line.ledger.any_in_flight());
    for request in line.ledger.requests_mut() {
        request.hushed = false;
    }
    line.answer();
    assert_eq!(line.news(), "EZ");
    line.assert_over();
}

#[test]
fn what_a_client_has_begun_only_it_can_end() {
    for (bytes, half) in [
        (vec![], false),
        (client::query("SELECT 1"), false),
        (client::bind_execute("s"), true),
        (client::sync()[..2].to_vec(), true),
        (client::terminate()[..4].to_vec(), true),
        (client::copy_data(b"row")[..6].to_vec(), true),
    ] {
        let mut line = listening();
        line.says(&bytes);
        assert_eq!(line.ledger.is_half_asked(), half, "{bytes:?}");
        assert!(!line.ledger.terminates());
    }
    let mut line = listening();
    line.send(&client::terminate());
    assert!(line.ledger.terminates() && !line.ledger.is_half_asked());
    // A COPY of the extended protocol, ended without its Sync.
    let mut line = listening();
    line.send(&client::execute("copy"));
    line.receive(&[server::bind_complete(), server::copy_in_response()].concat());
    line.send(&client::copy_done()[..5]);
    assert!(line.ledger.is_half_asked());
}

#[test]
fn a_class_is_decided_for_want_of_room_only_at_the_front() {
    let mut line = listening();
    line.queue(&client::query("SELECT 1"));
    line.queue(&client::close());
    assert!(!line.ledger.decide_class(), "room is made before it");
    line.write(client::query("SELECT 1").len());
    assert!(line.ledger.decide_class());
    assert!(!line.ledger.decide_class(), "it is decided");
    line.queue(&client::sync());
    assert_eq!(line.ledger.requests().last().unwrap().class, Class::Work);
}
