//! A session with a client like tokio-postgres on one side, a backend on the
//! other, a network that delays and cuts, and a pool that checks out.
//!
//! Everything that happens is looked at by [`truth`](super::truth) as it
//! happens.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::*;
use super::backend::{Backend, Random, Who, request};
use super::truth::{Heard, Verb};
use super::{Did, Pair};
use crate::wire::testing::{client, first};

pub(super) struct World {
    pub(super) random: Random,
    pub(super) pair: Pair,
    pub(super) backend: Backend,
    pub(super) settings: Settings,
    pub(super) requests: Vec<Asked>,
    pub(super) holders: Vec<Holder>,
    /// What the client has queued and its connection not yet taken.
    queue: VecDeque<usize>,
    /// Whose bytes are in the client's write buffer.
    segments: VecDeque<Segment>,
    /// The copy that the connection is in: nothing else is taken meanwhile.
    sink: Option<Sink>,
    /// Of the requests that the connection took, those not answered.
    pub(super) unanswered: VecDeque<usize>,
    /// Who holds the session, and who an operation that took its place.
    pub(super) check_out: Option<usize>,
    pub(super) operation: Option<usize>,
    /// Its holder is in a transaction, as far as it knows.
    in_transaction: bool,
    /// Does a reader hold the client's connection up?
    pub(super) held_up: bool,
    /// Who woke the connection since its queue's waker was registered.
    registered: bool,
    wake: Option<usize>,
    pub(super) attempts: Vec<(u32, Cancel)>,
    /// Signals of attempts that were closed or broke off before they came.
    pub(super) late_signals: usize,
    /// Do attempts fail and break off, and has one broken off?
    pub(super) faults: bool,
    pub(super) broke_off: bool,
    pub(super) heard: Heard,
    /// A message of the session's own that is partly written.
    own: Vec<u8>,
    trace: Vec<(&'static str, usize)>,
    seed: u64,
}

/// A context's hold: of a check-out, an operation in its place, or one beside
/// others.
#[derive(Debug)]
pub(super) struct Holder {
    pub(super) parent: Option<usize>,
    pub(super) lease: Option<LeaseId>,
    pub(super) deadline: Option<Instant>,
    pub(super) bound: bool,
    pub(super) ended: bool,
    pub(super) finished: bool,
}

/// A request, as its caller and the server know it.
#[derive(Debug)]
pub(super) struct Asked {
    /// Who asked, and whose it counts as once the session has seen it.
    pub(super) holder: usize,
    pub(super) counts_as: Option<usize>,
    pub(super) verb: Verb,
    pub(super) bytes: Vec<u8>,
    pub(super) copies: bool,
    pub(super) written: bool,
    /// Abandoned, or cancelled on demand.
    pub(super) cancelled: bool,
    /// It runs on after its context, until then.
    pub(super) until: Option<Instant>,
    /// Its default deadline.
    pub(super) default: Option<Instant>,
    pub(super) rows_up: bool,
    pub(super) error_up: bool,
    pub(super) answers: usize,
    /// What had gone up when it was to be answered by the session.
    pub(super) told_from: Option<usize>,
    /// Inside a transaction that its client was told has failed.
    pub(super) must_fail: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cancel {
    Dialing,
    /// So many of its two signals have been sent.
    Written(usize),
}

/// Bytes in the client's buffer, and whose they are.
#[derive(Clone, Copy, Debug)]
struct Segment {
    whose: usize,
    len: usize,
}

/// A COPY's sender: what it has sent that the connection has not taken, and
/// whether it has ended.
struct Sink {
    request: usize,
    sent: Vec<u8>,
    ended: bool,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let settings = Settings {
            finish_bound: Duration::from_millis(300),
            default_deadline: random.chance(15).then(|| Duration::from_millis(80)),
            ..Settings::default()
        };
        let pair = Pair::started(settings);
        World {
            pair,
            backend: Backend::new(),
            settings,
            requests: Vec::new(),
            holders: Vec::new(),
            queue: VecDeque::new(),
            segments: VecDeque::new(),
            sink: None,
            unanswered: VecDeque::new(),
            check_out: None,
            operation: None,
            in_transaction: false,
            held_up: false,
            registered: true,
            wake: None,
            attempts: Vec::new(),
            late_signals: 0,
            faults: random.chance(10),
            broke_off: false,
            heard: Heard::default(),
            own: Vec::new(),
            trace: Vec::new(),
            seed,
            random,
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.pair.now
    }

