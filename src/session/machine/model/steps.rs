//! What may happen next in a [`World`].

use super::super::*;
use super::server;
use super::words::{Kind, Message, OWN, Said};
use super::world::{Breach, Cancel, FAR, Poll, World};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    // ---- those who hold the session
    Asks(Kind),
    ChildAsks(Kind),
    SendsData,
    EndsCopy,
    DropsCopy,
    Ends(u8),
    Finishes(u8),
    Releases(Option<Kind>),
    Cancels,
    DropsClient,
    ChecksOut,
    BeginsOperation,
    LeavesOperation,
    // ---- the client's connection
    PollBegins,
    Writes(Cut),
    PollEnds,
    TakesUp,
    // ---- the session, the server, the network
    SessionWrites,
    Server(server::Move),
    Receives(Cut),
    AttemptConnects(u8),
    AttemptRefused(u8),
    AttemptBreaksOff(u8),
    Signal(u8),
    Eof(u8),
    LateSignal,
    Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Cut {
    Whole,
    AfterMessage,
    InMessage,
}

impl World {
    pub(super) fn steps(&self, out: &mut Vec<Step>) {
        out.clear();
        if self.breach.is_some() || self.is_retired() {
            return;
        }
        self.holders_steps(out);
        self.client_steps(out);
        self.network_steps(out);
        let due = self.machine.poll_timeout();
        if due.is_some_and(|due| due < self.now + FAR) {
            out.push(Step::Time);
        }
    }

    fn holders_steps(&self, out: &mut Vec<Step>) {
        let Some(check_out) = self.check_out else {
            let more = self.left.check_outs > 0 && !self.client_gone;
            if more && self.poll == Poll::No && self.machine.is_clean() {
                out.push(Step::ChecksOut);
            }
            return;
        };
        let first = self.left.check_outs + 1 == self.plan.check_outs;
        let asked = usize::from(self.plan.requests.saturating_sub(self.left.requests));
        let menu = match first {
            true if self.plan.script => &self.plan.menu[asked..],
            true => self.plan.menu,
            false => self.plan.next,
        };
        let menu = if first && self.plan.script {
            &menu[..menu.len().min(1)]
        } else {
            menu
        };
        if self.left.requests > 0 {
            let holder = self.operation.unwrap_or(check_out);
            if self.plan.late || !self.has_ended(holder) {
                out.extend(menu.iter().map(|kind| Step::Asks(*kind)));
            }
            let child = self.child().is_none_or(|child| !self.has_ended(child));
            let alone = self.operation.is_none() && !self.has_ended(check_out);
            if self.plan.child && first && alone && child {
                out.extend(menu.iter().map(|kind| Step::ChildAsks(*kind)));
            }
        }
        if self.sink.as_ref().is_some_and(|sink| !sink.ended) {
            if self.left.data > 0 {
                out.push(Step::SendsData);
            }
            out.extend([Step::EndsCopy, Step::DropsCopy]);
        }
        let within = |holder: u8| {
            let parent = self.holder(holder).parent;
            holder == check_out || Some(holder) == self.operation || parent == Some(check_out)
        };
        if first {
            let holders = u8::try_from(self.holders.len()).expect("few holders");
            for holder in (0..holders).filter(|holder| within(*holder)) {
                let live = !self.has_ended(holder) && !self.holder(holder).finished;
                if live && self.plan.ends {
                    out.push(Step::Ends(holder));
                }
                // An operation finishes as it is left; a parent after its children.
                let children = self.child().is_some_and(|child| {
                    holder == check_out && !self.has_ended(child) && !self.holder(child).finished
                });
                let leaves = Some(holder) == self.operation;
                if live && self.plan.finishes && !leaves && !children {
                    out.push(Step::Finishes(holder));
                }
            }
        }
        if self.may_begin_operation() && first {
            out.push(Step::BeginsOperation);
        }
        if self.operation.is_some() {
            out.push(Step::LeavesOperation);
        }
        let works = |number: usize| self.is_work(number) && !self.is_over(number);
        if self.left.cancels > 0 && self.flying().any(works) {
            out.push(Step::Cancels);
        }
        out.push(Step::Releases(None));
        if first {
            for kind in self.plan.drops {
                if *kind != Kind::Rollback || self.told_open {
                    out.push(Step::Releases(Some(*kind)));
                }
            }
        }
        if self.plan.client_goes {
            out.push(Step::DropsClient);
        }
    }

