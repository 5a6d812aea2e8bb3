//! Getting the error back out of a stock type.

use super::{Error, marker};
use std::error::Error as StdError;
use std::io;
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
        // First what the types say, then what only the text says: the text of
        // an outer error may quote anything.
        chain(error)
            .find_map(known)
            .or_else(|| chain(error).find_map(in_text))
    }
}

/// `error` and what caused it, in order. An [`io::Error`] has its inner error
/// where others have a source: its own `source` skips it.
fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| cause(*error)).take(MAX_LINKS)
}

fn cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>() {
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

fn in_text(error: &(dyn StdError + 'static)) -> Option<Error> {
    if error.is::<DbError>() {
        // Asked already, more strictly.
        return None;
    }
    marker::find_in(&error.to_string())
}

/// No real chain is this long; one that goes in a circle ends here.
const MAX_LINKS: usize = 64;
