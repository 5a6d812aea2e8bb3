//! A PostgreSQL backend, as far as a session can tell: sync points, skipping
//! to the next Sync after an error, transactions, COPY in, and signals that
//! are ignored while it is idle. What it does next, a random number says.

use std::collections::VecDeque;

use crate::wire::testing::{client, first, server};

/// Whose bytes are on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Request(usize),
    /// The session itself.
    Own,
    /// Asynchronous messages.
    Nobody,
}

/// Random numbers from a seed (xorshift64*): the same on every machine.
pub(super) struct Random(u64);

#[derive(Debug)]
pub(super) struct Backend {
    /// What was written to it, how much of that has arrived, and whose it is.
    input: Vec<u8>,
    arrived: usize,
    whose_input: VecDeque<(Who, usize)>,
    /// What it said that has not been delivered, and whom it was for.
    output: Vec<u8>,
    whose_output: VecDeque<(Who, usize)>,
    state: State,
    /// The statement that was bound last, and the one parsed last.
    bound: String,
    pub(super) transaction: u8,
    /// A signal waits to be noticed.
    signalled: bool,
    /// Work that was done, and whether it was a COMMIT that kept something.
    pub(super) done: Vec<(usize, bool)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Running {
        who: Who,
        text: String,
        simple: bool,
        rows: u32,
    },
    Copying {
        who: Who,
        simple: bool,
    },
    Skipping {
        who: Who,
    },
    Gone,
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        // Zero is the one state that it would never leave.
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(bits).unwrap() % bound
    }

    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

impl Backend {
    pub(super) fn new() -> Self {
        Backend {
            input: Vec::new(),
            arrived: 0,
            whose_input: VecDeque::new(),
            output: Vec::new(),
            whose_output: VecDeque::new(),
            state: State::Idle,
            bound: String::new(),
            transaction: b'I',
            signalled: false,
            done: Vec::new(),
        }
    }

    // ---- the network --------------------------------------------------------

    pub(super) fn write(&mut self, who: Who, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        match self.whose_input.back_mut() {
            Some((last, len)) if *last == who => *len += bytes.len(),
            _ => self.whose_input.push_back((who, bytes.len())),
        }
    }

    pub(super) fn on_the_way(&self) -> usize {
        self.input.len() - self.arrived
    }

    pub(super) fn arrive(&mut self, len: usize) {
        self.arrived += len.min(self.on_the_way());
    }

    pub(super) fn said(&self) -> usize {
        self.output.len()
    }

    pub(super) fn deliver(&mut self, len: usize) -> Vec<u8> {
        take(&mut self.whose_output, len);
        self.output.drain(..len).collect()
    }

    /// Is anything of this on its way, being done, or being answered?
    pub(super) fn has(&self, who: Who) -> bool {
        let state = match &self.state {
            State::Running { who, .. } | State::Copying { who, .. } | State::Skipping { who } => {
                Some(*who)
            }
            State::Idle | State::Gone => None,
        };
        state == Some(who)
            || self.will_read(who)
            || self.whose_output.iter().any(|(whose, _)| *whose == who)
    }

    /// Is a message of this on its way that is not just data of a COPY? Where
    /// no COPY is under way, that is passed over.
    fn will_read(&self, who: Who) -> bool {
        let (mut at, mut ends) = (0, 0);
        let mut runs = self.whose_input.iter();
        let mut whose = Who::Nobody;
        while at < self.input.len() {
            while ends <= at {
                let run = runs.next().expect("whose bytes these are");
                (whose, ends) = (run.0, ends + run.1);
            }
            let tag = self.input[at];
            if whose == who && !matches!(tag, b'd' | b'c' | b'f') {
                return true;
            }
            match first(&self.input[at..]) {
                Some((_, _, rest)) => at = self.input.len() - rest.len(),
                None => return false,
            }
        }
        false
    }

    /// A signal arrives: whom may it hit?
    pub(super) fn signal(&mut self) -> Option<Who> {
        match &self.state {
            State::Running { who, .. } | State::Copying { who, .. } => {
                self.signalled = true;
                Some(*who)
            }
            // It is cleared before the next command is read.
            State::Idle | State::Skipping { .. } | State::Gone => None,
        }
    }

    pub(super) fn notice(&mut self) {
        self.say(Who::Nobody, &server::notice("by the way"));
    }

    /// Does one thing, if there is one to do.
    pub(super) fn step(&mut self, random: &mut Random) -> bool {
        match self.state.clone() {
            State::Gone => false,
            State::Idle => self.read(random, None),
            State::Skipping { who } => self.read(random, Some(who)),
            State::Copying { who, simple } => self.copy(random, who, simple),
            State::Running {
                who,
                text,
                simple,
                rows,
            } => self.run(who, &text, simple, rows),
        }
    }

    fn next_message(&mut self) -> Option<(Who, char, Vec<u8>)> {
        let (tag, body, rest) = first(&self.input[..self.arrived])?;
        let (body, len) = (body.to_vec(), self.arrived - rest.len());
        let who = self.whose_input[0].0;
        take(&mut self.whose_input, len);
        self.input.drain(..len);
        self.arrived -= len;
        Some((who, tag, body))
    }

