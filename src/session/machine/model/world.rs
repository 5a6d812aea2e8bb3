//! The state of the model: the production machine, and around it a client's
//! queue, a server, a network and those who hold the session.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::*;
use super::plan::Plan;
use super::server::Server;
use super::words::{self, Kind, Message};
use crate::wire::testing::{client, first, server};

#[derive(Clone)]
pub(super) struct World {
    pub(super) plan: &'static Plan,
    pub(super) machine: Machine,
    /// It is always this time: what was set for later comes nearer.
    pub(super) now: Instant,
    pub(super) server: Server,
    pub(super) holders: Vec<Holder>,
    pub(super) check_out: Option<u8>,
    pub(super) operation: Option<u8>,
    /// From the oldest that is not over.
    pub(super) asked: Vec<Asked>,
    /// What the client has queued and its connection not taken.
    pub(super) queue: VecDeque<u8>,
    /// The client's write buffer, message by message.
    pub(super) segments: VecDeque<Segment>,
    pub(super) sink: Option<Sink>,
    /// Of the requests that the connection took, those not answered.
    pub(super) unanswered: VecDeque<u8>,
    pub(super) poll: Poll,
    /// Would a request that is queued now wake the connection; and which did?
    pub(super) registered: bool,
    pub(super) wake: Option<u8>,
    /// Not all that went up was taken up; and the last message is cut.
    pub(super) up: bool,
    pub(super) cut: Vec<u8>,
    /// So much of the server's next message was delivered.
    pub(super) delivered: u8,
    /// The client was told that its transaction has failed, open.
    pub(super) told_failed: bool,
    pub(super) told_open: bool,
    pub(super) attempts: Vec<(u32, Cancel)>,
    /// Signals whose attempt is over already.
    pub(super) late_signals: u8,
    pub(super) broke_off: bool,
    pub(super) cancelled_by_proxy: bool,
    pub(super) client_gone: bool,
    /// What is left of the plan's bounds.
    pub(super) left: Left,
    /// The first rule that was broken, and how.
    pub(super) breach: Option<Breach>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Breach {
    pub(super) rule: &'static str,
    pub(super) how: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Left {
    pub(super) requests: u8,
    pub(super) check_outs: u8,
    pub(super) operations: u8,
    pub(super) data: u8,
    pub(super) lost: u8,
    pub(super) cancels: u8,
}

/// A context's hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Holder {
    pub(super) parent: Option<u8>,
    pub(super) lease: Option<LeaseId>,
    pub(super) deadline: Option<Instant>,
    pub(super) ended: bool,
    pub(super) finished: bool,
}

/// A request, as its caller and the server know it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    pub(super) kind: Kind,
    pub(super) holder: u8,
    /// Whose it is for the session, which has seen it.
    pub(super) counts_as: Option<u8>,
    pub(super) written: bool,
    /// Abandoned.
    pub(super) cancelled: bool,
    /// It runs on, until then.
    pub(super) until: Option<Instant>,
    pub(super) rows_up: bool,
    pub(super) error_up: bool,
    pub(super) answered: bool,
    /// Only an error will do from here on.
    pub(super) to_be_told: bool,
    /// Written inside a transaction that its client was told has failed.
    pub(super) must_fail: bool,
}

/// What is left of a message in the client's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Segment {
    pub(super) whose: u8,
    pub(super) message: Message,
    pub(super) written: u8,
}

/// A COPY's sender.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Sink {
    pub(super) whose: u8,
    pub(super) sent: VecDeque<Message>,
    pub(super) ended: bool,
}

