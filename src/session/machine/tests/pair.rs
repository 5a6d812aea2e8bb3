//! A session between two byte streams, without either of them.
//!
//! Does what `core` and `driver` do, in the same order: asks for filtering,
//! answers after each event, carries out writes and drops as the machine says.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::super::*;
use crate::wire::saying::Saying;
use crate::wire::testing::{client, server, tags};

/// What became of bytes, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Did {
    /// So many bytes of the client's were written.
    Wrote(usize),
    /// So many were dropped.
    Dropped(usize),
    /// These of the session's own were written.
    Own(Vec<u8>),
}

pub(super) struct Pair {
    pub(super) machine: Machine,
    pub(super) now: Instant,
    /// The client's write buffer, and how much of it was seen.
    pub(super) buffer: Vec<u8>,
    scanned: usize,
    /// To the server.
    pub(super) wire: Vec<u8>,
    /// To the client.
    pub(super) up: Vec<u8>,
    pub(super) outputs: VecDeque<Output>,
    pub(super) did: Vec<Did>,
}

impl Pair {
    /// After start-up, with one check-out under a context without a deadline.
    pub(super) fn open() -> Self {
        let mut pair = Pair::started(Settings::default());
        pair.check_out();
        pair
    }

    /// After start-up, checked out by nobody.
    pub(super) fn started(settings: Settings) -> Self {
        let mut pair = Pair::new(settings);
        pair.start_up();
        pair.release();
        pair.poll();
        pair.did.clear();
        pair
    }

    fn new(settings: Settings) -> Self {
        Pair {
            machine: Machine::new(settings, 1),
            now: Instant::now(),
            buffer: Vec::new(),
            scanned: 0,
            wire: Vec::new(),
            up: Vec::new(),
            outputs: VecDeque::new(),
            did: Vec::new(),
        }
    }

    fn start_up(&mut self) {
        self.send(&client::start_up());
        self.receive(&server::welcome());
        // The start-up packet has no tag.
        self.wire.clear();
        assert_eq!(self.heard(), "RSKZ");
        self.did.clear();
    }

    /// Behind a relay, after start-up, checked out by nobody.
    pub(super) fn listening(settings: Settings) -> Self {
        let mut pair = Pair::new(settings);
        pair.machine.listen();
        pair.start_up();
        pair
    }

    /// With a statement in flight, of which nothing has come.
    pub(super) fn running() -> (Pair, LeaseId) {
        let mut pair = Pair::open();
        let lease = pair.machine.check_out_lease();
        pair.send(&client::execute("slow"));
        assert_eq!(pair.got(), "BES");
        (pair, lease)
    }

    /// In a transaction whose BEGIN was answered.
    pub(super) fn in_transaction() -> (Pair, LeaseId) {
        let mut pair = Pair::open();
        pair.send(&client::query("BEGIN"));
        pair.receive(&server::ready(b'T'));
        pair.poll();
        assert_eq!((pair.got(), pair.heard()), ("Q".into(), "Z".into()));
        let lease = pair.machine.check_out_lease();
        (pair, lease)
    }

    // ---- leases -----------------------------------------------------------

    /// The next check-out, under a context without a deadline.
    pub(super) fn check_out(&mut self) -> LeaseId {
        assert!(self.machine.is_clean(), "{:?}", self.machine);
        let lease = self.machine.handle_check_out(None, true, self.now);
        self.settle();
        lease
    }

    pub(super) fn end(&mut self, lease: LeaseId) {
        self.machine.handle_ended(lease, self.now);
        self.settle();
    }

    pub(super) fn finish(&mut self, lease: LeaseId) {
        self.machine.handle_finished(lease, self.now);
        self.settle();
    }

    /// The check-out is over.
    pub(super) fn release(&mut self) {
        let lease = self.machine.check_out_lease();
        self.machine.handle_released(lease, self.now);
        self.settle();
    }

    /// An operation that takes the place of the check-out.
    pub(super) fn begin(&mut self) -> LeaseId {
        assert!(self.machine.is_polled());
        let lease = self.machine.handle_begin(None, self.now);
        self.settle();
        lease
    }

    /// It is over.
    pub(super) fn leave(&mut self, operation: LeaseId) {
        self.machine.handle_released(operation, self.now);
        self.settle();
    }

