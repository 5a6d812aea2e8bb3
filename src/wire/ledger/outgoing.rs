//! From the client to the server: scanned, then written or dropped.

use super::{Class, CopyIn, Kind, LeaseId, Ledger, Malformed, Stage, Tail};
use crate::wire::frontend::{Run, RunKind};
use crate::wire::saying::{LONE_SYNC, Saying};
use crate::wire::statement::Verb;

/// Unwritten bytes of the client's, and the request that they belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Part {
    pub(crate) kind: PartKind,
    pub(crate) request: u64,
    pub(crate) len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PartKind {
    /// Start-up, authentication, negotiation: belongs to no request.
    StartUp,
    /// Up to and with the sync point.
    Request,
    CopyData,
    /// CopyDone or CopyFail.
    CopyEnd,
    /// The Sync behind CopyDone or CopyFail.
    CopySync,
    Terminate,
}

impl Ledger {
    /// Takes in bytes of the client that were not seen before, and says how
    /// many. `lease` is asked once for each request that begins in them.
    ///
    /// What is said to the session decides whose the next request is: nothing
    /// behind it is looked at before it is answered.
    pub(crate) fn scan(
        &mut self,
        input: &[u8],
        lease: &mut dyn FnMut() -> LeaseId,
    ) -> Result<usize, Malformed> {
        let mut bytes = input;
        while !self.is_spoken_to()
            && let Some(run) = self.frontend.next(&mut bytes)?
        {
            let (kind, request) = self.place(&run, lease)?;
            self.note(&run, kind, request);
            match self.parts.back_mut() {
                Some(part) if part.kind == kind && part.request == request => part.len += run.len,
                _ => self.parts.push_back(Part {
                    kind,
                    request,
                    len: run.len,
                }),
            }
        }
        Ok(input.len() - bytes.len())
    }

    /// Which part of which request is this run?
    fn place(
        &mut self,
        run: &Run,
        lease: &mut dyn FnMut() -> LeaseId,
    ) -> Result<(PartKind, u64), Malformed> {
        let last = self.last.map_or(0, |(number, _)| number);
        Ok(match run.kind {
            RunKind::StartUp | RunKind::Negotiation if self.starting => (PartKind::StartUp, 0),
            RunKind::StartUp | RunKind::Negotiation => {
                return Err(Malformed::Frontend {
                    tag: b'p',
                    phase: "after start-up",
                });
            }
            RunKind::Terminate => (PartKind::Terminate, 0),
            RunKind::CopyData if self.open.is_none() => (PartKind::CopyData, last),
            RunKind::CopyEnd if self.open.is_none() => (PartKind::CopyEnd, last),
            RunKind::Sync if self.tail_sync_due => (PartKind::CopySync, last),
            RunKind::Simple
            | RunKind::Close
            | RunKind::Extended
            | RunKind::Sync
            | RunKind::CopyData
            | RunKind::CopyEnd => {
                let number = match self.open {
                    Some(number) => number,
                    None => self.begin(run.kind, lease()),
                };
                (PartKind::Request, number)
            }
        })
    }

    fn begin(&mut self, kind: RunKind, lease: LeaseId) -> u64 {
        let kind = match kind {
            RunKind::Simple => Kind::Simple,
            _ => Kind::Extended,
        };
        let number = self.push(lease, kind, Class::Undecided);
        self.last = Some((number, kind));
        self.open = Some(number);
        // Whoever begins something else has left a COPY of the simple
        // protocol, which needs no end after an error.
        self.client_copies = false;
        self.tail_sync_due = false;
        number
    }

