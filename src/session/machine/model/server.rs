//! A backend, as far as a session can tell: it executes one request at a time,
//! skips to the next Sync after an error, has transactions and COPY, and takes
//! no notice of a signal while it is idle. Which of the things that it might do
//! next it does, the search decides.

use std::collections::VecDeque;

use super::words::{Kind, Message, Said};

/// Whose bytes these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Who {
    /// A request, by its number in the world.
    Request(u8),
    /// The session itself.
    Own,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Server {
    /// On its way to the server, and what it has said, on its way back.
    pub(super) wire: VecDeque<(Who, Message)>,
    pub(super) said: VecDeque<(Who, Said)>,
    pub(super) state: State,
    /// I, T or E, as ReadyForQuery has it.
    pub(super) transaction: u8,
    /// A signal waits to be noticed.
    pub(super) signalled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum State {
    Idle,
    Running {
        who: Who,
        message: Message,
        /// A row was sent.
        row: bool,
    },
    Copying(Who),
    /// Up to the next Sync.
    Skipping(Who),
}

/// What it may do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Move {
    Read,
    Row,
    Complete,
    Fail,
    /// It notices a signal.
    Interrupt,
}

/// What a move has brought about, for the rules to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Nothing,
    /// A request was executed; did anything of it stay?
    Done {
        who: Who,
        kept: bool,
    },
    /// The protocol is lost.
    Lost(Message),
}

impl Server {
    pub(super) fn new() -> Self {
        Server {
            wire: VecDeque::new(),
            said: VecDeque::new(),
            state: State::Idle,
            transaction: b'I',
            signalled: false,
        }
    }

    /// Is anything of this on its way there, being done, or on its way back?
    pub(super) fn has(&self, who: Who) -> bool {
        let state = match self.state {
            State::Running { who, .. } | State::Copying(who) | State::Skipping(who) => Some(who),
            State::Idle => None,
        };
        // Data of a COPY that is over is passed over.
        let coming = |(whose, message): &(Who, Message)| *whose == who && !message.is_tail();
        state == Some(who)
            || self.wire.iter().any(coming)
            || self.said.iter().any(|(whose, _)| *whose == who)
    }

    /// A signal arrives: whom may it hit?
    pub(super) fn signal(&mut self) -> Option<Who> {
        match self.state {
            State::Running { who, .. } | State::Copying(who) => {
                self.signalled = true;
                Some(who)
            }
            State::Idle | State::Skipping(_) => None,
        }
    }

    pub(super) fn moves(&self, kind: impl Fn(u8) -> Kind, errors: bool, out: &mut Vec<Move>) {
        let State::Running { who, message, row } = self.state else {
            // In copy mode a signal is noticed only with the next message.
            if !self.wire.is_empty() {
                out.push(Move::Read);
            }
            // A trigger does it, or the data.
            if errors && matches!(self.state, State::Copying(_)) {
                out.push(Move::Fail);
            }
            return;
        };
        if self.signalled {
            out.push(Move::Interrupt);
        }
        let kind = match who {
            Who::Request(number) => Some(kind(number)),
            Who::Own => None,
        };
        let fails = match message {
            Message::Fail | Message::BeginFail => true,
            Message::Rollback | Message::Commit | Message::Close | Message::Empty => false,
            _ => self.transaction == b'E',
        };
        match kind {
            _ if fails => out.push(Move::Fail),
            Some(Kind::Endless) => {}
            Some(Kind::Rows) if !row => out.push(Move::Row),
            _ => out.push(Move::Complete),
        }
        let may_fail = kind.is_some_and(Kind::works) && message != Message::Commit;
        if errors && may_fail && !fails {
            out.push(Move::Fail);
        }
    }

