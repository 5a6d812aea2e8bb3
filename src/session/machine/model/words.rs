//! What goes over the wires of the model: requests, the messages that they are
//! made of, and what a server says.

use std::sync::LazyLock;

use crate::wire::message;
use crate::wire::testing::{client, server};

/// What a holder may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// A simple query.
    Query,
    /// An extended request.
    Execute,
    /// An extended request that ends only when it is cancelled.
    Endless,
    /// An extended request that sends a row, and may not end after it.
    Rows,
    Begin,
    Commit,
    Rollback,
    /// Close with its Sync.
    Tidy,
    /// COPY FROM STDIN, extended.
    Copy,
}

impl Kind {
    /// The caller's work, not clean-up.
    pub(super) fn works(self) -> bool {
        !matches!(self, Kind::Rollback | Kind::Tidy)
    }

    pub(super) fn messages(self) -> &'static [Message] {
        match self {
            Kind::Query => &[Message::Query],
            Kind::Begin => &[Message::Begin],
            Kind::Commit => &[Message::Commit],
            Kind::Rollback => &[Message::Rollback],
            Kind::Tidy => &[Message::Close, Message::Sync],
            Kind::Execute | Kind::Endless | Kind::Rows | Kind::Copy => {
                &[Message::Execute, Message::Sync]
            }
        }
    }
}

/// What a server reads in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Message {
    Query,
    Begin,
    Commit,
    Rollback,
    /// Bind and Execute.
    Execute,
    Close,
    Sync,
    CopyData,
    CopyDone,
    CopyFail,
    /// The session's own: a statement that fails, with a transaction before it
    /// or without, and an empty one.
    Fail,
    BeginFail,
    Empty,
}

impl Message {
    pub(super) fn bytes(self) -> &'static [u8] {
        &MESSAGES[self as usize]
    }

    /// The session's own message, by its bytes.
    pub(super) fn own(bytes: &[u8]) -> Message {
        let text = String::from_utf8_lossy(bytes);
        match bytes.first() {
            Some(b'f') => Message::CopyFail,
            Some(b'S') => Message::Sync,
            _ if bytes == message::ROLLBACK => Message::Rollback,
            _ if bytes == message::EMPTY_QUERY => Message::Empty,
            _ if text.contains("BEGIN;") => Message::BeginFail,
            _ if text.contains("ROLLBACK TO") => Message::Fail,
            _ => panic!("the session writes {text:?}"),
        }
    }

    /// What the client still sends for a COPY whose end it has to say.
    pub(super) fn is_tail(self) -> bool {
        matches!(
            self,
            Message::CopyData | Message::CopyDone | Message::CopyFail
        )
    }
}

/// What a server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Said {
    BindComplete,
    CloseComplete,
    Row,
    CopyIn,
    EmptyQuery,
    Complete,
    Error,
    Ready(u8),
}

impl Said {
    /// Its bytes, which name the request that they are for.
    pub(super) fn bytes(self, whose: u8) -> Vec<u8> {
        let mut bytes = WORDS[self.index()].clone();
        let name = match self {
            Said::Row => Some(bytes.len() - 1),
            Said::Complete => Some(bytes.len() - 2),
            Said::Error => Some(bytes.len() - 3),
            _ => None,
        };
        if let Some(at) = name {
            bytes[at] = b'0' + whose;
        }
        bytes
    }

    fn index(self) -> usize {
        match self {
            Said::BindComplete => 0,
            Said::CloseComplete => 1,
            Said::Row => 2,
            Said::CopyIn => 3,
            Said::EmptyQuery => 4,
            Said::Complete => 5,
            Said::Error => 6,
            Said::Ready(b'I') => 7,
            Said::Ready(b'T') => 8,
            Said::Ready(_) => 9,
        }
    }
}

/// How a message's body names its request, in what goes up; `None`: it is the session's.
pub(super) fn named(tag: u8, body: &[u8]) -> Option<u8> {
    let at = match tag {
        b'D' => body.len() - 1,
        b'C' => body.len() - 2,
        _ => body.len() - 3,
    };
    body[at].checked_sub(b'0').filter(|name| *name <= OWN)
}

/// What the session says in the server's place: it names nobody.
pub(super) fn told(up: &mut Vec<u8>) {
    up.extend_from_slice(&TOLD);
}

/// How the server names the session itself.
pub(super) const OWN: u8 = 40;

static TOLD: LazyLock<Vec<u8>> = LazyLock::new(|| server::error("ERROR", "told~"));

static WORDS: LazyLock<[Vec<u8>; 10]> = LazyLock::new(|| {
    [
        server::bind_complete(),
        server::close_complete(),
        server::data_row("?"),
        server::copy_in_response(),
        server::empty_query_response(),
        server::command_complete("?"),
        server::error("ERROR", "?"),
        server::ready(b'I'),
        server::ready(b'T'),
        server::ready(b'E'),
    ]
});

static MESSAGES: LazyLock<[Vec<u8>; 10]> = LazyLock::new(|| {
    [
        client::query("work"),
        client::query("BEGIN"),
        client::query("COMMIT"),
        client::query("ROLLBACK"),
        client::bind_execute("work"),
        client::close(),
        client::sync(),
        client::copy_data(b"row"),
        crate::wire::testing::message(b'c', b""),
        crate::wire::testing::message(b'f', b"\0"),
    ]
});
