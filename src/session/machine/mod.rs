//! Decides what a session does: let run, cancel, drain, clean up, retire.
//!
//! The machine is pure: no clock, no socket, no task, no context. Events go in
//! by `handle_*`, each with `now`; what is to be done comes out of
//! [`poll_output`](Machine::poll_output), [`next_write`](Machine::next_write)
//! and [`poll_timeout`](Machine::poll_timeout). After any event all three may
//! have changed, and are asked until they have no more.
//!
//! ```text
//!                     lease ends, its work in flight
//!   ┌────────┐  ─────────────────────────────────────►  ┌──────────┐
//!   │ open   │                                          │ draining │ dial, EOF, dial again;
//!   │        │  ◄─────────────────────────────────────  │ (holds)  │ answers dropped
//!   └────────┘   nothing of it in flight, attempt over  └──────────┘
//!     │    ▲                                                  │
//!     │    │ ROLLBACK answered, all taken up                  │ grace over, no proof,
//!     ▼    │                                                  │ impossible message
//!   ┌──────────┐            grace over                  ┌─────▼────┐
//!   │ cleaning │  ─────────────────────────────────────►│ retired  │
//!   └──────────┘                                        └──────────┘
//! ```
//!
//! # Rules
//!
//! Numbers are those of the design.
//!
//! 1. *Prompt*: [`settle`](Machine::settle) answers for the server as soon as
//!    a lease has ended, at the next message boundary. Clean-up is answered by
//!    the server alone: who waits for a ROLLBACK under a context that has
//!    ended waits for at most the grace.
//! 2. *Bounded*: [`Timer::Grace`] runs while anything is to be done after an
//!    end ([`is_unfinished`](Machine::is_unfinished)) and no neighbour works;
//!    when it fires the session is retired.
//! 3. *Aimed*: [`aimed`](Machine::aimed), asked again right before the bytes;
//!    while [`draining`](Machine::draining) nothing new is written; clean-up,
//!    the session's own included, is written alone and never cancelled.
//! 4. *Proven*: [`is_clean`](Machine::is_clean), [`spent`](Machine::spent).
//! 5. *Persistent*: [`Timer::Resend`].
//! 6. *Nothing queued is missed*: [`mark`](Machine::mark) and
//!    [`handle_polled`](Machine::handle_polled); what is unwritten when its
//!    lease ends is [refused](Stage::Refused). A transaction in which work was
//!    told as ended is made to fail on the server, too, before the next work
//!    of its holder is written ([`Own::Fail`](crate::wire::ledger::Own::Fail)):
//!    so the server itself says 25P02, and makes a COMMIT a ROLLBACK.
//! 7. *No collateral*: [`collateral`](Machine::collateral).
//! 8. *Nothing left behind*: [`leaves_work`](Machine::leaves_work).
//! 10. *No storm*: one [`Attempt`] at a time.
//! 13. *Never a success*: from the end on nothing of ended work goes up but
//!     what the session says ([`Request::ended`]).
//! 14. *Asked for*: [`handle_finished`](Machine::handle_finished) and
//!     [`handle_released`](Machine::handle_released).
//!
//! Who may call it: the session's core, driver and handles. Files:
//! [`lifecycle`], [`events`] and [`sayings`] take in what happens, [`decide`] and
//! [`writing`] decide, [`answers`] and [`views`] tell.

mod answers;
mod decide;
mod events;
mod leases;
mod lifecycle;
mod rules;
mod sayings;
mod timers;
mod views;
mod writing;

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::settings::Settings;
use crate::wire::framer::Malformed;
use crate::wire::ledger::Ledger;
use crate::wire::request::{LeaseId, Request, Stage};
pub(crate) use leases::{LeaseKind, LeaseState, Leases, Why};
use rules::Rule;
pub(crate) use timers::{Timer, Timers};
pub(crate) use writing::NextWrite;

/// See the [module](self).
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(super) ledger: Ledger,
    pub(super) leases: Leases,
    settings: Settings,
    timers: Timers,
    outputs: VecDeque<Output>,
    /// Bytes of the session's own that are to be written next.
    inject: Vec<u8>,
    /// From an end with work in flight until that work is drained and every
    /// attempt is over: no new request is written.
    draining: bool,
    attempt: Attempt,
    /// The number of the last attempt; a report of an earlier one is ignored.
    attempts: u32,
    /// A cancel of this drain was written.
    tried: bool,
    /// How often a cancel of this drain was sent or could not be.
    sends: usize,
    /// An attempt broke off after its bytes were written: a signal may still
    /// be on its way, and nothing will tell when it is not.
    unproven: bool,
    /// Does EOF prove that the server has handled a cancel?
    eof_proves: bool,
    /// Counts ends and releases; see [`Machine::handle_polled`].
    mark: u64,
    polled: u64,
    /// After the last byte that went up, the client asked for more and was
    /// told to wait.
    taken_up: bool,
    /// The client says itself when a check-out begins and ends.
    listens: bool,
    /// The check-out that is over was never ended, so nothing of it can be on
    /// its way but clean-up.
    quiet: bool,
    /// The request for which the sweep timer was started.
    sweeping: Option<u64>,
    client_gone: bool,
    retired: Option<Retired>,
    /// The rule that is switched off, to see that somebody notices.
    #[cfg(test)]
    off: Option<Rule>,
}

/// Something for the driver to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Output {
    /// Dial a cancel; report as attempt of this number.
    Dial(u32),
    /// This lease's deadline has passed: end its context.
    Expire(LeaseId),
    /// A request has been in flight for longer than the sweep interval.
    Busy,
    /// Ended work is drained; the session goes on.
    Drained,
    /// Close the socket.
    Retire(Retired),
}

/// Why a session is not used again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Retired {
    /// It did not become clean within the grace.
    Grace,
    /// A cancel was written and broke off before its EOF.
    Unproven,
    /// A cancel was sent through a proxy whose EOF proves nothing.
    NoProof,
    /// The server stopped in the middle of a message.
    Stalled,
    /// The session's own clean-up failed.
    CleanUp,
    /// Its client was left at a point from where it miscounts.
    OutOfStep,
    /// Somebody sent what no protocol allows.
    Protocol(Malformed),
}

/// One CancelRequest, from dial to EOF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Attempt {
    None,
    /// Not a byte is written: it may be forgotten.
    Dialing,
    /// Over at EOF only.
    Written,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// The other side closed in order after the request was written.
    Eof,
    /// It came to nothing before a byte was written.
    NotWritten,
    /// It was reset, or timed out, after a byte was written.
    BrokenOff,
}

impl Machine {
    /// The machine of a connection on which nothing was said yet.
    pub(crate) fn new(settings: Settings, invented_key: i32) -> Self {
        Machine {
            ledger: Ledger::new(invented_key),
            leases: Leases::new(),
            settings,
            timers: Timers::default(),
            outputs: VecDeque::new(),
            inject: Vec::new(),
            draining: false,
            attempt: Attempt::None,
            attempts: 0,
            tried: false,
            sends: 0,
            unproven: false,
            eof_proves: true,
            mark: 0,
            polled: 0,
            taken_up: true,
            listens: false,
            quiet: true,
            sweeping: None,
            client_gone: false,
            retired: None,
            #[cfg(test)]
            off: None,
        }
    }

    /// What the driver has to do, one after the other.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`handle_time`](Machine::handle_time) is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.retired.is_some() {
            None
        } else {
            self.timers.next()
        }
    }
}

#[cfg(test)]
mod canonical;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
