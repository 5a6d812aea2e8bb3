//! A client like tokio-postgres: a queue that its connection takes from, one
//! COPY at a time, a write buffer.

use super::super::*;
use super::server::Who;
use super::words::{Kind, Message};
use super::world::{Asked, Poll, Segment, Sink, World};

impl World {
    pub(super) fn ask(&mut self, holder: u8, kind: Kind) {
        match kind {
            Kind::Begin => self.told_open = true,
            Kind::Commit | Kind::Rollback => self.told_open = false,
            _ => {}
        }
        let number = u8::try_from(self.asked.len()).expect("few requests");
        self.asked.push(Asked {
            kind,
            holder,
            counts_as: None,
            written: false,
            cancelled: false,
            until: None,
            rows_up: false,
            error_up: false,
            answered: false,
            to_be_told: false,
            must_fail: false,
        });
        self.queue.push_back(number);
        // Only the first that is queued since the last poll wakes.
        if std::mem::take(&mut self.registered) {
            self.wake = Some(number);
        }
    }

    pub(super) fn send_data(&mut self) {
        if let Some(sink) = &mut self.sink {
            self.left.data -= 1;
            sink.sent.push_back(Message::CopyData);
        }
    }

    /// The sender of a COPY ends it, or is dropped.
    pub(super) fn end_copy(&mut self, with: Message) {
        if let Some(sink) = self.sink.as_mut().filter(|sink| !sink.ended) {
            sink.ended = true;
            sink.sent.extend([with, Message::Sync]);
        }
    }

    // ---- one poll of the connection ---------------------------------------------

    /// Would a poll do anything?
    pub(super) fn wants_poll(&self) -> bool {
        if self.has_queued() {
            return true;
        }
        match self.segments.is_empty() {
            true => !self.registered || !self.machine.is_polled(),
            false => self.may_write(),
        }
    }

    fn has_queued(&self) -> bool {
        match &self.sink {
            Some(sink) => !sink.sent.is_empty() || sink.ended,
            None => !self.queue.is_empty(),
        }
    }

    pub(super) fn may_write(&self) -> bool {
        let next = self.machine.clone().next_write();
        !matches!(next, NextWrite::Hold | NextWrite::Nothing)
    }

    pub(super) fn session_writes(&self) -> bool {
        self.machine.clone().next_write() == NextWrite::Own
    }

    /// Takes what is queued and writes at most `limit` bytes of it.
    pub(super) fn take_and_write(&mut self, mark: u64, limit: usize) {
        let mut seen = self.attribute();
        let from = self.segments.len();
        self.take_queue();
        self.scan(from, &mut seen);
        self.settle();
        let flushed = self.write(limit);
        self.registered |= flushed;
        self.poll = match flushed {
            true => Poll::Flushed { mark },
            false => Poll::No,
        };
    }

    pub(super) fn end_poll(&mut self, mark: u64) {
        self.poll = Poll::No;
        self.machine.handle_polled(mark, self.now);
        self.settle();
    }

    /// The connection task has asked for more and was told to wait.
    pub(super) fn take_up(&mut self) {
        self.up = false;
        self.machine.handle_taken_up(self.now);
        self.settle();
    }

    /// Whose the first request out of this poll is, if its wake told (rule 7).
    fn attribute(&mut self) -> Option<LeaseId> {
        let number = self.wake.take()?;
        let behind = self.sink.as_ref();
        let tail_first = behind.is_some_and(|sink| !sink.ended || !sink.sent.is_empty());
        if tail_first || self.queue.front() != Some(&number) {
            return None;
        }
        let holder = self.asked[usize::from(number)].holder;
        let state = self.holder(holder).clone();
        if self.check_out.is_none()
            || Some(holder) == self.check_out
            || Some(holder) == self.operation
            || state.parent != self.check_out
        {
            return None;
        }
        let lease = match state.lease {
            Some(lease) if self.machine.knows(lease) => lease,
            _ => {
                let lease = self.machine.handle_seen(None);
                self.holders[usize::from(holder)].lease = Some(lease);
                if self.has_ended(holder) {
                    self.machine.handle_ended(lease, self.now);
                }
                lease
            }
        };
        self.asked[usize::from(number)].counts_as = Some(holder);
        Some(lease)
    }

    fn take_queue(&mut self) {
        loop {
            if let Some(sink) = &mut self.sink {
                let whose = sink.whose;
                for message in std::mem::take(&mut sink.sent) {
                    self.segments.push_back(Segment::new(whose, message));
                }
                if !sink.ended {
                    return;
                }
                self.sink = None;
            }
            let Some(number) = self.queue.pop_front() else {
                return;
            };
            self.count(number);
            let kind = self.asked[usize::from(number)].kind;
            for message in kind.messages() {
                self.segments.push_back(Segment::new(number, *message));
            }
            self.unanswered.push_back(number);
            if kind == Kind::Copy {
                // Its caller may be gone already, and its sender with it.
                let ended = self.check_out.is_none();
                let fail = [Message::CopyFail, Message::Sync];
                self.sink = Some(Sink {
                    whose: number,
                    sent: fail.into_iter().filter(|_| ended).collect(),
                    ended,
                });
            }
        }
    }

