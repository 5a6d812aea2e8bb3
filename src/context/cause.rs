//! Why a context ended.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The end of a context: its cause, and whether it came from an ancestor.
///
/// A context ends at most once. What ended it first is kept; what comes after
/// changes nothing.
///
/// ```
/// use pgdeadline::{Cause, Context};
///
/// let parent = Context::background().child();
/// let child = parent.child();
/// parent.cancel_with("the client went away");
///
/// let end = child.end().unwrap();
/// assert!(matches!(end.cause(), Cause::Cancelled(_)));
/// assert!(end.is_inherited());
/// assert!(!parent.end().unwrap().is_inherited());
/// ```
#[derive(Clone, Debug)]
pub struct End {
    cause: Cause,
    /// Which event this was, so that one end is known again in another
    /// context; [`UNKNOWN`] where only the cause has survived.
    event: u64,
    inherited: bool,
}

impl End {
    /// What ended the context.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// Whether the end came from an ancestor, whoever noticed it first: true
    /// also for a context that was found past a deadline which is not its own.
    pub fn is_inherited(&self) -> bool {
        self.inherited
    }

    /// The reason that was given to `cancel_with`, if this is such an end.
    pub fn reason(&self) -> Option<&Reason> {
        match &self.cause {
            Cause::Cancelled(reason) if reason.is_given() => Some(reason),
            _ => None,
        }
    }

    /// A new end, of the context in which it happens.
    pub(super) fn new(cause: Cause) -> End {
        End {
            cause,
            event: NEXT_EVENT.fetch_add(1, Ordering::Relaxed),
            inherited: false,
        }
    }

    /// This end as a child sees it. One that stands for its parent sees what
    /// the parent sees.
    pub(super) fn passed_down(&self, to_stand_in: bool) -> End {
        End {
            inherited: self.inherited || !to_stand_in,
            ..self.clone()
        }
    }

    /// An end of which nothing but this is known any more.
    pub(crate) fn remembered(cause: Cause, inherited: bool) -> End {
        End {
            cause,
            event: UNKNOWN,
            inherited,
        }
    }

    /// Whether both tell of the same event, each from its own context. Where
    /// one of them doesn't know which it was, the same kind of cause must do.
    pub(crate) fn is_same_event(&self, other: &End) -> bool {
        if self.event == UNKNOWN || other.event == UNKNOWN {
            return std::mem::discriminant(&self.cause) == std::mem::discriminant(&other.cause);
        }
        self.event == other.event
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.inherited, &self.cause) {
            (false, cause) => cause.fmt(f),
            (true, Cause::Deadline) => f.write_str("outer context's deadline passed"),
            (true, cause) => write!(f, "outer context {cause}"),
        }
    }
}

/// What ended a context.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Cause {
    /// Its deadline passed.
    Deadline,
    /// Somebody cancelled it, for a reason of his.
    Cancelled(Reason),
    /// Nobody waits any more: its guard was dropped, or the future that
    /// [`Context::run`](crate::Context::run) returned.
    Dropped,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Deadline => f.write_str("deadline passed"),
            Cause::Cancelled(reason) if reason.is_given() => write!(f, "cancelled ({reason})"),
            Cause::Cancelled(_) => f.write_str("cancelled"),
            Cause::Dropped => f.write_str("dropped by its caller"),
        }
    }
}

/// Why somebody cancelled a context: a text or an error of his, or nothing.
///
/// ```
/// use pgdeadline::{Cause, Context};
///
/// let ctx = Context::background().child();
/// ctx.cancel_with(std::io::Error::other("listener closed"));
///
/// let end = ctx.end().unwrap();
/// let reason = end.reason().unwrap();
/// assert_eq!(reason.to_string(), "listener closed");
/// assert!(reason.get_ref().unwrap().is::<std::io::Error>());
/// ```
#[derive(Clone)]
pub struct Reason(Option<Arc<dyn StdError + Send + Sync>>);

impl Reason {
    /// Whether the caller gave one.
    pub fn is_given(&self) -> bool {
        self.0.is_some()
    }

    /// The reason as the error that it is, to downcast; a text is one too.
    pub fn get_ref(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        self.0.as_deref()
    }

    pub(crate) fn not_given() -> Reason {
        Reason(None)
    }

    pub(super) fn new(reason: Box<dyn StdError + Send + Sync>) -> Reason {
        Reason(Some(reason.into()))
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(reason) => write!(f, "Reason({reason:?})"),
            None => f.write_str("Reason(not given)"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(reason) => reason.fmt(f),
            None => f.write_str("no reason given"),
        }
    }
}

/// The event of an end that was decoded from its letters only.
const UNKNOWN: u64 = 0;

static NEXT_EVENT: AtomicU64 = AtomicU64::new(UNKNOWN + 1);

#[cfg(all(test, not(pgdeadline_loom)))]
mod tests {
    use super::*;

    #[test]
    fn causes_read_as_sentences() {
        let reason = Reason::new("shutting down".into());
        let table = [
            (
                Cause::Deadline,
                "deadline passed",
                "outer context's deadline passed",
            ),
            (
                Cause::Cancelled(reason),
                "cancelled (shutting down)",
                "outer context cancelled (shutting down)",
            ),
            (
                Cause::Cancelled(Reason::not_given()),
                "cancelled",
                "outer context cancelled",
            ),
            (
                Cause::Dropped,
                "dropped by its caller",
                "outer context dropped by its caller",
            ),
        ];
        for (cause, own, inherited) in table {
            let end = End::new(cause);
            assert_eq!(end.to_string(), own);
            assert_eq!(end.passed_down(false).to_string(), inherited);
        }
    }

    #[test]
    fn one_event_is_known_again_below_and_two_are_told_apart() {
        let end = End::new(Cause::Deadline);
        assert!(end.is_same_event(&end.passed_down(false).passed_down(true)));
        assert!(!end.is_same_event(&End::new(Cause::Deadline)));
    }

    #[test]
    fn where_the_event_is_forgotten_the_cause_decides() {
        let end = End::new(Cause::Deadline);
        assert!(end.is_same_event(&End::remembered(Cause::Deadline, true)));
        assert!(!end.is_same_event(&End::remembered(Cause::Dropped, true)));
    }
}
