//! A client like tokio-postgres: a queue that its connection takes from, one
//! COPY at a time, a write buffer.

use super::super::*;
use super::backend::request;
use super::truth::Verb;
use super::world::{Asked, Segment, Sink, World};
use crate::wire::testing::client;

impl World {
    /// Who would ask now, beside others or not.
    pub(super) fn ask(&mut self) {
        const TEXTS: [&str; 14] = [
            "work",
            "rows",
            "endless",
            "fail",
            "copy",
            "trigger",
            "BEGIN",
            "COMMIT",
            "ROLLBACK",
            "ROLLBACK TO sp",
            "tidy",
            "rows",
            "drip",
            "work",
        ];
        let text = TEXTS[self.random.below(TEXTS.len())];
        self.ask_text(text);
    }

    pub(super) fn ask_text(&mut self, text: &'static str) {
        let Some(mut holder) = self.operation.or(self.check_out) else {
            return;
        };
        let outer = holder;
        // A child context, if the check-out has a live one of its own.
        if self.operation.is_none() && self.random.chance(20) {
            let child = self
                .holders
                .iter()
                .rposition(|below| below.parent == Some(outer) && below.lease.is_none());
            holder = match child {
                Some(child) if self.random.chance(60) => child,
                _ if !self.has_ended(outer) => self.hold(Some(outer), None, None, true),
                _ => outer,
            };
        }
        let copies = matches!(text, "copy" | "trigger");
        match text {
            "BEGIN" => self.in_transaction = true,
            "COMMIT" | "ROLLBACK" => self.in_transaction = false,
            _ => {}
        }
        let simple = Verb::of(text) != Verb::Other || !copies && self.random.chance(50);
        let bytes = match text {
            "tidy" => [client::close(), client::sync()].concat(),
            _ => request(text, simple),
        };
        let number = self.requests.len();
        self.requests.push(Asked {
            holder,
            counts_as: None,
            verb: Verb::of(text),
            bytes,
            copies,
            written: false,
            cancelled: false,
            until: None,
            default: None,
            rows_up: false,
            error_up: false,
            answers: 0,
            told_from: None,
            must_fail: false,
            unheard: None,
        });
        self.note(text, number);
        self.queue.push_back(number);
        // Only the first that is queued since the last poll wakes.
        if std::mem::take(&mut self.registered) {
            self.wake = Some(number);
        }
    }

    /// The holder of a COPY's sink does something with it.
    pub(super) fn use_sink(&mut self) {
        let finishes = self.random.chance(40);
        if let Some(sink) = self.sink.as_mut().filter(|sink| !sink.ended) {
            sink.ended = finishes;
            let sent = if finishes {
                client::copy_done()
            } else {
                client::copy_data(b"a row of data")
            };
            sink.sent.extend_from_slice(&sent);
            self.note("sink", usize::from(finishes));
        }
    }

    pub(super) fn drop_sink(&mut self) {
        if let Some(sink) = self.sink.as_mut().filter(|sink| !sink.ended) {
            sink.ended = true;
            sink.sent.extend_from_slice(&client::copy_fail());
            self.note("drops sink", 0);
        }
    }

    /// One poll of the connection: reads, takes what is queued, writes at most
    /// `limit` bytes, flushes.
    pub(super) fn poll(&mut self, limit: usize) {
        self.note("poll", limit);
        let mark = self.pair.machine.mark();
        if !self.held_up {
            self.pair.up.clear();
            self.heard.taken();
            self.pair.machine.handle_taken_up(self.pair.now);
            self.look();
        }
        let mut seen = self.attribute();
        self.take_queue();
        let flushed = self.pair.write(&mut seen, limit);
        self.look();
        self.registered |= flushed;
        if flushed {
            self.pair.machine.handle_polled(mark, self.pair.now);
            self.pair.settle();
            self.look();
        }
    }

    /// A slow reader holds the client's connection up, or does so no longer.
    pub(super) fn hold_up(&mut self) {
        self.held_up = !self.held_up;
        self.note("held up", usize::from(self.held_up));
    }

    /// Whose the first request out of this poll is, if its wake told.
    fn attribute(&mut self) -> Option<LeaseId> {
        let number = self.wake.take()?;
        let tail_first = self.sink.as_ref().is_some_and(|sink| !sink.sent.is_empty());
        let blocked = self.sink.as_ref().is_some_and(|sink| !sink.ended);
        if tail_first || blocked || self.queue.front() != Some(&number) {
            return None;
        }
        let holder = self.requests[number].holder;
        if self.check_out.is_none()
            || Some(holder) == self.check_out
            || Some(holder) == self.operation
        {
            return None;
        }
        if self.holders[holder].parent != self.check_out {
            return None;
        }
        let lease = match self.holders[holder].lease {
            Some(lease) if self.pair.machine.knows(lease) => lease,
            _ => {
                let lease = self.pair.machine.handle_seen(None);
                self.holders[holder].lease = Some(lease);
                if self.has_ended(holder) {
                    self.pair.end(lease);
                } else if self.holders[holder].finished {
                    self.pair.finish(lease);
                }
                lease
            }
        };
        self.requests[number].counts_as = Some(holder);
        if self.holders[holder].finished {
            self.requests[number].until = Some(self.now() + self.settings.finish_bound);
        }
        Some(lease)
    }

    fn take_queue(&mut self) {
        loop {
            if let Some(sink) = &mut self.sink {
                let sent = std::mem::take(&mut sink.sent);
                let (request, ended) = (sink.request, sink.ended);
                self.put(request, &sent);
                if !ended {
                    return;
                }
                self.sink = None;
            }
            let Some(number) = self.queue.pop_front() else {
                return;
            };
            let bytes = std::mem::take(&mut self.requests[number].bytes);
            self.count(number);
            self.put(number, &bytes);
            self.unanswered.push_back(number);
            if self.requests[number].copies {
                // Its caller may be gone already, and its sender with it.
                let ended = self.check_out.is_none();
                self.sink = Some(Sink {
                    request: number,
                    sent: if ended {
                        client::copy_fail()
                    } else {
                        Vec::new()
                    },
                    ended,
                });
            }
        }
    }

    /// The session sees a request: from now on it counts as somebody's.
    fn count(&mut self, number: usize) {
        let base = self.pair.machine.base();
        let whose = self
            .holders
            .iter()
            .rposition(|holder| holder.lease == Some(base));
        if self.requests[number].counts_as.is_none() {
            self.requests[number].counts_as = whose;
            let unbound = whose.is_none_or(|whose| {
                let holder = &self.holders[whose];
                !holder.bound || holder.finished
            });
            if unbound {
                self.requests[number].default = self
                    .settings
                    .default_deadline
                    .map(|after| self.now() + after);
            }
        }
        // Nobody holds the session any more: abandoned in the queue.
        if self.check_out.is_none() && self.is_work(number) {
            self.requests[number].cancelled = true;
        }
    }

    fn put(&mut self, whose: usize, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.pair.buffer.extend_from_slice(bytes);
            let len = bytes.len();
            self.segments.push_back(Segment { whose, len });
        }
    }

    /// Is a part of it still in the client's buffer?
    pub(super) fn is_buffered(&self, number: usize) -> bool {
        self.segments.iter().any(|segment| segment.whose == number)
    }

    /// Does the client hold back nothing?
    pub(super) fn client_rests(&self) -> bool {
        self.queue.is_empty() && self.segments.is_empty() && self.sink.is_none()
    }
}
