//! From a client's first byte to its first ReadyForQuery.
//!
//! 1. The connector's own bound covers all of it; a client that leaves meanwhile
//!    takes it with it.
//! 2. Authentication is between the client and the server; the relay only passes
//!    it on.
//! 3. Of what kind the server is shows only after that. A client can't be sent on
//!    to another host then: it is told to come again, as by a server that is
//!    starting (57P03), and finds the other hosts first.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::config::TargetSessionAttrs;
use tracing::debug;

use super::dialogue::{Dialogue, EARLY, Lost};
use super::last_word;
use super::opening::{Opening, opening};
use super::pump::Relayed;
use super::socket::ClientSocket;
use crate::connect::server_kind::{SHOW_PROCESS_ID, SHOW_READ_ONLY, prove_eof, wrong_kind};
use crate::connect::{Begun, Connector, Refused, from_now};
use crate::error::{Error, Phase};
use crate::session::Session;
use crate::session::driver::Driver;
use crate::wire::message;

/// Why a client is not served.
pub(super) enum Stop {
    /// It has left, or had nothing to ask.
    Left,
    /// It was told.
    Failed(Error),
}

/// Starts a session up for a client.
///
/// # Cancel safety
/// Dropping it closes both sides.
pub(super) async fn start_up<S>(
    connector: &Connector,
    mut client: S,
) -> Result<Driver<Relayed<S>>, Stop>
where
    S: ClientSocket,
{
    let bound = connector.settings().connect_deadline;
    // The connect inside has the same deadline and is asked first: it knows
    // better what was waited for.
    let deadline = from_now(bound);
    let started = match timeout_at(deadline, start(connector, &mut client, deadline)).await {
        Ok(started) => started,
        Err(_) => Err(Failed::timed_out(bound)),
    };
    match started {
        Ok((session, early)) => {
            let client = Relayed::new(client, &early, &session.0);
            Ok(Driver::new(session.0, client))
        }
        Err(Failed::Left) => Err(Stop::Left),
        Err(Failed::Passed(error)) => Err(Stop::Failed(error)),
        Err(Failed::Tell(told, error)) => {
            // It may have left by now.
            let tell = async {
                client.write_all(&told).await?;
                client.shutdown().await
            };
            let _ = timeout(bound, tell).await;
            Err(Stop::Failed(error))
        }
    }
}

enum Failed {
    Left,
    /// The server has told the client itself.
    Passed(Error),
    /// In this ErrorResponse.
    Tell(Vec<u8>, Error),
}

impl Failed {
    fn tell(code: &str, error: Error) -> Failed {
        Failed::Tell(last_word(code, &error), error)
    }

    fn timed_out(bound: Duration) -> Failed {
        let text =
            format!("the server and the client were not done with the start-up within {bound:?}");
        let source = io::Error::from(io::ErrorKind::TimedOut);
        let error = Error::connect(Phase::StartUp, text, Some(Box::new(source)));
        Failed::tell(message::UNREACHABLE, error)
    }

    fn refused(refused: Refused) -> Failed {
        let Refused { error, response } = refused;
        match response {
            Some(response) => Failed::Tell(response, error),
            // sqlx comes again after a refusal, as it does for a socket of its own.
            None if io::Error::from(error.clone()).kind() == io::ErrorKind::ConnectionRefused => {
                Failed::tell(message::COME_AGAIN, error)
            }
            None => Failed::tell(message::UNREACHABLE, error),
        }
    }
}

/// A session that is ready, and has that yet to say; what the client has said
/// before it was.
async fn start<S>(
    connector: &Connector,
    client: &mut S,
    deadline: Instant,
) -> Result<(Session, Vec<u8>), Failed>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let packet = match opening(client).await {
        Ok(Opening::StartUp(packet)) => packet,
        Ok(Opening::Cancel) => return Err(Failed::Left),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            let error = Error::protocol(error.to_string());
            return Err(Failed::tell(message::UNREACHABLE, error));
        }
        Err(_) => return Err(Failed::Left),
    };
    let (begun, early) = begin(connector, client, &packet, deadline).await?;
    let Begun {
        session,
        mut stream,
        host,
        said,
    } = begun;
    let mut dialogue = Dialogue::new(client, &mut stream, early, said);
    dialogue.authenticate().await.map_err(lost)?;
    let wrong = check_target(connector, &host, &mut dialogue).await?;
    if wrong.is_none() {
        let process_id = dialogue.ask(SHOW_PROCESS_ID);
        let proven = prove_eof(connector, &session, process_id).await;
        proven.map_err(lost)?;
    }
    let said = dialogue.into_said();
    if let Some(error) = wrong {
        let _ = stream.write_all(message::TERMINATE).await;
        let _ = stream.flush().await;
        return Err(Failed::tell(message::COME_AGAIN, error));
    }
    session.0.lock().say(|up| {
        message::ready_for_query(up, b'I');
        up.extend_from_slice(&said.by_server);
    });
    Ok((session, said.by_client))
}

/// A server that has said its first word, unless the client leaves before. What
/// the client says meanwhile is kept.
async fn begin<S>(
    connector: &Connector,
    client: &mut S,
    packet: &[u8],
    deadline: Instant,
) -> Result<(Begun, Vec<u8>), Failed>
where
    S: AsyncRead + Unpin,
{
    let mut early = Vec::new();
    let mut beginning = pin!(connector.begin(packet, deadline));
    let begun = poll_fn(|cx| {
        if let Poll::Ready(result) = beginning.as_mut().poll(cx) {
            return Poll::Ready(result.map_err(Failed::refused));
        }
        while early.len() < EARLY {
            let mut chunk = [0; 256];
            let mut buf = ReadBuf::new(&mut chunk);
            match Pin::new(&mut *client).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    early.extend_from_slice(buf.filled());
                }
                Poll::Ready(_) => return Poll::Ready(Err(Failed::Left)),
                Poll::Pending => break,
            }
        }
        Poll::Pending
    })
    .await?;
    Ok((begun, early))
}

/// Rule 3: what is wrong with the server, if anything is.
async fn check_target<C, S>(
    connector: &Connector,
    host: &str,
    dialogue: &mut Dialogue<'_, C, S>,
) -> Result<Option<Error>, Failed>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let wanted = connector
        .config()
        .map_or(TargetSessionAttrs::Any, |config| {
            config.get_target_session_attrs()
        });
    if wanted == TargetSessionAttrs::Any {
        return Ok(None);
    }
    let read_only = dialogue.ask(SHOW_READ_ONLY).await.map_err(lost)?;
    let Some(wrong) = wrong_kind(wanted, read_only.as_deref()) else {
        connector.favour(host);
        return Ok(None);
    };
    connector.avoid(host);
    debug!(target: "pgdeadline", host, "host is of the wrong kind: {wrong}");
    let text = format!("{host}: {wrong}");
    Ok(Some(Error::connect(Phase::StartUp, text, None)))
}

fn lost(lost: Lost) -> Failed {
    let Lost::Server { error, told } = lost else {
        return Failed::Left;
    };
    let text = format!("the start-up was not finished: {error}");
    let error = Error::find(&error)
        .unwrap_or_else(|| Error::connect(Phase::StartUp, text, Some(Box::new(error))));
    match told {
        true => Failed::Passed(error),
        false => Failed::tell(message::UNREACHABLE, error),
    }
}
