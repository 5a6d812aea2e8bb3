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

    /// Cause by phase, each with its words.
    #[test]
    fn ends_say_cause_phase_sent_and_what_to_do() {
        let shutdown = || {
            let ctx = Context::background().child();
            ctx.cancel_with("shutdown");
            ctx.end().unwrap().cause().clone()
        };
        let not_given = || Cause::Cancelled(Reason::not_given());
        let causes = [
            (Cause::Deadline, false, "deadline passed"),
            (Cause::Deadline, true, "outer context's deadline passed"),
            (shutdown(), false, "cancelled (shutdown)"),
            (shutdown(), true, "outer context cancelled (shutdown)"),
            (not_given(), false, "cancelled"),
            (not_given(), true, "outer context cancelled"),
            (Cause::Dropped, false, "dropped by its caller"),
            (Cause::Dropped, true, "outer context dropped by its caller"),
        ];
        // The last column is added where it was a deadline.
        let silent = " (the server accepts connections and does not answer)";
        let phases = [
            (Phase::Outside, "outside the database", ""),
            (
                Phase::PoolWait,
                "while waiting for a pooled connection",
                " (the pool may be too small, or connections are kept too long)",
            ),
            (
                Phase::Resolve,
                "while resolving the host name",
                " (look at the name server)",
            ),
            (
                Phase::Connect,
                "while connecting",
                " (look at host, port and firewall: nothing has answered)",
            ),
            (Phase::Tls, "in the TLS handshake", silent),
            (Phase::StartUp, "in start-up and authentication", silent),
            (Phase::Write, "while sending the request", ""),
            (Phase::Read, "while waiting for the answer", ""),
            (
                Phase::Drain,
                "while the connection was drained of earlier work",
                " (earlier work on the connection is slow to stop)",
            ),
        ];
        assert_eq!(phases.map(|row| row.0), phase::ALL);
        for (cause, inherited, cause_words) in &causes {
            for (phase, phase_words, hint) in phases {
                let end = End::remembered(cause.clone(), *inherited);
                let progress = Progress::before_request(phase);
                let hint = if matches!(cause, Cause::Deadline) {
                    hint
                } else {
                    ""
                };
                let text = format!(
                    "{cause_words} {phase_words}; no request was sent, so a retry is safe{hint}"
                );
                assert_eq!(Error::end(&end, progress).to_string(), text);
            }
        }
    }

    #[test]
    fn ends_say_whether_the_request_was_sent() {
        let table = [
            (
                Some(false),
                false,
                "deadline passed while waiting for the answer; \
                 no request was sent, so a retry is safe",
            ),
            (
                Some(true),
                false,
                "deadline passed while waiting for the answer; \
                 the request was sent and may have taken effect: check before a retry",
            ),
            (
                None,
                false,
                "deadline passed while waiting for the answer; \
                 whether the request was sent is not known: check before a retry",
            ),
            (
                Some(true),
                true,
                "deadline passed while waiting for the answer; a COMMIT was in flight and is \
                 in doubt: find out whether it took effect before a retry",
            ),
        ];
        for (sent, commit_in_doubt, text) in table {
            let progress = Progress {
                phase: Phase::Read,
                sent,
                commit_in_doubt,
            };
            let end = End::remembered(Cause::Deadline, false);
            assert_eq!(Error::end(&end, progress).to_string(), text);
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
