//! An error as a few letters in the text of a server's message.
//!
//! Where the session answers in the server's place, the caller gets a stock
//! client's error, of which sometimes only the text is left. So the message
//! ends with a marker, `[pgdeadline 5d2c01f7:1a:dor1s]`: the process, a number
//! into a table of recent ends, and the end in letters.
//!
//! 1. A marker that this process did not issue is ignored: the text may have
//!    come from another service, through the database or a log.
//! 2. The table is bounded. An end that has left it is read from the letters;
//!    only the reason is lost.
//! 3. A marker counts in a server's message only where the session puts it, at
//!    the end: a message can quote what a user has sent.

use super::{Error, Kind, Phase, text};
use crate::context::{Cause, End, Progress, Reason};
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// What the text of a message carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    number: u64,
    letters: Letters,
}

/// An end in letters: cause, own or inherited, phase, sent, commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Letters([u8; 5]);

/// Enters `error` into the table, and gives the marker by which it is found.
pub(crate) fn issue(error: &Error) -> Marker {
    let mut recent = recent();
    let number = recent.next;
    recent.next += 1;
    let index = index(number);
    let entry = (number, error.clone());
    let replaced = match recent.entries.get_mut(index) {
        Some(place) => Some(std::mem::replace(place, entry)),
        None => {
            recent.entries.push(entry);
            None
        }
    };
    drop(recent);
    // Outside the lock: the caller's reason may go with it.
    drop(replaced);
    Marker {
        number,
        letters: Letters::of(error),
    }
}

/// The message and the DETAIL of an ErrorResponse that stands for `error`, the
/// message with a marker of its own at the end.
pub(crate) fn response_texts(error: &Error) -> (String, String) {
    let marker = issue(error);
    match &error.0.kind {
        Kind::End { end, progress } => {
            let message = format!("canceling statement: {end} {marker}");
            let happened = text::what_happened(end, progress);
            (
                message,
                format!("{happened}; {}.", text::what_to_do(progress)),
            )
        }
        _ => (format!("{error} {marker}"), error.to_string()),
    }
}

/// The error of the last marker of this process in `text`.
pub(super) fn find_in(text: &str) -> Option<Error> {
    let starts = text.rmatch_indices(OPEN);
    starts
        .filter_map(|(start, _)| parse(&text[start..]))
        .find_map(|(marker, _)| marker.error())
}

/// The error of the marker with which `message` ends (rule 3).
pub(super) fn find_at_end_of(message: &str) -> Option<Error> {
    let start = message.rfind(OPEN)?;
    match parse(&message[start..])? {
        (marker, "") => marker.error(),
        _ => None,
    }
}

/// A marker of this process at the start of `text`, and what follows it.
fn parse(text: &str) -> Option<(Marker, &str)> {
    let (inside, after) = text.strip_prefix(OPEN)?.split_once(']')?;
    let mut parts = inside.split(':');
    let process = parts.next()?;
    let number = u64::from_str_radix(parts.next()?, 16).ok()?;
    let letters = Letters(parts.next()?.as_bytes().try_into().ok()?);
    if parts.next().is_some() || process != *PROCESS {
        return None;
    }
    Some((Marker { number, letters }, after))
}

impl Marker {
    fn error(self) -> Option<Error> {
        let recent = recent();
        if self.number >= recent.next {
            return None;
        }
        match recent.entries.get(index(self.number)) {
            Some((number, error)) if *number == self.number => Some(error.clone()),
            _ => self.letters.error(),
        }
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{OPEN}{}:{:x}:", *PROCESS, self.number)?;
        for letter in self.letters.0 {
            write!(f, "{}", char::from(letter))?;
        }
        f.write_str("]")
    }
}

impl Letters {
    fn of(error: &Error) -> Letters {
        let Kind::End { end, progress } = &error.0.kind else {
            return Letters(*b"-----");
        };
        let cause = match end.cause() {
            Cause::Deadline => b'd',
            Cause::Cancelled(_) => b'c',
            Cause::Dropped => b'x',
        };
        let sent = match progress.sent {
            Some(true) => b'1',
            Some(false) => b'0',
            None => b'u',
        };
        Letters([
            cause,
            if end.is_inherited() { b'i' } else { b'o' },
            progress.phase.code(),
            sent,
            if progress.commit_in_doubt { b'd' } else { b's' },
        ])
    }

    fn error(self) -> Option<Error> {
        let [cause, origin, phase, sent, commit] = self.0;
        let cause = match cause {
            b'd' => Cause::Deadline,
            b'c' => Cause::Cancelled(Reason::not_given()),
            b'x' => Cause::Dropped,
            _ => return None,
        };
        let inherited = match origin {
            b'i' => true,
            b'o' => false,
            _ => return None,
        };
        let progress = Progress {
            phase: Phase::from_code(phase)?,
            sent: match sent {
                b'1' => Some(true),
                b'0' => Some(false),
                b'u' => None,
                _ => return None,
            },
            commit_in_doubt: match commit {
                b'd' => true,
                b's' => false,
                _ => return None,
            },
        };
        Some(Error::end(&End::remembered(cause, inherited), progress))
    }
}

/// The last ends that were told in the server's place, as a ring.
struct Recent {
    next: u64,
    entries: Vec<(u64, Error)>,
}

