//! From the server to the client: passed, dropped, or put in by the session.

use super::{CopyIn, Kind, Ledger, Own, Request, Stage, Tail};
use crate::wire::backend::Status;
use crate::wire::framer::{Malformed, Piece};
use crate::wire::message;
use crate::wire::request::Class;
use crate::wire::statement::Verb;

/// What becomes of the message that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fate {
    Pass,
    Drop,
    /// An ErrorResponse to dropped work: passed if it is the server's last
    /// word. Its first bytes are kept by the backend scanner until that shows.
    Undecided,
}

impl Ledger {
    /// Takes in bytes of the server, and says how many. With `up`, what the
    /// client is to see is appended to it; without, all bytes are the client's
    /// already, which is allowed only while
    /// [`wants_filter`](Ledger::wants_filter) says no.
    ///
    /// Where the session has to answer in between, it stops: what is behind
    /// may be the answer to a later request. [`settle`](Ledger::settle), then
    /// go on with the rest.
    pub(crate) fn receive(
        &mut self,
        input: &[u8],
        mut up: Option<&mut Vec<u8>>,
    ) -> Result<usize, Malformed> {
        let mut bytes = input;
        while let (1.., Some((&answer, rest))) = (self.negotiations, bytes.split_first()) {
            // A server too old to know the request answers with an
            // ErrorResponse, and says no more.
            if answer == b'E' {
                self.negotiations = 0;
                break;
            }
            self.negotiations -= 1;
            if let Some(up) = up.as_deref_mut() {
                up.push(answer);
            }
            bytes = rest;
        }
        while !self.has_answers() {
            if up.is_none() {
                bytes = self.skim(bytes);
            }
            let Some(piece) = self.backend.next(&mut bytes)? else {
                break;
            };
            if piece.begins {
                self.fate = self.judge(piece.tag)?;
                if self.fate == Fate::Pass {
                    self.note_passed(piece.tag);
                }
                debug_assert!(
                    up.is_some() || self.fate == Fate::Pass,
                    "wants_filter said no"
                );
            }
            let was = self.fate;
            if self.fate == Fate::Undecided
                && let Some(fatal) = self.backend.fatal(piece.ends)
            {
                self.fate = if fatal { Fate::Pass } else { Fate::Drop };
            }
            if let (Fate::Pass, Some(up)) = (self.fate, up.as_deref_mut()) {
                if was == Fate::Undecided {
                    self.replay(&piece, up);
                } else {
                    // Only the last ReadyForQuery of start-up waits for a key.
                    if self.starting && piece.begins && piece.tag == b'Z' {
                        self.invent_key(up);
                    }
                    up.extend_from_slice(piece.raw);
                }
            }
            if piece.ends {
                self.message(piece.tag)?;
            }
        }
        debug_assert!(up.is_some() || bytes.is_empty(), "wants_filter said no");
        Ok(input.len() - bytes.len())
    }

