//! The server's side of one session, played by the test.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::bounded;
use super::frontend::{Expect, Frontend};
use super::io::ServerIo;
use super::message::{self, Message};

/// The server's side of one session. Dropping it closes the connection.
pub struct Backend {
    io: ServerIo,
    parameters: BTreeMap<String, String>,
    unread: BytesMut,
}

impl Backend {
    pub(super) fn new(io: ServerIo, parameters: BTreeMap<String, String>) -> Backend {
        Backend {
            io,
            parameters,
            unread: BytesMut::new(),
        }
    }

    /// What the client's StartupMessage said.
    pub fn parameters(&self) -> &BTreeMap<String, String> {
        &self.parameters
    }

    /// Whether the session is under TLS.
    pub fn is_encrypted(&self) -> bool {
        self.io.is_encrypted()
    }

    /// Lets the client in without a password: AuthenticationOk,
    /// ParameterStatus as of PostgreSQL 17, BackendKeyData, ReadyForQuery.
    pub async fn authenticate(&mut self, pid: i32, key: i32) {
        self.send([
            message::authentication_ok(),
            message::parameter_status("server_version", "17.0"),
            message::parameter_status("server_encoding", "UTF8"),
            message::parameter_status("client_encoding", "UTF8"),
            message::parameter_status("standard_conforming_strings", "on"),
            message::parameter_status("integer_datetimes", "on"),
            message::parameter_status("in_hot_standby", "off"),
            message::backend_key_data(pid, key),
            message::ready_for_query(b'I'),
        ])
        .await;
    }

    /// Reads one message and returns it.
    ///
    /// # Panics
    /// When another comes, or none: `expected Query "SELECT 1", got Sync`.
    pub async fn expect(&mut self, expected: Expect) -> Frontend {
        let message = bounded(&expected, self.next()).await;
        match message {
            Some(message) if expected.matches(&message) => message,
            Some(message) => panic!("expected {expected}, got {message}"),
            None => panic!("expected {expected}, but the client closed"),
        }
    }

    /// Reads one message after the other.
    ///
    /// # Panics
    /// As [`Backend::expect`].
    pub async fn expect_all(&mut self, expected: impl IntoIterator<Item = Expect>) {
        for expected in expected {
            self.expect(expected).await;
        }
    }

    /// Reads whatever message comes next.
    ///
    /// # Panics
    /// When none does.
    pub async fn read(&mut self) -> Frontend {
        let message = bounded("a message", self.next()).await;
        message.expect("expected a message, but the client closed")
    }

    /// Reads whatever message comes next; `None`: the connection has ended, be it
    /// in the middle of a message.
    ///
    /// # Panics
    /// When neither comes.
    pub async fn next_or_end(&mut self) -> Option<Frontend> {
        bounded("a message or the end", self.next()).await
    }

    /// Reads bytes, whatever they are. `false`: the connection has ended.
    ///
    /// # Panics
    /// When neither comes.
    pub async fn next_bytes(&mut self) -> bool {
        self.unread.clear();
        let read = bounded("bytes or the end", self.io.read_buf(&mut self.unread)).await;
        matches!(read, Ok(1..))
    }

    /// Sends messages.
    ///
    /// # Panics
    /// When the client has closed, or reads nothing.
    pub async fn send(&mut self, messages: impl Into<Message>) {
        if let Err(error) = self.try_send(messages).await {
            panic!("the client does not take what the server sends: {error}");
        }
    }

    /// Sends messages to a client that may have gone.
    ///
    /// # Errors
    /// The socket's own, when it has.
    ///
    /// # Panics
    /// When the client reads nothing.
    pub async fn try_send(&mut self, messages: impl Into<Message>) -> std::io::Result<()> {
        let bytes = messages.into().bytes().clone();
        bounded("the client to read", async {
            self.io.write_all(&bytes).await?;
            self.io.flush().await
        })
        .await
    }

    /// Takes part in the preparation of a statement (Parse, Describe, Sync) as
    /// a server that knows it: with these parameters and columns.
    ///
    /// # Panics
    /// As [`Backend::expect`].
    pub async fn answer_prepare(&mut self, sql: &str, parameters: &[u32], columns: &[(&str, u32)]) {
        self.expect_all([Expect::parse(sql), Expect::describe(), Expect::sync()])
            .await;
        let description = match columns {
            [] => message::no_data(),
            _ => message::row_description(columns),
        };
        self.send([
            message::parse_complete(),
            message::parameter_description(parameters),
            description,
            message::ready_for_query(b'I'),
        ])
        .await;
    }

    /// Reads the execution of a prepared statement: Bind, Execute, Sync.
    ///
    /// # Panics
    /// As [`Backend::expect`].
    pub async fn expect_execution(&mut self) {
        self.expect_all([Expect::bind(), Expect::execute(), Expect::sync()])
            .await;
    }

    /// Makes sure that the client sends no byte for this long.
    ///
    /// # Panics
    /// When one comes, or the client closes.
    pub async fn expect_silence(&mut self, time: Duration) {
        if !self.unread.is_empty() {
            let came = self.next().await;
            panic!("expected silence, got {}", Came(came));
        }
        if let Ok(came) = tokio::time::timeout(time, self.next()).await {
            panic!("expected {time:?} of silence, got {}", Came(came));
        }
        assert!(
            self.unread.is_empty(),
            "expected {time:?} of silence, got part of a message: {:?}",
            self.unread
        );
    }

    /// Waits until the client closes, with a Terminate before it or without,
    /// and returns whether there was one.
    ///
    /// # Panics
    /// When something else comes, or nothing.
    pub async fn wait_close(&mut self) -> bool {
        match bounded("the client to close", self.next()).await {
            None => false,
            Some(Frontend::Terminate) => {
                let end = bounded("the end of the connection", self.next()).await;
                assert!(end.is_none(), "got {} after Terminate", Came(end));
                true
            }
            Some(other) => panic!("expected the client to close, got {other}"),
        }
    }

    /// Closes the connection, in order.
    pub fn close(self) {
        drop(self);
    }

    /// Resets the connection.
    pub fn reset(self) {
        self.io.reset();
    }

    /// The next message; `None`: the connection has ended between two.
    async fn next(&mut self) -> Option<Frontend> {
        loop {
            if let Some(message) = Frontend::take(&mut self.unread) {
                return Some(message);
            }
            match self.io.read_buf(&mut self.unread).await {
                Ok(0) => {}
                Ok(_) => continue,
                // A client that drops its socket with bytes unread resets it.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof
                    ) => {}
                Err(error) => panic!("reading from the client: {error}"),
            }
            if !self.unread.is_empty() {
                // It may: a session that is retired closes where it stands.
                self.unread.clear();
            }
            return None;
        }
    }
}

/// What came in place of silence or of an end.
struct Came(Option<Frontend>);

impl fmt::Display for Came {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(message) => message.fmt(f),
            None => f.write_str("the end of the connection"),
        }
    }
}
