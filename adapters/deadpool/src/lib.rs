#![doc = include_str!("../README.md")]
//!
//! # How it works
//!
//! - [`PgConnect`] is what deadpool's manager connects with: a
//!   [`Connector`](pgdeadline::Connector) of pgdeadline's.
//! - [`Builder`] builds the pool and gives it the hooks that bind the ambient
//!   context to a connection at check-out.
//! - [`PoolExt::acquire`] and [`ClientExt::within`] take a context explicitly.
//! - [`Error`] is one type for a function that uses `?` on the pool's errors
//!   and on the database's.
//!
//! # Rules kept here
//!
//! Numbers are those of pgdeadline's design; what a session does is decided in
//! pgdeadline, never here.
//!
//! - 4, proven: a connection is handed out only once its session is clean. One
//!   that is not in time is refused, and deadpool closes it.
//! - 6, nothing queued is missed: a check-out begins with the end of the one
//!   before it, for deadpool tells nobody that an object came back.
//! - 8, nothing left behind: what deadpool aborts is never the task that drives
//!   the connection, so work that may run on is not cut off with it.
//! - 11, told apart: the phase *pool wait* is told by `acquire` alone.
//! - 14, asked for: work that was abandoned is found by the sweep at the
//!   latest.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod acquire;
mod builder;
mod connect;
mod error;
mod hooks;
mod key;
mod patience;
mod sessions;
mod sweep;
mod within;

pub use acquire::PoolExt;
pub use builder::{BuildError, Builder};
pub use connect::PgConnect;
pub use error::Error;
pub use within::ClientExt;
