//! From a ready transport to a client: start-up message, authentication, and
//! the kind of server that `target_session_attrs` asks for.

use std::convert::Infallible;
use std::future::{self, Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use tokio_postgres::config::{SslMode, SslNegotiation, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::TlsConnect;
use tokio_postgres::{Client, Config, SimpleQueryMessage};

use super::Connector;
use super::failure::{Failure, chain};
use super::peer::Peer;
use super::server_kind::{SHOW_PROCESS_ID, SHOW_READ_ONLY, wrong_kind};
use super::transport::Transport;
use crate::error::{Error, Phase};
use crate::session::{self, Connection, SessionStream};

/// Starts a session up.
///
/// # Errors
/// The server refuses it, is of the wrong kind, or isn't PostgreSQL. A refusal
/// keeps the `tokio_postgres::Error` as its source.
///
/// # Cancel safety
/// Dropping it closes the connection.
pub(super) async fn start_up(
    connector: &Connector,
    config: &Config,
    transport: Transport,
    peer: Peer,
) -> Result<(Client, Connection), Failure> {
    let mut config = config.clone();
    // The connector has done TLS. What is left is to have tokio-postgres take
    // the stream as it is: "direct" asks the server nothing first, and the
    // `TlsConnect` only hands the stream over.
    match transport.is_tls() {
        true => config
            .ssl_mode(SslMode::Require)
            .ssl_negotiation(SslNegotiation::Direct),
        false => config.ssl_mode(SslMode::Disable),
    };
    let (stream, shared) = session::open(transport, Arc::new(peer), connector.clone());
    let (client, connection) = config
        .connect_raw(stream, HandOver)
        .await
        .map_err(refused)?;
    let mut connection = Connection::new(shared, connection);
    match config.get_target_session_attrs() {
        TargetSessionAttrs::Any => {}
        wanted => check_target(&client, &mut connection, wanted).await?,
    }
    prove_eof(connector, &client, &mut connection).await?;
    listen(&mut connection).await?;
    Ok((client, connection))
}

/// Polls the connection once, so that the client's very first request wakes
/// it: by that wake it is known whose the request is (rule 7).
async fn listen(connection: &mut Connection) -> Result<(), Failure> {
    let ended = poll_fn(|cx| Poll::Ready(Pin::new(&mut *connection).poll(cx))).await;
    match ended {
        Poll::Pending => Ok(()),
        Poll::Ready(result) => Err(closed(result.err())),
    }
}

/// As [`server_kind::prove_eof`](super::server_kind::prove_eof).
async fn prove_eof(
    connector: &Connector,
    client: &Client,
    connection: &mut Connection,
) -> Result<(), Failure> {
    let session = connection.session().clone();
    let process_id = async {
        match drive(connection, client.simple_query(SHOW_PROCESS_ID)).await {
            Ok(rows) => Ok(first_field(&rows).map(str::to_owned)),
            Err(_) if !session.is_closed() => Ok(None),
            Err(failure) => Err(failure),
        }
    };
    super::server_kind::prove_eof(connector, &session, process_id).await
}

/// A `TlsConnect` that does nothing.
struct HandOver;

impl TlsConnect<SessionStream> for HandOver {
    type Stream = SessionStream;
    type Error = Infallible;
    type Future = future::Ready<Result<SessionStream, Infallible>>;

    fn connect(self, stream: SessionStream) -> Self::Future {
        future::ready(Ok(stream))
    }
}

async fn check_target(
    client: &Client,
    connection: &mut Connection,
    wanted: TargetSessionAttrs,
) -> Result<(), Failure> {
    let answer = drive(connection, client.simple_query(SHOW_READ_ONLY)).await?;
    match wrong_kind(wanted, first_field(&answer)) {
        Some(wrong) => Err(Failure::new(Phase::StartUp, wrong)),
        None => Ok(()),
    }
}

fn first_field(answer: &[SimpleQueryMessage]) -> Option<&str> {
    answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.try_get(0).ok().flatten(),
        _ => None,
    })
}

/// Runs one request, with nobody else there yet to drive its connection.
async fn drive<T>(
    connection: &mut Connection,
    request: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Failure> {
    let mut request = pin!(request);
    poll_fn(|cx| {
        // The request first, so that it is queued when the connection looks;
        // and again after, so that an answer that came with the connection's
        // end is not lost.
        if let Poll::Ready(result) = request.as_mut().poll(cx) {
            return Poll::Ready(result.map_err(refused));
        }
        let ended = Pin::new(&mut *connection).poll(cx);
        if let Poll::Ready(result) = request.as_mut().poll(cx) {
            return Poll::Ready(result.map_err(refused));
        }
        ended.map(|result| Err(closed(result.err())))
    })
    .await
}

fn closed(error: Option<Error>) -> Failure {
    let text = "the server closed the connection before it was ready";
    match error {
        Some(error) => Failure::new(Phase::StartUp, format!("{text}: {error}")).because(error),
        None => Failure::new(Phase::StartUp, text),
    }
}

/// A start-up that failed, with what to do where that isn't in the error.
fn refused(error: tokio_postgres::Error) -> Failure {
    let failure = match error.as_db_error() {
        Some(db) => {
            let advice = match *db.code() {
                SqlState::INVALID_PASSWORD => ": check user and password",
                SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                    ": check the user, and pg_hba.conf on the server"
                }
                SqlState::TOO_MANY_CONNECTIONS => ": use a smaller pool, or raise max_connections",
                _ => "",
            };
            let text = format!(
                "the server refused the start-up: {} ({}){advice}",
                db.message(),
                db.code().code(),
            );
            Failure::new(Phase::StartUp, text)
        }
        None if error.is_closed() => Failure::closed_in_start_up(),
        None => {
            let text = format!("the start-up failed: {}", chain(&error));
            Failure::new(Phase::StartUp, text)
        }
    };
    failure.because(error)
}