    pub(super) fn note(&mut self, what: &'static str, which: usize) {
        self.trace.push((what, which));
    }

    pub(super) fn is_retired(&self) -> bool {
        self.pair.machine.retired.is_some()
    }

    // ---- holders --------------------------------------------------------------

    fn hold(
        &mut self,
        parent: Option<usize>,
        lease: Option<LeaseId>,
        deadline: Option<Instant>,
        bound: bool,
    ) -> usize {
        self.holders.push(Holder {
            parent,
            lease,
            deadline,
            bound,
            ended: false,
            finished: false,
        });
        self.holders.len() - 1
    }

    /// A check-out, if the session may be had; `ended`: under a context that
    /// has ended, which may always.
    pub(super) fn begin_check_out(&mut self, ended: bool) -> bool {
        if !ended {
            if !self.pair.machine.is_clean() {
                return false;
            }
            self.assert_clean();
        }
        let bound = ended || self.random.chance(80);
        let deadline = (bound && self.random.chance(30)).then(|| {
            self.now() + Duration::from_millis(u64::try_from(self.random.below(200)).unwrap() + 1)
        });
        let lease = self
            .pair
            .machine
            .handle_check_out(deadline, bound, self.pair.now);
        let holder = self.hold(None, Some(lease), deadline, bound);
        self.check_out = Some(holder);
        self.heard.change_holder();
        self.note("check-out", holder);
        self.look();
        if ended {
            self.end(holder);
        }
        true
    }

    pub(super) fn begin_operation(&mut self) {
        let Some(outer) = self.check_out else { return };
        if self.operation.is_some() || self.has_ended(outer) || !self.pair.machine.is_polled() {
            return;
        }
        let lease = self.pair.begin();
        let holder = self.hold(Some(outer), Some(lease), None, true);
        self.operation = Some(holder);
        self.note("operation", holder);
        self.look();
    }

    pub(super) fn leave_operation(&mut self) {
        let Some(holder) = self.operation.take() else {
            return;
        };
        self.note("leave", holder);
        // `within` is `run`: dropped half-way its context ends, else finishes.
        if self.has_open_work(holder) {
            self.end(holder);
        } else {
            self.finish(holder);
        }
        if let Some(lease) = self.holders[holder].lease {
            self.pair.leave(lease);
        }
        self.look();
    }

    fn has_open_work(&self, holder: usize) -> bool {
        self.requests
            .iter()
            .any(|asked| asked.holder == holder && asked.answers == 0)
    }

    /// A context ends, and with it all that is below it.
    pub(super) fn end(&mut self, holder: usize) {
        let state = &self.holders[holder];
        if state.ended || state.finished || !state.bound {
            return;
        }
        self.note("end", holder);
        for below in 0..self.holders.len() {
            let within = below == holder || self.holders[below].parent == Some(holder);
            if within && !self.holders[below].ended && !self.holders[below].finished {
                self.holders[below].ended = true;
                if let Some(lease) = self.holders[below].lease {
                    self.pair.end(lease);
                }
            }
        }
        self.look();
    }

