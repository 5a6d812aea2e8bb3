//! A client like sqlx's, behind a relay: it writes when all that it counts on
//! has come, says itself when a check-out begins and ends, and its caller lets
//! go at any time.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::sayings::HUSH;
use super::super::*;
use super::backend::request;
use super::truth::Verb;
use super::world::{Asked, World};
use crate::wire::testing::client;

#[derive(Default)]
pub(super) struct Relayed {
    /// What the client has written and the session not read, and whose it is.
    pub(super) socket: VecDeque<(usize, Vec<u8>)>,
    /// How many ReadyForQuery it counts on.
    pub(super) pending: usize,
    /// The COPY that it takes part in, whose ReadyForQuery it does not count.
    copy: Copy,
    /// What its caller waits for.
    waits_for: Option<usize>,
    /// What it has said that ends a check-out.
    pub(super) over_at: Vec<usize>,
    /// Every COPY that it has asked for.
    pub(super) copies: Vec<usize>,
    /// Its caller has left a COPY: it can only come back. Had it begun?
    pub(super) left_copy: bool,
    pub(super) unclear: bool,
    /// It is in its pool, or on the way there.
    pub(super) returns: bool,
    /// Out of step by its own fault, or told of an error that nobody waits for:
    /// it can only be closed.
    pub(super) lost: bool,
    /// It is closed, and hears nothing.
    pub(super) gone: bool,
    /// Holders whom `run` brings back, and when they ended.
    pub(super) runs: Vec<(usize, Option<Instant>)>,
    /// How often it came back to its pool.
    pub(super) came_back: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Copy {
    #[default]
    No,
    Asked(usize),
    In(usize),
    /// The rest of it is the server's to say.
    Ends(usize),
}

/// Texts of requests that are counted, and of COPYs that are not.
const TEXTS: [&str; 11] = [
    "work", "rows", "endless", "fail", "BEGIN", "COMMIT", "ROLLBACK", "rows", "drip", "COPY in",
    "COPY out",
];

impl World {
    pub(super) fn client(&mut self) -> &mut Relayed {
        self.relayed.as_mut().expect("a relay's client")
    }

    /// The client, or its caller, does one thing.
    pub(super) fn use_client(&mut self) {
        if self.client().lost {
            return;
        }
        let what = self.random.below(100);
        let told_open = self.pair.machine.ledger.was_told_open();
        let state = self.client();
        let ready = state.pending == 0 && state.copy == Copy::No && !state.left_copy;
        let waits = state.waits_for.is_some();
        match state.copy {
            _ if state.returns && !ready => {}
            _ if state.returns && (what < 60 || told_open) => self.say_check_out(),
            _ if state.returns => self.take_unbound(),
            Copy::In(copy) if what < 40 => self.send_row(copy),
            Copy::In(copy) if what < 60 => self.end_copy(copy),
            _ if !ready && what < 70 => {
                if waits || what < 20 {
                    self.let_go();
                }
            }
            _ if !ready => self.return_now(),
            _ if what < 70 => self.ask_for_one(),
            _ if what < 80 => self.say_operation(),
            _ if what < 85 => self.leave_relayed_operation(),
            _ => self.return_now(),
        }
    }

    fn ask_for_one(&mut self) {
        let text = TEXTS[self.random.below(TEXTS.len())];
        self.ask_for(text);
    }

    pub(super) fn ask_for(&mut self, text: &'static str) -> usize {
        let copies = text.starts_with("COPY");
        let simple = copies || Verb::of(text) != Verb::Other || self.random.chance(50);
        match text {
            "BEGIN" => self.in_transaction = true,
            "COMMIT" | "ROLLBACK" => self.in_transaction = false,
            _ => {}
        }
        let number = self.write_request(text, Verb::of(text), request(text, simple));
        self.requests[number].copies = text == "COPY in";
        let client = self.client();
        client.waits_for = Some(number);
        match copies {
            true => {
                client.copy = Copy::Asked(number);
                client.copies.push(number);
            }
            false => client.pending += 1,
        }
        number
    }

