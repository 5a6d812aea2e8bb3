//! Bytes that nobody should send, in any phase: taken, or named; never a
//! panic.

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::super::*;
use crate::wire::testing::{client, message, server};

/// A session that is nobody's friend.
struct Line {
    machine: Machine,
    now: Instant,
    buffer: Vec<u8>,
    scanned: usize,
    up: Vec<u8>,
}

impl Line {
    /// In one of the phases that a session can be in.
    fn in_phase(phase: usize) -> Line {
        let mut line = Line {
            machine: Machine::new(Settings::default(), 1),
            now: Instant::now(),
            buffer: Vec::new(),
            scanned: 0,
            up: Vec::new(),
        };
        let lease = line.machine.check_out_lease();
        let said = [
            (true, client::ssl_request()),
            (true, client::start_up()),
            (false, server::welcome()),
            (true, client::execute("copy")),
            (false, server::bind_complete()),
            (false, server::copy_in_response()),
            (true, client::copy_data(b"row")),
            (false, server::error("ERROR", "refused")),
            (true, client::copy_fail()),
        ];
        // The first phase is the only one that negotiates.
        let from = usize::from(phase > 0);
        for (by_client, bytes) in said.iter().take(phase + 1).skip(from) {
            let taken = if *by_client {
                line.queue(bytes)
            } else {
                line.receive(bytes)
            };
            taken.unwrap();
        }
        if phase % 3 == 2 {
            line.machine.handle_ended(lease, line.now);
            line.settle();
        }
        line
    }

    fn queue(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        self.buffer.extend_from_slice(bytes);
        let fresh = &self.buffer[self.scanned..];
        self.machine.handle_queued(fresh, &mut None, self.now)?;
        self.scanned = self.buffer.len();
        for _ in 0..1_000 {
            match self.machine.next_write() {
                NextWrite::Nothing | NextWrite::Hold => return Ok(()),
                NextWrite::Own => self.machine.injected(self.machine.own_bytes().len()),
                NextWrite::Drop(len) => {
                    self.buffer.drain(..len);
                    self.scanned -= len;
                    self.machine.handle_dropped(len, self.now);
                }
                NextWrite::Client(len) => {
                    let bytes: Vec<u8> = self.buffer.drain(..len).collect();
                    self.scanned -= len;
                    self.machine.handle_wrote(&bytes, self.now);
                }
            }
        }
        panic!("writes for ever: {:?}", self.machine);
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        if !self.machine.wants_filter() {
            let taken = self.machine.handle_received(bytes, None, self.now)?;
            assert_eq!(taken, bytes.len());
            return Ok(());
        }
        let mut rest = bytes;
        for _ in 0..1_000 {
            let up = Some(&mut self.up);
            let taken = self.machine.handle_received(rest, up, self.now)?;
            rest = &rest[taken..];
            self.settle();
            if rest.is_empty() {
                return Ok(());
            }
        }
        panic!("reads for ever: {:?}", self.machine);
    }

    fn settle(&mut self) {
        let mut text = |_: &Request, up: &mut Vec<u8>| up.push(0);
        self.machine.settle(&mut text, &mut self.up, self.now);
    }

    /// What else may happen in between.
    fn stir(&mut self, how: usize) {
        let lease = self.machine.check_out_lease();
        match how % 9 {
            0 => self.machine.handle_ended(lease, self.now),
            1 => self.machine.handle_released(lease, self.now),
            2 => self.machine.handle_finished(lease, self.now),
            3 => {
                self.now += Duration::from_millis(60);
                self.machine.handle_time(self.now);
            }
            4 => {
                self.machine.handle_attempt_connected(1, self.now);
            }
            5 => self.machine.handle_attempt_over(1, Outcome::Eof, self.now),
            6 => self.machine.handle_taken_up(self.now),
            7 => self.machine.handle_polled(self.machine.mark(), self.now),
            _ => {}
        }
        self.settle();
    }
}

proptest! {
    #[test]
    fn any_bytes_are_taken_or_named(
        phase in 0_usize..9,
        said in prop::collection::vec(
            (any::<bool>(), any::<usize>(), prop::collection::vec(any::<u8>(), 0..60)),
            0..12,
        ),
    ) {
        let mut line = Line::in_phase(phase);
        for (by_client, how, bytes) in said {
            line.stir(how);
            let taken = if by_client { line.queue(&bytes) } else { line.receive(&bytes) };
            if let Err(malformed) = taken {
                line.machine.handle_malformed(malformed);
                prop_assert!(line.machine.poll_timeout().is_none());
                break;
            }
        }
    }

    /// Well-formed messages out of place get further than noise.
    #[test]
    fn any_messages_in_any_order_are_taken_or_named(
        phase in 1_usize..9,
        said in prop::collection::vec((any::<bool>(), any::<usize>(), 0_usize..64, 0_usize..12), 0..60),
    ) {
        let mut line = Line::in_phase(phase);
        for (by_client, how, tag, length) in said {
            line.stir(how);
            let body = vec![b'I'; length];
            let taken = if by_client {
                let tags = b"QQPBDECHSSdcfXF";
                line.queue(&message(tags[tag % tags.len()], &body))
            } else {
                let tags = b"123ACDEEGGHINSTWZZZZcdnst";
                line.receive(&message(tags[tag % tags.len()], &body[..length.min(1 + tag / 8)]))
            };
            if let Err(malformed) = taken {
                line.machine.handle_malformed(malformed);
                break;
            }
        }
    }
}

#[test]
fn an_impossible_message_retires_the_session_and_is_named() {
    let mut line = Line::in_phase(2);
    let malformed = line.receive(&server::ready(b'I')).unwrap_err();
    line.machine.handle_malformed(malformed);
    let expected = Output::Retire(Retired::Protocol(Malformed::ReadyForQuery));
    let outputs: Vec<_> = std::iter::from_fn(|| line.machine.poll_output()).collect();
    assert_eq!(outputs, [expected]);
}
