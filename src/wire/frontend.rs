//! What a client's bytes are: start-up, a request, part of a COPY, farewell.
//!
//! The scanner sees each byte once, before it is written. It names the part
//! of the conversation that a byte belongs to; the [`ledger`](super::ledger)
//! decides to which request.

use super::framer::{Framer, Malformed, Prefix};
use super::statement::{LIMIT, Verb};

/// Reads a client's side of a conversation.
#[derive(Clone, Debug)]
pub(crate) struct Frontend {
    phase: Phase,
    framer: Framer,
    text: Prefix<TEXT>,
}

/// A run of bytes with one meaning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) kind: RunKind,
    /// How many bytes it is long.
    pub(crate) len: usize,
    /// Does it hold the last byte of its message?
    pub(crate) ends: bool,
    /// What the statement in it says, as soon as that is known.
    pub(crate) verb: Option<Verb>,
}

/// The meaning of a run of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunKind {
    /// Start-up packet, password, SASL response.
    StartUp,
    /// An SSLRequest or GSSENCRequest: one byte will answer it.
    Negotiation,
    /// Query or FunctionCall: a request, and its own sync point.
    Simple,
    /// Close: alone before a Sync it is clean-up.
    Close,
    /// Parse, Bind, Describe, Execute, Flush.
    Extended,
    /// Sync.
    Sync,
    /// CopyData.
    CopyData,
    /// CopyDone or CopyFail.
    CopyEnd,
    /// Terminate.
    Terminate,
}

#[derive(Clone, Debug)]
enum Phase {
    /// Before the start-up packet is over: length and code, without a tag.
    Untagged {
        head: Prefix<8>,
        left: usize,
    },
    Tagged,
}

impl Frontend {
    /// A scanner for a connection that has said nothing yet.
    pub(crate) fn new() -> Self {
        Frontend {
            phase: Phase::untagged(),
            framer: Framer::default(),
            text: Prefix::new(),
        }
    }

    /// Takes the next run of `input`, or `None` where it is empty.
    pub(crate) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Run>, Malformed> {
        if input.is_empty() {
            return Ok(None);
        }
        match self.phase {
            Phase::Untagged { .. } => self.untagged(input).map(Some),
            Phase::Tagged => self.tagged(input),
        }
    }

    /// Is nothing of a message outstanding?
    pub(crate) fn at_boundary(&self) -> bool {
        self.framer.at_boundary()
    }

    /// [Start-up packets](https://www.postgresql.org/docs/current/protocol-message-formats.html):
    /// a length, a code, and for the start-up message itself its parameters.
    fn untagged(&mut self, input: &mut &[u8]) -> Result<Run, Malformed> {
        let Phase::Untagged { head, left } = &mut self.phase else {
            return Ok(Run::new(RunKind::StartUp, 0));
        };
        if !head.is_full() {
            let len = head.push(input);
            *input = &input[len..];
            let mut run = Run::new(RunKind::StartUp, len);
            if let [a, b, c, d, e, f, g, h] = *head.get() {
                let length = i32::from_be_bytes([a, b, c, d]);
                *left = match usize::try_from(length) {
                    Ok(length) if (8..=MAX_START_UP).contains(&length) => length - 8,
                    _ => return Err(Malformed::StartUp(length)),
                };
                let code = u32::from_be_bytes([e, f, g, h]);
                if matches!(code, SSL_REQUEST | GSSENC_REQUEST) && *left == 0 {
                    self.phase = Phase::untagged();
                    run.kind = RunKind::Negotiation;
                    run.ends = true;
                } else if *left == 0 {
                    self.phase = Phase::Tagged;
                    run.ends = true;
                }
            }
            return Ok(run);
        }
        let len = (*left).min(input.len());
        *left -= len;
        *input = &input[len..];
        let ends = *left == 0;
        if ends {
            self.phase = Phase::Tagged;
        }
        Ok(Run {
            ends,
            ..Run::new(RunKind::StartUp, len)
        })
    }

    fn tagged(&mut self, input: &mut &[u8]) -> Result<Option<Run>, Malformed> {
        let Some(piece) = self.framer.next(input)? else {
            return Ok(None);
        };
        let kind = match piece.tag {
            b'Q' | b'F' => RunKind::Simple,
            b'P' | b'B' | b'D' | b'E' | b'H' => RunKind::Extended,
            b'C' => RunKind::Close,
            b'S' => RunKind::Sync,
            b'd' => RunKind::CopyData,
            b'c' | b'f' => RunKind::CopyEnd,
            b'p' => RunKind::StartUp,
            b'X' => RunKind::Terminate,
            tag => {
                return Err(Malformed::Frontend {
                    tag,
                    phase: "in any phase",
                });
            }
        };
        if piece.begins {
            self.text.clear();
        }
        let verb = match piece.tag {
            b'Q' | b'P' => self.verb(piece.tag, piece.body, piece.length, piece.ends),
            b'F' => Some(Verb::Other),
            _ => None,
        };
        Ok(Some(Run {
            kind,
            len: piece.raw.len(),
            ends: piece.ends,
            verb,
        }))
    }

