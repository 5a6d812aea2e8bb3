//! The ledger between two sides that a test plays.

mod copy;
mod rules;
mod sayings;
mod splits;
mod start_up;

use super::*;
use crate::wire::testing::{client, server, split, tags};

/// A ledger, what the server was sent, and what went up to the client.
struct Line {
    ledger: Ledger,
    /// The lease of the next request.
    lease: u32,
    /// What the client has queued and nobody has written.
    queued: Vec<u8>,
    written: Vec<u8>,
    up: Vec<u8>,
}

impl Line {
    fn new() -> Self {
        Line {
            ledger: Ledger::new(99),
            lease: 1,
            queued: Vec::new(),
            written: Vec::new(),
            up: Vec::new(),
        }
    }

    /// After a start-up, with nothing recorded of it.
    fn open() -> Self {
        let mut line = Line::new();
        line.send(&client::start_up());
        line.receive(&server::welcome());
        line.written.clear();
        line.up.clear();
        line
    }

    fn try_queue(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let lease = self.lease;
        self.queued.extend_from_slice(bytes);
        self.ledger
            .scan(bytes, &mut || LeaseId(lease))
            .map(|scanned| assert_eq!(scanned, bytes.len()))
    }

    fn queue(&mut self, bytes: &[u8]) {
        self.try_queue(bytes).unwrap();
    }

    /// Writes at most `limit` bytes of what is queued; what a COPY must not
    /// have any more is dropped.
    fn write(&mut self, mut limit: usize) {
        while limit > 0 {
            let Some(part) = self.ledger.parts().next().copied() else {
                return;
            };
            let len = match part.kind {
                PartKind::CopyData | PartKind::CopyEnd | PartKind::CopySync => {
                    match self.ledger.copy_fate(&part) {
                        CopyFate::Write => part.len,
                        CopyFate::Finish(rest) => rest.min(part.len),
                        CopyFate::Drop => {
                            self.ledger.dropped(part.len);
                            self.queued.drain(..part.len);
                            continue;
                        }
                    }
                }
                _ => part.len,
            }
            .min(limit);
            limit -= len;
            let bytes: Vec<u8> = self.queued.drain(..len).collect();
            self.ledger.wrote(&bytes);
            self.written.extend_from_slice(&bytes);
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.queue(bytes);
        self.write(usize::MAX);
    }

    /// As the session reads: without looking at what goes up where the ledger
    /// does not ask for that.
    fn try_receive(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        if !self.ledger.wants_filter() {
            self.up.extend_from_slice(bytes);
            let taken = self.ledger.receive(bytes, None)?;
            assert_eq!(taken, bytes.len());
            return Ok(());
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = self.ledger.receive(rest, Some(&mut self.up))?;
            rest = &rest[taken..];
            self.answer();
        }
        Ok(())
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.try_receive(bytes).unwrap();
    }

    /// The work of this lease has ended: answers it.
    fn settle(&mut self, lease: u32) {
        for request in self.ledger.requests_mut() {
            request.ended |= request.works() && request.lease == LeaseId(lease);
        }
        self.answer();
    }

    fn answer(&mut self) {
        let mut text = |_: &Request, up: &mut Vec<u8>| {
            up.extend_from_slice(&server::error("ERROR", "told"));
        };
        self.ledger.settle(&mut text, &mut self.up);
    }

    /// The session's own request, with its answer still to come.
    fn own(&mut self, own: Own) {
        assert!(self.ledger.may_inject());
        self.ledger.sent_own(own);
    }

    /// What went up since this was asked last, by its tags.
    fn news(&mut self) -> String {
        tags(&std::mem::take(&mut self.up))
    }

    /// What the server got since this was asked last, by its tags.
    fn sent(&mut self) -> String {
        tags(&std::mem::take(&mut self.written))
    }

    #[track_caller]
    fn assert_over(&self) {
        assert!(self.ledger.is_empty(), "{:?}", self.ledger);
        assert!(!self.ledger.any_in_flight());
        assert!(!self.ledger.wants_filter());
        assert!(self.queued.is_empty());
    }
}
