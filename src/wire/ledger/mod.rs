//! The ledger: every request between client and server, and what is owed.
//!
//! # Rules
//!
//! 1. A request is in the ledger from the first of its bytes that the client
//!    hands over to the last ReadyForQuery that the server owes for it.
//! 2. Bytes are scanned once, in the client's order, before they are written;
//!    a *part* remembers to which request a run of unwritten bytes belongs.
//! 3. The server answers written requests in the order of writing; the client
//!    waits for answers in the order of sending. Both are the order of
//!    [`requests`](Ledger::requests), in which a refused request has no place
//!    on the server's side and one that was answered early none on the
//!    client's. Where the session's own answer is due,
//!    [`receive`](Ledger::receive) stops at the boundary until it is
//!    [given](Ledger::settle).
//! 4. A Sync that the server reads in copy-in mode is void. The one that a
//!    client sends with Execute is taken back when CopyInResponse comes; after
//!    an ErrorResponse in copy mode nobody can tell, and a fence decides
//!    ([`Own::Fence`]).
//! 5. The client waits for one ReadyForQuery a request. A surplus one (a COPY
//!    that failed before copy mode, its tail already on the way) is dropped.
//! 6. The session's own requests go out only between two requests of the
//!    client, one at a time, and nothing of the client's is written until
//!    they are over; their answers are dropped. Nothing is written behind a
//!    COPY FROM STDIN that is not over, for which a fence may be needed.
//!
//! 7. Where the session [listens](Ledger::listen), some requests are meant for
//!    it. They have their place in the client's order and none on the server's
//!    ([`sayings`]).
//!
//! Who may call it: the session's machine, and nobody else.

#[cfg(test)]
mod canonical;
mod incoming;
mod outgoing;
mod sayings;

use std::collections::VecDeque;

use super::backend::{Backend, Status};
use super::framer::{Framer, Malformed};
use super::frontend::Frontend;
use super::request::{Class, CopyIn, Kind, LeaseId, Request, Stage, Tail};
pub(crate) use outgoing::{CopyFate, Part, PartKind};

/// See the [module](self).
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    frontend: Frontend,
    backend: Backend,
    /// Runs over what was written: where may the session put in its own?
    writer: Framer,
    requests: VecDeque<Request>,
    /// The number of `requests[0]`; numbers are never used twice.
    first: u64,
    parts: VecDeque<Part>,
    /// The request whose sync point the client has not sent, and of the last
    /// one its number and form, for the tail of a COPY.
    open: Option<u64>,
    last: Option<(u64, Kind)>,
    /// CopyDone or CopyFail has come, and its Sync has not.
    tail_sync_due: bool,
    /// The client is inside a COPY FROM STDIN that it has not ended.
    client_copies: bool,
    own: Option<Own>,
    /// Is what a client says to the session taken as that?
    listens: bool,
    /// The client has said Terminate.
    terminates: bool,
    starting: bool,
    /// One byte, 'S' or 'N', is to come for each SSLRequest or GSSENCRequest.
    negotiations: u8,
    server: Status,
    client: Status,
    /// The client was told that a transaction is open, while it listened.
    told_open: bool,
    /// What becomes of the message that is being read.
    fate: incoming::Fate,
    facts: Facts,
}

/// A request that the session sends of its own accord.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Own {
    /// ROLLBACK of what an ended lease left open.
    Rollback,
    /// A statement that must fail, so that a transaction in which work was
    /// told as ended fails on the server too.
    Fail,
    /// An empty Query behind a COPY that failed: every ReadyForQuery before
    /// its EmptyQueryResponse is the COPY's.
    Fence,
    /// The same, after its EmptyQueryResponse.
    FencePassed,
}

/// What start-up told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) process_id: i32,
    /// Four bytes in protocol 3.0, up to 256 in 3.2; empty: none was sent.
    pub(crate) key: Vec<u8>,
    /// A key for the client where the server sends none; zero: none is wanted.
    pub(crate) invented: i32,
    /// `server_version_num`'s major part, from ParameterStatus.
    pub(crate) major: Option<u32>,
}

impl Ledger {
    /// The ledger of a connection on which nothing was said yet.
    ///
    /// `invented` is the key that the client is given if the server has none.
    pub(crate) fn new(invented: i32) -> Self {
        Ledger {
            frontend: Frontend::new(),
            backend: Backend::new(),
            writer: Framer::default(),
            requests: VecDeque::new(),
            first: 0,
            parts: VecDeque::new(),
            open: None,
            last: None,
            tail_sync_due: false,
            client_copies: false,
            own: None,
            listens: false,
            terminates: false,
            starting: true,
            negotiations: 0,
            server: Status::Idle,
            client: Status::Idle,
            told_open: false,
            fate: incoming::Fate::Pass,
            facts: Facts {
                invented,
                ..Facts::default()
            },
        }
    }

