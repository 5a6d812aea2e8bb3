//! Deadlines and cancellation that reach PostgreSQL.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod connect;
pub mod context;
pub mod error;
mod session;
mod settings;
mod stream;
#[cfg(feature = "rustls")]
mod tls;

pub use connect::{Connector, ConnectorBuilder, Stream, dial};
pub use context::{Cause, Context, End, Guard, Reason, spawn};
pub use error::{Error, Phase};
pub use session::Connection;
pub use settings::{EofProof, Settings};
pub use stream::{DeadlineStream, Deadlines};
#[cfg(feature = "rustls")]
pub use tls::{MakeRustls, RustlsConnect, RustlsStream};
