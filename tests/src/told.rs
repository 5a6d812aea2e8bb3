//! What a caller was told.

use std::error::Error as StdError;
use std::fmt::Debug;

use pgdeadline::Error;

/// The end that a `run` was told of: by itself, or by the work in it, whoever
/// noticed first.
///
/// # Panics
/// When it was told of none.
#[track_caller]
pub fn ended<T: Debug, E: StdError + 'static>(result: Result<Result<T, E>, Error>) -> Error {
    match result {
        Err(error) => error,
        Ok(Err(error)) => found(&error),
        Ok(Ok(output)) => panic!("it was not ended: {output:?}"),
    }
}

/// The error of pgdeadline's that is found in another.
///
/// # Panics
/// When there is none.
#[track_caller]
pub fn found(error: &(dyn StdError + 'static)) -> Error {
    Error::find(error).unwrap_or_else(|| panic!("not pgdeadline's: {error:?}"))
}
