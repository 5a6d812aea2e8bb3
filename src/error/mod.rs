//! The one error of this crate.
//!
//! 1. Told apart (rule 11 of the design): an error says which end it was and
//!    whether inherited, in which phase, whether the request was sent, and so
//!    whether a retry is safe.
//! 2. It travels through stock types: as an `io::Error` where a stream fails,
//!    as a marker in the text of an ErrorResponse after that. [`Error::find`]
//!    gets it back from either.
//! 3. What the server says by itself is never taken for it: a 57014 that
//!    nobody here asked for carries no marker, and a marker of another process
//!    is ignored.
//!
//! `phase`, `text`: what it says. `walk`, `find`, `marker`: how it is found
//! again. `convert`: from and to other crates' errors.

mod convert;
mod find;
mod marker;
mod phase;
#[cfg(all(test, not(pgdeadline_loom)))]
mod server;
mod text;
mod walk;

pub(crate) use marker::response_texts;
pub use phase::Phase;
pub use walk::{AsBoxed, AsItself, AsReference, Walk};

use crate::context::{Cause, End, Progress, Reason};
use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// Why something could not be done, or not be waited for.
///
/// Cheap to clone, one word wide. Ask it with the `is_*` methods; there are
/// errors for which none of them is true, and more may come.
///
/// In a data-access layer:
///
/// ```
/// use pgdeadline::{Context, Error};
///
/// fn status(error: &(dyn std::error::Error + 'static)) -> u16 {
///     match Error::find(error) {
///         Some(e) if e.is_deadline() => 504,
///         Some(e) if e.is_end() => 499,
///         Some(e) if e.is_retry_safe() => 503,
///         _ => 500,
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let ctx = Context::background().child();
/// ctx.cancel_with("the client went away");
/// let error = ctx.run(async { "not polled" }).await.unwrap_err();
/// assert_eq!(status(&error), 499);
/// assert_eq!(
///     error.to_string(),
///     "cancelled (the client went away) outside the database; \
///      no request was sent, so a retry is safe",
/// );
/// # }
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: Kind,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

#[derive(Debug)]
enum Kind {
    /// A context ended.
    End { end: End, progress: Progress },
    /// What the caller has set can't work.
    Config { message: Message },
    /// No connection was made.
    Connect { phase: Phase, message: Message },
    /// The connection was given up.
    Retired {
        message: Message,
        sent: Option<bool>,
    },
    /// The server sent what it must not.
    Protocol { message: Message },
    /// What tokio-postgres reports: the source.
    Database,
}

type Message = Cow<'static, str>;

impl Error {
    /// Whether a context ended: by deadline, cancelled, or dropped.
    pub fn is_end(&self) -> bool {
        self.ended_by().is_some()
    }

    /// Whether a context ended by its deadline.
    pub fn is_deadline(&self) -> bool {
        matches!(self.cause(), Some(Cause::Deadline))
    }

    /// Whether somebody cancelled a context; see [`reason`](Error::reason).
    pub fn is_cancelled(&self) -> bool {
        matches!(self.cause(), Some(Cause::Cancelled(_)))
    }

    /// Whether a context ended because nobody waited any more.
    pub fn is_dropped(&self) -> bool {
        matches!(self.cause(), Some(Cause::Dropped))
    }

    /// Whether the end came from an ancestor of the context that the work was
    /// done under.
    pub fn is_inherited(&self) -> bool {
        self.ended_by().is_some_and(End::is_inherited)
    }

    /// What ended the context.
    pub fn cause(&self) -> Option<&Cause> {
        self.ended_by().map(End::cause)
    }

    /// The reason with which somebody cancelled the context, if he gave one
    /// and it is still known (an error that has travelled through the text of
    /// a server's message may have lost it).
    pub fn reason(&self) -> Option<&Reason> {
        self.ended_by().and_then(End::reason)
    }

    /// Where the work was: for an end and for a failed connect.
    pub fn phase(&self) -> Option<Phase> {
        match &self.0.kind {
            Kind::End { progress, .. } => Some(progress.phase),
            Kind::Connect { phase, .. } => Some(*phase),
            _ => None,
        }
    }

    /// Whether the request was sent; `None` where it is not known. A request
    /// that was handed to a client counts as sent, unless it was seen to be
    /// discarded.
    pub fn was_sent(&self) -> Option<bool> {
        match &self.0.kind {
            Kind::End { progress, .. } => progress.sent,
            Kind::Config { .. } | Kind::Connect { .. } => Some(false),
            Kind::Retired { sent, .. } => *sent,
            Kind::Protocol { .. } => None,
            Kind::Database => self.server_answer().map(|_| true),
        }
    }

    /// Whether the same request can be sent again without being carried out
    /// twice: it was never sent. Safe is not the same as useful: under a
    /// context that has ended, or with a wrong password, it fails again.
    pub fn is_retry_safe(&self) -> bool {
        self.was_sent() == Some(false)
    }

    /// Whether a COMMIT was in flight: the transaction is committed or rolled
    /// back, and only the server knows which.
    pub fn is_in_doubt(&self) -> bool {
        matches!(&self.0.kind, Kind::End { progress, .. } if progress.commit_in_doubt)
    }

    /// Whether what the caller has set can't work.
    pub fn is_config(&self) -> bool {
        matches!(self.0.kind, Kind::Config { .. })
    }

    /// Whether no connection could be made; [`phase`](Error::phase) says how
    /// far it came. An end while connecting is an end, not this.
    pub fn is_connect(&self) -> bool {
        matches!(self.0.kind, Kind::Connect { .. })
    }

    /// Whether the connection was given up: it could not be proven clean.
    pub fn is_retired(&self) -> bool {
        matches!(self.0.kind, Kind::Retired { .. })
    }

