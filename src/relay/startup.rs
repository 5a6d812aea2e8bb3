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

use super::dialogue::{Lost, Opening, ask, authenticate, opening};
use super::pump::Relayed;
use super::socket::ClientSocket;
use crate::connect::{Begun, Connector, Refused};
use crate::error::{Error, Phase, response_texts};
use crate::session::driver::Driver;
use crate::session::machine::far;
use crate::session::{Session, SessionStream};
use crate::settings::EofProof;
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
    let deadline = far(Instant::now(), bound);
    match start(connector, &mut client, deadline).await {
        Ok(session) => {
            let client = Relayed::new(client, &session.0);
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
        let (text, _) = response_texts(&error);
        let mut told = Vec::new();
        message::fatal_response(&mut told, code, &text);
        Failed::Tell(told, error)
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

    fn timed_out(bound: Duration) -> Failed {
        let text =
            format!("the server and the client were not done with the start-up within {bound:?}");
        let source = io::Error::from(io::ErrorKind::TimedOut);
        let error = Error::connect(Phase::StartUp, text, Some(Box::new(source)));
        Failed::tell(message::UNREACHABLE, error)
    }
}

/// A session that is ready, and has that yet to say.
async fn start<S>(
    connector: &Connector,
    client: &mut S,
    deadline: Instant,
) -> Result<Session, Failed>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let late = |_| Failed::timed_out(connector.settings().connect_deadline);
    let packet = match timeout_at(deadline, opening(client)).await.map_err(late)? {
        Ok(Opening::StartUp(packet)) => packet,
        Ok(Opening::Cancel) => return Err(Failed::Left),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            let error = Error::protocol(error.to_string());
            return Err(Failed::tell(message::UNREACHABLE, error));
        }
        Err(_) => return Err(Failed::Left),
    };
    let (begun, early) = begin(connector, client, &packet, deadline).await?;
    let finish = finish(connector, client, begun, early);
    timeout_at(deadline, finish).await.map_err(late)?
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

/// Rule 2, and what is to be known before the client may ask for anything.
async fn finish<S>(
    connector: &Connector,
    client: &mut S,
    begun: Begun,
    early: Vec<u8>,
) -> Result<Session, Failed>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Begun {
        session,
        mut stream,
        host,
        said,
    } = begun;
    let pass = async {
        stream.write_all(&early).await?;
        stream.flush().await
    };
    pass.await.map_err(|error| lost(Lost::Server(error)))?;
    authenticate(client, &mut stream, said)
        .await
        .map_err(lost)?;
    check_target(connector, &host, &mut stream).await?;
    prove_eof(connector, &session, &mut stream)
        .await
        .map_err(lost)?;
    session
        .0
        .lock()
        .say(|up| message::ready_for_query(up, b'I'));
    Ok(session)
}

/// Rule 3.
async fn check_target(
    connector: &Connector,
    host: &str,
    stream: &mut SessionStream,
) -> Result<(), Failed> {
    let wanted = connector
        .config()
        .map_or(TargetSessionAttrs::Any, |config| {
            config.get_target_session_attrs()
        });
    if wanted == TargetSessionAttrs::Any {
        return Ok(());
    }
    let read_only = ask(stream, "SHOW transaction_read_only")
        .await
        .map_err(lost)?;
    let wrong = match (wanted, read_only.as_deref()) {
        (TargetSessionAttrs::ReadWrite, Some("on")) => {
            "takes no writes, which target_session_attrs=read-write asks for"
        }
        (TargetSessionAttrs::ReadOnly, Some("off")) => {
            "takes writes, and target_session_attrs=read-only asks for one that does not"
        }
        (_, Some(_)) => {
            connector.favour(host);
            return Ok(());
        }
        (_, None) => "did not say whether it takes writes",
    };
    connector.avoid(host);
    debug!(target: "pgdeadline", host, "host is of the wrong kind: {wrong}");
    let _ = stream.write_all(message::TERMINATE).await;
    let _ = stream.flush().await;
    let text = format!("{host}: the server {wrong}");
    let error = Error::connect(Phase::StartUp, text, None);
    Err(Failed::tell(message::COME_AGAIN, error))
}

/// As for a client of our own: does the EOF of a cancel prove anything (rule 4 of
/// the design)?
async fn prove_eof(
    connector: &Connector,
    session: &Session,
    stream: &mut SessionStream,
) -> Result<(), Lost> {
    let settings = connector.settings();
    let dials = settings.cancel_dials;
    let server = session.server().clone();
    let proves = match (
        settings.eof_proof,
        connector.gates().eof_proves(&server, dials),
    ) {
        (EofProof::Proof, _) => true,
        (EofProof::NoProof, _) => false,
        (EofProof::Automatic, Some(known)) => known,
        (EofProof::Automatic, None) => {
            let pid = ask(stream, "SELECT pg_backend_pid()").await?;
            let proves = pid.is_some_and(|pid| pid == session.process_id().to_string());
            connector.gates().set_eof_proves(&server, dials, proves);
            proves
        }
    };
    session.set_eof_proves(proves);
    Ok(())
}

/// One of the two has closed. A server says why before it does, which was passed
/// on; what is no PostgreSQL server doesn't.
fn lost(lost: Lost) -> Failed {
    let Lost::Server(error) = lost else {
        return Failed::Left;
    };
    let passed = error.kind() == io::ErrorKind::UnexpectedEof;
    let text = format!("the start-up was not finished: {error}");
    let error = Error::find(&error)
        .unwrap_or_else(|| Error::connect(Phase::StartUp, text, Some(Box::new(error))));
    match passed {
        true => Failed::Passed(error),
        false => Failed::tell(message::UNREACHABLE, error),
    }
}

/// How much is kept of what a client says before it is asked anything.
const EARLY: usize = 1024;
