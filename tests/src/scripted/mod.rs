//! A PostgreSQL server that misbehaves on request.
//!
//! It speaks just enough of the protocol for what a real server will not do:
//! stop in the middle of a message, send the second half of an answer an hour
//! late, ignore a cancel, reset its socket. The bytes go over a network in
//! memory ([`Net`]), under paused time if wanted, or over 127.0.0.1
//! ([`Net::listen`]).
//!
//! The test plays the far side. Either step by step, in its own order:
//!
//! ```
//! use pgdeadline_tests::scripted::{Expect, Net, message};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let net = Net::new();
//! let (config, stream) = (net.config(), net.connect().await?);
//! let client = tokio::spawn(async move { config.connect_raw(stream, tokio_postgres::NoTls).await });
//!
//! let mut backend = net.backend().await;
//! backend.authenticate(42, 7).await;
//! let (client, connection) = client.await??;
//! tokio::spawn(connection);
//!
//! let query = tokio::spawn(async move { client.batch_execute("SELECT 1").await });
//! backend.expect(Expect::query("SELECT 1")).await;
//! backend.send(message::error("57014", "canceling statement due to user request")).await;
//! backend.send(message::ready_for_query(b'I')).await;
//! assert!(query.await?.is_err());
//! # Ok(()) }
//! ```
//!
//! or as a [`Script`], written down beforehand and played beside the client:
//!
//! ```
//! use pgdeadline_tests::scripted::{CancelAnswer, Expect, Net, Script, message};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let net = Net::new();
//! let played = net.serve(
//!     Script::new()
//!         .authenticate(42, 7)
//!         .expect(Expect::query("SELECT pg_sleep(30)"))
//!         .cancel(CancelAnswer::Eof)
//!         .send(message::error("57014", "canceling statement due to user request"))
//!         .send(message::ready_for_query(b'I'))
//!         .wait_close(),
//! );
//! let (client, connection) = net.config().connect_raw(net.connect().await?, tokio_postgres::NoTls).await?;
//! tokio::spawn(connection);
//! let query = client.batch_execute("SELECT pg_sleep(30)");
//! let token = client.cancel_token();
//! let (result, _) = tokio::join!(query, async {
//!     token.cancel_query_raw(net.connect().await.unwrap(), tokio_postgres::NoTls).await.unwrap();
//! });
//! assert!(result.is_err());
//! drop(client);
//! played.finish().await;
//! net.assert_quiet().await;
//! # Ok(()) }
//! ```
//!
//! A `Connector` dials it as well, since a [`Net`] is a `Dial`:
//!
//! ```
//! use pgdeadline::{Connector, Context, EofProof};
//! use pgdeadline_tests::scripted::{Net, Script};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let net = Net::new();
//! let _played = net.serve(Script::new().authenticate(42, 7).wait_close());
//! let connector = Connector::builder(net.config(), tokio_postgres::NoTls)
//!     .dial(net.clone())
//!     .eof_proof(EofProof::Proof) // else it asks the server, once, for its process id
//!     .build()?;
//! let (client, connection) = connector.connect(&Context::background()).await?;
//! # drop((client, connection));
//! # Ok(()) }
//! ```
//!
//! 1. A connection is a session or a cancel by its first message; each kind
//!    has a queue ([`Net::backend`], [`Net::cancel`]). An SSLRequest is answered
//!    on the way ([`Net::with_tls`], else `N`).
//! 2. Each step has a bound ([`STEP_BOUND`], on tokio's clock) and panics with
//!    what it waited for and what came instead.
//! 3. Nothing moves by itself: no answer, no timer, no task beyond the one that
//!    reads a connection's first message.

mod accept;
pub mod answer;
mod backend;
mod cancel;
mod dial;
mod frontend;
mod io;
mod listener;
pub mod message;
mod net;
mod script;

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

pub use backend::Backend;
pub use cancel::{Cancel, CancelAnswer};
pub use frontend::{Expect, Frontend};
pub use io::NetStream;
pub use listener::Listener;
pub use message::Message;
pub use net::{DialOutcome, Net};
pub use script::{Played, Script, Serving};

/// How long a step may wait, on tokio's clock. Longer than the longest grace
/// (60 s), so that under paused time a client may use all of one.
pub const STEP_BOUND: Duration = Duration::from_secs(150);

/// Rule 2.
async fn bounded<T>(what: impl Display, step: impl Future<Output = T>) -> T {
    match tokio::time::timeout(STEP_BOUND, step).await {
        Ok(done) => done,
        Err(_) => panic!("expected {what}, but nothing came within {STEP_BOUND:?}"),
    }
}
