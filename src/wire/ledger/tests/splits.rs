//! Bytes cut anywhere, in both directions, make no difference.

use proptest::prelude::*;

use super::*;
use crate::wire::testing::message;

/// Whose turn it is in a recorded conversation.
#[derive(Clone, Debug)]
enum Turn {
    Client(Vec<u8>),
    Server(Vec<u8>),
    /// The work of this lease is told as ended.
    Told(u32),
    /// The session sends a request of its own.
    Own(Own),
}
use Turn::{Client, Server, Told as Tell};

/// What can be told from outside after each turn.
fn facts(line: &Line) -> String {
    let requests: Vec<_> = line.ledger.requests().collect();
    let ledger = &line.ledger;
    format!(
        "{requests:?} {:?} {:?} {:?} {} {} {} {:?}",
        ledger.own(),
        ledger.server_status(),
        ledger.client_status(),
        ledger.copying(),
        ledger.starting(),
        ledger.wants_fence(),
        ledger.facts(),
    )
}

/// Plays a conversation, each turn in pieces of the lengths that `cuts` gives.
fn play(turns: &[Turn], cuts: &mut dyn Iterator<Item = usize>) -> (Line, Vec<String>) {
    let (mut line, mut after) = (Line::new(), Vec::new());
    for turn in turns {
        match turn {
            Client(bytes) | Server(bytes) => {
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let len = cuts.next().unwrap_or(usize::MAX).clamp(1, rest.len());
                    let (piece, behind) = rest.split_at(len);
                    rest = behind;
                    if matches!(turn, Client(_)) {
                        line.queue(piece);
                        // Writing lags behind, and takes its own pieces.
                        line.write(cuts.next().unwrap_or(usize::MAX));
                    } else {
                        line.receive(piece);
                    }
                }
                line.write(usize::MAX);
            }
            Tell(lease) => line.settle(*lease),
            Turn::Own(own) => line.own(*own),
        }
        after.push(facts(&line));
    }
    (line, after)
}

fn conversations() -> Vec<Vec<Turn>> {
    let start = || {
        vec![
            Client(client::start_up()),
            Server(server::authentication_cleartext()),
            Client(client::password()),
            Server(server::welcome()),
        ]
    };
    let with = |turns: Vec<Turn>| [start(), turns].concat();
    vec![
        // Negotiation, and no key of the server's.
        vec![
            Client(client::ssl_request()),
            Server(b"N".to_vec()),
            Client(client::start_up()),
            Server([server::authentication_ok(), server::ready(b'I')].concat()),
            Client(client::query("SELECT 1")),
            Server([server::command_complete("SELECT 1"), server::ready(b'I')].concat()),
            Client(client::terminate()),
        ],
        // Prepare and execute, with asynchronous messages in between.
        with(vec![
            Client(client::prepare("SELECT $1")),
            Server([server::parse_complete(), server::parameter_description()].concat()),
            Server([server::row_description(), server::ready(b'I')].concat()),
            Client(client::execute("s1")),
            Server([server::bind_complete(), server::notice("careful")].concat()),
            Server([server::data_row("one"), server::notification()].concat()),
            Server([server::data_row("two"), server::parameter_status("a", "b")].concat()),
            Server([server::command_complete("SELECT 2"), server::ready(b'I')].concat()),
            Client([client::close(), client::sync()].concat()),
            Server([server::close_complete(), server::ready(b'I')].concat()),
        ]),
        // Pipelining, errors, a transaction.
        with(vec![
            Client(
                [
                    client::query("BEGIN"),
                    client::execute("s1"),
                    client::query("COMMIT"),
                ]
                .concat(),
            ),
            Server([server::command_complete("BEGIN"), server::ready(b'T')].concat()),
            Server(
                [
                    server::error("ERROR", "division by zero"),
                    server::ready(b'E'),
                ]
                .concat(),
            ),
            Server([server::command_complete("ROLLBACK"), server::ready(b'I')].concat()),
            Client(client::query("ROLLBACK")),
            Server([server::notice("no transaction"), server::ready(b'I')].concat()),
        ]),
        // Told as ended half-way, the rest dropped; then a FATAL error.
        with(vec![
            Client(client::query("BEGIN")),
            Server(server::ready(b'T')),
            Client([client::execute("s1"), client::query("SELECT 2")].concat()),
            Server([server::bind_complete(), server::data_row("one")].concat()),
            Tell(1),
            Server([server::data_row("two"), server::notice("still here")].concat()),
            Server(
                [
                    server::error("ERROR", &"x".repeat(400)),
                    server::ready(b'E'),
                ]
                .concat(),
            ),
            Server([server::error("ERROR", "25P02"), server::ready(b'E')].concat()),
            Turn::Own(Own::Rollback),
            Server([server::notification(), server::command_complete("ROLLBACK")].concat()),
            Server(server::ready(b'I')),
            Client(client::query("SELECT 3")),
            Tell(1),
            Server(server::error("FATAL", &"y".repeat(400))),
        ]),
        // COPY in: well; refused before copy mode, its tail under way; failed
        // in copy mode, with a fence; left to the session.
        with(vec![
            Client(client::execute("copy")),
            Server([server::bind_complete(), server::copy_in_response()].concat()),
            Client([client::copy_data(b"one"), client::copy_data(b"two")].concat()),
            Client(client::copy_done()),
            Server([server::command_complete("COPY 2"), server::ready(b'I')].concat()),
            Client([client::execute("copy"), client::copy_fail()].concat()),
            Server([server::error("ERROR", "no such table"), server::ready(b'I')].concat()),
            Server(server::ready(b'I')),
            Client(client::execute("copy")),
            Server([server::bind_complete(), server::copy_in_response()].concat()),
            Client(client::copy_data(b"not a number")),
            Server(server::error("ERROR", "invalid input")),
            Client([client::copy_data(b"late"), client::copy_fail()].concat()),
            Turn::Own(Own::Fence),
            Server([server::ready(b'I'), server::empty_query_response()].concat()),
            Server(server::ready(b'I')),
            Client(client::query("COPY t FROM STDIN")),
            Server(server::copy_in_response()),
            Client([client::copy_data(b"row"), message(b'f', b"no\0")].concat()),
            Server([server::error("ERROR", "COPY failed"), server::ready(b'I')].concat()),
        ]),
        // COPY out.
        with(vec![
            Client(client::execute("copy out")),
            Server([server::bind_complete(), server::copy_out_response()].concat()),
            Server([server::copy_data(b"one"), server::copy_data(b"two")].concat()),
            Tell(1),
            Server([server::copy_data(b"three"), server::copy_done()].concat()),
            Server([server::command_complete("COPY 3"), server::ready(b'I')].concat()),
        ]),
    ]
}

