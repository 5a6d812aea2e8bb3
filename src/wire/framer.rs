//! Message boundaries in a byte stream that may be cut anywhere.
//!
//! A message is a tag (one byte), a length (four bytes, big-endian, counting
//! itself but not the tag) and a body. Both directions use this form once the
//! start-up packet is over.

use std::fmt;

/// Finds where messages begin and end. Holds at most one header.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Framer {
    header: [u8; HEADER],
    have: usize,
    left: usize,
}

/// The part of one message that lies in one piece of input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece<'a> {
    /// The message's tag.
    pub(crate) tag: u8,
    /// Does this piece hold the message's first byte?
    pub(crate) begins: bool,
    /// All bytes of this piece, those of the header included.
    pub(crate) raw: &'a [u8],
    /// The bytes of this piece that belong to the body.
    pub(crate) body: &'a [u8],
    /// How long the whole body is, once the header is complete.
    pub(crate) length: Option<usize>,
    /// Does this piece hold the message's last byte?
    pub(crate) ends: bool,
}

impl Framer {
    /// Takes the next piece of `input`, or `None` where it is empty.
    pub(crate) fn next<'a>(
        &mut self,
        input: &mut &'a [u8],
    ) -> Result<Option<Piece<'a>>, Malformed> {
        let all = *input;
        if all.is_empty() {
            return Ok(None);
        }
        let begins = self.have == 0;
        let header = (HEADER - self.have).min(all.len());
        if header > 0 {
            self.header[self.have..self.have + header].copy_from_slice(&all[..header]);
            self.have += header;
            if self.have == HEADER {
                self.left = body_length(self.header)?;
            }
        }
        let body = if self.have == HEADER {
            self.left.min(all.len() - header)
        } else {
            0
        };
        self.left -= body;
        let piece = Piece {
            tag: self.header[0],
            begins,
            raw: &all[..header + body],
            body: &all[header..header + body],
            length: (self.have == HEADER).then_some(self.body()),
            ends: self.have == HEADER && self.left == 0,
        };
        *input = &all[header + body..];
        if piece.ends {
            self.have = 0;
        }
        Ok(Some(piece))
    }

    /// Is nothing of a message outstanding?
    pub(crate) fn at_boundary(&self) -> bool {
        self.have == 0
    }

    /// How many bytes of the message that has begun are still to come, as far
    /// as its header tells.
    pub(crate) fn outstanding(&self) -> usize {
        match self.have {
            0 => 0,
            HEADER => self.left,
            have => HEADER - have,
        }
    }

    fn body(&self) -> usize {
        // The header was checked when it was completed.
        body_length(self.header).unwrap_or(0)
    }
}

fn body_length(header: [u8; HEADER]) -> Result<usize, Malformed> {
    let [tag, a, b, c, d] = header;
    let length = i32::from_be_bytes([a, b, c, d]);
    match usize::try_from(length) {
        Ok(length) if length >= LENGTH => Ok(length - LENGTH),
        _ => Err(Malformed::Length { tag, length }),
    }
}

/// Bytes that no PostgreSQL message is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Malformed {
    /// A length field below its own size.
    Length { tag: u8, length: i32 },
    /// A message that a server can't send, or not now.
    Backend { tag: u8, phase: &'static str },
    /// A message that a client can't send, or not now.
    Frontend { tag: u8, phase: &'static str },
    /// A ReadyForQuery that nothing asked for.
    ReadyForQuery,
    /// A ReadyForQuery without, or with an unknown, transaction status.
    Status(u8),
    /// A start-up packet with an impossible length.
    StartUp(i32),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Malformed::Length { tag, length } => {
                write!(f, "message {} has the impossible length {length}", Tag(tag))
            }
            Malformed::Backend { tag, phase } => {
                write!(
                    f,
                    "the server sent message {}, which is impossible {phase}",
                    Tag(tag)
                )
            }
            Malformed::Frontend { tag, phase } => {
                write!(
                    f,
                    "the client sent message {}, which is impossible {phase}",
                    Tag(tag)
                )
            }
            Malformed::ReadyForQuery => {
                f.write_str("the server sent a ReadyForQuery that no request asked for")
            }
            Malformed::Status(byte) => {
                write!(
                    f,
                    "ReadyForQuery has the unknown transaction status {}",
                    Tag(byte)
                )
            }
            Malformed::StartUp(length) => {
                write!(f, "the start-up packet has the impossible length {length}")
            }
        }
    }
}

/// A tag as a person would write it.
struct Tag(u8);

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_ascii_graphic() {
            write!(f, "'{}'", char::from(self.0))
        } else {
            write!(f, "0x{:02x}", self.0)
        }
    }
}

/// The first bytes of a body, kept because the message was cut inside them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prefix<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Prefix<N> {
    pub(crate) const fn new() -> Self {
        Prefix {
            bytes: [0; N],
            len: 0,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// Takes what there is room for, and says how much that was.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(N - self.len);
        self.bytes[self.len..self.len + n].copy_from_slice(&bytes[..n]);
        self.len += n;
        n
    }

    pub(crate) fn get(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len == N
    }
}

/// What is left over from an earlier message is no part of the state.
#[cfg(test)]
impl std::hash::Hash for Framer {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let Framer { header, have, left } = self;
        (&header[..*have], left).hash(state);
    }
}

#[cfg(test)]
impl<const N: usize> std::hash::Hash for Prefix<N> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.get().hash(state);
    }
}

const HEADER: usize = 5;
const LENGTH: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// What a conversation looks like, whatever pieces it comes in.
    fn messages(pieces: &[&[u8]]) -> Result<Vec<(u8, Vec<u8>)>, Malformed> {
        let (mut framer, mut out) = (Framer::default(), Vec::new());
        for mut input in pieces.iter().copied() {
            while let Some(piece) = framer.next(&mut input)? {
                if piece.begins {
                    out.push((piece.tag, Vec::new()));
                }
                out.last_mut().unwrap().1.extend_from_slice(piece.body);
                assert_eq!(piece.ends, framer.at_boundary());
            }
        }
        Ok(out)
    }

    #[test]
    fn any_cut_gives_the_same_messages() {
        let bytes = b"Z\0\0\0\x05IS\0\0\0\x04D\0\0\0\x08abcd";
        let whole = messages(&[bytes]).unwrap();
        assert_eq!(whole.len(), 3);
        for cut in 0..bytes.len() {
            for end in cut..bytes.len() {
                let pieces = [&bytes[..cut], &bytes[cut..end], &bytes[end..]];
                assert_eq!(messages(&pieces).unwrap(), whole);
            }
        }
    }

    #[test]
    fn a_length_below_four_is_named() {
        let error = messages(&[b"D\0\0\0\x03"]).unwrap_err();
        assert_eq!(error.to_string(), "message 'D' has the impossible length 3");
        assert!(messages(&[b"D\xff\0\0\x03"]).is_err());
    }

    #[test]
    fn outstanding_counts_what_the_header_promised() {
        let mut framer = Framer::default();
        let mut input: &[u8] = b"D\0\0\0\x08ab";
        framer.next(&mut input).unwrap();
        assert_eq!(framer.outstanding(), 2);
    }
}
