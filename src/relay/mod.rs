//! Serves clients that open their own sockets: sqlx, above all.
//!
//! Such a client can't be handed a connection. So it connects to a socket whose
//! other end is given to [`Connector::relay`], says its start-up message and
//! authenticates as to any server; what it asks for passes through a
//! [session](crate::Session) on a connection that the [`Connector`] has opened,
//! with all that this means: deadlines, TLS, several hosts, cancels, proof.
//!
//! ```text
//! sqlx ── socket ── relay ── session ── socket ── PostgreSQL
//! ```
//!
//! The client says in its own stream what else there is to say, and the session
//! answers it:
//!
//! - a simple query with a [`Binding`]'s statement binds a context, to a check-out
//!   or to one operation;
//! - a Sync with nothing before it since the last sync point ends the check-out,
//!   as sqlx's pool sends it when a connection comes back. It is answered once
//!   the session is clean.
//!
//! What is asked outside of any check-out is asked under no context: a default
//! deadline applies.
//!
//! # Rules kept here
//!
//! Numbers are the design's.
//!
//! - 2, bounded: the start-up has the connector's own bound; after that the
//!   session's bounds hold.
//! - 4, proven, and 13, never a success: see `session/machine/sayings`.
//! - 8, nothing left behind: a client that goes away takes its work with it; its
//!   session lives on until that is over.
//! - 11, told apart: what the client can't be given it is told in an ErrorResponse
//!   in which [`Error::find`] finds the error.
//! - Its memory has a bound, whatever the size of a row: see `relay/buffer`.

mod answer;
mod binding;
mod buffer;
mod dialogue;
mod opening;
mod pump;
mod socket;
mod startup;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{self, Poll};

pub use self::binding::Binding;
pub use self::socket::ClientSocket;
use self::startup::Stop;
use crate::connect::Connector;
use crate::error::{Error, response_texts};
use crate::wire::message;

/// The task behind one client: spawn it.
///
/// It resolves when the client has left and nothing of it is left to do, or
/// with the error that ended it. Dropping it while something is in flight sends
/// a cancel (rule 8), and closes the client's socket.
#[must_use = "a relay does nothing unless it is polled: spawn it"]
pub struct Relay(Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>);

impl Connector {
    /// Serves `client`, the far end of a socket that a client has opened by
    /// itself.
    ///
    /// Host, port, TLS and `target_session_attrs` are this connector's; user,
    /// password, database and options are the client's. The connect is bounded by
    /// the connector's `connect_deadline`, and ends when the client leaves.
    ///
    /// ```no_run
    /// use pgdeadline::Connector;
    /// use tokio::net::UnixListener;
    ///
    /// # async fn example(connector: Connector) -> std::io::Result<()> {
    /// let listener = UnixListener::bind("/run/app/.s.PGSQL.5432")?;
    /// loop {
    ///     let (client, _) = listener.accept().await?;
    ///     tokio::spawn(connector.relay(client));
    /// }
    /// # }
    /// ```
    pub fn relay(&self, client: impl ClientSocket) -> Relay {
        let connector = self.clone();
        Relay(Box::pin(async move {
            match startup::start_up(&connector, client).await {
                Ok(driver) => driver.await,
                Err(Stop::Left) => Ok(()),
                Err(Stop::Failed(error)) => Err(error),
            }
        }))
    }
}

/// `error` as the FATAL ErrorResponse of a server that closes.
fn last_word(code: &str, error: &Error) -> Vec<u8> {
    let (text, _) = response_texts(error);
    let mut told = Vec::new();
    message::fatal_response(&mut told, code, &text);
    told
}

impl Future for Relay {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").finish_non_exhaustive()
    }
}
