//! What the client's side and the driver of one session share: the socket, the
//! machine, and what waits to go up.

mod client;
mod drive;

use std::io;
use std::task::Waker;

use tokio::time::Instant;

use super::attribution::{Attribution, Polled};
use super::bound::Bound;
use super::machine::{Machine, Why};
use crate::connect::Transport;
use crate::context::{Cause, End, Progress, Reason};
use crate::error::{Error, Phase, response_texts};
use crate::wire::framer::Malformed;
use crate::wire::message;
use crate::wire::request::{LeaseId, Request};
use crate::wire::statement::Verb;

/// See the [module](self).
pub(crate) struct Core {
    pub(crate) machine: Machine,
    pub(crate) bound: Bound,
    /// `None` once the session is closed or retired.
    transport: Option<Transport>,
    /// Why it is closed, for whoever reads or writes later.
    closed: Option<Error>,
    /// What is to go up to the client before anything else.
    up: Vec<u8>,
    up_from: usize,
    /// How many bytes of the client's write buffer were seen and not taken.
    scanned: usize,
    /// Whose the first request out of the current poll is.
    pub(super) seen: Option<LeaseId>,
    pub(super) attribution: Attribution,
    /// The number that the first request out of the current poll would have,
    /// and whether anything else came out before one.
    first: u64,
    first_is_out: bool,
    /// The client's buffer was empty, and flushed, in the current poll.
    pub(super) flushed: bool,
    /// Something was written since the socket said that it keeps nothing back,
    /// as one under TLS may.
    unflushed: bool,
    /// The client asked for more and was told to wait: since it last got
    /// something, and in the current poll.
    reading: bool,
    asked: bool,
    /// The client has bytes that were not taken.
    held: bool,
    /// When the driver's current poll began: one look at the clock serves all
    /// of it.
    now: Option<Instant>,
    /// The driver's task; before there is one, the caller's.
    pub(crate) task: Option<Waker>,
}

impl Core {
    pub(crate) fn new(machine: Machine, transport: Transport) -> Self {
        Core {
            machine,
            bound: Bound::default(),
            transport: Some(transport),
            closed: None,
            up: Vec::new(),
            up_from: 0,
            scanned: 0,
            seen: None,
            attribution: Attribution::default(),
            first: 0,
            first_is_out: false,
            asked: false,
            now: None,
            flushed: false,
            unflushed: false,
            reading: false,
            held: false,
            task: None,
        }
    }

    fn now(&self) -> Instant {
        self.now.unwrap_or_else(Instant::now)
    }

    /// The contexts whose deadline has passed.
    pub(super) fn due(&self, now: Instant) -> Vec<crate::context::Context> {
        self.machine
            .due(now)
            .filter_map(|lease| self.bound.context(lease).cloned())
            .collect()
    }

    /// To be called before each poll of the client.
    pub(crate) fn begin_poll(&mut self, task: &Waker, now: Instant) {
        self.now = Some(now);
        match &mut self.task {
            Some(known) => known.clone_from(task),
            none => *none = Some(task.clone()),
        }
        self.flushed = false;
        self.asked = false;
        self.first_is_out = true;
        self.first = self.machine.next_request();
    }

    /// What the poll that began with [`begin_poll`](Core::begin_poll) did.
    pub(super) fn end_poll(&mut self) -> Polled {
        self.seen = None;
        let any = self.first_is_out && self.machine.next_request() > self.first;
        Polled {
            first: any.then_some(self.first),
            flushed: self.flushed,
            asked: self.asked,
        }
    }

    /// Did the client's last poll leave nothing unwritten behind?
    pub(super) fn rests(&self) -> bool {
        self.flushed && self.task.is_some()
    }

    /// From the first cancel until the session is clean no read or write may
    /// outlast the grace (rule 2): the machine's timer retires the session,
    /// and this one holds even if nobody polls the machine.
    pub(super) fn guard_socket(&self, until: Instant) {
        if let Some(transport) = &self.transport {
            transport.deadlines().set_deadline(Some(until + GUARD));
        }
    }

    pub(super) fn unguard_socket(&self) {
        if let Some(transport) = &self.transport {
            transport.deadlines().set_deadline(None);
        }
    }

    /// Answers in the server's place what is to be answered (rules 1 and 6).
    pub(crate) fn settle(&mut self, now: Instant) {
        let Core {
            machine, bound, up, ..
        } = self;
        if !machine.has_answers() {
            return;
        }
        let whys: Vec<(LeaseId, Why)> = machine.whys();
        let mut text = |request: &Request, up: &mut Vec<u8>| {
            let end = match (
                bound.end(request.lease),
                whys.iter().find(|(id, _)| *id == request.lease),
            ) {
                (Some(end), _) => end.clone(),
                (None, Some((_, Why::Cancelled))) => {
                    End::remembered(Cause::Cancelled(Reason::not_given()), false)
                }
                (None, Some((_, Why::Abandoned)) | None) => End::remembered(Cause::Dropped, false),
                (None, Some(_)) => End::remembered(Cause::Deadline, false),
            };
            let sent = request.was_sent();
            let error = Error::end(
                &end,
                Progress {
                    phase: if sent && !request.half_written() {
                        Phase::Read
                    } else {
                        Phase::Write
                    },
                    sent: Some(sent),
                    commit_in_doubt: sent && request.verb == Verb::Commit,
                },
            );
            let (text, detail) = response_texts(&error);
            message::error_response(up, message::QUERY_CANCELED, &text, Some(&detail));
        };
        machine.settle(&mut text, up, now);
    }

    /// Ends the session: what was passed up so far can still be taken.
    pub(crate) fn close(&mut self, error: Error) {
        self.closed.get_or_insert(error);
        self.transport = None;
    }

    /// The socket, which whoever closes the session wants to stay open.
    pub(super) fn take_transport(&mut self) -> Option<Transport> {
        self.transport.take()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.transport.is_none()
    }

    pub(super) fn error(&self) -> Option<&Error> {
        self.closed.as_ref()
    }

    /// The handle by which the socket's deadlines are set.
    pub(super) fn transport(&self) -> Option<&Transport> {
        self.transport.as_ref()
    }

    /// What the session says to its client beside what it says in the server's
    /// place.
    pub(crate) fn say(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.up);
    }

    /// Does anything wait for the driver?
    pub(super) fn is_idle(&self) -> bool {
        self.up.is_empty() && self.machine.is_idle()
    }

    fn closing(&self) -> io::Result<()> {
        match &self.closed {
            Some(error) => Err(error.clone().into()),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn malformed(&mut self, malformed: Malformed) -> io::Error {
        let error = Error::protocol(malformed.to_string());
        self.machine.handle_malformed(malformed);
        error.into()
    }
}

/// By how much the machine's own timer comes first.
const GUARD: std::time::Duration = std::time::Duration::from_millis(5);
