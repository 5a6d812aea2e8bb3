//! From and to the errors of the stock types that this one travels in.

use super::{Error, Kind};
use crate::context::Cause;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::NoTls;
use tokio_postgres::config::SslMode;

impl From<Error> for io::Error {
    /// An `io::Error` in which [`Error::find`] finds this one. Its kind is
    /// `TimedOut` for a deadline.
    fn from(error: Error) -> io::Error {
        io::Error::new(error.io_kind(), error)
    }
}

impl From<tokio_postgres::Error> for Error {
    /// The error of this crate that `error` carries, or else one that wraps
    /// it; see [`as_postgres`](Error::as_postgres).
    fn from(error: tokio_postgres::Error) -> Error {
        Error::find(&error).unwrap_or_else(|| Error::database(error))
    }
}

impl From<Error> for tokio_postgres::Error {
    /// An error of tokio-postgres's in which [`Error::find`] finds this one;
    /// or the one that this one wraps, if it does and no clone of it is left.
    fn from(error: Error) -> tokio_postgres::Error {
        match error.into_postgres() {
            Ok(postgres) => postgres,
            Err(error) => carried(error),
        }
    }
}

impl Error {
    fn io_kind(&self) -> io::ErrorKind {
        match &self.0.kind {
            Kind::End { end, .. } => match end.cause() {
                Cause::Deadline => io::ErrorKind::TimedOut,
                // Not `Interrupted`: std's loops try again on that.
                Cause::Cancelled(_) | Cause::Dropped => io::ErrorKind::ConnectionAborted,
            },
            Kind::Config { .. } => io::ErrorKind::InvalidInput,
            Kind::Connect { .. } => {
                let source = self.0.source.as_deref();
                let io = source.and_then(|source| source.downcast_ref::<io::Error>());
                io.map_or(io::ErrorKind::NotConnected, io::Error::kind)
            }
            Kind::Retired { .. } => io::ErrorKind::ConnectionAborted,
            Kind::Protocol { .. } => io::ErrorKind::InvalidData,
            Kind::Database => io::ErrorKind::Other,
        }
    }

    fn into_postgres(self) -> Result<tokio_postgres::Error, Error> {
        if self.as_postgres().is_none() {
            return Err(self);
        }
        let mut inner = Arc::try_unwrap(self.0).map_err(Error)?;
        match inner.source.take().map(|source| source.downcast()) {
            Some(Ok(postgres)) => Ok(*postgres),
            Some(Err(source)) => Err(Error::new(inner.kind, Some(source))),
            None => Err(Error::new(inner.kind, None)),
        }
    }
}

/// `error` as tokio-postgres reports the failure of a stream: it has no public
/// constructor, so the stream is one that fails with `error` at once.
fn carried(error: Error) -> tokio_postgres::Error {
    let mut config = tokio_postgres::Config::new();
    config.user("none").ssl_mode(SslMode::Disable);
    let failing = Failing(error);
    let mut connecting = pin!(config.connect_raw(failing, NoTls));
    let mut cx = Context::from_waker(Waker::noop());
    match connecting.as_mut().poll(&mut cx) {
        Poll::Ready(Err(postgres)) => postgres,
        // No step on such a stream has anything to wait for, and the first
        // one, the write of the start-up message, fails.
        Poll::Ready(Ok(_)) | Poll::Pending => unreachable!("a failing stream has not failed"),
    }
}

/// A stream on which everything fails.
struct Failing(Error);

impl Failing {
    fn fail<T>(&self) -> Poll<io::Result<T>> {
        Poll::Ready(Err(self.0.clone().into()))
    }
}

impl AsyncRead for Failing {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.fail()
    }
}

impl AsyncWrite for Failing {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        self.fail()
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fail()
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fail()
    }
}

#[cfg(all(test, not(pgdeadline_loom)))]
mod tests {
    use super::*;
    use crate::context::{End, Progress, Reason};
    use crate::error::Phase;
    use crate::error::server::{answer, error_response};

    #[test]
    fn io_errors_have_the_kind_that_says_most() {
        let end = |cause| Error::end(&End::remembered(cause, false), Progress::OUTSIDE);
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let table = [
            (end(Cause::Deadline), io::ErrorKind::TimedOut),
            (
                end(Cause::Cancelled(Reason::not_given())),
                io::ErrorKind::ConnectionAborted,
            ),
            (end(Cause::Dropped), io::ErrorKind::ConnectionAborted),
            (Error::config("port 0"), io::ErrorKind::InvalidInput),
            (
                Error::connect(Phase::Connect, "refused", Some(refused.into())),
                io::ErrorKind::ConnectionRefused,
            ),
            (
                Error::connect(Phase::Tls, "no TLS here", None),
                io::ErrorKind::NotConnected,
            ),
            (
                Error::retired("grace is spent", None),
                io::ErrorKind::ConnectionAborted,
            ),
            (Error::protocol("length 3"), io::ErrorKind::InvalidData),
        ];
        for (error, kind) in table {
            let text = error.to_string();
            let io = io::Error::from(error);
            assert_eq!((io.kind(), io.to_string()), (kind, text));
        }
    }

    #[test]
    fn every_error_can_travel_as_one_of_tokio_postgres() {
        let errors = [
            Error::end(&End::remembered(Cause::Deadline, true), Progress::OUTSIDE),
            Error::config("port 0"),
            Error::connect(Phase::Resolve, "no such host", None),
            Error::retired("grace is spent", Some(true)),
            Error::protocol("length 3"),
        ];
        for error in errors {
            let text = error.to_string();
            let found = Error::from(tokio_postgres::Error::from(error));
            assert_eq!(found.to_string(), text);
            assert!(!found.is_connect() || found.phase() == Some(Phase::Resolve));
        }
    }

    #[tokio::test]
    async fn servers_error_is_wrapped_and_given_back() {
        let message = error_response("42P01", "relation \"t\" does not exist", None);
        let error = Error::from(answer(&message).await);
        assert_eq!(
            error.to_string(),
            "ERROR: relation \"t\" does not exist (SQLSTATE 42P01)"
        );
        assert_eq!(error.was_sent(), Some(true));
        assert!(!error.is_end());
        let code = error.as_postgres().unwrap().code().cloned();
        let postgres = tokio_postgres::Error::from(error);
        assert_eq!(postgres.code(), code.as_ref());
    }

    #[tokio::test]
    async fn servers_error_that_is_shared_travels_inside() {
        let message = error_response("42P01", "no such table", None);
        let error = Error::from(answer(&message).await);
        let shared = error.clone();
        let postgres = tokio_postgres::Error::from(error);
        let found = Error::find(&postgres).unwrap();
        assert_eq!(
            found.as_postgres().unwrap().code(),
            shared.as_postgres().unwrap().code()
        );
    }
}
