//! What may be written next (rules 3 and 6).

use super::{Machine, Rule, Stage};
use crate::wire::backend::Status;
use crate::wire::ledger::{CopyFate, Own, Part, PartKind};
use crate::wire::request::{Class, Request};

/// See [`Machine::next_write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextWrite {
    /// The session's own bytes, [`Machine::injected`].
    Own,
    /// So many bytes from the front of the client's.
    Client(usize),
    /// So many bytes from the front of the client's are not to be written.
    Drop(usize),
    /// There are bytes, and they have to wait.
    Hold,
    /// There are none.
    Nothing,
}

/// What is to be done with a request of which nothing is written.
enum Verdict {
    Write,
    Refuse,
    Hold,
    /// First its transaction has to fail on the server as well.
    FailFirst,
}

impl Machine {
    /// What may be written next. Whatever is written or dropped has to be
    /// reported before the next call.
    pub(crate) fn next_write(&mut self) -> NextWrite {
        if !self.inject.is_empty() && self.ledger.may_inject() {
            return NextWrite::Own;
        }
        let (mut write, mut wait, mut fail, mut drop) = (0, false, false, None);
        for part in self.ledger.parts() {
            match self.part_fate(part, write > 0) {
                PartFate::Write => write += part.len,
                // What comes behind is judged anew at the boundary.
                PartFate::Finish(rest) => {
                    write += rest;
                    break;
                }
                PartFate::Drop => {
                    drop = (write == 0).then_some(*part);
                    break;
                }
                PartFate::Hold => {
                    wait = true;
                    break;
                }
                PartFate::FailFirst => {
                    wait = true;
                    fail = write == 0;
                    break;
                }
            }
        }
        if let Some(part) = drop {
            return self.drop_front(&part);
        }
        if fail && !self.ledger.any_in_flight() && self.inject.is_empty() {
            let bytes: &[u8] = if self.ledger.server_status() == Status::Idle {
                BEGIN_AND_FAIL
            } else {
                FAIL
            };
            self.send_own(Own::Fail, bytes);
            return NextWrite::Own;
        }
        match (write, wait) {
            (0, false) => NextWrite::Nothing,
            (0, true) => NextWrite::Hold,
            (len, _) => NextWrite::Client(len),
        }
    }

    fn drop_front(&mut self, part: &Part) -> NextWrite {
        let queued = self
            .ledger
            .request(part.request)
            .is_some_and(|request| request.stage == Stage::Queued);
        if part.kind == PartKind::Request && queued {
            self.ledger.refuse(part.request);
        }
        NextWrite::Drop(part.len)
    }

    fn part_fate(&self, part: &Part, behind: bool) -> PartFate {
        match part.kind {
            PartKind::StartUp => PartFate::Write,
            PartKind::Terminate if self.holds() => PartFate::Hold,
            PartKind::Terminate => PartFate::Write,
            PartKind::CopyData | PartKind::CopyEnd | PartKind::CopySync => {
                match self.ledger.copy_fate(part) {
                    CopyFate::Write => PartFate::Write,
                    CopyFate::Finish(rest) => PartFate::Finish(rest.min(part.len)),
                    CopyFate::Drop => PartFate::Drop,
                }
            }
            PartKind::Request => {
                let Some(request) = self.ledger.request(part.request) else {
                    return PartFate::Drop;
                };
                match request.stage {
                    Stage::InFlight => PartFate::Write,
                    Stage::Refused | Stage::Done => PartFate::Drop,
                    Stage::Queued => match self.verdict(request, behind) {
                        Verdict::Write => PartFate::Write,
                        Verdict::Refuse => PartFate::Drop,
                        Verdict::Hold => PartFate::Hold,
                        Verdict::FailFirst => PartFate::FailFirst,
                    },
                }
            }
        }
    }

    /// `behind`: another request is about to be written before it.
    fn verdict(&self, request: &Request, behind: bool) -> Verdict {
        let ended = self.leases.ended(request.lease);
        match request.class {
            Class::Undecided => Verdict::Hold,
            Class::Work if ended && self.with(Rule::RefuseQueued) => Verdict::Refuse,
            Class::Said => Verdict::Refuse,
            _ if self.holds() || self.ledger.copies_in() => Verdict::Hold,
            // Alone: a cancel of what is before it could hit it, and a cancel
            // of what is behind it would have to wait.
            Class::CleanUp
                if (behind || self.ledger.any_in_flight())
                    && self.with(Rule::WriteCleanUpAlone) =>
            {
                Verdict::Hold
            }
            Class::CleanUp => Verdict::Write,
            // Work was told as ended inside a transaction: whatever the server
            // made of it, that transaction has failed (rule 6).
            Class::Work
                if self.with(Rule::FailTransaction)
                    && self.ledger.client_status() == Status::Failed
                    && self.ledger.server_status() != Status::Failed =>
            {
                Verdict::FailFirst
            }
            Class::Work => Verdict::Write,
        }
    }

    /// Is no new request to be written?
    pub(super) fn holds(&self) -> bool {
        self.draining && self.with(Rule::HoldWhileDraining)
            || self.spent()
            || self.ledger.own().is_some()
            || !self.inject.is_empty()
            || self.retired.is_some()
    }

    /// The session's own bytes that are to be written next.
    pub(crate) fn own_bytes(&self) -> &[u8] {
        &self.inject
    }

    /// So many of them were written.
    pub(crate) fn injected(&mut self, len: usize) {
        self.inject.drain(..len);
        // A fence may have waited for them.
        self.end_copies();
    }

    /// These bytes of the client's were written.
    pub(crate) fn handle_wrote(&mut self, bytes: &[u8], now: super::Instant) {
        self.ledger.wrote(bytes);
        for request in self.ledger.requests().filter(|request| request.in_flight()) {
            if let Some(lease) = self.leases.get_mut(request.lease) {
                lease.sent = true;
            }
        }
        self.decide(now);
    }

    /// So many bytes of the client's were dropped.
    pub(crate) fn handle_dropped(&mut self, len: usize, now: super::Instant) {
        self.ledger.dropped(len);
        self.decide(now);
    }
}

enum PartFate {
    Write,
    /// Only the rest of the message that has begun.
    Finish(usize),
    Drop,
    Hold,
    FailFirst,
}

/// Fails in any transaction: nobody else makes a savepoint of this name.
const FAIL: &[u8] = b"Q\0\0\0\x37ROLLBACK TO \"pgdeadline: told as ended, so failed\"\0";
/// The same where the transaction is over on the server, and must not be for
/// the client.
const BEGIN_AND_FAIL: &[u8] =
    b"Q\0\0\0\x3eBEGIN; ROLLBACK TO \"pgdeadline: told as ended, so failed\"\0";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::framer::Framer;

    #[test]
    fn the_failing_statements_are_whole_messages() {
        for bytes in [FAIL, BEGIN_AND_FAIL] {
            let (mut framer, mut input) = (Framer::default(), bytes);
            assert!(framer.next(&mut input).unwrap().unwrap().ends);
            assert!(input.is_empty(), "{}", input.escape_ascii());
        }
    }
}