    /// Is the start-up, up to the first ReadyForQuery, not over?
    pub(crate) fn starting(&self) -> bool {
        self.starting
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The transaction status that the server told last.
    pub(crate) fn server_status(&self) -> Status {
        self.server
    }

    /// The transaction status that the client was told last.
    pub(crate) fn client_status(&self) -> Status {
        self.client
    }

    /// The client has another holder, who was told nothing yet.
    pub(crate) fn change_holder(&mut self) {
        self.forget_told();
        self.told_open = false;
    }

    /// What the client was told of its transaction is over: it returns.
    pub(crate) fn forget_told(&mut self) {
        self.client = self.server;
    }

    /// Somebody goes on after a return without having checked out. If that is the
    /// holder before it, who believes a transaction open that was rolled back
    /// meanwhile, it has failed for him.
    pub(crate) fn keep_holder(&mut self) {
        if self.told_open {
            self.client = Status::Failed;
        }
    }

    /// Does whoever held the client last believe a transaction open?
    #[cfg(test)]
    pub(crate) fn was_told_open(&self) -> bool {
        self.told_open
    }

    /// All requests, oldest first.
    pub(crate) fn requests(&self) -> impl Iterator<Item = &Request> {
        self.requests.iter()
    }

    pub(crate) fn requests_mut(&mut self) -> impl Iterator<Item = &mut Request> {
        self.requests.iter_mut()
    }

    /// The number of the oldest request in flight.
    pub(crate) fn oldest_in_flight(&self) -> Option<u64> {
        self.requests
            .iter()
            .position(Request::in_flight)
            .map(|i| self.first + i as u64)
    }

    pub(crate) fn request(&self, number: u64) -> Option<&Request> {
        self.requests
            .get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// The number that the next request will have.
    pub(crate) fn next_request(&self) -> u64 {
        self.first + self.requests.len() as u64
    }

    /// Moves a request to another lease.
    pub(crate) fn attribute(&mut self, number: u64, lease: LeaseId) {
        if let Some(request) = self.request_mut(number) {
            request.lease = lease;
        }
    }

    fn request_mut(&mut self, number: u64) -> Option<&mut Request> {
        self.requests
            .get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// Is anything in flight, the session's own included?
    pub(crate) fn any_in_flight(&self) -> bool {
        self.own.is_some() || self.requests.iter().any(Request::in_flight)
    }

    pub(crate) fn own(&self) -> Option<Own> {
        self.own
    }

    /// Has the ledger nothing left: no request, no part, no open COPY? What is
    /// said to the session does not count: it waits for just that.
    pub(crate) fn is_empty(&self) -> bool {
        self.requests
            .iter()
            .all(|request| request.class == Class::Said)
            && self.parts.is_empty()
            && self.own.is_none()
            && !self.client_copies
            && self.writer.at_boundary()
    }

    /// Is a COPY FROM STDIN in flight, or what may become one?
    pub(crate) fn copies_in(&self) -> bool {
        self.requests.iter().any(Request::copies_in)
    }

    /// Is the client inside a COPY FROM STDIN that it has not ended?
    pub(crate) fn copying(&self) -> bool {
        self.client_copies
    }

    /// Must what the server says next be filtered, message by message?
    pub(crate) fn wants_filter(&self) -> bool {
        self.starting || self.own.is_some() || self.requests.iter().any(Request::wants_filter)
    }

    /// Between two requests, and between two messages of a COPY: may the
    /// session write something of its own now?
    pub(crate) fn may_inject(&self) -> bool {
        self.writer.at_boundary() && !self.requests.iter().any(Request::half_written)
    }

    /// Is the server in the middle of a message of which a part has gone up?
    pub(crate) fn mid_message_up(&self) -> bool {
        !self.backend.at_boundary() && self.fate == incoming::Fate::Pass
    }

    /// A COPY of which nobody can tell how many ReadyForQuery it owes, its
    /// tail written or dropped: a fence is due.
    pub(crate) fn wants_fence(&self) -> bool {
        self.own.is_none()
            && self.requests.iter().any(|request| {
                request.in_flight()
                    && request.unsettled()
                    && (request.tail == Tail::Written || request.copy_ended)
            })
    }

    /// Notes that a request of the session's own was put into the stream.
    pub(crate) fn sent_own(&mut self, own: Own) {
        self.own = Some(own);
    }

    /// Notes that CopyFail (and a Sync, in the extended protocol) was put into
    /// the stream for the COPY of `number`; says which it has to be.
    pub(crate) fn end_copy(&mut self, number: u64) -> Option<Kind> {
        let request = self.request_mut(number)?;
        request.copy_ended = true;
        Some(request.kind)
    }

    /// The oldest request whose COPY the server waits for, and whether its
    /// client has left it: has begun another request without ending the COPY.
    /// (A `simple_query` of tokio-postgres does, to which CopyInResponse is an
    /// error.)
    pub(crate) fn waiting_copy(&self) -> Option<(u64, &Request, bool)> {
        let index = self.requests.iter().position(Request::waits_for_copy)?;
        let left = index + 1 < self.requests.len();
        Some((self.first + index as u64, &self.requests[index], left))
    }

    /// Refuses a request of which no byte was written: its bytes are dropped,
    /// and it is answered in its turn.
    pub(crate) fn refuse(&mut self, number: u64) {
        if let Some(request) = self.request_mut(number) {
            debug_assert_eq!(
                request.stage,
                Stage::Queued,
                "only what is unwritten can be refused"
            );
            request.stage = Stage::Refused;
        }
    }

    fn push(&mut self, lease: LeaseId, kind: Kind, class: Class) -> u64 {
        self.requests.push_back(Request::new(lease, kind, class));
        self.first + self.requests.len() as u64 - 1
    }

    /// Forgets the requests at the front that are over.
    fn sweep(&mut self) {
        while self
            .requests
            .front()
            .is_some_and(|request| request.stage == Stage::Done)
        {
            self.requests.pop_front();
            self.first += 1;
        }
    }
}

impl Request {
    fn copy_failed_early(&self) -> bool {
        self.failed && self.copy == CopyIn::No
    }
}

#[cfg(test)]
mod tests;
