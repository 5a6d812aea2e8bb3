//! Which error types `try_run` can search for its own end.

use std::error::Error as StdError;

/// An error type whose chain of sources can be walked.
///
/// Implemented for every [`std::error::Error`], for what gives one by
/// reference as `anyhow::Error` and `Box<dyn std::error::Error>` do, and for
/// `Box<dyn std::error::Error + Send + Sync>`. The boxes and `anyhow::Error`
/// are no `std::error::Error` themselves, which is why this is a trait of its
/// own; `As` names the way, so that the three don't overlap, and the compiler
/// finds it.
pub trait Walk<As> {
    /// The start of the chain.
    fn as_error(&self) -> &(dyn StdError + 'static);
}

/// [`Walk`] as the error that the type is.
#[derive(Debug)]
pub enum AsItself {}

/// [`Walk`] as the error that the type gives by reference.
#[derive(Debug)]
pub enum AsReference {}

/// [`Walk`] as the error in the box.
#[derive(Debug)]
pub enum AsBoxed {}

impl<E: StdError + 'static> Walk<AsItself> for E {
    fn as_error(&self) -> &(dyn StdError + 'static) {
        self
    }
}

impl<E: AsRef<dyn StdError + 'static>> Walk<AsReference> for E {
    fn as_error(&self) -> &(dyn StdError + 'static) {
        self.as_ref()
    }
}

impl Walk<AsBoxed> for Box<dyn StdError + Send + Sync> {
    fn as_error(&self) -> &(dyn StdError + 'static) {
        &**self
    }
}