    fn client_steps(&self, out: &mut Vec<Step>) {
        match self.poll {
            Poll::No if self.wants_poll() => out.push(Step::PollBegins),
            Poll::No => {}
            Poll::Begun { .. } => {
                out.push(Step::Writes(Cut::Whole));
                if self.plan.cuts {
                    out.push(Step::Writes(Cut::AfterMessage));
                    out.push(Step::Writes(Cut::InMessage));
                }
            }
            Poll::Flushed { .. } => out.push(Step::PollEnds),
        }
        if self.up {
            out.push(Step::TakesUp);
        }
        if self.session_writes() {
            out.push(Step::SessionWrites);
        }
    }

    fn network_steps(&self, out: &mut Vec<Step>) {
        let mut moves = Vec::new();
        self.server
            .moves(|number| self.kind(number), self.plan.errors, &mut moves);
        out.extend(moves.into_iter().map(Step::Server));
        if let Some((_, said)) = self.server.said.front() {
            out.push(Step::Receives(Cut::Whole));
            let cuts = matches!(said, Said::Row | Said::Complete | Said::Error);
            if self.plan.cuts && cuts && self.delivered == 0 {
                out.push(Step::Receives(Cut::InMessage));
            }
        }
        for (which, (_, cancel)) in self.attempts.iter().enumerate() {
            let which = u8::try_from(which).expect("few attempts");
            match cancel {
                Cancel::Dialing => {
                    out.push(Step::AttemptConnects(which));
                    if self.plan.refused {
                        out.push(Step::AttemptRefused(which));
                    }
                }
                Cancel::Written(sent) => {
                    match sent {
                        0 | 1 if self.left.lost == 0 && self.would_be_lost() => {}
                        0 | 1 => out.push(Step::Signal(which)),
                        _ => out.push(Step::Eof(which)),
                    }
                    if self.plan.proxy && *sent < 2 {
                        out.push(Step::Eof(which));
                    }
                    if self.plan.breaks {
                        out.push(Step::AttemptBreaksOff(which));
                    }
                }
            }
        }
        if self.late_signals > 0 {
            out.push(Step::LateSignal);
        }
    }

    /// Does a signal come too early: before the server has read its target, or
    /// noticed the signal before it?
    fn would_be_lost(&self) -> bool {
        let reads = matches!(
            self.server.state,
            server::State::Idle | server::State::Skipping(_)
        );
        let mut coming = self.server.wire.iter();
        self.server.signalled
            || reads
                && coming
                    .any(|(_, message)| !matches!(message, Message::Sync) && !message.is_tail())
    }

    fn kind(&self, number: u8) -> Kind {
        self.asked[usize::from(number)].kind
    }

