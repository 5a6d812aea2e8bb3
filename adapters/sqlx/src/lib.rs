#![doc = include_str!("../README.md")]
//!
//! # How it works
//!
//! sqlx opens its own sockets and takes none of ours. So the pool connects to
//! a Unix socket of this process, and behind each of its connections stands a
//! session of pgdeadline's, on a connection that a
//! [`Connector`](pgdeadline::Connector) has opened.
//!
//! - [`Builder`] makes the pool, and gives it the hooks that bind the ambient
//!   context to a connection when it is acquired; [`connect`] is the short way.
//! - [`PoolExt`] and [`ConnectionExt::within`] take a context explicitly.
//! - [`Relay`] is a handle of the socket, for those who change a pool's
//!   options while it runs.
//! - [`Error`] is one type for a function that uses `?` on sqlx's errors and
//!   on pgdeadline's; [`try_run`] is for those who stay with sqlx's.
//!
//! # Whose settings count
//!
//! | of the [`Connector`](pgdeadline::Connector) | of [`PgConnectOptions`](sqlx::postgres::PgConnectOptions) |
//! | --- | --- |
//! | hosts, ports, TLS with its certificates, `target_session_attrs`, `load_balance_hosts`, time-outs, keepalive | user, password, `.pgpass`, database, `application_name`, `options`, `extra_float_digits`, statement cache, logging |
//!
//! What the other side says about the same thing is ignored, with one
//! exception: an `sslmode` of sqlx's that asks for more than the connector does
//! is an error. Certificates that are set on sqlx's options can't be seen from
//! here, and have no effect.
//!
//! # Rules kept here
//!
//! Numbers are those of pgdeadline's design; what a session does is decided in
//! pgdeadline, never here.
//!
//! - 2, bounded: what a hook sends is answered in this process, without the
//!   server.
//! - 4, proven: sqlx hands a connection out again only when its ping at the
//!   return was answered, which pgdeadline does when the session is clean.
//! - 6, nothing queued is missed: a check-out begins with the end of the one
//!   before it, and is told in the same byte stream as what follows.
//! - 7, no collateral: an operation borrows the connection mutably.
//! - 11, told apart: the phase *pool wait* is told by `acquire_under` and
//!   `begin_under` alone.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(not(unix))]
compile_error!(
    "pgdeadline-sqlx needs Unix sockets: sqlx opens its connections itself, and a socket in a \
     private directory is the one way in that nobody else can use. On this system use \
     pgdeadline-deadpool, which needs none"
);

mod acquire;
mod binding;
mod builder;
mod checks;
mod error;
mod hooks;
mod listener;
mod peer;
mod relay;
mod stale;
#[cfg(test)]
mod testing;
mod try_run;
mod url;
mod within;

pub use acquire::PoolExt;
pub use builder::Builder;
pub use error::Error;
pub use relay::Relay;
pub use try_run::try_run;
pub use url::connect;
pub use within::ConnectionExt;