#[test]
fn byte_by_byte_is_as_good_as_whole() {
    for turns in conversations() {
        let (whole, after_whole) = play(&turns, &mut std::iter::empty());
        let (bytes, after_bytes) = play(&turns, &mut std::iter::repeat(1));
        assert_eq!(after_bytes, after_whole);
        assert_eq!(bytes.up, whole.up);
        assert_eq!(bytes.written, whole.written);
    }
}

proptest! {
    #[test]
    fn any_split_gives_the_same_result(
        which in 0..conversations().len(),
        cuts in prop::collection::vec(1_usize..40, 0..400),
    ) {
        let turns = &conversations()[which];
        let (whole, after_whole) = play(turns, &mut std::iter::empty());
        let (split, after_split) = play(turns, &mut cuts.into_iter());
        prop_assert_eq!(after_split, after_whole);
        prop_assert_eq!(split.up, whole.up);
        prop_assert_eq!(split.written, whole.written);
    }

    #[test]
    fn any_bytes_of_a_server_are_taken_or_named(
        turn in 0_usize..20,
        which in 0..conversations().len(),
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
    ) {
        let turns = &conversations()[which];
        let (mut line, _) = play(&turns[..turn.min(turns.len())], &mut std::iter::empty());
        for piece in pieces {
            if line.try_receive(&piece).is_err() {
                break;
            }
            line.settle(1);
        }
    }

    /// Well-formed messages out of place get further than noise.
    #[test]
    fn any_messages_in_any_order_are_taken_or_named(
        turn in 0_usize..20,
        which in 0..conversations().len(),
        said in prop::collection::vec((any::<bool>(), 0_usize..64, 0_usize..12), 0..40),
    ) {
        let turns = &conversations()[which];
        let (mut line, _) = play(&turns[..turn.min(turns.len())], &mut std::iter::empty());
        for (by_client, tag, length) in said {
            let body = vec![b'I'; length];
            let taken = if by_client {
                let tags = b"QPBDECHSdcfXpF?";
                let taken = line.try_queue(&message(tags[tag % tags.len()], &body));
                if taken.is_ok() {
                    line.write(length * 3);
                }
                taken
            } else {
                let tags = b"123ACDEGHINRSKTVWZZZZcdnstv?";
                line.try_receive(&message(tags[tag % tags.len()], &body[..length.min(1 + tag / 8)]))
            };
            if taken.is_err() {
                break;
            }
            line.settle(1);
        }
    }
}
