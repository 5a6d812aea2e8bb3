//! What client and server say to each other before they are a session's, and
//! what the relay asks the server in between.
//!
//! 1. The client hears all that the server says until it is ready, and of what
//!    the relay asks nothing but what the server says beside the answer.
//! 2. A client that leaves is noticed whatever is waited for, as long as it has
//!    not said more than [`EARLY`] of what it was not asked for yet.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::wire::backend::Backend;
use crate::wire::framer::{Framer, Malformed};
use crate::wire::message;

/// See the [module](self).
pub(super) struct Dialogue<'a, C, S> {
    client: &'a mut C,
    server: &'a mut S,
    from_client: Framer,
    from_server: Backend,
    /// Of the client, not passed on.
    early: Vec<u8>,
    /// Of the server, not looked at.
    rest: Vec<u8>,
    /// A message for the client of which the end has not come: behind half of one
    /// it could be told nothing of ours.
    half: Vec<u8>,
    /// It was passed an ErrorResponse.
    told: bool,
}

/// One of the two has closed, or speaks no PostgreSQL.
pub(super) enum Lost {
    Client,
    Server {
        error: io::Error,
        /// The client knows why, or can't be told.
        told: bool,
    },
}

/// What was said that belongs to the session.
pub(super) struct Said {
    pub(super) by_client: Vec<u8>,
    pub(super) by_server: Vec<u8>,
}