    /// An operation beside others on one client.
    pub(super) fn beside(&mut self) -> LeaseId {
        self.machine.handle_seen(None)
    }

    // ---- the client's side --------------------------------------------------

    /// The client puts bytes into its buffer and the connection is polled.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.send_as(None, bytes);
    }

    /// The same, for an operation that was told by its wake.
    pub(super) fn send_as(&mut self, mut seen: Option<LeaseId>, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.write(&mut seen, usize::MAX);
    }

    /// One poll of the client's connection: reads all, writes, flushes.
    pub(super) fn poll(&mut self) {
        let mark = self.machine.mark();
        self.machine.handle_taken_up(self.now);
        self.settle();
        if self.write(&mut None, usize::MAX) {
            self.machine.handle_polled(mark, self.now);
            self.settle();
        }
    }

    /// Writes at most `limit` bytes. Was all of it taken?
    pub(super) fn write(&mut self, seen: &mut Option<LeaseId>, mut limit: usize) -> bool {
        if self.buffer.len() > self.scanned {
            let fresh = &self.buffer[self.scanned..];
            let taken = self.machine.handle_queued(fresh, seen, self.now);
            self.scanned += taken.expect("a client that speaks the protocol");
            self.settle();
        }
        loop {
            match self.machine.next_write() {
                NextWrite::Nothing => return self.buffer.is_empty(),
                NextWrite::Hold => return false,
                NextWrite::Drop(len) => {
                    self.buffer.drain(..len);
                    self.scanned -= len;
                    self.machine.handle_dropped(len, self.now);
                    self.did.push(Did::Dropped(len));
                }
                NextWrite::Own | NextWrite::Client(_) if limit == 0 => return false,
                NextWrite::Own => limit -= self.write_own(limit),
                NextWrite::Client(len) => {
                    let len = len.min(limit);
                    limit -= len;
                    let bytes: Vec<u8> = self.buffer.drain(..len).collect();
                    self.scanned -= len;
                    self.machine.handle_wrote(&bytes, self.now);
                    self.wire.extend_from_slice(&bytes);
                    self.did.push(Did::Wrote(len));
                }
            }
            self.settle();
        }
    }

    fn write_own(&mut self, limit: usize) -> usize {
        let len = self.machine.own_bytes().len().min(limit);
        let bytes = self.machine.own_bytes()[..len].to_vec();
        self.machine.injected(len);
        self.wire.extend_from_slice(&bytes);
        self.did.push(Did::Own(bytes));
        len
    }

    /// What the driver writes by itself, whoever polls.
    pub(super) fn drive(&mut self) {
        while self.machine.next_write() == NextWrite::Own {
            self.write_own(usize::MAX);
        }
        self.settle();
    }

    // ---- a relay's client ---------------------------------------------------

    /// Does what the client has said to the session, if that is due, and answers
    /// it.
    pub(super) fn answer(&mut self) -> Option<Saying> {
        let saying = self.machine.due_saying()?;
        match saying {
            Saying::CheckOut(_) => {
                self.machine.handle_check_out(None, true, self.now);
            }
            Saying::Operation(_) => {
                self.machine.handle_begin(None, self.now);
            }
            Saying::Return => {}
        }
        let status = self.machine.begin_answer();
        self.up.extend_from_slice(&server::ready(status));
        self.machine.answered(self.now);
        self.settle();
        Some(saying)
    }

    // ---- the server's side --------------------------------------------------

    pub(super) fn receive(&mut self, bytes: &[u8]) {
        const WELL: &str = "a server that speaks the protocol";
        if !self.machine.wants_filter() {
            self.up.extend_from_slice(bytes);
            let taken = self.machine.handle_received(bytes, None, self.now);
            assert_eq!(taken.expect(WELL), bytes.len());
        } else {
            let mut rest = bytes;
            while !rest.is_empty() {
                let up = Some(&mut self.up);
                let taken = self
                    .machine
                    .handle_received(rest, up, self.now)
                    .expect(WELL);
                rest = &rest[taken..];
                self.settle();
            }
        }
        self.settle();
    }

    /// What the server got since this was asked last, by its tags.
    pub(super) fn got(&mut self) -> String {
        self.drive();
        tags(&std::mem::take(&mut self.wire))
    }

    /// What went up since this was asked last, by its tags.
    pub(super) fn heard(&mut self) -> String {
        let heard = tags(&std::mem::take(&mut self.up));
        self.machine.handle_taken_up(self.now);
        self.settle();
        heard
    }

    // ---- attempts and time --------------------------------------------------

    /// The number of the cancel that the session dials now.
    #[track_caller]
    pub(super) fn dialed(&mut self) -> u32 {
        match self.output() {
            Some(Output::Dial(number)) => number,
            other => panic!("no dial but {other:?}: {:?}", self.machine),
        }
    }

    /// A cancel is dialed and written.
    #[track_caller]
    pub(super) fn cancel(&mut self) -> u32 {
        let number = self.dialed();
        assert!(self.connected(number), "{:?}", self.machine);
        number
    }

    /// A dial is through: may the request be written?
    pub(super) fn connected(&mut self, number: u32) -> bool {
        let wanted = self.machine.handle_attempt_connected(number, self.now);
        self.settle();
        wanted
    }

    pub(super) fn over(&mut self, number: u32, outcome: Outcome) {
        self.machine.handle_attempt_over(number, outcome, self.now);
        self.settle();
    }

    /// Has the cancel that is due sent, answered and closed.
    #[track_caller]
    pub(super) fn drain(&mut self, status: u8) {
        let attempt = self.cancel();
        self.receive(&cancelled(status));
        self.over(attempt, Outcome::Eof);
        assert_eq!(self.output(), Some(Output::Drained));
    }

    /// The next output, the sweep's aside.
    pub(super) fn output(&mut self) -> Option<Output> {
        self.outputs.retain(|output| *output != Output::Busy);
        self.outputs.pop_front()
    }

    /// Lets time pass, timer by timer, as the driver would.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        for step in 0.. {
            assert!(step < 10_000, "spins: {:?}", self.machine);
            match self.machine.poll_timeout() {
                Some(due) if due <= until => {
                    self.now = self.now.max(due);
                    self.machine.handle_time(self.now);
                    let next = self.machine.poll_timeout();
                    assert!(next.is_none_or(|at| at > self.now), "a timer in the past");
                    self.settle();
                }
                _ => break,
            }
        }
        self.now = until;
    }

    /// As the driver after each event: answers, and takes what is to be done.
    pub(super) fn settle(&mut self) {
        if self.machine.has_answers() {
            let mut text = |_: &Request, up: &mut Vec<u8>| {
                up.extend_from_slice(&server::error("ERROR", "told"));
            };
            self.machine.settle(&mut text, &mut self.up, self.now);
        }
        while let Some(output) = self.machine.poll_output() {
            self.outputs.push_back(output);
        }
    }

    // ---- the end of a test --------------------------------------------------

    /// Released, nothing is left: nothing in flight, nothing queued, no timer.
    #[track_caller]
    pub(super) fn assert_clean(&mut self) {
        self.poll();
        self.release();
        self.poll();
        assert_eq!(self.got(), "", "something is written at release");
        assert_eq!(self.heard(), "", "something goes up at release");
        self.assert_rests();
    }

    /// The same, for one that is released already.
    #[track_caller]
    pub(super) fn assert_rests(&mut self) {
        assert!(self.machine.is_clean(), "{:?}", self.machine);
        assert!(self.machine.is_idle() && !self.machine.wants_filter());
        assert!(self.buffer.is_empty());
        // The sweep looks once more, and finds nothing.
        self.pass(Settings::default().sweep);
        assert_eq!(self.machine.poll_timeout(), None, "{:?}", self.machine);
        let due = |output: &Output| !matches!(output, Output::Drained | Output::Busy);
        assert!(!self.outputs.iter().any(due), "{:?}", self.outputs);
    }

    #[track_caller]
    pub(super) fn assert_retired(&self, why: &Retired) {
        let retired = Output::Retire(why.clone());
        assert!(self.outputs.contains(&retired), "{:?}", self.machine);
        assert_eq!(self.machine.poll_timeout(), None);
    }
}

/// What a server says to a statement that was cancelled.
pub(super) fn cancelled(status: u8) -> Vec<u8> {
    [server::error("ERROR", "cancelled"), server::ready(status)].concat()
}

pub(super) const MS: Duration = Duration::from_millis(1);
