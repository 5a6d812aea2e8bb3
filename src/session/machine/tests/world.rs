//! A session with a client like tokio-postgres on one side, a backend on the
//! other, a network that delays and cuts, and a pool that checks out.
//!
//! Everything that happens is looked at by [`truth`](super::truth) as it
//! happens.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::*;
use super::backend::{Backend, Random, Who};
use super::relayed::Relayed;
use super::truth::{Heard, Verb};
use super::{Did, Pair};
use crate::wire::testing::first;

pub(super) struct World {
    pub(super) random: Random,
    pub(super) pair: Pair,
    pub(super) backend: Backend,
    pub(super) settings: Settings,
    pub(super) requests: Vec<Asked>,
    pub(super) holders: Vec<Holder>,
    /// What the client has queued and its connection not yet taken.
    pub(super) queue: VecDeque<usize>,
    /// Whose bytes are in the client's write buffer.
    pub(super) segments: VecDeque<Segment>,
    /// The copy that the connection is in: nothing else is taken meanwhile.
    pub(super) sink: Option<Sink>,
    /// Of the requests that the connection took, those not answered.
    pub(super) unanswered: VecDeque<usize>,
    /// Who holds the session, and who an operation that took its place.
    pub(super) check_out: Option<usize>,
    pub(super) operation: Option<usize>,
    /// Its holder is in a transaction, as far as it knows.
    pub(super) in_transaction: bool,
    /// Does a reader hold the client's connection up?
    pub(super) held_up: bool,
    /// Who woke the connection since its queue's waker was registered.
    pub(super) registered: bool,
    pub(super) wake: Option<usize>,
    pub(super) attempts: Vec<(u32, Cancel)>,
    /// Signals of attempts that were closed or broke off before they came.
    pub(super) late_signals: usize,
    /// Do attempts fail and break off, and has one broken off?
    pub(super) faults: bool,
    pub(super) broke_off: bool,
    /// Is there a proxy between, which closes before the server has acted?
    pub(super) proxy: bool,
    /// The client behind a relay, in place of one like tokio-postgres.
    pub(super) relayed: Option<Relayed>,
    /// All requests before this one are over.
    pub(super) oldest: usize,
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
    /// Its caller is known to be gone since so much had gone up.
    pub(super) unheard: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cancel {
    Dialing,
    /// So many of its two signals have been sent.
    Written(usize),
}

/// Bytes in the client's buffer, and whose they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) whose: usize,
    pub(super) len: usize,
}

/// A COPY's sender: what it has sent that the connection has not taken, and
/// whether it has ended.
pub(super) struct Sink {
    pub(super) request: usize,
    pub(super) sent: Vec<u8>,
    pub(super) ended: bool,
}

impl World {
    /// With a client like tokio-postgres.
    pub(super) fn new(seed: u64) -> Self {
        World::of(seed, Pair::started, None)
    }

    /// With a client like sqlx behind a relay.
    pub(super) fn relayed(seed: u64) -> Self {
        World::of(seed, Pair::listening, Some(Relayed::default()))
    }

    fn of(seed: u64, open: impl Fn(Settings) -> Pair, relayed: Option<Relayed>) -> Self {
        let mut random = Random::new(seed);
        let settings = Settings {
            finish_bound: Duration::from_millis(300),
            default_deadline: random.chance(15).then(|| Duration::from_millis(80)),
            ..Settings::default()
        };
        let mut pair = open(settings);
        let proxy = random.chance(5);
        pair.machine.set_eof_proves(!proxy);
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
            proxy,
            relayed,
            oldest: 0,
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
            Cancel::Written(sent) if self.proxy && self.random.chance(50) => {
                self.late_signals += 2 - sent;
                self.attempts.remove(which);
                self.pair.over(number, Outcome::Eof);
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
    pub(super) fn look(&mut self) {
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
        while self.oldest < self.requests.len()
            && self.requests[self.oldest].answers > 0
            && !self.in_flight(self.oldest)
        {
            self.oldest += 1;
        }
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
