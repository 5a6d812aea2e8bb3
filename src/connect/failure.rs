//! Why one address or one host could not be connected to.
//!
//! Failures are collected while other addresses and hosts are tried; the error
//! that the caller gets names them all.

use std::error::Error as StdError;
use std::fmt::Display;
use std::io;
use std::time::Duration;

use super::dial::Address;
use crate::error::{Error, Phase};

pub(super) type BoxError = Box<dyn StdError + Send + Sync>;

/// One failed try: in which phase, in words, and what it came from.
#[derive(Debug)]
pub(super) struct Failure {
    phase: Phase,
    message: String,
    source: Option<BoxError>,
}

impl Failure {
    pub(super) fn new(phase: Phase, message: impl Into<String>) -> Failure {
        Failure {
            phase,
            message: message.into(),
            source: None,
        }
    }

    pub(super) fn because(self, source: impl Into<BoxError>) -> Failure {
        Failure {
            source: Some(source.into()),
            ..self
        }
    }

    /// A server that closed where its first word was awaited.
    pub(super) fn closed_in_start_up() -> Failure {
        let text = "the server closed the connection during start-up: is this a PostgreSQL \
                    server, and is it up?";
        Failure::new(Phase::StartUp, text)
    }

    /// A dial that failed.
    pub(super) fn dial(address: &Address, error: io::Error) -> Failure {
        let advice = match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                ": is PostgreSQL running there, and listening on this address?"
            }
            io::ErrorKind::NotFound => {
                ": is PostgreSQL running, with this directory among its \
                 unix_socket_directories?"
            }
            io::ErrorKind::PermissionDenied => ": may this user use it?",
            _ => "",
        };
        Failure::new(Phase::Connect, format!("{address}: {error}{advice}")).because(error)
    }

    /// A phase that took longer than it was given.
    pub(super) fn timed_out(phase: Phase, time: Duration) -> Failure {
        let what = match phase {
            Phase::Resolve => "the name look-up did not end",
            Phase::Connect => "the connection was neither accepted nor refused",
            Phase::Tls => "the TLS handshake did not end",
            Phase::StartUp => "the server did not finish authentication and start-up",
            _ => "the connection was not made",
        };
        // What the clock and the timer add below a millisecond tells nothing.
        let time = Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        Failure::new(phase, format!("{what} within {time:?}"))
            .because(io::Error::from(io::ErrorKind::TimedOut))
    }

    /// Says where it happened, unless it does.
    pub(super) fn at(self, place: impl Display) -> Failure {
        let place = format!("{place}: ");
        if self.message.starts_with(&place) {
            return self;
        }
        Failure {
            message: place + &self.message,
            ..self
        }
    }

    /// One failure that tells all; phase and source are those of the last.
    pub(super) fn all(mut failures: Vec<Failure>) -> Failure {
        let several = failures.len() > 1;
        let messages: Vec<_> = failures.iter().map(|f| f.message.as_str()).collect();
        let message = messages.join("; ");
        match failures.pop() {
            Some(last) if several => Failure { message, ..last },
            Some(last) => last,
            None => Failure::new(Phase::Connect, "there was nothing to connect to"),
        }
    }

    pub(super) fn into_error(self) -> Error {
        Error::connect(self.phase, self.message, self.source)
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// An error and what it came from, in one line.
pub(super) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let part = source.to_string();
        // Many errors repeat their source in their own text.
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_is_told_as_it_is_and_several_all() {
        let first = || Failure::new(Phase::Resolve, "unknown").at("a:1");
        let last = || Failure::new(Phase::Connect, "refused").at("b:2");
        assert_eq!(Failure::all(vec![first()]).to_string(), "a:1: unknown");
        let all = Failure::all(vec![first(), last()]);
        assert_eq!(all.to_string(), "a:1: unknown; b:2: refused");
        assert_eq!(all.phase, Phase::Connect);
    }

    #[test]
    fn a_place_is_told_once() {
        let failure = Failure::new(Phase::Connect, "refused").at("a:1").at("a:1");
        assert_eq!(failure.at("db:1").to_string(), "db:1: a:1: refused");
    }

    #[test]
    fn a_chain_repeats_nothing() {
        let inner = io::Error::other("inner");
        let outer = io::Error::other(Failing("outer: inner", Some(inner)));
        assert_eq!(chain(&outer), "outer: inner");
        let outer = Failing("outer", Some(io::Error::other("inner")));
        assert_eq!(chain(&outer), "outer: inner");
    }

    #[derive(Debug)]
    struct Failing(&'static str, Option<io::Error>);

    impl Display for Failing {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl StdError for Failing {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            self.1.as_ref().map(|e| e as _)
        }
    }
}