    /// A context's work has returned its result.
    pub(super) fn finish(&mut self, holder: usize) {
        let state = &self.holders[holder];
        let parent_of_live = self
            .holders
            .iter()
            .any(|below| below.parent == Some(holder) && !below.ended && !below.finished);
        if state.ended || state.finished || !state.bound || parent_of_live {
            return;
        }
        self.note("finish", holder);
        self.holders[holder].finished = true;
        let until = self.holders[holder]
            .deadline
            .unwrap_or(self.now() + self.settings.finish_bound);
        for number in 0..self.requests.len() {
            let counts = self.requests[number].counts_as == Some(holder);
            if counts && self.is_open_work(number) && !self.is_over_for_session(number) {
                self.requests[number].until = Some(until);
            }
        }
        if let Some(lease) = self.holders[holder].lease {
            self.pair.finish(lease);
        }
        self.look();
    }

    /// The check-out's holder gives the client back, whatever it has asked.
    pub(super) fn release(&mut self) {
        self.leave_operation();
        self.drop_sink();
        if std::mem::take(&mut self.in_transaction) && self.random.chance(70) {
            self.ask_text("ROLLBACK");
        }
        let Some(holder) = self.check_out.take() else {
            return;
        };
        self.note("release", holder);
        let state = &self.holders[holder];
        let deadline = state.deadline.filter(|_| !state.finished);
        let until = deadline.unwrap_or(self.now() + self.settings.finish_bound);
        for number in 0..self.requests.len() {
            let seen = self.requests[number].counts_as.is_some();
            if seen && self.is_open_work(number) && !self.is_over_for_session(number) {
                let asked = &mut self.requests[number];
                match (asked.rows_up, asked.until) {
                    (true, None) => asked.until = Some(until),
                    (true, Some(_)) => {}
                    (false, _) => asked.cancelled = true,
                }
            }
        }
        self.pair.release();
        self.look();
    }

    pub(super) fn cancel_on_demand(&mut self) {
        self.note("cancel", 0);
        for number in 0..self.requests.len() {
            if self.is_open_work(number) && self.requests[number].written {
                self.requests[number].cancelled = true;
            }
        }
        self.pair.machine.handle_cancel(self.pair.now);
        self.pair.settle();
        self.look();
    }

    // ---- the client ---------------------------------------------------------

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
            "endless",
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

    // ---- the network ----------------------------------------------------------

    pub(super) fn deliver_up(&mut self, limit: usize) {
        let len = self.backend.said().min(limit);
        if len > 0 {
            self.note("receives", len);
            let bytes = self.backend.deliver(len);
            self.pair.receive(&bytes);
            self.look();
        }
    }

    pub(super) fn drive(&mut self) {
        self.pair.drive();
        self.look();
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.note("passes", usize::try_from(time.as_millis()).unwrap());
        let until = self.now() + time;
        // Step by step: what a timer brings about is looked at at its time.
        while let Some(due) = self.pair.machine.poll_timeout().filter(|due| *due <= until) {
            self.expire(due);
            self.pair.pass(due - self.pair.now.min(due));
            self.look();
        }
        self.expire(until);
        self.pair.pass(until - self.pair.now);
        self.look();
    }

    /// Contexts end at their deadlines, whoever notices.
    fn expire(&mut self, now: Instant) {
        for holder in 0..self.holders.len() {
            let state = &self.holders[holder];
            let over = state.deadline.is_some_and(|at| at <= now) && !state.finished;
            let held = [self.check_out, self.operation].contains(&Some(holder));
            if over && held {
                for below in 0..self.holders.len() {
                    if below == holder || self.holders[below].parent == Some(holder) {
                        self.holders[below].ended |= !self.holders[below].finished;
                    }
                }
            }
        }
    }

