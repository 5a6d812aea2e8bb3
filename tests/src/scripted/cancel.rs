//! A CancelRequest that came on a connection of its own.

use super::io::ServerIo;

/// A CancelRequest, unanswered: its connection is open until something is
/// done about it. Dropping it is [`Cancel::close`].
pub struct Cancel {
    io: ServerIo,
    pid: i32,
    key: Vec<u8>,
}

/// How a script answers a CancelRequest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelAnswer {
    /// Close the connection, as a server does when both signals are sent.
    Eof,
    /// Keep it open to the end of the script.
    Hold,
    /// Reset it.
    Reset,
}

impl Cancel {
    pub(super) fn new(io: ServerIo, pid: i32, key: Vec<u8>) -> Cancel {
        Cancel { io, pid, key }
    }

    /// The process id that it names.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The secret key, of four bytes in protocol 3.0.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Whether it came over TLS.
    pub fn is_encrypted(&self) -> bool {
        self.io.is_encrypted()
    }

    /// Answers as PostgreSQL does: no byte, only the end of the connection.
    pub fn close(self) {
        drop(self);
    }

    /// Answers with a reset.
    pub fn reset(self) {
        self.io.reset();
    }
}