    /// What the run says about its request.
    fn note(&mut self, run: &Run, kind: PartKind, number: u64) {
        match kind {
            PartKind::StartUp => {
                let more = u8::from(run.kind == RunKind::Negotiation);
                self.negotiations = self.negotiations.saturating_add(more);
            }
            PartKind::Request => {
                let closes = run.ends && matches!(run.kind, RunKind::Simple | RunKind::Sync);
                let listens = self.listens;
                if let Some(request) = self.request_mut(number) {
                    request.unwritten += run.len;
                    if let Some(verb) = run.verb {
                        request.verb = if request.verb == Verb::Other {
                            verb
                        } else {
                            request.verb
                        };
                    }
                    let class = match run.kind {
                        RunKind::Simple => run.verb.map(|verb| Class::of(verb, listens)),
                        RunKind::Sync if closes && listens && request.unwritten == LONE_SYNC => {
                            request.verb = Verb::Said(Saying::Return);
                            Some(Class::Said)
                        }
                        // Close, and nothing but Close, before a Sync.
                        RunKind::Sync => run.ends.then_some(Class::CleanUp),
                        RunKind::Close => None,
                        _ => Some(Class::Work),
                    };
                    if let (Class::Undecided, Some(class)) = (request.class, class) {
                        request.class = class;
                    }
                    if run.kind == RunKind::CopyEnd {
                        request.tail = Tail::Inside;
                    }
                    request.synced |= closes;
                }
                if closes {
                    self.open = None;
                }
            }
            PartKind::CopyEnd if run.ends => {
                self.tail_sync_due = matches!(self.last, Some((_, Kind::Extended)));
                self.client_copies &= self.tail_sync_due;
                self.begin_tail(number);
            }
            PartKind::CopyEnd => self.begin_tail(number),
            PartKind::Terminate => self.terminates |= run.ends,
            PartKind::CopySync if run.ends => {
                self.tail_sync_due = false;
                self.client_copies = false;
            }
            _ => {}
        }
    }

    fn begin_tail(&mut self, number: u64) {
        if let Some(request) = self.request_mut(number)
            && request.tail == Tail::No
        {
            request.tail = Tail::Begun;
        }
    }

    /// The unwritten parts, in the client's order.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter()
    }

    /// What of a COPY's part may be written: all of it, the rest of the
    /// message that has begun, or nothing.
    pub(crate) fn copy_fate(&self, part: &Part) -> CopyFate {
        let dropped = match self.request(part.request) {
            // The request is over, so the server is not in copy mode.
            None => true,
            Some(request) => {
                request.stage != Stage::InFlight
                    || request.copy_ended
                    || request.copy_failed_early()
                    || request.copy == CopyIn::Failed && request.kind == Kind::Simple
            }
        };
        match (dropped, self.writer.outstanding()) {
            (false, _) => CopyFate::Write,
            (true, 0) => CopyFate::Drop,
            (true, rest) => CopyFate::Finish(rest),
        }
    }

    /// Notes that these bytes, the front of the parts, were written.
    pub(crate) fn wrote(&mut self, mut bytes: &[u8]) {
        while let (false, Some(part)) = (bytes.is_empty(), self.parts.front().copied()) {
            let (now, rest) = bytes.split_at(part.len.min(bytes.len()));
            bytes = rest;
            // A request that is written whole ends where a message ends.
            let mut whole = false;
            match part.kind {
                PartKind::StartUp => whole = true,
                PartKind::Request => {
                    let at_boundary = self.writer.at_boundary();
                    if let Some(request) = self.request_mut(part.request) {
                        whole = at_boundary && request.stage == Stage::Queued;
                        request.stage = Stage::InFlight;
                        request.unwritten -= now.len();
                        whole &= request.synced && request.unwritten == 0;
                    }
                }
                PartKind::CopyEnd | PartKind::CopySync => {
                    if let Some(request) = self.request_mut(part.request)
                        && (request.kind == Kind::Simple || part.kind == PartKind::CopySync)
                    {
                        request.tail = Tail::Written;
                    }
                }
                PartKind::CopyData | PartKind::Terminate => {}
            }
            if !whole {
                let mut pieces = now;
                // Scanned before, so well formed.
                while let Ok(Some(_)) = self.writer.next(&mut pieces) {}
            }
            self.consume(now.len());
        }
    }

    /// Notes that so many bytes at the front of the parts were dropped.
    pub(crate) fn dropped(&mut self, mut len: usize) {
        while let (true, Some(part)) = (len > 0, self.parts.front().copied()) {
            let now = part.len.min(len);
            len -= now;
            if part.kind == PartKind::Request
                && let Some(request) = self.request_mut(part.request)
            {
                request.unwritten -= now;
            }
            self.consume(now);
        }
    }

    fn consume(&mut self, len: usize) {
        if let Some(part) = self.parts.front_mut() {
            part.len -= len;
            if part.len == 0 {
                self.parts.pop_front();
            }
        }
    }
}

/// See [`Ledger::copy_fate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CopyFate {
    Write,
    /// So many bytes are left of a message that was begun.
    Finish(usize),
    Drop,
}

impl Class {
    fn of(verb: Verb, listens: bool) -> Self {
        match verb {
            Verb::Rollback | Verb::RollbackTo | Verb::GiveBack => Class::CleanUp,
            Verb::Said(_) if listens => Class::Said,
            Verb::Commit | Verb::Copy | Verb::Said(_) | Verb::Other => Class::Work,
        }
    }
}
