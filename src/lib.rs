//! Deadlines and cancellation that reach PostgreSQL.

pub mod context;
pub mod error;

pub use context::{Cause, Context, End, Guard, Reason, spawn};
pub use error::{Error, Phase};
