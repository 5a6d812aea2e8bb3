//! What the client's side and the driver of one session share: the socket, the
//! machine, and what waits to go up.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::attribution::{Attribution, Polled};
use super::bound::Bound;
use super::machine::{Machine, NextWrite, Why};
use crate::connect::Transport;
use crate::context::{Cause, End, Progress, Reason};
use crate::error::{Error, Phase, response_texts};
use crate::wire::framer::Malformed;
use crate::wire::message;
use crate::wire::request::{LeaseId, Request};
use crate::wire::statement::Verb;

/// See the [module](self).
pub(crate) struct Core {
    pub(super) machine: Machine,
    pub(super) bound: Bound,
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
    pub(super) task: Option<Waker>,
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
    pub(super) fn begin_poll(&mut self, task: &Waker, now: Instant) {
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

    // ---- the client's side --------------------------------------------------

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if self.up_from < self.up.len() {
                self.hand_up(buf);
                return Poll::Ready(Ok(()));
            }
            let Some(transport) = &mut self.transport else {
                return Poll::Ready(self.closing());
            };
            if self.machine.wants_filter() {
                // Whatever comes is looked at message by message.
                match self.poll_fill(cx) {
                    Poll::Ready(Ok(true)) => continue,
                    Poll::Ready(Ok(false)) => return Poll::Ready(Ok(())),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return self.no_more(),
                }
            }
            let before = buf.filled().len();
            match Pin::new(transport).poll_read(cx, buf) {
                Poll::Ready(Ok(())) => {
                    let now = self.now();
                    let result = self
                        .machine
                        .handle_received(&buf.filled()[before..], None, now);
                    self.settle(now);
                    return Poll::Ready(match result {
                        Ok(_) => Ok(()),
                        Err(malformed) => Err(self.malformed(malformed)),
                    });
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.no_more(),
            }
        }
    }

    /// Hands up what waits, and gives the buffer back once it is empty.
    fn hand_up(&mut self, buf: &mut ReadBuf<'_>) {
        let waiting = &self.up[self.up_from..];
        let len = waiting.len().min(buf.remaining());
        buf.put_slice(&waiting[..len]);
        self.up_from += len;
        if self.up_from == self.up.len() {
            self.up_from = 0;
            self.up.clear();
            if self.up.capacity() > KEPT {
                self.up = Vec::new();
            }
        }
    }