fn recent() -> MutexGuard<'static, Recent> {
    static RECENT: Mutex<Recent> = Mutex::new(Recent {
        next: 0,
        entries: Vec::new(),
    });
    RECENT.lock().unwrap_or_else(PoisonError::into_inner)
}

fn index(number: u64) -> usize {
    usize::try_from(number % CAPACITY).unwrap_or_default()
}

/// Tells this process from others: 64 random bits in hexadecimal.
static PROCESS: LazyLock<String> =
    LazyLock::new(|| format!("{:016x}", RandomState::new().hash_one(std::process::id())));

/// How a marker begins.
const OPEN: &str = "[pgdeadline ";

/// How many ends the table remembers: an error is looked for at once, by the
/// caller that it goes to, so this many would have to come in between. A few
/// hundred kilobytes at most.
const CAPACITY: u64 = 4096;

#[cfg(all(test, not(pgdeadline_loom)))]
mod tests {
    use super::*;
    use crate::context::Context;

    /// The table is one for the process: what fills it up must not run beside
    /// what counts on it.
    static TABLE: Mutex<()> = Mutex::new(());

    fn table() -> MutexGuard<'static, ()> {
        TABLE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cancelled(progress: Progress) -> Error {
        let ctx = Context::background().child();
        ctx.cancel_with("user left");
        Error::end(&ctx.end().unwrap(), progress)
    }

    const IN_DOUBT: Progress = Progress {
        phase: Phase::Read,
        sent: Some(true),
        commit_in_doubt: true,
    };

    #[test]
    fn error_is_found_in_a_text_with_its_reason() {
        let _table = table();
        let marker = issue(&cancelled(IN_DOUBT));
        let found = find_in(&format!("db error: ERROR: canceled {marker} (57014)")).unwrap();
        assert_eq!(found.reason().unwrap().to_string(), "user left");
        assert_eq!(found.phase(), Some(Phase::Read));
        assert!(found.is_in_doubt());
    }

    #[test]
    fn error_that_has_left_the_table_is_read_from_its_letters() {
        let _table = table();
        let marker = issue(&cancelled(IN_DOUBT)).to_string();
        for _ in 0..CAPACITY {
            issue(&cancelled(Progress::OUTSIDE));
        }
        let found = find_in(&marker).unwrap();
        assert!(found.is_cancelled() && found.is_in_doubt());
        assert_eq!(found.phase(), Some(Phase::Read));
        assert!(found.reason().is_none());
        assert_eq!(recent().entries.len() as u64, CAPACITY);
    }

    #[test]
    fn letters_read_back_for_every_end() {
        for cause in [
            Cause::Deadline,
            Cause::Cancelled(Reason::not_given()),
            Cause::Dropped,
        ] {
            for inherited in [false, true] {
                for phase in super::super::phase::ALL {
                    for sent in [Some(false), Some(true), None] {
                        for commit_in_doubt in [false, true] {
                            let progress = Progress {
                                phase,
                                sent,
                                commit_in_doubt,
                            };
                            let end = End::remembered(cause.clone(), inherited);
                            let letters = Letters::of(&Error::end(&end, progress));
                            assert_eq!(Letters::of(&letters.error().unwrap()), letters);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn marker_that_this_process_did_not_issue_is_ignored() {
        let _table = table();
        let ours = issue(&cancelled(IN_DOUBT));
        let text = ours.to_string();
        let other_process = text.replace(PROCESS.as_str(), "0123456789abcdef");
        let not_yet_issued = Marker {
            number: u64::MAX,
            ..ours
        }
        .to_string();
        let forgeries = [
            other_process,
            not_yet_issued,
            text.replace(']', ""),
            text.replace(']', ":]"),
            "[pgdeadline ]".to_owned(),
            "[pgdeadline".to_owned(),
            format!("[pgdeadline {}:zz:dor1s]", *PROCESS),
            format!("[pgdeadline {}:0:]", *PROCESS),
            String::new(),
        ];
        for forgery in forgeries {
            assert!(find_in(&forgery).is_none(), "{forgery}");
        }
        // The forged one after it does not hide the true one.
        assert!(find_in(&format!("{text} [pgdeadline 00:00:dor1s]")).is_some());
    }

    #[test]
    fn marker_of_unknown_letters_that_has_left_the_table_is_no_error() {
        assert!(Letters(*b"-----").error().is_none());
        assert!(Letters(*b"dor1x").error().is_none());
    }

    #[test]
    fn quoted_marker_does_not_count_in_a_servers_message() {
        let _table = table();
        let marker = issue(&cancelled(IN_DOUBT));
        assert!(find_at_end_of(&format!("canceling statement {marker}")).is_some());
        assert!(find_at_end_of(&format!("invalid input: \"{marker}\"")).is_none());
    }

    #[test]
    fn response_says_cause_and_phase_and_ends_with_the_marker() {
        let _table = table();
        let (message, detail) = response_texts(&cancelled(IN_DOUBT));
        assert!(message.starts_with("canceling statement: cancelled (user left) [pgdeadline "));
        assert!(find_at_end_of(&message).unwrap().is_in_doubt());
        assert_eq!(
            detail,
            "cancelled (user left) while waiting for the answer; a COMMIT was in flight and is \
             in doubt: find out whether it took effect before a retry."
        );
    }
}
