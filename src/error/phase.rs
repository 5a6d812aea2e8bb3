//! Where work was when its context ended.

use std::fmt;

/// Where work was when its context ended.
///
/// In the phases up to and with [`StartUp`](Phase::StartUp) no request can
/// have been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Outside the database: no connection was involved.
    Outside,
    /// Waiting for a pool to hand out a connection. Told only by a pool's
    /// `get` or `acquire` that is this project's own.
    PoolWait,
    /// Resolving the host name.
    Resolve,
    /// Connecting the socket.
    Connect,
    /// In the TLS handshake.
    Tls,
    /// In start-up and authentication.
    StartUp,
    /// Sending the request, or holding it back.
    Write,
    /// Waiting for the answer.
    Read,
    /// Reading on, after an end, until nothing is in flight.
    Drain,
}

impl Phase {
    /// Whether no request can have been sent in it.
    pub(crate) fn is_before_request(self) -> bool {
        match self {
            Phase::Outside
            | Phase::PoolWait
            | Phase::Resolve
            | Phase::Connect
            | Phase::Tls
            | Phase::StartUp => true,
            Phase::Write | Phase::Read | Phase::Drain => false,
        }
    }

    /// The letter that stands for it in a marker, and the key of its guards.
    pub(crate) fn code(self) -> u8 {
        match self {
            Phase::Outside => b'o',
            Phase::PoolWait => b'p',
            Phase::Resolve => b'n',
            Phase::Connect => b'c',
            Phase::Tls => b't',
            Phase::StartUp => b's',
            Phase::Write => b'w',
            Phase::Read => b'r',
            Phase::Drain => b'd',
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Phase> {
        ALL.into_iter().find(|phase| phase.code() == code)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Outside => "outside the database",
            Phase::PoolWait => "while waiting for a pooled connection",
            Phase::Resolve => "while resolving the host name",
            Phase::Connect => "while connecting",
            Phase::Tls => "in the TLS handshake",
            Phase::StartUp => "in start-up and authentication",
            Phase::Write => "while sending the request",
            Phase::Read => "while waiting for the answer",
            Phase::Drain => "while the connection was drained of earlier work",
        })
    }
}

/// Every phase, in the order in which work goes through them.
pub(super) const ALL: [Phase; 9] = [
    Phase::Outside,
    Phase::PoolWait,
    Phase::Resolve,
    Phase::Connect,
    Phase::Tls,
    Phase::StartUp,
    Phase::Write,
    Phase::Read,
    Phase::Drain,
];

#[cfg(all(test, not(pgdeadline_loom)))]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_read_back() {
        for phase in ALL {
            assert_eq!(Phase::from_code(phase.code()), Some(phase));
        }
        assert_eq!(Phase::from_code(b'x'), None);
    }
}