    pub(super) fn make(&mut self, what: Move, kind: impl Fn(u8) -> Kind) -> Outcome {
        match (what, self.state) {
            (Move::Read, _) => self.read(),
            (Move::Row, State::Running { who, message, .. }) => {
                self.state = State::Running {
                    who,
                    message,
                    row: true,
                };
                self.say(who, Said::Row);
                Outcome::Nothing
            }
            (Move::Complete, State::Running { who, message, .. }) => {
                let copies = matches!(who, Who::Request(number) if kind(number) == Kind::Copy);
                if copies && message == Message::Execute {
                    self.state = State::Copying(who);
                    self.say(who, Said::CopyIn);
                    return Outcome::Nothing;
                }
                self.complete(who, message)
            }
            (Move::Fail | Move::Interrupt, State::Running { who, message, .. }) => {
                if message == Message::BeginFail {
                    self.transaction = b'T';
                }
                self.fail(who, message != Message::Execute);
                Outcome::Nothing
            }
            (Move::Fail, State::Copying(who)) => {
                self.fail(who, false);
                Outcome::Nothing
            }
            _ => Outcome::Nothing,
        }
    }

    fn read(&mut self) -> Outcome {
        let Some((who, message)) = self.wire.pop_front() else {
            return Outcome::Nothing;
        };
        if let State::Copying(copy) = self.state {
            return self.copy(copy, message);
        }
        self.signalled = false;
        match (message, self.state) {
            (Message::Sync, _) => {
                self.state = State::Idle;
                self.say(who, Said::Ready(self.transaction));
            }
            (_, State::Skipping(_)) => {}
            (Message::Close, _) => self.say(who, Said::CloseComplete),
            (Message::Execute, _) if self.transaction == b'E' => self.fail(who, false),
            // Of a COPY that is over.
            (message, _) if message.is_tail() => {}
            (message, _) => {
                if message == Message::Execute {
                    self.say(who, Said::BindComplete);
                }
                self.state = State::Running {
                    who,
                    message,
                    row: false,
                };
            }
        }
        Outcome::Nothing
    }

    fn copy(&mut self, who: Who, message: Message) -> Outcome {
        match message {
            Message::CopyDone => return self.complete(who, Message::CopyDone),
            Message::CopyFail => self.fail(who, false),
            Message::CopyData if self.signalled => self.fail(who, false),
            // A Sync is void in copy mode.
            Message::CopyData | Message::Sync => {}
            other => return Outcome::Lost(other),
        }
        Outcome::Nothing
    }

    fn complete(&mut self, who: Who, message: Message) -> Outcome {
        let open = self.transaction == b'T';
        match message {
            Message::Begin => self.transaction = b'T',
            Message::Commit | Message::Rollback => self.transaction = b'I',
            _ => {}
        }
        let kept = match message {
            Message::Commit => open,
            Message::Rollback | Message::Empty => false,
            _ => true,
        };
        let said = match message {
            Message::Empty => Said::EmptyQuery,
            _ => Said::Complete,
        };
        self.say(who, said);
        self.state = State::Idle;
        self.signalled = false;
        if !matches!(message, Message::Execute | Message::CopyDone) {
            self.say(who, Said::Ready(self.transaction));
        }
        Outcome::Done { who, kept }
    }

    fn fail(&mut self, who: Who, simple: bool) {
        self.signalled = false;
        if self.transaction == b'T' {
            self.transaction = b'E';
        }
        self.say(who, Said::Error);
        self.state = State::Skipping(who);
        if simple {
            self.say(who, Said::Ready(self.transaction));
            self.state = State::Idle;
        }
    }

    fn say(&mut self, who: Who, what: Said) {
        self.said.push_back((who, what));
    }

    /// Requests are counted anew: so many are over.
    pub(super) fn shift(&mut self, by: u8) {
        let whose = self.wire.iter_mut().map(|(who, _)| who);
        let whose = whose.chain(self.said.iter_mut().map(|(who, _)| who));
        let state = match &mut self.state {
            State::Running { who, .. } | State::Copying(who) | State::Skipping(who) => Some(who),
            State::Idle => None,
        };
        for who in whose.chain(state) {
            if let Who::Request(number) = who {
                *number = number.saturating_sub(by);
            }
        }
    }
}