    /// What becomes of the world if this happens.
    pub(super) fn after(&self, step: Step) -> Result<World, Breach> {
        let mut world = self.clone();
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            world.make(step);
            world.look();
            world.normalise();
        }));
        if let Err(panic) = done {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            world.breach("panic", text.unwrap_or_default());
        }
        match world.breach.take() {
            Some(breach) => Err(breach),
            None => Ok(world),
        }
    }

    fn make(&mut self, step: Step) {
        match step {
            Step::Asks(kind) => {
                self.left.requests -= 1;
                if let Some(holder) = self.operation.or(self.check_out) {
                    self.ask(holder, kind);
                }
            }
            Step::ChildAsks(kind) => {
                self.left.requests -= 1;
                let child = self.make_child();
                self.ask(child, kind);
            }
            Step::SendsData => self.send_data(),
            Step::EndsCopy => self.end_copy(Message::CopyDone),
            Step::DropsCopy => self.end_copy(Message::CopyFail),
            Step::Ends(holder) => self.end(holder),
            Step::Finishes(holder) => self.finish(holder),
            Step::Releases(queues) => self.release(queues),
            Step::Cancels => self.cancel(),
            Step::DropsClient => self.drop_client(),
            Step::ChecksOut => self.check_out(),
            Step::BeginsOperation => self.begin_operation(),
            Step::LeavesOperation => self.leave_operation(),
            Step::PollBegins => {
                self.poll = Poll::Begun {
                    mark: self.machine.mark(),
                };
            }
            Step::Writes(cut) => {
                let [message, inside] = self.cuts();
                let limit = match cut {
                    Cut::Whole => usize::MAX,
                    Cut::AfterMessage => message,
                    Cut::InMessage => inside,
                };
                if let Poll::Begun { mark } = self.poll {
                    self.take_and_write(mark, limit);
                }
            }
            Step::PollEnds => {
                if let Poll::Flushed { mark } = self.poll {
                    self.end_poll(mark);
                }
            }
            Step::TakesUp => self.take_up(),
            Step::SessionWrites => {
                // Decides what it is, and puts it where its bytes are taken from.
                self.machine.next_write();
                self.write_own();
            }
            Step::Server(what) => self.server_moves(what),
            Step::Receives(cut) => self.deliver(cut),
            Step::AttemptConnects(which) => self.attempt_connects(usize::from(which)),
            Step::AttemptRefused(which) => {
                self.attempt_over(usize::from(which), Outcome::NotWritten)
            }
            Step::AttemptBreaksOff(which) => {
                self.broke_off = true;
                self.attempt_over(usize::from(which), Outcome::BrokenOff);
            }
            Step::Signal(which) => {
                if self.would_be_lost() {
                    self.left.lost -= 1;
                }
                if let Cancel::Written(sent) = &mut self.attempts[usize::from(which)].1 {
                    *sent += 1;
                }
                self.signal();
            }
            Step::Eof(which) => self.attempt_over(usize::from(which), Outcome::Eof),
            Step::LateSignal => {
                self.late_signals -= 1;
                self.signal();
            }
            Step::Time => {
                if let Some(due) = self.machine.poll_timeout() {
                    self.pass(due);
                }
            }
        }
    }

    fn signal(&mut self) {
        if let Some(who) = self.server.signal() {
            self.rule_3_signal(who);
        }
    }

    fn server_moves(&mut self, what: server::Move) {
        let kinds: Vec<Kind> = self.asked.iter().map(|asked| asked.kind).collect();
        match self.server.make(what, |number| kinds[usize::from(number)]) {
            server::Outcome::Done { who, kept } => {
                if let server::Who::Request(number) = who {
                    self.rule_6_told_as_ended_does_not_commit(usize::from(number), kept);
                }
            }
            server::Outcome::Lost(message) => {
                self.breach("4 proven", format!("the protocol is lost over {message:?}"));
            }
            server::Outcome::Nothing => {}
        }
    }

    fn deliver(&mut self, cut: Cut) {
        let Some(&(who, said)) = self.server.said.front() else {
            return;
        };
        let whose = match who {
            server::Who::Request(number) => number,
            server::Who::Own => OWN,
        };
        let bytes = said.bytes(whose);
        let from = usize::from(std::mem::take(&mut self.delivered));
        if cut == Cut::Whole {
            self.server.said.pop_front();
            self.receive(&bytes[from..]);
        } else {
            self.delivered = CUT;
            self.receive(&bytes[..usize::from(CUT)]);
        }
    }

    fn attempt_connects(&mut self, which: usize) {
        let number = self.attempts[which].0;
        if self.machine.handle_attempt_connected(number, self.now) {
            if self.is_any_written() {
                self.breach("10 no storm", "two attempts at once".into());
            }
            self.rule_3_aimed();
            self.attempts[which].1 = Cancel::Written(0);
            self.cancelled_by_proxy = true;
            self.settle();
        } else {
            self.attempt_over(which, Outcome::NotWritten);
        }
    }

    fn attempt_over(&mut self, which: usize, outcome: Outcome) {
        let (number, cancel) = self.attempts.remove(which);
        if let Cancel::Written(sent) = cancel {
            self.late_signals += 2 - sent;
        }
        self.machine.handle_attempt_over(number, outcome, self.now);
        self.settle();
    }
}

/// A header and a byte of the body.
const CUT: u8 = 6;