    /// Whether the server sent what the protocol does not allow.
    pub fn is_protocol(&self) -> bool {
        matches!(self.0.kind, Kind::Protocol { .. })
    }

    /// What tokio-postgres reported, if this is its error.
    pub fn as_postgres(&self) -> Option<&tokio_postgres::Error> {
        match self.0.kind {
            Kind::Database => self.0.source.as_deref()?.downcast_ref(),
            _ => None,
        }
    }

    /// A context ended.
    pub(crate) fn end(end: &End, progress: Progress) -> Error {
        let end = end.clone();
        Error::new(Kind::End { end, progress }, None)
    }

    /// A context ended after something else had gone wrong, which is told as
    /// the source.
    pub(crate) fn end_after(
        end: &End,
        progress: Progress,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Error {
        let end = end.clone();
        Error::new(Kind::End { end, progress }, Some(source.into()))
    }

    /// No connection could be made. The message says what was wrong and what
    /// to do.
    pub(crate) fn connect(
        phase: Phase,
        message: impl Into<Message>,
        source: Option<Box<dyn StdError + Send + Sync>>,
    ) -> Error {
        let message = message.into();
        Error::new(Kind::Connect { phase, message }, source)
    }

    /// What the caller has set can't work. The message says what and why.
    ///
    /// For adapters, whose callers can set up a pool wrongly.
    pub fn config(message: impl Into<Cow<'static, str>>) -> Error {
        let message = message.into();
        Error::new(Kind::Config { message }, None)
    }

    /// The same, where another library found out.
    pub(crate) fn config_because(
        message: impl Into<Message>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Error {
        let message = message.into();
        Error::new(Kind::Config { message }, Some(source.into()))
    }

    /// The connection was given up, and with it a request.
    pub(crate) fn retired(message: impl Into<Message>, sent: Option<bool>) -> Error {
        let message = message.into();
        Error::new(Kind::Retired { message, sent }, None)
    }

    /// The server sent what it must not. The message names what it was.
    pub(crate) fn protocol(message: impl Into<Message>) -> Error {
        let message = message.into();
        Error::new(Kind::Protocol { message }, None)
    }

    /// What tokio-postgres reports and nobody here caused.
    pub(crate) fn database(error: tokio_postgres::Error) -> Error {
        Error::new(Kind::Database, Some(Box::new(error)))
    }

    /// This error as the same end is told in another context; `None` if it
    /// tells of another end, or of none.
    pub(crate) fn told_as(&self, end: &End) -> Option<Error> {
        match &self.0.kind {
            Kind::End {
                end: told,
                progress,
            } if told.is_same_event(end) => Some(Error::end(end, *progress)),
            _ => None,
        }
    }

    fn new(kind: Kind, source: Option<Box<dyn StdError + Send + Sync>>) -> Error {
        Error(Arc::new(Inner { kind, source }))
    }

    fn ended_by(&self) -> Option<&End> {
        match &self.0.kind {
            Kind::End { end, .. } => Some(end),
            _ => None,
        }
    }

    fn server_answer(&self) -> Option<&tokio_postgres::error::DbError> {
        self.as_postgres()?.as_db_error()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0.source {
            Some(source) => Some(&**source),
            None => None,
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("source", &self.0.source)
            .finish()
    }
}

#[cfg(all(test, not(pgdeadline_loom)))]
mod tests {
    use super::*;

    #[test]
    fn error_is_one_word_and_crosses_threads() {
        fn crosses_threads<T: Send + Sync + 'static>() {}
        crosses_threads::<Error>();
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        assert_eq!(size_of::<Result<(), Error>>(), size_of::<usize>());
    }

    #[test]
    fn kinds_are_told_apart_by_their_questions() {
        type Question = fn(&Error) -> bool;
        let questions: [(&str, Question); 5] = [
            ("end", Error::is_end),
            ("config", Error::is_config),
            ("connect", Error::is_connect),
            ("retired", Error::is_retired),
            ("protocol", Error::is_protocol),
        ];
        let end = End::remembered(Cause::Dropped, false);
        let errors = [
            ("end", Error::end(&end, Progress::OUTSIDE)),
            ("config", Error::config("port 0")),
            ("connect", Error::connect(Phase::Tls, "refused", None)),
            ("retired", Error::retired("grace is spent", Some(true))),
            ("protocol", Error::protocol("length 3")),
        ];
        for (name, error) in &errors {
            for (question, ask) in questions {
                assert_eq!(ask(error), question == *name, "is_{question} of {name}");
            }
        }
    }

    #[test]
    fn causes_are_told_apart() {
        let of = |cause| Error::end(&End::remembered(cause, true), Progress::OUTSIDE);
        let answers = |e: Error| (e.is_deadline(), e.is_cancelled(), e.is_dropped());
        assert_eq!(answers(of(Cause::Deadline)), (true, false, false));
        let cancelled = Cause::Cancelled(Reason::not_given());
        assert_eq!(answers(of(cancelled)), (false, true, false));
        assert_eq!(answers(of(Cause::Dropped)), (false, false, true));
        assert!(of(Cause::Dropped).is_inherited());
    }

    #[test]
    fn retry_is_safe_only_where_nothing_was_sent() {
        let end = End::remembered(Cause::Deadline, false);
        for (sent, safe) in [(Some(false), true), (Some(true), false), (None, false)] {
            let progress = Progress {
                sent,
                ..Progress::OUTSIDE
            };
            assert_eq!(Error::end(&end, progress).is_retry_safe(), safe);
            assert_eq!(Error::retired("lost", sent).is_retry_safe(), safe);
        }
        assert!(Error::connect(Phase::Resolve, "no such host", None).is_retry_safe());
        assert!(!Error::protocol("length 3").is_retry_safe());
    }
}