    /// Hops over whole messages that are the client's already and change
    /// nothing here, except that rows have gone up: nearly all of a result.
    fn skim<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        if self.starting
            || self.own.is_some()
            || !self.backend.at_boundary()
            || self.answering().is_none()
        {
            return bytes;
        }
        let mut rows = false;
        while let [tag, a, b, c, d, ..] = *bytes {
            let data = matches!(tag, b'D' | b'd');
            if !data && !matches!(tag, b'1' | b'2' | b'3' | b'C' | b'T' | b'c' | b'n' | b't') {
                break;
            }
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            // What is cut, or malformed, is looked at with care.
            let Some(rest) = bytes
                .get(length.saturating_add(1)..)
                .filter(|_| length >= 4)
            else {
                break;
            };
            rows |= data;
            bytes = rest;
        }
        if rows && let Some(request) = self.answering_mut() {
            request.rows_up = true;
        }
        bytes
    }

    /// May a message with this tag go up?
    fn judge(&self, tag: u8) -> Result<Fate, Malformed> {
        if self.starting {
            return match tag {
                b'R' | b'S' | b'K' | b'N' | b'E' | b'Z' | b'v' => Ok(Fate::Pass),
                tag => Err(Malformed::Backend {
                    tag,
                    phase: "during start-up",
                }),
            };
        }
        // Asynchronous messages belong to nobody's request.
        if matches!(tag, b'N' | b'A' | b'S') {
            return Ok(Fate::Pass);
        }
        if !answers(tag) {
            return Err(Malformed::Backend {
                tag,
                phase: "after start-up",
            });
        }
        let Some(request) = self.answering() else {
            return match (tag, self.own) {
                (b'E', Some(_)) => Ok(Fate::Undecided),
                (_, Some(_)) => Ok(Fate::Drop),
                // A FATAL error comes unasked: shutdown, idle time-out.
                (b'E', None) => Ok(Fate::Pass),
                (b'Z', None) => Err(Malformed::ReadyForQuery),
                (tag, None) => Err(Malformed::Backend {
                    tag,
                    phase: "while nothing is in flight",
                }),
            };
        };
        let fence = self.own == Some(Own::Fence) && tag == b'I';
        let surplus = tag == b'Z' && request.ready_up;
        let unheard = request.unheard && (tag != b'Z' || request.uncounted());
        let silent = request.ended || fence || surplus || unheard;
        Ok(match (silent, tag) {
            (false, _) => Fate::Pass,
            (true, b'E') => Fate::Undecided,
            (true, _) => Fate::Drop,
        })
    }

    /// The request that the server is answering; `None`: one of the session's
    /// own, or none.
    fn answering(&self) -> Option<&Request> {
        match self.own {
            // Up to its EmptyQueryResponse, everything is the COPY's.
            Some(Own::Fence) | None => self.requests.iter().find(|request| request.in_flight()),
            Some(Own::Rollback | Own::Fail | Own::FencePassed) => None,
        }
    }

    fn answering_mut(&mut self) -> Option<&mut Request> {
        match self.own {
            Some(Own::Fence) | None => self.requests.iter_mut().find(|request| request.in_flight()),
            Some(Own::Rollback | Own::Fail | Own::FencePassed) => None,
        }
    }

    fn note_passed(&mut self, tag: u8) {
        if self.starting {
            return;
        }
        if let Some(request) = self.answering_mut() {
            match tag {
                b'D' | b'd' => request.rows_up = true,
                b'E' => request.error_up = true,
                b'Z' => request.ready_up = true,
                _ => {}
            }
        }
    }

    /// A message has been read to its end.
    fn message(&mut self, tag: u8) -> Result<(), Malformed> {
        match (tag, self.starting) {
            (b'Z', true) => {
                self.server = self.backend.status()?;
                self.client = self.server;
                self.starting = false;
            }
            (b'K', true) => self.read_key(),
            (b'S', true) => self.read_parameter(),
            (_, true) => {}
            (b'Z', false) => self.ready()?,
            (b'I', false) if self.own == Some(Own::Fence) => {
                self.own = Some(Own::FencePassed);
                if let Some(request) = self.requests.iter_mut().find(|request| request.in_flight())
                {
                    request.stage = Stage::Done;
                }
                self.sweep();
            }
            (b'G' | b'W', false) => {
                let mut opens = false;
                if let Some(request) = self.answering_mut() {
                    request.copy = CopyIn::Open;
                    // Before its own Sync the client can't forget it anyway, and
                    // whoever is gone ends nothing.
                    opens = request.synced && request.tail == Tail::No && !request.unheard;
                    request.copied = true;
                }
                self.client_copies |= opens;
            }
            (b'H', false) => {
                if let Some(request) = self.answering_mut() {
                    request.copied = true;
                }
            }
            (b'E', false) => {
                if let Some(request) = self.answering_mut() {
                    request.failed = true;
                    if request.copy == CopyIn::Open {
                        // A Sync that is still to come is read after the
                        // error: there is nothing to doubt.
                        request.copy = if request.synced {
                            CopyIn::Failed
                        } else {
                            CopyIn::No
                        };
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn ready(&mut self) -> Result<(), Malformed> {
        self.server = self.backend.status()?;
        let (server, passed) = (self.server, self.fate == Fate::Pass);
        if passed && !self.leaves_failed() {
            self.client = server;
        }
        let heard = self.answering().is_some_and(|request| !request.unheard);
        if passed && (heard || server == Status::Idle) {
            self.told_open = server.is_open();
        }
        match self.answering_mut() {
            Some(request) => {
                let last = request.last_ready();
                request.readies = request.readies.saturating_add(1);
                if last {
                    // What was hushed until now is owed its answer still.
                    let owed = request.ended && !request.answered && !request.ready_up;
                    request.stage = if owed { Stage::Refused } else { Stage::Done };
                }
                self.sweep();
            }
            None => {
                // Nothing of the transaction is left, so what was told as
                // ended inside it has no more to fail.
                if self.own == Some(Own::Rollback) && server == Status::Idle {
                    self.client = server;
                }
                self.own = None;
            }
        }
        Ok(())
    }

    /// Is this the answer to a Close, a lone Sync or the return of a lock, which
    /// change no transaction, inside one that the client was told has failed? What the
    /// server makes of that transaction is not what the client was told.
    fn leaves_failed(&self) -> bool {
        self.client == Status::Failed
            && self.answering().is_some_and(|request| {
                request.class == Class::CleanUp
                    && matches!(request.verb, Verb::Other | Verb::GiveBack)
            })
    }

    /// Puts into `up` what the session says in the server's place. `text`
    /// writes the ErrorResponse.
    pub(crate) fn settle(
        &mut self,
        text: &mut dyn FnMut(&Request, &mut Vec<u8>),
        up: &mut Vec<u8>,
    ) {
        while let Some(index) = self.next_answer() {
            self.answer(index, text, up);
            let request = &mut self.requests[index];
            request.answered = true;
            if !request.in_flight() {
                request.stage = Stage::Done;
            }
            self.sweep();
        }
    }

    /// Is it the session's turn to say something to the client?
    pub(crate) fn has_answers(&self) -> bool {
        self.next_answer().is_some()
    }

    /// The request that the session has to answer now: in the client's order,
    /// and not inside a message.
    fn next_answer(&self) -> Option<usize> {
        if self.starting || self.mid_message_up() {
            return None;
        }
        for (index, request) in self.requests.iter().enumerate() {
            match request.stage {
                Stage::Done => {}
                Stage::InFlight if request.answered => {}
                _ if request.hushed || request.class == Class::Said => return None,
                Stage::InFlight if request.ended => return Some(index),
                Stage::Refused if request.synced && request.unwritten == 0 => return Some(index),
                _ => return None,
            }
        }
        None
    }

    fn answer(
        &mut self,
        index: usize,
        text: &mut dyn FnMut(&Request, &mut Vec<u8>),
        up: &mut Vec<u8>,
    ) {
        let request = &self.requests[index];
        // One whose ReadyForQuery has gone up is over for the client.
        if request.ready_up {
            return;
        }
        if !request.error_up && !request.unheard {
            text(request, up);
        }
        let counted = !request.uncounted();
        // A COMMIT that failed has ended its transaction all the same.
        let commit = request.verb == Verb::Commit && request.kind == Kind::Simple;
        self.client = match self.client {
            Status::InTransaction | Status::Failed if !commit => Status::Failed,
            _ => Status::Idle,
        };
        if counted {
            message::ready_for_query(up, self.client.byte());
        }
    }

    /// An ErrorResponse was kept back and now goes up: what is gone of it is
    /// put together again.
    fn replay(&self, piece: &Piece<'_>, up: &mut Vec<u8>) {
        let kept = self.backend.body();
        let length = u32::try_from(piece.length.unwrap_or(0) + 4).unwrap_or(u32::MAX);
        up.push(piece.tag);
        up.extend_from_slice(&length.to_be_bytes());
        up.extend_from_slice(kept);
        // The scanner keeps the first bytes only; this piece may have more.
        let come = piece.length.unwrap_or(0) - self.backend.outstanding();
        let rest = (come - kept.len()).min(piece.body.len());
        up.extend_from_slice(&piece.body[piece.body.len() - rest..]);
    }

    /// A server or proxy that sends no BackendKeyData: the client is given a
    /// key of ours, unique in the process, by which its session can be found.
    fn invent_key(&mut self, up: &mut Vec<u8>) {
        if self.facts.key.is_empty() && self.facts.invented != 0 {
            message::backend_key_data(up, 0, &self.facts.invented.to_be_bytes());
        }
    }

    fn read_key(&mut self) {
        if let Some((process_id, key)) = self.backend.body().split_first_chunk() {
            self.facts.process_id = i32::from_be_bytes(*process_id);
            self.facts.key = key.to_vec();
        }
    }

    fn read_parameter(&mut self) {
        let mut fields = self.backend.body().split(|byte| *byte == 0);
        if let (Some(b"server_version"), Some(version)) = (fields.next(), fields.next()) {
            let digits = version.iter().take_while(|byte| byte.is_ascii_digit());
            self.facts.major = digits
                .map(|byte| u32::from(byte - b'0'))
                .try_fold(0u32, |n, digit| n.checked_mul(10)?.checked_add(digit))
                .filter(|major| *major > 0);
        }
    }
}

/// Every message that answers a request.
fn answers(tag: u8) -> bool {
    matches!(
        tag,
        b'1' | b'2' | b'3' | b'C'..=b'E' | b'G'..=b'I' | b'T' | b'V' | b'W' | b'Z' | b'c' | b'd' | b'n' | b's' | b't'
    )
}
