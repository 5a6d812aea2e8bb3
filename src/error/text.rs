//! What an error says: the cause, the phase, whether the request was sent, and
//! what to do.

use super::{Error, Kind, Phase};
use crate::context::{Cause, End, Progress};
use std::fmt;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.kind {
            Kind::End { end, progress } => {
                write!(
                    f,
                    "{}; {}",
                    what_happened(end, progress),
                    what_to_do(progress)
                )?;
                match hint(end, progress.phase) {
                    Some(hint) => write!(f, " ({hint})"),
                    None => Ok(()),
                }
            }
            Kind::Config { message } => write!(f, "invalid configuration: {message}"),
            Kind::Connect { phase, message } => {
                write!(f, "no connection, failed {phase}: {message}")
            }
            Kind::Retired { message, sent } => {
                write!(
                    f,
                    "the connection was given up: {message}; {}",
                    retry(*sent)
                )
            }
            Kind::Protocol { message } => write!(
                f,
                "the server broke the protocol: {message}; is this a PostgreSQL server, \
                 and is what stands in between made for it?"
            ),
            Kind::Database => match (self.server_answer(), self.as_postgres()) {
                (Some(answer), _) => write!(
                    f,
                    "{}: {} (SQLSTATE {})",
                    answer.severity(),
                    answer.message(),
                    answer.code().code()
                ),
                (None, Some(error)) => error.fmt(f),
                (None, None) => f.write_str("database error"),
            },
        }
    }
}

/// Cause and phase in words.
pub(super) fn what_happened(end: &End, progress: &Progress) -> String {
    format!("{end} {}", progress.phase)
}

/// Whether the request was sent, and whether a retry is safe.
pub(super) fn what_to_do(progress: &Progress) -> &'static str {
    if progress.commit_in_doubt {
        return "a COMMIT was in flight and is in doubt: \
                find out whether it took effect before a retry";
    }
    retry(progress.sent)
}

fn retry(sent: Option<bool>) -> &'static str {
    match sent {
        Some(false) => "no request was sent, so a retry is safe",
        Some(true) => "the request was sent and may have taken effect: check before a retry",
        None => "whether the request was sent is not known: check before a retry",
    }
}

/// Where to look when a deadline was too short for this phase.
fn hint(end: &End, phase: Phase) -> Option<&'static str> {
    let Cause::Deadline = end.cause() else {
        return None;
    };
    match phase {
        Phase::PoolWait => Some("the pool may be too small, or connections are kept too long"),
        Phase::Resolve => Some("look at the name server"),
        Phase::Connect => Some("look at host, port and firewall: nothing has answered"),
        Phase::Tls | Phase::StartUp => Some("the server accepts connections and does not answer"),
        Phase::Drain => Some("earlier work on the connection is slow to stop"),
        Phase::Outside | Phase::Write | Phase::Read => None,
    }
}

#[cfg(all(test, not(pgdeadline_loom)))]
mod tests {
    use super::*;
    use crate::context::{Context, Reason};
    use crate::error::phase;