    /// An attempt makes a step.
    pub(super) fn step_attempt(&mut self, which: usize) {
        let (number, cancel) = self.attempts[which];
        self.note("attempt", which);
        let fault = self.faults && self.random.chance(20);
        match cancel {
            Cancel::Dialing if !fault && self.pair.connected(number) => {
                self.assert_aimed();
                self.attempts[which].1 = Cancel::Written(0);
            }
            Cancel::Dialing => {
                self.attempts.remove(which);
                self.pair.over(number, Outcome::NotWritten);
            }
            Cancel::Written(sent) if fault => {
                self.late_signals += 2 - sent;
                self.broke_off = true;
                self.attempts.remove(which);
                self.pair.over(number, Outcome::BrokenOff);
            }
            Cancel::Written(sent @ (0 | 1)) => {
                self.attempts[which].1 = Cancel::Written(sent + 1);
                self.signal();
            }
            Cancel::Written(_) => {
                self.attempts.remove(which);
                self.pair.over(number, Outcome::Eof);
            }
        }
        self.look();
    }

    pub(super) fn signal(&mut self) {
        if let Some(who) = self.backend.signal() {
            self.assert_may_be_hit(who);
        }
    }

    /// What was written, dropped, said and asked for since the last look.
    fn look(&mut self) {
        for did in std::mem::take(&mut self.pair.did) {
            match did {
                Did::Wrote(len) => self.wrote(len),
                Did::Dropped(len) => {
                    self.take_segments(len);
                }
                Did::Own(bytes) => self.wrote_own(&bytes),
            }
        }
        self.pair.wire.clear();
        self.listen();
        while let Some(output) = self.pair.outputs.pop_front() {
            match output {
                Output::Dial(number) => {
                    self.assert_no_attempt();
                    self.attempts.push((number, Cancel::Dialing));
                }
                Output::Retire(why) => self.assert_may_retire(&why),
                Output::Expire(_) | Output::Busy | Output::Drained => {}
            }
        }
        self.note_who_is_to_be_told();
    }

    fn wrote(&mut self, len: usize) {
        let wire: Vec<u8> = self.pair.wire.drain(..len).collect();
        let mut from = 0;
        for segment in self.take_segments(len) {
            let Segment { whose, len } = segment;
            if !std::mem::replace(&mut self.requests[whose].written, true) {
                self.assert_may_be_written(whose);
            }
            let who = Who::Request(whose);
            self.backend.write(who, &wire[from..from + len]);
            from += len;
        }
    }

    fn wrote_own(&mut self, bytes: &[u8]) {
        self.pair.wire.drain(..bytes.len());
        self.own.extend_from_slice(bytes);
        while let Some((tag, _, behind)) = first(&self.own) {
            let rest = behind.len();
            let message: Vec<u8> = self.own.drain(..self.own.len() - rest).collect();
            let copy = |asked: &Asked| asked.copies && asked.written;
            let who = match (tag, self.requests.iter().rposition(copy)) {
                // What ends a COPY is part of it.
                ('f' | 'S', Some(copy)) => Who::Request(copy),
                _ => {
                    self.assert_own_may_be_written();
                    Who::Own
                }
            };
            self.backend.write(who, &message);
        }
    }

    fn take_segments(&mut self, mut len: usize) -> Vec<Segment> {
        let mut taken = Vec::new();
        while len > 0 {
            let front = self.segments.front_mut().expect("bytes of the client's");
            let now = front.len.min(len);
            taken.push(Segment { len: now, ..*front });
            len -= now;
            front.len -= now;
            if front.len == 0 {
                self.segments.pop_front();
            }
        }
        taken
    }
}

impl Drop for World {
    /// What has happened, for whoever looks for the reason.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "seed {}: PGDEADLINE_SEED={} replays it",
                self.seed, self.seed
            );
            for (what, which) in &self.trace {
                match which {
                    &usize::MAX => eprint!("{what} all; "),
                    which => eprint!("{what} {which}; "),
                }
            }
            for (number, asked) in self.requests.iter().enumerate() {
                eprintln!("\n{number}: {asked:?}");
            }
            let machine = &self.pair.machine;
            eprintln!("{:?}", self.backend);
            eprintln!("{:?}\n{:?}", self.holders, self.attempts);
            eprintln!("{:?}\n{:?}", machine.leases, machine.timers);
            machine
                .ledger
                .requests()
                .for_each(|request| eprintln!("{request:?}"));
        }
    }
}
