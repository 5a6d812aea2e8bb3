//! Deadlines and cancellation that reach PostgreSQL.
//!
//! Every operation ends when its [context](Context) ends: for the caller, on
//! the socket and on the server. The connection that carried it is then either
//! proven clean or thrown away. Services keep the types that they have:
//! `tokio_postgres::Client` here, `deadpool_postgres::Pool` through
//! `pgdeadline-deadpool`, `sqlx::PgPool` through `pgdeadline-sqlx`.
//!
//! ```no_run
//! use std::time::Duration;
//! use pgdeadline::{Connector, Context, Error};
//! use tokio_postgres::NoTls;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let connector = Connector::from_url("postgres://me@localhost/app", NoTls)?;
//! let (client, connection) = connector.connect(&Context::background()).await?;
//! tokio::spawn(connection);
//!
//! let request = Context::background().with_timeout(Duration::from_millis(200));
//! let result = request.try_run(client.query("SELECT pg_sleep(30)", &[])).await;
//!
//! // 200 ms later: the caller is told, the server is idle, and the same
//! // connection serves the next query.
//! let error = result.unwrap_err();
//! assert!(Error::find(&error).is_some_and(|end| end.is_deadline()));
//! client.query("SELECT 1", &[]).await?;
//! # Ok(()) }
//! ```
//!
//! Where to look:
//!
//! - [`Context`]: a deadline, a cancellation signal and the cause of the end,
//!   shared by all that is done for one request;
//! - [`Connector`]: opens connections, with one deadline for all of it;
//! - [`Session`]: what binds contexts to a connection; pools' adapters use it;
//! - [`relay`]: the same for clients that open their own sockets, as sqlx does
//!   (`pgdeadline-sqlx`);
//! - [`Error`]: which end it was, how far the work had come, what to do;
//! - [`DeadlineStream`]: read and write deadlines with the meaning of Go's
//!   `net.Conn`;
//! - [`guide`]: the limits (read them first), the defaults and their reasons,
//!   why it is built like this.
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod connect;
pub mod context;
pub mod error;
pub mod relay;
mod session;
mod settings;
mod stream;
#[cfg(feature = "rustls")]
mod tls;
mod wire;

pub use connect::{Connector, ConnectorBuilder, Stream, dial};
pub use context::{Cause, Context, End, Guard, Reason, spawn};
pub use error::{Error, Phase};
pub use session::{Connection, Operation, Refusal, Session};
pub use settings::{EofProof, Settings};
pub use stream::{DeadlineStream, Deadlines};
#[cfg(feature = "rustls")]
pub use tls::{MakeRustls, RustlsConnect, RustlsStream};

/// What does not belong to one item.
pub mod guide {
    #[doc = include_str!("../docs/limits.md")]
    pub mod limits {}
    #[doc = include_str!("../docs/defaults.md")]
    pub mod defaults {}
    #[doc = include_str!("../docs/reliability.md")]
    pub mod reliability {}
    #[doc = include_str!("../docs/why.md")]
    pub mod why {}
}