    /// The session sees a request: from now on it counts as somebody's.
    fn count(&mut self, number: u8) {
        let base = self.machine.base();
        let whose = self
            .holders
            .iter()
            .rposition(|each| each.lease == Some(base));
        let whose = whose.and_then(|at| u8::try_from(at).ok());
        let gone = self.check_out.is_none() && self.is_work(usize::from(number));
        let asked = &mut self.asked[usize::from(number)];
        if asked.counts_as.is_none() {
            asked.counts_as = whose;
        }
        // Nobody holds the session any more: abandoned in the queue.
        asked.cancelled |= gone;
        self.rule_6_counts_as_its_own(number);
    }

    fn scan(&mut self, from: usize, seen: &mut Option<LeaseId>) {
        let fresh: Vec<u8> = self
            .segments
            .iter()
            .skip(from)
            .flat_map(|segment| segment.message.bytes())
            .copied()
            .collect();
        if !fresh.is_empty() {
            match self.machine.handle_queued(&fresh, seen, self.now) {
                Ok(taken) if taken == fresh.len() => {}
                other => self.breach("6 nothing queued is missed", format!("scanned: {other:?}")),
            }
        }
    }

    /// Is all of the buffer dealt with?
    fn write(&mut self, mut limit: usize) -> bool {
        loop {
            match self.machine.next_write() {
                NextWrite::Nothing => return self.segments.is_empty(),
                NextWrite::Hold => return false,
                NextWrite::Drop(len) => {
                    self.take_segments(len, false);
                    self.machine.handle_dropped(len, self.now);
                }
                NextWrite::Own | NextWrite::Client(_) if limit == 0 => return false,
                NextWrite::Own => self.write_own(),
                NextWrite::Client(len) => {
                    let len = len.min(limit);
                    limit -= len;
                    let bytes = self.take_segments(len, true);
                    self.machine.handle_wrote(&bytes, self.now);
                }
            }
            self.settle();
            if self.breach.is_some() {
                return false;
            }
        }
    }

    /// The first bytes that a write may be cut after: those of a message, or
    /// those of a header.
    pub(super) fn cuts(&self) -> [usize; 2] {
        let first = self.segments.front().copied().or_else(|| {
            let number = usize::from(*self.queue.front()?);
            let message = self.asked[number].kind.messages()[0];
            Some(Segment::new(0, message))
        });
        let rest = first.map_or(0, |first| {
            first.message.bytes().len() - usize::from(first.written)
        });
        [rest, 3.min(rest)]
    }

    fn take_segments(&mut self, mut len: usize, written: bool) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len);
        while len > 0 {
            let Some(front) = self.segments.front_mut() else {
                self.breach("6 nothing queued is missed", "no bytes to write".into());
                break;
            };
            let rest = &front.message.bytes()[usize::from(front.written)..];
            let now = rest.len().min(len);
            let Segment { whose, message, .. } = *front;
            let begins = front.written == 0;
            bytes.extend_from_slice(&rest[..now]);
            front.written += u8::try_from(now).expect("a short message");
            len -= now;
            let ends = now == rest.len();
            if ends {
                self.segments.pop_front();
            }
            if written {
                self.wrote(whose, message, begins, ends);
            }
        }
        bytes
    }

    fn wrote(&mut self, whose: u8, message: Message, begins: bool, ends: bool) {
        let number = usize::from(whose);
        let first = begins && self.asked[number].kind.messages()[0] == message;
        if first && !std::mem::replace(&mut self.asked[number].written, true) {
            self.rule_3_nothing_new_is_written(number);
            self.rule_6_ended_is_not_written(number);
            self.note_written(number);
        }
        if ends {
            self.server.wire.push_back((Who::Request(whose), message));
        }
    }

    /// The session writes something of its own, whoever polls.
    pub(super) fn write_own(&mut self) {
        let bytes = self.machine.own_bytes().to_vec();
        self.machine.injected(bytes.len());
        let mut rest = &bytes[..];
        while let Some((_, _, behind)) = crate::wire::testing::first(rest) {
            let message = Message::own(&rest[..rest.len() - behind.len()]);
            rest = behind;
            // What ends a COPY is part of it.
            let copy = self
                .asked
                .iter()
                .position(|asked| asked.kind == Kind::Copy && asked.written && !asked.answered)
                .or_else(|| {
                    self.asked
                        .iter()
                        .rposition(|asked| asked.kind == Kind::Copy)
                });
            let who = match (message, copy) {
                (Message::CopyFail | Message::Sync, Some(copy)) => {
                    Who::Request(u8::try_from(copy).expect("few requests"))
                }
                _ => {
                    self.rule_3_own_is_written_alone();
                    Who::Own
                }
            };
            self.server.wire.push_back((who, message));
        }
        self.settle();
    }

    /// Is a part of it that makes a request still in the client's buffer?
    pub(super) fn is_buffered(&self, number: usize) -> bool {
        self.segments
            .iter()
            .any(|segment| usize::from(segment.whose) == number)
    }

    /// Does the client hold back nothing?
    pub(super) fn client_rests(&self) -> bool {
        self.queue.is_empty() && self.segments.is_empty() && self.sink.is_none()
    }
}

impl Segment {
    fn new(whose: u8, message: Message) -> Self {
        Segment {
            whose,
            message,
            written: 0,
        }
    }
}