    /// Every phase once, with each cause and each answer to "was it sent?"
    /// somewhere.
    #[test]
    fn ends_say_cause_phase_sent_and_what_to_do() {
        let cancelled = |reason: &str| {
            let ctx = Context::background().child();
            ctx.cancel_with(reason);
            ctx.end().unwrap().cause().clone()
        };
        let safe = "no request was sent, so a retry is safe";
        let sent = "the request was sent and may have taken effect: check before a retry";
        let unknown = "whether the request was sent is not known: check before a retry";
        let doubt = "a COMMIT was in flight and is in doubt: \
                     find out whether it took effect before a retry";
        let no_reason = Cause::Cancelled(Reason::not_given());
        let table = [
            (
                Cause::Deadline,
                false,
                Phase::Outside,
                Some(false),
                false,
                format!("deadline passed outside the database; {safe}"),
            ),
            (
                cancelled("shutdown"),
                true,
                Phase::Outside,
                Some(false),
                false,
                format!("cancelled (shutdown) in an outer context outside the database; {safe}"),
            ),
            (
                Cause::Deadline,
                true,
                Phase::PoolWait,
                Some(false),
                false,
                format!(
                    "deadline passed in an outer context while waiting for a pooled connection; {safe} \
                      (the pool may be too small, or connections are kept too long)"
                ),
            ),
            (
                Cause::Dropped,
                false,
                Phase::PoolWait,
                Some(false),
                false,
                format!("dropped by its caller while waiting for a pooled connection; {safe}"),
            ),
            (
                Cause::Deadline,
                false,
                Phase::Resolve,
                Some(false),
                false,
                format!(
                    "deadline passed while resolving the host name; {safe} \
                      (look at the name server)"
                ),
            ),
            (
                Cause::Deadline,
                false,
                Phase::Connect,
                Some(false),
                false,
                format!(
                    "deadline passed while connecting; {safe} \
                      (look at host, port and firewall: nothing has answered)"
                ),
            ),
            (
                no_reason.clone(),
                false,
                Phase::Connect,
                Some(false),
                false,
                format!("cancelled while connecting; {safe}"),
            ),
            (
                Cause::Deadline,
                false,
                Phase::Tls,
                Some(false),
                false,
                format!(
                    "deadline passed in the TLS handshake; {safe} \
                      (the server accepts connections and does not answer)"
                ),
            ),
            (
                Cause::Deadline,
                false,
                Phase::StartUp,
                Some(false),
                false,
                format!(
                    "deadline passed in start-up and authentication; {safe} \
                      (the server accepts connections and does not answer)"
                ),
            ),
            (
                Cause::Deadline,
                false,
                Phase::Write,
                None,
                false,
                format!("deadline passed while sending the request; {unknown}"),
            ),
            (
                Cause::Deadline,
                false,
                Phase::Write,
                Some(false),
                false,
                format!("deadline passed while sending the request; {safe}"),
            ),
            (
                Cause::Deadline,
                false,
                Phase::Read,
                Some(true),
                false,
                format!("deadline passed while waiting for the answer; {sent}"),
            ),
            (
                Cause::Deadline,
                false,
                Phase::Read,
                Some(true),
                true,
                format!("deadline passed while waiting for the answer; {doubt}"),
            ),
            (
                cancelled("user left"),
                false,
                Phase::Read,
                Some(true),
                false,
                format!("cancelled (user left) while waiting for the answer; {sent}"),
            ),
            (
                Cause::Dropped,
                true,
                Phase::Read,
                Some(true),
                false,
                format!(
                    "dropped by its caller in an outer context while waiting for the answer; {sent}"
                ),
            ),
            (
                Cause::Deadline,
                false,
                Phase::Drain,
                Some(false),
                false,
                format!(
                    "deadline passed while the connection was drained of earlier work; {safe} \
                      (earlier work on the connection is slow to stop)"
                ),
            ),
            (
                no_reason,
                true,
                Phase::Drain,
                None,
                false,
                format!(
                    "cancelled in an outer context while the connection was drained of earlier work; {unknown}"
                ),
            ),
        ];
        for (cause, inherited, phase, sent, commit_in_doubt, text) in &table {
            let end = End::remembered(cause.clone(), *inherited);
            let progress = Progress {
                phase: *phase,
                sent: *sent,
                commit_in_doubt: *commit_in_doubt,
            };
            assert_eq!(Error::end(&end, progress).to_string(), *text);
        }
        for phase in phase::ALL {
            assert!(
                table.iter().any(|row| row.2 == phase),
                "no row for {phase:?}"
            );
        }
    }

    #[test]
    fn other_errors_say_what_was_wrong_and_what_to_do() {
        let table = [
            (
                Error::config("the grace is zero: give 10 ms to 60 s"),
                "invalid configuration: the grace is zero: give 10 ms to 60 s",
            ),
            (
                Error::connect(Phase::Resolve, "db.example: no such host", None),
                "no connection, failed while resolving the host name: db.example: no such host",
            ),
            (
                Error::retired("the grace of 2s is spent", Some(true)),
                "the connection was given up: the grace of 2s is spent; \
              the request was sent and may have taken effect: check before a retry",
            ),
            (
                Error::protocol("message 'D' of length 3"),
                "the server broke the protocol: message 'D' of length 3; is this a PostgreSQL \
              server, and is what stands in between made for it?",
            ),
        ];
        for (error, text) in table {
            assert_eq!(error.to_string(), text);
        }
    }
}
