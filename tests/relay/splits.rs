//! A conversation cut anywhere is the same conversation.

use std::time::Duration;

use bytes::BytesMut;
use pgdeadline_tests::scripted::{Expect, Message, Net, message};
use proptest::prelude::*;
use tokio::runtime::Builder;
use tokio::time::sleep;

use crate::say;
use crate::stage::*;

/// What one side says before the other goes on.
struct Turn {
    asks: Vec<u8>,
    /// What the server gets of it.
    gets: Vec<Expect>,
    answers: Message,
    hears: &'static str,
}

/// A conversation with a little of everything.
fn conversation() -> Vec<Turn> {
    let long = "y".repeat(20_000);
    let turn = |asks, gets: &[Expect], answers: Message, hears| Turn {
        asks,
        gets: gets.to_vec(),
        answers,
        hears,
    };
    let nothing = || message::raw("");
    vec![
        turn(
            say::query("SELECT 1"),
            &[Expect::query("SELECT 1")],
            rows(2),
            "TDDCZ",
        ),
        turn(
            [say::prepare("SELECT 2"), say::execute()].concat(),
            &[
                Expect::parse("SELECT 2"),
                Expect::describe(),
                Expect::sync(),
                Expect::bind(),
                Expect::execute(),
                Expect::close(),
                Expect::sync(),
            ],
            [
                message::parse_complete(),
                message::parameter_description(&[]),
                message::no_data(),
                message::ready_for_query(b'I'),
                message::bind_complete(),
                message::notice("by the way"),
                message::rows(3),
                message::close_complete(),
                done("SELECT 3", b'I'),
            ]
            .into(),
            "1tnZ2NDDD3CZ",
        ),
        turn(say::sync(), &[], nothing(), "Z"),
        turn(
            say::query(&long),
            &[Expect::query(long.as_str())],
            [
                message::data_row(&[Some(long.as_bytes())]),
                done("SELECT 1", b'I'),
            ]
            .into(),
            "DCZ",
        ),
        turn(
            say::query("COPY t FROM STDIN"),
            &[Expect::query("COPY t FROM STDIN")],
            message::copy_in_response(),
            "G",
        ),
        turn(
            [say::copy_data(b"a row\n"), say::copy_done()].concat(),
            &[Expect::copy_data(), Expect::copy_done()],
            done("COPY 1", b'I'),
            "CZ",
        ),
        turn(
            say::query("BEGIN"),
            &[Expect::query("BEGIN")],
            done("BEGIN", b'T'),
            "CZ",
        ),
        turn(
            [say::query("ROLLBACK"), say::sync()].concat(),
            &[Expect::query("ROLLBACK")],
            done("ROLLBACK", b'I'),
            // Of the first one nothing else is heard behind a return.
            "ZZ",
        ),
        turn(
            say::query("pgdeadline check out 0000000000000001"),
            &[],
            nothing(),
            "EZ",
        ),
        turn(say::sync(), &[], nothing(), "Z"),
    ]
}

/// Says bytes in pieces of these lengths, again and again.
async fn in_pieces(bytes: &[u8], cuts: &[usize], mut say: impl AsyncFnMut(Vec<u8>)) {
    let (mut left, mut cuts) = (BytesMut::from(bytes), cuts.iter().cycle());
    while !left.is_empty() {
        let len = left.len().min(*cuts.next().expect("there is a cut"));
        say(left.split_to(len).to_vec()).await;
        sleep(Duration::from_millis(1)).await;
    }
}

async fn converse(down: &[usize], up: &[usize], capacity: usize) {
    let net = Net::with_capacity(capacity);
    let mut stage = Stage::on(net, capacity, |builder| builder).await;
    for turn in conversation() {
        let (client, backend) = (&mut stage.client, &mut stage.backend);
        tokio::join!(
            in_pieces(&turn.asks, down, async |piece| client.says(piece).await),
            backend.expect_all(turn.gets),
        );
        let answers = turn.answers.bytes().clone();
        tokio::join!(
            in_pieces(&answers, up, async |piece| backend
                .send(message::raw(piece))
                .await),
            client.hears(turn.hears),
        );
    }
    stage.assert_ends_well().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_the_same_conversation(
        down in prop::collection::vec(1_usize..40, 1..6),
        up in prop::collection::vec(1_usize..40, 1..6),
        long in any::<bool>(),
        capacity in 1_usize..400,
    ) {
        // Most of the long messages would only take their time.
        let stretch = |cuts: Vec<usize>| -> Vec<usize> {
            let more = if long { 5000 } else { 300 };
            cuts.into_iter().chain([more]).collect()
        };
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(converse(&stretch(down), &stretch(up), capacity));
    }
}

#[tokio::test(start_paused = true)]
async fn byte_by_byte_it_is_the_same() {
    converse(&[1], &[1], 1).await;
    converse(&[1], &[100_000], SOCKET).await;
    converse(&[100_000], &[1], SOCKET).await;
}
