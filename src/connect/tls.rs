//! From a byte stream to a transport: negotiation and handshake.
//!
//! The connector does TLS itself, so that one stream type carries everything:
//! deadlines under it, the session's ledger above it.
//!
//! 1. Of the answer to SSLRequest exactly one byte is read. Whatever a man in
//!    the middle puts after it is given to the TLS implementation, which
//!    refuses it, and never reaches the protocol above (CVE-2021-23222).
//! 2. `prefer` falls back to plain for the server's `N` only, never because a
//!    handshake failed.
//! 3. An error sent in place of the answer is not read: nobody has vouched for
//!    who wrote it (CVE-2024-10977).

use std::any::TypeId;
use std::future::Future;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::NoTls;
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};

use super::Stream;
use super::failure::{BoxError, Failure, chain};
use super::transport::{TlsIo, Transport};
use crate::error::Phase;

/// What is wanted of a connection, and under which name.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) mode: SslMode,
    pub(super) negotiation: SslNegotiation,
    /// The name that the certificate must have.
    pub(super) name: Option<String>,
    pub(super) unix: bool,
}

/// Makes a stream ready for the start-up message.
///
/// # Errors
/// TLS is required and can't be had, or the server does not speak PostgreSQL.
///
/// # Cancel safety
/// Dropping it closes the stream.
pub(super) async fn negotiate(
    mut stream: Stream,
    wanted: &Wanted,
    tls: &dyn EraseTls,
) -> Result<Transport, Failure> {
    match wanted.mode {
        SslMode::Disable => return Ok(Transport::plain(stream)),
        // No PostgreSQL server offers TLS on a Unix socket: not worth asking.
        SslMode::Prefer if wanted.unix || !tls.can_connect() => {
            return Ok(Transport::plain(stream));
        }
        _ => {}
    }
    if wanted.negotiation == SslNegotiation::Postgres {
        match ask(&mut stream).await? {
            Answer::Willing => {}
            Answer::Unwilling if wanted.mode == SslMode::Prefer => {
                return Ok(Transport::plain(stream)); // rule 2
            }
            Answer::Unwilling if wanted.unix => {
                return Err(failure(
                    "sslmode=require, but PostgreSQL has no TLS on Unix sockets: change \
                     sslmode, or connect by TCP",
                ));
            }
            Answer::Unwilling => {
                return Err(failure(
                    "the server does not offer TLS, which sslmode=require asks for: switch \
                     ssl on there, or change sslmode",
                ));
            }
        }
    }
    let Some(name) = &wanted.name else {
        return Err(failure(
            "TLS needs the server's name to check its certificate: set host beside \
             hostaddr, or sslmode=disable",
        ));
    };
    let deadlines = stream.deadlines();
    let io = tls.connect(name, stream).await.map_err(|error| {
        let advice = match wanted.negotiation {
            SslNegotiation::Direct => " (sslnegotiation=direct needs PostgreSQL 17 or later)",
            _ => "",
        };
        let text = format!("the TLS handshake failed: {}{advice}", chain(&*error));
        failure(text).because(error)
    })?;
    Ok(Transport::tls(io, deadlines))
}

enum Answer {
    Willing,
    Unwilling,
}

/// Sends SSLRequest and reads the one byte that answers it (rule 1).
async fn ask(stream: &mut Stream) -> Result<Answer, Failure> {
    let talk = async {
        stream.write_all(&SSL_REQUEST).await?;
        stream.flush().await?;
        stream.read_u8().await
    };
    match talk.await {
        Ok(b'S') => Ok(Answer::Willing),
        Ok(b'N') => Ok(Answer::Unwilling),
        // Rule 3.
        Ok(b'E') => Err(failure(
            "the server answered the request for TLS with an error; its log says which \
             (often too many connections)",
        )),
        Ok(byte) => Err(failure(format!(
            "this is not a PostgreSQL server: it answered the request for TLS with \"{}\"; \
             check host and port",
            byte.escape_ascii()
        ))),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(failure(
            "the server closed the connection when it was asked for TLS: is this a \
             PostgreSQL server, and is it up?",
        )
        .because(error)),
        Err(error) => Err(failure(format!(
            "the connection broke when TLS was asked \
             for: {error}"
        ))
        .because(error)),
    }
}

fn failure(text: impl Into<String>) -> Failure {
    Failure::new(Phase::Tls, text)
}

/// Length 8, code 80877103.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// A `MakeTlsConnect` without its type.
pub(super) trait EraseTls: Send + Sync {
    /// Whether it does TLS at all.
    fn can_connect(&self) -> bool;

    fn connect<'a>(&'a self, name: &'a str, stream: Stream) -> Connecting<'a>;
}

pub(super) type Connecting<'a> = Pin<Box<dyn Future<Output = Result<TlsIo, BoxError>> + Send + 'a>>;

pub(super) struct Erased<T>(pub(super) T);

impl<T> EraseTls for Erased<T>
where
    T: MakeTlsConnect<Stream> + Clone + Send + Sync + 'static,
    T::Stream: Send + 'static,
    T::TlsConnect: Send,
    <T::TlsConnect as TlsConnect<Stream>>::Future: Send,
{
    fn can_connect(&self) -> bool {
        // `NoTls` alone can't, and says so only through a method that
        // tokio-postgres keeps to itself.
        TypeId::of::<T>() != TypeId::of::<NoTls>()
    }

    fn connect<'a>(&'a self, name: &'a str, stream: Stream) -> Connecting<'a> {
        let connect = self.0.clone().make_tls_connect(name).map_err(Into::into);
        Box::pin(async move {
            let io = connect?.connect(stream).await.map_err(Into::into)?;
            Ok(Box::new(io) as TlsIo)
        })
    }
}