    fn read(&mut self, random: &mut Random, skipping: Option<Who>) -> bool {
        let Some((who, tag, body)) = self.next_message() else {
            return false;
        };
        self.signalled = false;
        match tag {
            'S' => {
                self.say(who, &server::ready(self.transaction));
                self.state = State::Idle;
            }
            'X' => self.state = State::Gone,
            _ if skipping.is_some() => {}
            'Q' => self.begin(random, who, text_of(&body), true),
            'P' | 'B' if self.transaction == b'E' => self.fail(who, false),
            'P' => self.say(who, &server::parse_complete()),
            'B' => {
                self.bound = text_of(&body[1..]);
                self.say(who, &server::bind_complete());
            }
            'D' => self.say(who, &server::parameter_description()),
            'E' => self.begin(random, who, self.bound.clone(), false),
            'C' => self.say(who, &server::close_complete()),
            // Of a COPY that is over.
            'H' | 'd' | 'c' | 'f' => {}
            tag => panic!("no server takes {tag:?}"),
        }
        true
    }

    fn begin(&mut self, random: &mut Random, who: Who, text: String, simple: bool) {
        let rows = u32::try_from(random.below(4)).unwrap();
        self.state = State::Running {
            who,
            text,
            simple,
            rows,
        };
    }

    fn run(&mut self, who: Who, text: &str, simple: bool, rows: u32) -> bool {
        if self.signalled {
            self.fail(who, simple);
            return true;
        }
        let transaction = self.transaction;
        match text {
            "ROLLBACK" => self.transaction = b'I',
            "COMMIT" => self.transaction = b'I',
            "ROLLBACK TO sp" if transaction != b'I' => self.transaction = b'T',
            "" => {
                self.say(who, &server::empty_query_response());
                self.say(who, &server::ready(transaction));
                self.state = State::Idle;
                return true;
            }
            _ if text.starts_with("BEGIN;") => {
                self.transaction = b'T';
                self.fail(who, simple);
                return true;
            }
            _ if transaction == b'E' || text.starts_with("ROLLBACK TO") || text == "fail" => {
                self.fail(who, simple);
                return true;
            }
            "BEGIN" => self.transaction = b'T',
            "endless" => return false,
            "drip" if rows == 0 => return false,
            "rows" | "drip" if rows > 0 => {
                self.say(who, &server::data_row(&name(who)));
                let text = text.to_string();
                self.state = State::Running {
                    who,
                    text,
                    simple,
                    rows: rows - 1,
                };
                return true;
            }
            // A BEFORE STATEMENT trigger.
            "trigger" => {
                self.say(who, &server::copy_in_response());
                self.fail(who, simple);
                return true;
            }
            "COPY out" | "COPY rows" if rows > 0 => {
                let said = match text {
                    "COPY out" => server::copy_out_response(),
                    _ => server::copy_data(name(who).as_bytes()),
                };
                self.say(who, &said);
                self.state = State::Running {
                    who,
                    text: "COPY rows".into(),
                    simple,
                    rows: rows - 1,
                };
                return true;
            }
            "copy" | "COPY in" => {
                self.say(who, &server::copy_in_response());
                self.state = State::Copying { who, simple };
                return true;
            }
            _ => {}
        }
        self.complete(who, simple, text == "COMMIT" && transaction == b'T');
        true
    }

    fn copy(&mut self, random: &mut Random, who: Who, simple: bool) -> bool {
        let Some((_, tag, _)) = self.next_message() else {
            return false;
        };
        match tag {
            'd' if self.signalled || random.chance(15) => self.fail(who, simple),
            'd' | 'S' | 'H' => {}
            'c' if self.signalled || random.chance(15) => self.fail(who, simple),
            'c' => self.complete(who, simple, false),
            'f' => self.fail(who, simple),
            tag => panic!("the protocol is lost over {tag:?} in copy mode"),
        }
        true
    }

    fn complete(&mut self, who: Who, simple: bool, kept: bool) {
        self.say(who, &server::command_complete(&name(who)));
        if let Who::Request(number) = who {
            self.done.push((number, kept));
        }
        self.state = State::Idle;
        self.signalled = false;
        if simple {
            self.say(who, &server::ready(self.transaction));
        }
    }

    fn fail(&mut self, who: Who, simple: bool) {
        self.signalled = false;
        if self.transaction == b'T' {
            self.transaction = b'E';
        }
        self.say(who, &server::error("ERROR", &name(who)));
        self.state = State::Skipping { who };
        if simple {
            self.say(who, &server::ready(self.transaction));
            self.state = State::Idle;
        }
    }

    fn say(&mut self, who: Who, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
        self.whose_output.push_back((who, bytes.len()));
    }
}

/// How an answer names the request that it is for.
pub(super) fn name(who: Who) -> String {
    match who {
        Who::Request(number) => format!("<{number}>"),
        Who::Own | Who::Nobody => "<own>".into(),
    }
}

/// The bytes of a request with this text: as a simple query, or bound and
/// executed as a statement of that name.
pub(super) fn request(text: &str, simple: bool) -> Vec<u8> {
    if simple {
        client::query(text)
    } else {
        client::execute(text)
    }
}

fn text_of(body: &[u8]) -> String {
    let end = body.iter().position(|byte| *byte == 0).unwrap();
    String::from_utf8(body[..end].to_vec()).unwrap()
}

/// Takes so many bytes off the front of a list of runs.
fn take(runs: &mut VecDeque<(Who, usize)>, mut len: usize) {
    while len > 0 {
        let front = runs.front_mut().expect("whose bytes these are");
        let now = front.1.min(len);
        len -= now;
        front.1 -= now;
        if front.1 == 0 {
            runs.pop_front();
        }
    }
}
