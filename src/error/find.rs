//! Getting the error back out of a stock type.

use super::{Error, marker};
use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use tokio_postgres::error::DbError;

impl Error {
    /// The error of this crate that `error` is, or carries: in its sources, in
    /// an [`io::Error`], or as a marker in a server's message. One function
    /// for all drivers and pools.
    ///
    /// The server's own errors are not this crate's: a statement that somebody
    /// else cancelled, or that ran into `statement_timeout`, gives `None`.
    ///
    /// ```
    /// use pgdeadline::{Context, Error};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let ctx = Context::background().child();
    /// ctx.cancel();
    /// let error = ctx.run(async {}).await.unwrap_err();
    ///
    /// let wrapped = std::io::Error::other(std::io::Error::other(error));
    /// assert!(Error::find(&wrapped).unwrap().is_cancelled());
    /// assert!(Error::find(&std::io::Error::other("something else")).is_none());
    /// # }
    /// ```
    pub fn find(error: &(dyn StdError + 'static)) -> Option<Error> {
        if let Some(found) = chain(error).find_map(known) {
            return Some(found);
        }
        // Where the server's message is at hand and has no marker in its
        // place, an outer error's text can only quote one.
        if chain(error).any(|error| error.is::<DbError>()) {
            return None;
        }
        chain(error).find_map(|error| marker::find_in(&error.to_string()))
    }
}

/// `error` and what caused it, in order.
fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| cause(*error)).take(MAX_LINKS)
}

/// What caused `error`. An [`io::Error`] has its inner error where others have
/// a source; its own `source` skips it, in a box or an `Arc` too.
fn cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    let io = error
        .downcast_ref::<io::Error>()
        .or_else(|| error.downcast_ref::<Box<io::Error>>().map(|io| &**io))
        .or_else(|| error.downcast_ref::<Arc<io::Error>>().map(|io| &**io));
    match io {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn StdError + 'static)),
        None => error.source(),
    }
}

fn known(error: &(dyn StdError + 'static)) -> Option<Error> {
    if let Some(error) = error.downcast_ref::<Error>() {
        return Some(error.clone());
    }
    marker::find_at_end_of(error.downcast_ref::<DbError>()?.message())
}

/// No real chain is this long; one that goes in a circle ends here.
const MAX_LINKS: usize = 64;

#[cfg(all(test, not(pgdeadline_loom)))]
mod tests {
    use super::*;
    use crate::context::{Context, Progress};
    use crate::error::response_texts;
    use crate::error::server::{answer, error_response};
    use std::fmt;

    /// An error that shows its cause only in its text, or only as a source.
    #[derive(Debug)]
    struct Wrapper {
        text: String,
        source: Option<Box<dyn StdError + Send + Sync>>,
    }

    impl fmt::Display for Wrapper {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(&self.text)
        }
    }

    impl StdError for Wrapper {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            self.source.as_deref().map(|source| source as _)
        }
    }

    fn ours() -> Error {
        let ctx = Context::background().child();
        ctx.cancel_with("user left");
        Error::end(&ctx.end().unwrap(), Progress::OUTSIDE)
    }

    fn is_ours(error: &(dyn StdError + 'static)) -> bool {
        let reason = Error::find(error).and_then(|found| found.reason().map(|r| r.to_string()));
        reason.as_deref() == Some("user left")
    }

    #[test]
    fn error_is_found_in_itself_in_sources_and_in_io_errors() {
        let source = |source| Wrapper {
            text: "wrapped".to_owned(),
            source: Some(source),
        };
        assert!(is_ours(&ours()));
        assert!(is_ours(&source(Box::new(ours()))));
        assert!(is_ours(&io::Error::from(ours())));
        assert!(is_ours(&source(Box::new(io::Error::from(ours())))));
        assert!(is_ours(&io::Error::other(source(Box::new(ours())))));
        assert!(is_ours(&Box::new(io::Error::from(ours()))));
        assert!(is_ours(&source(Box::new(Arc::new(
            io::Error::from(ours())
        )))));
    }

    #[test]
    fn error_is_found_in_what_a_connection_that_failed_gives() {
        assert!(is_ours(&tokio_postgres::Error::from(ours())));
    }

    #[tokio::test]
    async fn error_is_found_in_a_servers_message_by_its_marker() {
        let (message, detail) = response_texts(&ours());
        let error = answer(&error_response("57014", &message, Some(&detail))).await;
        assert_eq!(
            error.code(),
            Some(&tokio_postgres::error::SqlState::QUERY_CANCELED)
        );
        assert!(is_ours(&error));
        let shown_only = Wrapper {
            text: format!("error returned from database: {message} (57014)"),
            source: None,
        };
        assert!(is_ours(&shown_only));
    }

    #[tokio::test]
    async fn servers_own_errors_are_not_ours() {
        let own = "canceling statement due to user request";
        assert!(Error::find(&answer(&error_response("57014", own, None)).await).is_none());
        // One that quotes what a user has sent.
        let (message, _) = response_texts(&ours());
        let quoting = format!("invalid input syntax for type integer: \"{message}\"");
        let quoting_error = answer(&error_response("22P02", &quoting, None)).await;
        assert!(Error::find(&quoting_error).is_none());
        let shown = Wrapper {
            text: quoting,
            source: Some(Box::new(quoting_error)),
        };
        assert!(Error::find(&shown).is_none());
        let in_detail = error_response("23505", "duplicate key", Some(&message));
        assert!(Error::find(&answer(&in_detail).await).is_none());
    }

    #[test]
    fn chain_that_goes_in_a_circle_ends() {
        #[derive(Debug)]
        struct Circle;

        impl fmt::Display for Circle {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("circle")
            }
        }

        impl StdError for Circle {
            fn source(&self) -> Option<&(dyn StdError + 'static)> {
                Some(self)
            }
        }

        assert!(Error::find(&Circle).is_none());
    }
}
