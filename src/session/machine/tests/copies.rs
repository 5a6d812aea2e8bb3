//! What a COPY FROM STDIN asks of the machine beyond the rules.

use super::pair::Pair;
use crate::wire::message;
use crate::wire::testing::{client, server};

#[test]
fn a_request_behind_a_copy_waits_until_nothing_of_the_copy_is_in_doubt() {
    let mut pair = Pair::open();
    pair.send(&client::execute("copy"));
    pair.receive(&[server::bind_complete(), server::copy_in_response()].concat());
    pair.send(&[client::copy_done(), client::query("next")].concat());
    assert_eq!(pair.got(), "BEScS");
    pair.receive(&server::error("ERROR", "at its very end"));
    assert_eq!(pair.got(), "Q", "the fence");
    pair.receive(&[server::ready(b'I'), server::empty_query_response()].concat());
    pair.receive(&server::ready(b'I'));
    pair.write(&mut None, usize::MAX);
    assert_eq!(pair.got(), "Q", "and now the next one");
    pair.receive(&server::ready(b'I'));
    assert_eq!(pair.heard(), "2GEZZ");
    pair.assert_clean();
}

#[test]
fn a_copy_that_its_client_has_left_is_ended_by_the_session() {
    let mut pair = Pair::open();
    pair.send(&client::query("COPY t FROM STDIN"));
    pair.receive(&server::copy_in_response());
    assert_eq!(pair.got(), "Q");
    pair.send(&client::query("next"));
    assert_eq!(pair.got(), "f");
    pair.receive(&[server::error("ERROR", "COPY failed"), server::ready(b'I')].concat());
    pair.write(&mut None, usize::MAX);
    assert_eq!(pair.got(), "Q");
    pair.receive(&server::ready(b'I'));
    assert_eq!(pair.heard(), "GEZZ");
    pair.assert_clean();
}

#[test]
fn a_copy_is_ended_behind_the_clients_message_and_before_the_next() {
    let mut pair = Pair::open();
    let lease = pair.machine.check_out_lease();
    pair.send(&client::execute("copy"));
    pair.receive(&[server::bind_complete(), server::copy_in_response()].concat());
    pair.got();
    let row = client::copy_data(b"a long row");
    pair.buffer.extend_from_slice(&row);
    pair.write(&mut None, 8);
    pair.end(lease);
    pair.send(&[client::copy_data(b"more"), client::copy_done()].concat());
    let expected = [&row[..], message::COPY_FAIL, message::SYNC].concat();
    assert_eq!(pair.wire, expected);
}
