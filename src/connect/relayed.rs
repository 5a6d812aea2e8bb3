//! A connect for a client that says the start-up message itself.
//!
//! 1. The hosts are tried as for a client of our own, up to the first word of a
//!    server: one that is mute, closes or refuses is left for the next.
//!    Mute when its client left, it is tried last the next time.
//! 2. After that word there is no way back: what follows is between this server
//!    and the client.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::attempt::Attempt;
use super::failure::Failure;
use super::hosts::Host;
use super::journal::Journal;
use super::provider::Source;
use super::{Connector, Peer, Transport};
use crate::context::Context;
use crate::error::{Error, Phase};
use crate::session::{self, Session, SessionStream};
use crate::wire::backend::field;
use crate::wire::framer::Framer;

/// A session whose server has said its first word.
pub(crate) struct Begun {
    pub(crate) session: Session,
    pub(crate) stream: SessionStream,
    /// Which host of the configuration it leads to.
    pub(crate) host: String,
    /// What the server has said.
    pub(crate) said: Vec<u8>,
}

/// No server that would serve.
pub(crate) struct Refused {
    pub(crate) error: Error,
    /// The last server's own ErrorResponse, if the last has given one.
    pub(crate) response: Option<Vec<u8>>,
}

impl Connector {
    /// Opens a session and says `packet`, a client's start-up message, on it.
    ///
    /// # Errors
    /// As [`connect`](Connector::connect); a connector with a credentials
    /// provider has no use for a client that brings its own.
    ///
    /// # Cancel safety
    /// Dropping it closes what it has opened.
    pub(crate) async fn begin(&self, packet: &[u8], deadline: Instant) -> Result<Begun, Refused> {
        let Source::Fixed(config) = &self.inner.source else {
            let error = Error::config(
                "a client that authenticates by itself can't use a connector with a \
                 credentials provider: give it a connector with a fixed configuration",
            );
            return Err(Refused {
                error,
                response: None,
            });
        };
        let background = Context::background();
        let journal = Journal::new(&background);
        let attempt = Attempt {
            connector: self,
            config,
            journal: &journal,
            deadline,
        };
        let response = Mutex::new(None);
        let start = |host: &Host, transport, peer| {
            let host = host.to_string();
            let response = &response;
            async move {
                let begun = greet(self, host, transport, peer, packet).await;
                begun.map_err(|(failure, words)| {
                    *response.lock().unwrap_or_else(PoisonError::into_inner) = words;
                    failure
                })
            }
        };
        let begun = journal.bounded(deadline, attempt.run(&start)).await;
        begun.map_err(|error| Refused {
            error,
            response: response
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner),
        })
    }
}

/// Says `packet`, and waits for the first word.
async fn greet(
    connector: &Connector,
    host: String,
    transport: Transport,
    peer: Peer,
    packet: &[u8],
) -> Result<Begun, (Failure, Option<Vec<u8>>)> {
    let (mut stream, shared) = session::open(transport, Arc::new(peer), connector.clone());
    let session = Session(shared);
    session.0.lock().machine.listen();
    let mut said = Vec::new();
    let exchange = async {
        stream.write_all(packet).await?;
        stream.flush().await?;
        stream.read_buf(&mut said).await?;
        // An error is read whole: it may have to be told to the client.
        while said.first() == Some(&b'E')
            && !is_whole(&said)
            && stream.read_buf(&mut said).await? > 0
        {}
        std::io::Result::Ok(())
    };
    let failed = |text: String| Failure::new(Phase::StartUp, text);
    let mute = Mute {
        connector,
        host: &host,
        since: Instant::now(),
    };
    let exchanged = exchange.await;
    mute.has_spoken();
    match exchanged {
        Err(error) => Err((failed(error.to_string()).because(error), None)),
        Ok(()) if said.is_empty() => Err((Failure::closed_in_start_up(), None)),
        Ok(()) if said[0] == b'E' => {
            let text = format!("the server refused the start-up: {}", words(&said));
            Err((failed(text), Some(said)))
        }
        Ok(()) => Ok(Begun {
            session,
            stream,
            host,
            said,
        }),
    }
}

/// A host that has not said its first word yet. Left so for longer than a head
/// start, it is tried last from then on: a client that waits for less than this
/// host's share of the time would never come to the others.
struct Mute<'a> {
    connector: &'a Connector,
    host: &'a str,
    since: Instant,
}

impl Mute<'_> {
    fn has_spoken(self) {
        std::mem::forget(self);
    }
}

impl Drop for Mute<'_> {
    fn drop(&mut self) {
        if self.since.elapsed() > self.connector.settings().race_step {
            self.connector.avoid(self.host);
        }
    }
}

/// Is the message at the front there to its end?
fn is_whole(message: &[u8]) -> bool {
    let mut rest = message;
    matches!(Framer::default().next(&mut rest), Ok(Some(piece)) if piece.ends)
}

/// The message and the code of an ErrorResponse.
fn words(response: &[u8]) -> String {
    let body = response.get(5..).unwrap_or_default();
    let text = |name| String::from_utf8_lossy(field(body, name).unwrap_or_default());
    format!("{} ({})", text(b'M'), text(b'C'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_read_whole_and_in_words() {
        let response = b"E\0\0\0\x2dSFATAL\0C57P03\0Mthe server starts up\0\0....";
        let whole = 1 + 0x2d;
        assert!(!is_whole(&response[..3]) && !is_whole(&response[..whole - 1]));
        assert!(is_whole(&response[..whole]));
        assert_eq!(words(&response[..whole]), "the server starts up (57P03)");
        assert_eq!(words(b"E"), " ()");
    }
}