impl<'a, C, S> Dialogue<'a, C, S>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// `early`: what the client has said behind its start-up message; `rest`: what
    /// the server has answered to that.
    pub(super) fn new(client: &'a mut C, server: &'a mut S, early: Vec<u8>, rest: Vec<u8>) -> Self {
        Dialogue {
            client,
            server,
            from_client: Framer::default(),
            from_server: Backend::new(),
            early,
            rest,
            half: Vec::new(),
            told: false,
        }
    }

    /// Passes on what both say until the server is ready. Its ReadyForQuery is kept
    /// back.
    pub(super) async fn authenticate(&mut self) -> Result<(), Lost> {
        loop {
            self.pass_down().await?;
            let mut bytes = std::mem::take(&mut self.rest);
            let mut left = &bytes[..];
            while let Some(piece) = self.from_server.next(&mut left).map_err(|m| self.no(m))? {
                if piece.tag != b'Z' {
                    self.told |= piece.tag == b'E';
                    self.tell_client(piece.raw, piece.ends).await?;
                } else if piece.ends {
                    let read = bytes.len() - left.len();
                    bytes.drain(..read);
                    self.rest = bytes;
                    return Ok(());
                }
            }
            self.flush_client().await?;
            self.listen().await?;
        }
    }

    /// Asks the server something, and gives the first field of the first row
    /// that it answers with.
    pub(super) async fn ask(&mut self, text: &str) -> Result<Option<String>, Lost> {
        let mut question = Vec::new();
        message::query(&mut question, text);
        self.tell_server(&question).await?;
        let (mut row, mut error, mut field) = (Vec::new(), Vec::new(), None);
        loop {
            let mut bytes = std::mem::take(&mut self.rest);
            let mut left = &bytes[..];
            while let Some(piece) = self.from_server.next(&mut left).map_err(|m| self.no(m))? {
                match piece.tag {
                    b'A' | b'N' | b'S' => self.tell_client(piece.raw, piece.ends).await?,
                    b'D' if field.is_none() && row.len() < LONG => {
                        row.extend_from_slice(piece.body);
                        if piece.ends {
                            field = Some(first_field(&row));
                        }
                    }
                    b'E' if error.len() < LONG => {
                        error.extend_from_slice(piece.raw);
                        // The server's last word, whatever it was asked.
                        if piece.ends && self.from_server.fatal(true) == Some(true) {
                            self.told = true;
                            self.tell_client(&error, true).await?;
                        }
                        if piece.ends {
                            error.clear();
                        }
                    }
                    b'Z' if piece.ends => {
                        let read = bytes.len() - left.len();
                        bytes.drain(..read);
                        self.rest = bytes;
                        self.flush_client().await?;
                        return Ok(field.flatten());
                    }
                    _ => {}
                }
            }
            self.flush_client().await?;
            self.listen().await?;
        }
    }

    /// What is the session's to deal with.
    pub(super) fn into_said(self) -> Said {
        Said {
            by_client: self.early,
            by_server: self.rest,
        }
    }

    /// Passes on what the client says of its own identity. All else is a
    /// request, and waits for its turn.
    async fn pass_down(&mut self) -> Result<(), Lost> {
        let mut left = &self.early[..];
        loop {
            let at_boundary = self.from_client.at_boundary();
            if at_boundary && left.first().is_some_and(|tag| *tag != b'p') {
                break;
            }
            // The session names what is no message when it gets it.
            if !matches!(self.from_client.next(&mut left), Ok(Some(_))) {
                left = &[];
                break;
            }
        }
        let passed = self.early.len() - left.len();
        if passed > 0 {
            let bytes: Vec<u8> = self.early.drain(..passed).collect();
            self.tell_server(&bytes).await?;
        }
        Ok(())
    }

    async fn tell_server(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        let tell = async {
            self.server.write_all(bytes).await?;
            self.server.flush().await
        };
        tell.await.map_err(|error| self.lost(error))
    }

    async fn tell_client(&mut self, bytes: &[u8], ends: bool) -> Result<(), Lost> {
        self.half.extend_from_slice(bytes);
        if !ends {
            return match self.half.len() {
                0..=MAX_MESSAGE => Ok(()),
                _ => Err(self.lost(io::Error::new(io::ErrorKind::InvalidData, TOO_LONG))),
            };
        }
        let told = self.client.write_all(&self.half).await;
        self.half.clear();
        told.map_err(|_| Lost::Client)
    }

    async fn flush_client(&mut self) -> Result<(), Lost> {
        self.client.flush().await.map_err(|_| Lost::Client)
    }

    /// Waits until one of them says something.
    async fn listen(&mut self) -> Result<(), Lost> {
        let heard = poll_fn(|cx| {
            let mut chunk = [0; CHUNK];
            let mut buf = ReadBuf::new(&mut chunk);
            if let Poll::Ready(result) = Pin::new(&mut *self.server).poll_read(cx, &mut buf) {
                self.rest.extend_from_slice(buf.filled());
                return Poll::Ready(match result {
                    Ok(()) if buf.filled().is_empty() => {
                        Err(Some(io::ErrorKind::UnexpectedEof.into()))
                    }
                    Ok(()) => Ok(()),
                    Err(error) => Err(Some(error)),
                });
            }
            let room = EARLY.saturating_sub(self.early.len()).min(CHUNK);
            if room == 0 {
                return Poll::Pending;
            }
            let mut buf = ReadBuf::new(&mut chunk[..room]);
            let read = Pin::new(&mut *self.client).poll_read(cx, &mut buf);
            read.map(|result| {
                self.early.extend_from_slice(buf.filled());
                match result {
                    Ok(()) if !buf.filled().is_empty() => Ok(()),
                    _ => Err(None),
                }
            })
        });
        match heard.await {
            Ok(()) => Ok(()),
            Err(None) => Err(Lost::Client),
            Err(Some(error)) => Err(self.lost(error)),
        }
    }

    fn lost(&self, error: io::Error) -> Lost {
        Lost::Server {
            error,
            told: self.told,
        }
    }

    fn no(&self, malformed: Malformed) -> Lost {
        self.lost(io::Error::new(
            io::ErrorKind::InvalidData,
            malformed.to_string(),
        ))
    }
}

/// DataRow: the number of fields (two bytes), then each with its length (four).
fn first_field(row: &[u8]) -> Option<String> {
    let (length, rest) = row.get(2..)?.split_first_chunk()?;
    let length = usize::try_from(i32::from_be_bytes(*length)).ok()?;
    String::from_utf8(rest.get(..length)?.to_vec()).ok()
}

/// How much is kept of what a client says before it is asked anything.
pub(super) const EARLY: usize = 1024;
/// libpq's bound of a message during start-up.
const MAX_MESSAGE: usize = 30_000;
const TOO_LONG: &str = "a message of the start-up is longer than 30,000 bytes";
/// How much is read at once.
const CHUNK: usize = 1024;
/// No answer that is looked into is longer.
const LONG: usize = 1024;
