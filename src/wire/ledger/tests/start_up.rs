//! Start-up: negotiation, the key to cancel by, the server's version.

use super::*;

#[test]
fn start_up_tells_the_key_and_the_version() {
    let mut line = Line::new();
    line.send(&client::start_up());
    assert!(line.ledger.starting());
    line.receive(&server::authentication_cleartext());
    line.send(&client::password());
    line.receive(&server::welcome());
    assert!(!line.ledger.starting());
    let facts = line.ledger.facts();
    assert_eq!((facts.process_id, &facts.key[..]), (4711, &b"key!"[..]));
    assert_eq!(facts.major, Some(17));
    assert_eq!(line.news(), "RRSKZ");
    line.assert_over();
}

#[test]
fn a_client_is_given_a_key_where_the_server_sends_none() {
    let mut line = Line::new();
    line.send(&client::start_up());
    line.receive(&[server::authentication_ok(), server::ready(b'I')].concat());
    let messages = split(&line.up);
    assert_eq!(messages[1], ('K', vec![0, 0, 0, 0, 0, 0, 0, 99]));
    assert_eq!(messages[2].0, 'Z');
    assert!(
        line.ledger.facts().key.is_empty(),
        "there is nothing to cancel by"
    );
    line.receive(&server::notification());
}

#[test]
fn negotiation_is_answered_by_single_bytes() {
    let mut line = Line::new();
    line.send(&client::ssl_request());
    line.receive(b"N");
    line.send(&client::start_up());
    line.receive(&server::welcome());
    assert_eq!(line.up[0], b'N');
    line.up.remove(0);
    assert_eq!(line.news(), "RSKZ");
}

#[test]
fn a_server_that_knows_no_negotiation_answers_with_an_error() {
    let mut line = Line::new();
    line.send(&client::ssl_request());
    line.receive(&server::error("FATAL", "unsupported frontend protocol"));
    assert_eq!(line.news(), "E");
}