/// How far a poll of the connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Poll {
    No,
    Begun {
        mark: u64,
    },
    /// All is flushed.
    Flushed {
        mark: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Cancel {
    Dialing,
    /// So many of its two signals have been sent.
    Written(u8),
}

impl World {
    pub(super) fn new(plan: &'static Plan, now: Instant, off: Option<Rule>) -> Self {
        let settings = Settings {
            grace: 4 * TICK,
            resend: [TICK, 2 * TICK, 2 * TICK, 2 * TICK],
            checkout_wait: 3 * TICK,
            finish_bound: 3 * TICK,
            sweep: NEVER,
            ..Settings::default()
        };
        let mut machine = Machine::new(settings, 1);
        machine.off = off;
        machine.set_eof_proves(plan.eof_proves);
        start_up(&mut machine, now);
        let mut world = World {
            plan,
            machine,
            now,
            server: Server::new(),
            holders: Vec::new(),
            check_out: None,
            operation: None,
            asked: Vec::new(),
            queue: VecDeque::new(),
            segments: VecDeque::new(),
            sink: None,
            unanswered: VecDeque::new(),
            poll: Poll::No,
            registered: true,
            wake: None,
            up: false,
            cut: Vec::new(),
            delivered: 0,
            told_failed: false,
            told_open: false,
            attempts: Vec::new(),
            late_signals: 0,
            broke_off: false,
            cancelled_by_proxy: false,
            client_gone: false,
            left: Left {
                requests: 0,
                check_outs: plan.check_outs,
                operations: plan.operations,
                data: plan.data,
                lost: plan.lost,
                cancels: plan.cancels,
            },
            breach: None,
        };
        world.check_out();
        world.normalise();
        world
    }

    pub(super) fn breach(&mut self, rule: &'static str, how: String) {
        self.breach.get_or_insert(Breach { rule, how });
    }

    pub(super) fn is_retired(&self) -> bool {
        self.machine.retired.is_some()
    }

    // ---- what the session does after each event --------------------------------

    /// Answers, and has carried out what is to be done.
    pub(super) fn settle(&mut self) {
        let mut up = Vec::new();
        if self.machine.has_answers() {
            let text = &mut |_: &Request, up: &mut Vec<u8>| words::told(up);
            self.machine.settle(text, &mut up, self.now);
        }
        self.hear(&up);
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Dial(number) => {
                    self.rule_10_no_storm();
                    self.attempts.push((number, Cancel::Dialing));
                }
                Output::Retire(why) => self.rule_2_retired_for_a_reason(&why),
                Output::Expire(id) => {
                    let at = self.holders.iter().position(|each| each.lease == Some(id));
                    if let Some(holder) = at {
                        self.mark_ended(holder);
                    }
                }
                Output::Busy | Output::Drained => {}
            }
        }
    }

    /// The server's bytes come in.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() && self.breach.is_none() {
            let mut up = Vec::new();
            let filter = self.machine.wants_filter();
            let to = filter.then_some(&mut up);
            match self.machine.handle_received(rest, to, self.now) {
                Ok(0) if !self.machine.has_answers() => {
                    self.breach("2 bounded", "the session takes in nothing".into());
                }
                Ok(taken) => {
                    if !filter {
                        up.extend_from_slice(&rest[..taken]);
                    }
                    rest = &rest[taken..];
                    self.hear(&up);
                    self.settle();
                }
                Err(malformed) => self.breach("4 proven", format!("{malformed}")),
            }
        }
        self.settle();
    }

    /// The client hears what goes up.
    fn hear(&mut self, up: &[u8]) {
        if up.is_empty() {
            return;
        }
        self.up = true;
        // What began before an end was told is passed to its end (rule 13).
        let mut begun = !self.cut.is_empty();
        let bytes = [std::mem::take(&mut self.cut), up.to_vec()].concat();
        let mut rest = &bytes[..];
        while let Some((tag, body, behind)) = first(rest) {
            self.hear_message(tag as u8, body, begun);
            begun = false;
            rest = behind;
        }
        if let Some(b'D') = rest.first()
            && let Some(&number) = self.unanswered.front()
        {
            self.asked[usize::from(number)].rows_up = true;
        }
        self.cut = rest.to_vec();
    }

    /// Time passes, up to the next timer.
    pub(super) fn pass(&mut self, due: Instant) {
        let by = due.saturating_duration_since(self.now);
        self.machine.turn_back(by, self.now);
        let now = self.now;
        for asked in &mut self.asked {
            asked.until = asked.until.map(|at| (at - by).max(now));
        }
        for holder in &mut self.holders {
            holder.deadline = holder.deadline.map(|at| (at - by).max(now));
        }
        self.machine.handle_time(self.now);
        self.settle();
    }
}

/// The start-up of a connection that nobody has checked out yet.
fn start_up(machine: &mut Machine, now: Instant) {
    let bytes = client::start_up();
    let taken = machine.handle_queued(&bytes, &mut None, now);
    assert_eq!(taken.expect("a start-up packet"), bytes.len());
    machine.handle_wrote(&bytes, now);
    let (welcome, mut up) = (server::welcome(), Vec::new());
    let taken = machine.handle_received(&welcome, Some(&mut up), now);
    assert_eq!(taken.expect("a welcome"), welcome.len());
    machine.handle_taken_up(now);
    machine.handle_released(machine.check_out_lease(), now);
    machine.handle_polled(machine.mark(), now);
    while machine.poll_output().is_some() {}
    assert!(machine.is_clean(), "{machine:?}");
}

pub(super) const TICK: Duration = Duration::from_millis(1);
/// Farther away than anything that a search waits for.
pub(super) const FAR: Duration = Duration::from_secs(100);
pub(super) const NEVER: Duration = Duration::from_secs(1000);
