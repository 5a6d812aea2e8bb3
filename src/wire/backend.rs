//! What a server's message is, and which of its bytes matter.
//!
//! Only four bodies are looked into, and of those only the first bytes:
//! ReadyForQuery (transaction status), ErrorResponse (severity),
//! BackendKeyData and ParameterStatus (server version, at start-up).

use super::framer::{Framer, Malformed, Piece, Prefix};

/// Reads a server's side of a conversation.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    framer: Framer,
    body: Prefix<BODY>,
}

/// The transaction status that a ReadyForQuery tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Status {
    Idle,
    InTransaction,
    Failed,
}

impl Status {
    /// Is a transaction open, be it failed?
    pub(crate) fn is_open(self) -> bool {
        self != Status::Idle
    }

    pub(crate) fn byte(self) -> u8 {
        match self {
            Status::Idle => b'I',
            Status::InTransaction => b'T',
            Status::Failed => b'E',
        }
    }
}

impl Backend {
    pub(crate) fn new() -> Self {
        Backend {
            framer: Framer::default(),
            body: Prefix::new(),
        }
    }

    pub(crate) fn next<'a>(
        &mut self,
        input: &mut &'a [u8],
    ) -> Result<Option<Piece<'a>>, Malformed> {
        let Some(piece) = self.framer.next(input)? else {
            return Ok(None);
        };
        if piece.begins {
            self.body.clear();
        }
        if matches!(piece.tag, b'Z' | b'E' | b'K' | b'S') {
            self.body.push(piece.body);
        }
        Ok(Some(piece))
    }

    pub(crate) fn at_boundary(&self) -> bool {
        self.framer.at_boundary()
    }

    pub(crate) fn outstanding(&self) -> usize {
        self.framer.outstanding()
    }

    /// The bytes of the current message's body that were kept.
    pub(crate) fn body(&self) -> &[u8] {
        self.body.get()
    }

    /// The status of the ReadyForQuery that was just read.
    pub(crate) fn status(&self) -> Result<Status, Malformed> {
        match self.body.get() {
            [b'I'] => Ok(Status::Idle),
            [b'T'] => Ok(Status::InTransaction),
            [b'E'] => Ok(Status::Failed),
            other => Err(Malformed::Status(other.first().copied().unwrap_or(0))),
        }
    }

    /// Is the ErrorResponse that is being read the server's last word? `None`
    /// while too little of it has come.
    pub(crate) fn fatal(&self, ends: bool) -> Option<bool> {
        let severity = field(self.body.get(), b'V').or_else(|| field(self.body.get(), b'S'));
        // The severity that is not translated, 'V', stands second.
        if field(self.body.get(), b'V').is_none() && !ends && !self.body.is_full() {
            return None;
        }
        Some(matches!(severity, Some(b"FATAL" | b"PANIC")))
    }
}

/// Between two messages nothing of a body counts.
#[cfg(test)]
impl std::hash::Hash for Backend {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let Backend { framer, body } = self;
        framer.hash(state);
        (!framer.at_boundary()).then_some(body).hash(state);
    }
}

/// A field of an ErrorResponse, if all of it was kept.
pub(crate) fn field(mut body: &[u8], name: u8) -> Option<&[u8]> {
    loop {
        let (&tag, rest) = body.split_first()?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        if tag == name {
            return Some(&rest[..end]);
        }
        body = &rest[end + 1..];
    }
}

/// Room for a key of 256 bytes (protocol 3.2) behind its process id, and for
/// a severity in any language before the one that is not translated.
const BODY: usize = 264;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message;

    fn read(bytes: &[u8]) -> Backend {
        let (mut backend, mut input) = (Backend::new(), bytes);
        while backend.next(&mut input).unwrap().is_some() {}
        backend
    }

    #[test]
    fn an_error_tells_its_severity() {
        let mut bytes = Vec::new();
        message::error_response(&mut bytes, "57014", "m", None);
        assert_eq!(read(&bytes).fatal(true), Some(false));
        assert_eq!(read(&bytes[..9]).fatal(false), None);
        let fatal = b"E\0\0\0\x1aSFATAL\0VFATAL\0C57P01\0\0";
        assert_eq!(read(fatal).fatal(true), Some(true));
    }

    #[test]
    fn a_status_that_is_none_is_named() {
        assert_eq!(read(b"Z\0\0\0\x05T").status(), Ok(Status::InTransaction));
        assert_eq!(read(b"Z\0\0\0\x04").status(), Err(Malformed::Status(0)));
        assert_eq!(read(b"Z\0\0\0\x05?").status(), Err(Malformed::Status(b'?')));
        assert_eq!(
            read(b"Z\0\0\0\x06II").status(),
            Err(Malformed::Status(b'I'))
        );
    }

    #[test]
    fn fields_that_were_cut_are_not_read() {
        assert_eq!(field(b"SERROR\0C57014", b'C'), None);
        assert_eq!(field(b"", b'C'), None);
        assert_eq!(field(b"\0", b'C'), None);
    }
}