    fn write_request(&mut self, what: &'static str, verb: Verb, bytes: Vec<u8>) -> usize {
        let number = self.requests.len();
        self.note(what, number);
        self.requests.push(Asked {
            holder: self.operation.or(self.check_out).unwrap_or(0),
            counts_as: None,
            verb,
            bytes: Vec::new(),
            copies: false,
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
        self.unanswered.push_back(number);
        self.client().socket.push_back((number, bytes));
        number
    }

    fn send_row(&mut self, copy: usize) {
        self.note("row", copy);
        let row = client::copy_data(b"a row of data");
        self.client().socket.push_back((copy, row));
    }

    fn end_copy(&mut self, copy: usize) {
        self.note("copy done", copy);
        let done = client::copy_done();
        let client = self.client();
        // Without the Sync of the extended protocol.
        client.socket.push_back((copy, done[..5].to_vec()));
        client.copy = Copy::Ends(copy);
    }

    // ---- check-outs -------------------------------------------------------------

    pub(super) fn say_check_out(&mut self) {
        let said = client::query("pgdeadline check out 0000000000000005");
        let number = self.write_request("says check-out", Verb::Said, said);
        let client = self.client();
        client.over_at.push(number);
        client.pending += 1;
        client.waits_for = Some(number);
        client.returns = false;
    }

    /// As `try_acquire` does: nobody binds a context.
    pub(super) fn take_unbound(&mut self) {
        self.note("unbound", 0);
        self.client().returns = false;
        let holder = self.hold(None, None, None, false);
        self.check_out = Some(holder);
    }

    fn say_operation(&mut self) {
        if self.operation.is_some() || self.check_out.is_none() {
            return;
        }
        let said = client::query("pgdeadline operation 0000000000000006");
        let number = self.write_request("says operation", Verb::Said, said);
        let client = self.client();
        client.pending += 1;
        client.waits_for = Some(number);
    }

    /// Its caller lets go of what it waits for.
    fn let_go(&mut self) {
        self.note("lets go", 0);
        let cut = self.heard.is_cut();
        let client = self.client();
        client.waits_for = None;
        let copy = std::mem::take(&mut client.copy);
        client.left_copy |= copy != Copy::No;
        client.unclear |= matches!(copy, Copy::Asked(_) | Copy::Ends(_));
        if let Copy::In(copy) = copy {
            let fail = client::copy_fail();
            client.socket.push_back((copy, fail[..6].to_vec()));
        }
        // What has come half may be its ReadyForQuery.
        client.lost |= client.left_copy && cut;
    }

    /// The connection goes back to its pool.
    pub(super) fn return_now(&mut self) {
        if self.client().returns {
            return;
        }
        self.leave_relayed_operation();
        self.let_go();
        if std::mem::take(&mut self.in_transaction) && self.random.chance(70) {
            self.write_request("ROLLBACK", Verb::Rollback, client::query("ROLLBACK"));
            self.client().pending += 1;
        }
        let number = self.write_request("returns", Verb::Said, client::sync());
        let client = self.client();
        client.over_at.push(number);
        client.pending += 1;
        client.returns = true;
    }

    /// An operation is over, and what it has asked for is let go.
    pub(super) fn leave_relayed_operation(&mut self) {
        let Some(holder) = self.operation else { return };
        // What it has written comes before its end, as far as it was read.
        self.read_client(usize::MAX);
        self.let_go();
        self.operation = None;
        self.note("leave", holder);
        let open = |asked: &Asked| asked.counts_as == Some(holder) && asked.answers == 0;
        match self.requests.iter().any(open) {
            true => self.end(holder),
            false => self.finish(holder),
        }
        if self.has_ended(holder) {
            self.nobody_hears(|asked| asked.counts_as == Some(holder));
        }
        if let Some(lease) = self.holders[holder].lease {
            self.pair.leave(lease);
        }
        self.look();
    }

    /// What the session reads as the end of a check-out.
    pub(super) fn check_out_is_over(&mut self) {
        self.operation = None;
        self.nobody_hears(|_| true);
        let Some(holder) = self.check_out.take() else {
            return;
        };
        let state = &self.holders[holder];
        let deadline = state.deadline.filter(|_| !state.finished);
        let until = deadline.unwrap_or(self.now() + self.settings.finish_bound);
        for number in 0..self.requests.len() {
            if self.is_open_work(number) && !self.is_over_for_session(number) {
                let asked = &mut self.requests[number];
                match (asked.rows_up, asked.until) {
                    (true, None) => asked.until = Some(until),
                    (true, Some(_)) => {}
                    (false, _) => asked.cancelled = true,
                }
            }
        }
    }

    fn nobody_hears(&mut self, which: impl Fn(&Asked) -> bool) {
        let from = self.heard.total;
        for number in std::mem::take(&mut self.unanswered) {
            let asked = &mut self.requests[number];
            if asked.verb != Verb::Said && which(asked) {
                asked.unheard.get_or_insert(from);
                // Of a COPY that was left the client counts on nothing.
                if self.client().copies.contains(&number) {
                    self.requests[number].answers += 1;
                    continue;
                }
            }
            self.unanswered.push_back(number);
        }
    }

    /// Was a COPY left of which nobody knows whether its client counts on it?
    pub(super) fn may_be_miscounted(&self) -> bool {
        self.relayed.as_ref().is_some_and(|client| client.unclear)
    }

    // ---- the client's ear -------------------------------------------------------------

    /// The client has heard a message that belongs to this request.
    pub(super) fn take_in(&mut self, number: usize, tag: u8, body: &str) {
        let told = tag == b'E' && body.contains("told");
        let holder = self.requests[number].counts_as;
        if let Some(ended) = holder
            .and_then(|holder| self.ended_run(holder))
            .filter(|_| told)
        {
            assert!(
                self.now() >= ended + HUSH,
                "{number} is told although its caller is on its way back"
            );
        }
        let client = self.client();
        let takes_part = matches!(client.copy, Copy::Asked(copy) | Copy::In(copy) | Copy::Ends(copy) if copy == number);
        match tag {
            b'G' if takes_part => client.copy = Copy::In(number),
            b'H' | b'E' if takes_part => client.copy = Copy::Ends(number),
            b'E' if client.waits_for.take().is_none() => client.lost = true,
            b'Z' if takes_part => {
                client.copy = Copy::No;
                client.waits_for = None;
            }
            b'Z' if client.copies.contains(&number) => {
                assert!(client.left_copy, "whose is it?");
                client.lost = true;
            }
            b'Z' => {
                let pending = client.pending.checked_sub(1);
                client.pending = pending.expect("more ReadyForQuery than it counts on");
                if client.pending == 0 {
                    client.waits_for = None;
                }
            }
            _ => {}
        }
    }

    /// When did this holder end, if `run` brings its caller back?
    fn ended_run(&mut self, holder: usize) -> Option<Instant> {
        let (ended, now) = (self.has_ended(holder), self.now());
        // An operation that ended with its check-out: its own `run` goes on.
        let lease = self.holders[holder].lease;
        let lease = lease.and_then(|lease| self.pair.machine.leases.get(lease));
        if lease.is_some_and(|lease| !lease.runs) {
            return None;
        }
        let mut runs = self.client().runs.iter_mut();
        let (_, at) = runs.find(|(run, _)| *run == holder)?;
        ended.then(|| *at.get_or_insert(now))
    }

    /// `run` brings a caller back whose context has ended, before it is told.
    pub(super) fn bring_back(&mut self, within: Duration) {
        for holder in [self.operation, self.check_out].into_iter().flatten() {
            let due = match self.ended_run(holder) {
                Some(ended) => self.now() + within >= ended + HUSH,
                None => continue,
            };
            if due || self.random.chance(30) {
                match self.operation == Some(holder) {
                    true => self.leave_relayed_operation(),
                    false => self.return_now(),
                }
                self.read_client(usize::MAX);
            }
        }
    }

    /// Somebody who holds it ends.
    pub(super) fn end_one(&mut self) {
        let held: Vec<usize> = [self.operation, self.check_out]
            .into_iter()
            .flatten()
            .collect();
        if !held.is_empty() {
            let which = held[self.random.below(held.len())];
            self.end(which);
        }
    }

    /// Time passes. Who is brought back by `run` does not wait for all of it.
    pub(super) fn pass_relayed(&mut self, time: Duration) {
        let mut left = time;
        while !left.is_zero() && !self.is_retired() {
            let step = left.min(HUSH / 10);
            self.bring_back(step);
            self.read_client(usize::MAX);
            self.pass(step);
            left -= step;
        }
    }
}
