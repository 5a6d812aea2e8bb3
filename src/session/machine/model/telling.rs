//! A trace, in the project's words.

use std::fmt;

use super::steps::{Cut, Step};

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Asks(kind) => write!(f, "client: queues {kind:?}"),
            Step::ChildAsks(kind) => write!(f, "client: queues {kind:?} under a child context"),
            Step::SendsData => f.write_str("client: queues CopyData"),
            Step::EndsCopy => f.write_str("client: ends its COPY"),
            Step::DropsCopy => f.write_str("client: drops its COPY"),
            Step::Ends(holder) => write!(f, "context {holder}: ends"),
            Step::Finishes(holder) => write!(f, "context {holder}: finishes"),
            Step::Releases(None) => f.write_str("lease: is released"),
            Step::Releases(Some(kind)) => write!(f, "lease: is released, its drop queues {kind:?}"),
            Step::Cancels => f.write_str("holder: asks for a cancel"),
            Step::DropsClient => f.write_str("client: is dropped"),
            Step::ChecksOut => f.write_str("lease: the next check-out begins"),
            Step::BeginsOperation => f.write_str("lease: an operation begins"),
            Step::LeavesOperation => f.write_str("lease: the operation is over"),
            Step::PollBegins => f.write_str("connection: a poll begins"),
            Step::Writes(Cut::Whole) => f.write_str("connection: takes what is queued, and writes"),
            Step::Writes(Cut::AfterMessage) => f.write_str("connection: writes one message"),
            Step::Writes(Cut::InMessage) => f.write_str("connection: writes part of a message"),
            Step::PollEnds => f.write_str("connection: the poll is Pending, all flushed"),
            Step::TakesUp => f.write_str("client: takes up what has come"),
            Step::SessionWrites => f.write_str("session: writes its own"),
            Step::Server(what) => write!(f, "server: {what:?}"),
            Step::Receives(Cut::Whole) => f.write_str("session: receives a message"),
            Step::Receives(_) => f.write_str("session: receives part of a message"),
            Step::AttemptConnects(which) => {
                write!(f, "attempt {which}: is through, asks for leave")
            }
            Step::AttemptRefused(which) => write!(f, "attempt {which}: the dial is refused"),
            Step::AttemptBreaksOff(which) => write!(f, "attempt {which}: breaks off"),
            Step::Signal(which) => write!(f, "postmaster: a signal of attempt {which}"),
            Step::Eof(which) => write!(f, "attempt {which}: EOF"),
            Step::LateSignal => f.write_str("postmaster: a late signal"),
            Step::Time => f.write_str("time: passes up to the next timer"),
        }
    }
}