    /// The verb of a Query or a Parse: known at once where the text is too
    /// long to be one of ours, else at its end.
    fn verb(&mut self, tag: u8, body: &[u8], length: Option<usize>, ends: bool) -> Option<Verb> {
        if length? > TEXT {
            // Too long for any other of ours; a COPY may have any length.
            let copies = tag == b'Q' && self.text.get().is_empty() && Verb::begins_copy(body);
            return Some(if copies { Verb::Copy } else { Verb::Other });
        }
        // Where the message came in one piece there is nothing to keep.
        let whole = if ends && self.text.get().is_empty() {
            body
        } else {
            self.text.push(body);
            if !ends {
                return None;
            }
            self.text.get()
        };
        let mut fields = whole.split(|byte| *byte == 0);
        if tag == b'P' {
            // The statement's name stands before its text.
            fields.next();
        }
        Some(fields.next().map_or(Verb::Other, Verb::of))
    }
}

impl Run {
    fn new(kind: RunKind, len: usize) -> Self {
        Run {
            kind,
            len,
            ends: false,
            verb: None,
        }
    }
}

impl Phase {
    fn untagged() -> Self {
        Phase::Untagged {
            head: Prefix::new(),
            left: 0,
        }
    }
}

/// Between two messages nothing of a text counts; a model begins after start-up.
#[cfg(test)]
impl std::hash::Hash for Frontend {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let Frontend {
            phase: _,
            framer,
            text,
        } = self;
        framer.hash(state);
        (!framer.at_boundary()).then_some(text).hash(state);
    }
}

/// Room for a statement of ours and, in a Parse, its name.
const TEXT: usize = LIMIT + 64;
/// The server's own bound, `MAX_STARTUP_PACKET_LENGTH` in its pqcomm.h.
const MAX_START_UP: usize = 10_000;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(pieces: &[&[u8]]) -> Result<Vec<(RunKind, usize, Option<Verb>)>, Malformed> {
        let (mut front, mut out) = (
            Frontend::new(),
            Vec::<(RunKind, usize, Option<Verb>)>::new(),
        );
        let mut ended = true;
        for mut input in pieces.iter().copied() {
            while let Some(run) = front.next(&mut input)? {
                if std::mem::replace(&mut ended, run.ends) {
                    out.push((run.kind, 0, None));
                }
                let last = out.last_mut().unwrap();
                // The meaning of a packet without a tag shows in its code only.
                last.0 = run.kind;
                last.1 += run.len;
                last.2 = run.verb.or(last.2);
            }
        }
        Ok(out)
    }

    #[test]
    fn a_conversation_cut_anywhere_has_the_same_runs() {
        let mut bytes = b"\0\0\0\x08\x04\xd2\x16\x2f\0\0\0\x0d\0\x03\0\0user\0".to_vec();
        bytes.extend_from_slice(b"p\0\0\0\x08pw\0\0Q\0\0\0\x0dROLLBACK\0");
        bytes.extend_from_slice(b"P\0\0\0\x0fs1\0COMMIT\0\0S\0\0\0\x04");
        let whole = runs(&[&bytes]).unwrap();
        assert_eq!(
            whole,
            [
                (RunKind::Negotiation, 8, None),
                (RunKind::StartUp, 13, None),
                (RunKind::StartUp, 9, None),
                (RunKind::Simple, 14, Some(Verb::Rollback)),
                (RunKind::Extended, 16, Some(Verb::Commit)),
                (RunKind::Sync, 5, None),
            ]
        );
        for cut in 0..bytes.len() {
            assert_eq!(
                runs(&[&bytes[..cut], &bytes[cut..]]).unwrap(),
                whole,
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn impossible_packets_are_named() {
        let text = runs(&[b"\0\0\0\x07\0\x03\0\0"]).unwrap_err().to_string();
        assert_eq!(text, "the start-up packet has the impossible length 7");
        let text = runs(&[b"\0\0\0\x08\0\x03\0\0?\0\0\0\x04"])
            .unwrap_err()
            .to_string();
        assert_eq!(
            text,
            "the client sent message '?', which is impossible in any phase"
        );
    }
}