    fn no_more(&mut self) -> Poll<io::Result<()>> {
        self.reading = true;
        self.asked = true;
        self.machine.handle_taken_up(self.now());
        Poll::Pending
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let now = self.now();
        if let Some(fresh) = buf.get(self.scanned..)
            && !fresh.is_empty()
        {
            // The tail of a COPY that stands before a request: its sink
            // has woken, and nobody knows who else (rule 7).
            if matches!(fresh[0], b'd' | b'c' | b'f') && self.machine.next_request() == self.first {
                self.seen = None;
                self.first_is_out = false;
            }
            let scanned = self.machine.handle_queued(fresh, &mut self.seen, now);
            scanned.map_err(|malformed| self.malformed(malformed))?;
            self.scanned = buf.len();
            self.settle(now);
        }
        loop {
            if self.transport.is_none() {
                return Poll::Ready(self.closing().map(|()| 0));
            }
            match self.machine.next_write() {
                NextWrite::Nothing => return Poll::Ready(Ok(0)),
                NextWrite::Own => ready!(self.poll_own(cx))?,
                NextWrite::Hold => {
                    self.held = true;
                    return Poll::Pending;
                }
                NextWrite::Drop(len) => {
                    self.machine.handle_dropped(len, now);
                    self.scanned -= len;
                    self.settle(now);
                    return Poll::Ready(Ok(len));
                }
                NextWrite::Client(len) => {
                    let Some(transport) = &mut self.transport else {
                        continue;
                    };
                    let len = ready!(Pin::new(transport).poll_write(cx, &buf[..len]))?;
                    if len == 0 {
                        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                    }
                    self.machine.handle_wrote(&buf[..len], now);
                    self.scanned -= len;
                    return Poll::Ready(Ok(len));
                }
            }
        }
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(transport) = &mut self.transport else {
            return Poll::Ready(self.closing());
        };
        ready!(Pin::new(transport).poll_flush(cx))?;
        self.flushed = true;
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Some(transport) => Pin::new(transport).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    // ---- the driver's side --------------------------------------------------

    /// Does by itself what the client's polls would not: writes the session's
    /// own bytes, reads on while ended work drains, answers in the server's
    /// place. Says whether the client should be polled again.
    pub(super) fn poll_drive(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        while self.transport.is_some() && self.machine.next_write() == NextWrite::Own {
            if self.poll_own(cx)?.is_pending() {
                break;
            }
        }
        if let Some(transport) = &mut self.transport
            && self.machine.drains()
        {
            let _ = Pin::new(transport).poll_flush(cx)?;
        }
        while self.transport.is_some() && self.machine.drains() && self.up.len() < UP_LIMIT {
            match self.poll_fill(cx)? {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Poll::Pending => break,
            }
        }
        self.settle(self.now());
        Ok(self.wants_poll())
    }

    /// Is there something that a poll of the client would move?
    fn wants_poll(&mut self) -> bool {
        let news = self.reading && self.up_from < self.up.len();
        let may_write = self.held
            && !matches!(
                self.machine.next_write(),
                NextWrite::Hold | NextWrite::Nothing | NextWrite::Own
            );
        self.reading &= !news;
        self.held &= !may_write;
        news || may_write
    }

    /// Reads into a buffer of the session's own and keeps what is to go up.
    /// `false`: the server has closed.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let Some(transport) = &mut self.transport else {
            return Poll::Ready(self.closing().map(|()| false));
        };
        let mut scratch = [0; SCRATCH];
        let mut buf = ReadBuf::new(&mut scratch);
        ready!(Pin::new(transport).poll_read(cx, &mut buf))?;
        if buf.filled().is_empty() {
            return Poll::Ready(Ok(false));
        }
        let now = self.now();
        let mut rest = buf.filled();
        while !rest.is_empty() {
            let taken = self
                .machine
                .handle_received(rest, Some(&mut self.up), now)
                .map_err(|malformed| self.malformed(malformed))?;
            rest = &rest[taken..];
            self.settle(now);
        }
        Poll::Ready(Ok(true))
    }

    fn poll_own(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(transport) = &mut self.transport else {
            return Poll::Ready(Ok(()));
        };
        let len = ready!(Pin::new(&mut *transport).poll_write(cx, self.machine.own_bytes()))?;
        if len == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.machine.injected(len);
        Poll::Ready(Ok(()))
    }

    /// Answers in the server's place what is to be answered (rules 1 and 6).
    pub(super) fn settle(&mut self, now: Instant) {
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
            let sent = request.in_flight();
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
    pub(super) fn close(&mut self, error: Error) {
        self.closed.get_or_insert(error);
        self.transport = None;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.transport.is_none()
    }

    pub(super) fn error(&self) -> Option<&Error> {
        self.closed.as_ref()
    }

    /// The handle by which the socket's deadlines are set.
    pub(super) fn transport(&self) -> Option<&Transport> {
        self.transport.as_ref()
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

/// How much is read at once while filtering; on the stack, so it costs nothing
/// while nobody drains.
const SCRATCH: usize = 8 * 1024;
/// What may wait to go up before the drain waits for the reader.
const UP_LIMIT: usize = 64 * 1024;
/// By how much the machine's own timer comes first.
const GUARD: std::time::Duration = std::time::Duration::from_millis(5);
/// Room that is kept for answers; more is given back.
const KEPT: usize = 1024;
