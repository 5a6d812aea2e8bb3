//! Opening connections to PostgreSQL: one deadline for all of it.
//!
//! The files stand in the order of the steps: [`config`] checks, [`provider`]
//! and [`builder`] say where it all comes from, [`hosts`] orders the hosts and
//! shares the time, [`resolve`] looks names up, [`race`] picks an address,
//! [`dial`] and [`socket`] open it, [`tls`] negotiates, [`startup`]
//! authenticates, [`server_kind`] judges what it found. [`attempt`] walks
//! through them, [`journal`] notes how far it came, [`avoided`] which hosts were
//! of the wrong kind; [`relayed`] walks with a client that says the start-up
//! message itself; [`peer`] is the way back to where a session is connected.
//!
//! Rules kept here (numbers are the design's):
//!
//! - 2, bounded: look-up, connect, TLS and start-up have one deadline, and no
//!   path through them is without it.
//! - 9, same door: a cancel goes to the session's own address, without a
//!   look-up, and over TLS when the session is.
//! - 11, told apart: an error says in which phase it ended. Nothing was sent
//!   for the caller, so a retry is always safe.
//! - A connect that is dropped, at any point, leaves nothing open.
//!
//! `Connector` is for everybody; all else here for `session` only.

mod attempt;
mod avoided;
mod builder;
mod config;
pub mod dial;
mod failure;
mod greeting;
mod hosts;
mod journal;
mod peer;
mod provider;
mod race;
mod relayed;
mod resolve;
pub(crate) mod server_kind;
mod socket;
mod startup;
mod tls;
mod transport;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::time::Instant;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, Config};

use self::attempt::Attempt;
use self::avoided::Avoided;
pub use self::builder::ConnectorBuilder;
use self::dial::{Dial, Socket};
pub(crate) use self::hosts::from_now;
use self::journal::Journal;
pub(crate) use self::peer::Peer;
use self::provider::Source;
pub(crate) use self::relayed::{Begun, Refused};
use self::tls::EraseTls;
pub(crate) use self::transport::Transport;
use crate::context::Context;
use crate::error::Error;
use crate::session::Connection;
use crate::session::gate::Gates;
use crate::settings::Settings;
use crate::stream::DeadlineStream;

/// What a `MakeTlsConnect` is asked to wrap.
pub type Stream = DeadlineStream<Socket>;

/// Opens connections whose deadlines and cancellations reach the server.
///
/// Made from a [`tokio_postgres::Config`] and any [`MakeTlsConnect`]; cheap to
/// clone. It does what [`Config::connect`] does, option for option, and more:
///
/// - One deadline covers name look-up, connect, TLS and authentication; a
///   context that ends, ends it in any of them.
/// - The addresses of a name are raced (RFC 8305); several hosts share the
///   time that is left, so that one black hole does not eat it.
/// - The connection that it returns carries contexts' ends to the server.
///
/// # Examples
/// ```no_run
/// use std::time::Duration;
/// use pgdeadline::{Connector, Context};
/// use tokio_postgres::NoTls;
///
/// # async fn main_() -> Result<(), Box<dyn std::error::Error>> {
/// let connector = Connector::from_url("postgres://me@localhost/app", NoTls)?;
/// let (client, connection) = connector.connect(&Context::background()).await?;
/// tokio::spawn(connection);
/// client.simple_query("SELECT 1").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Connector {
    inner: Arc<Inner>,
}

struct Inner {
    source: Source,
    tls: Box<dyn EraseTls>,
    dial: Box<dyn Dial>,
    settings: Settings,
    /// The bound was asked for, so it counts beside a context's deadline too.
    always_bounded: bool,
    /// What is known of each server, and how many cancels are on their way.
    gates: Gates,
    /// Hosts that turned out to be of the wrong kind after authentication.
    avoided: Avoided,
}

impl Connector {
    /// A connector with every setting at its default.
    ///
    /// # Errors
    /// A configuration that no server could satisfy; see
    /// [`ConnectorBuilder::build`].
    pub fn new<T>(config: Config, tls: T) -> Result<Connector, Error>
    where
        T: MakeTlsConnect<Stream> + Clone + Send + Sync + 'static,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Stream>>::Future: Send,
    {
        Connector::builder(config, tls).build()
    }

    /// A connector from a URL or a `key=value` string, with every setting at
    /// its default.
    ///
    /// # Errors
    /// As [`Connector::new`], and a string that can't be read. The error never
    /// repeats the string, which may hold a password.
    pub fn from_url<T>(url: &str, tls: T) -> Result<Connector, Error>
    where
        T: MakeTlsConnect<Stream> + Clone + Send + Sync + 'static,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Stream>>::Future: Send,
    {
        Connector::new(config::parse(url)?, tls)
    }

    /// Starts building a connector with a fixed configuration.
    pub fn builder<T>(config: Config, tls: T) -> ConnectorBuilder
    where
        T: MakeTlsConnect<Stream> + Clone + Send + Sync + 'static,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Stream>>::Future: Send,
    {
        ConnectorBuilder::fixed(config, tls)
    }

    /// Starts building a connector whose configuration comes from a provider,
    /// for credentials that change.
    ///
    /// The provider is called once a connection, inside the connect deadline;
    /// if that passes, or the context ends, its future is dropped. An error of
    /// its own fails the connect and is kept as the source.
    ///
    /// # Examples
    /// ```
    /// use pgdeadline::Connector;
    /// use tokio_postgres::{Config, NoTls};
    ///
    /// # async fn fresh_token() -> Result<String, std::io::Error> { Ok(String::new()) }
    /// # fn main() -> Result<(), pgdeadline::Error> {
    /// let mut base = Config::new();
    /// base.host("db.internal").user("app");
    /// let connector = Connector::builder_with_provider(
    ///     move || {
    ///         let mut config = base.clone();
    ///         async move { std::io::Result::Ok(config.password(fresh_token().await?).clone()) }
    ///     },
    ///     NoTls,
    /// )
    /// .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder_with_provider<P, F, E, T>(provider: P, tls: T) -> ConnectorBuilder
    where
        P: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<Config, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
        T: MakeTlsConnect<Stream> + Clone + Send + Sync + 'static,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Stream>>::Future: Send,
    {
        ConnectorBuilder::provided(provider, tls)
    }

    /// Opens a connection.
    ///
    /// The [`Connection`] must be driven, most simply by spawning it. It ends
    /// at the context's deadline or at the connector's own bound (see
    /// [`ConnectorBuilder::connect_deadline`]), whichever counts, or when the
    /// context is cancelled. A connection that is made in the same moment wins
    /// over the end.
    ///
    /// # Errors
    /// The context's end; a time-out; or what every host and address tried
    /// failed with, in one error. Nothing has been sent on the caller's
    /// behalf: a retry is safe.
    ///
    /// # Cancel safety
    /// Dropping the future closes whatever it has opened. A name look-up goes
    /// on, on its blocking thread, and its result is dropped.
    pub async fn connect(&self, ctx: &Context) -> Result<(Client, Connection), Error> {
        let journal = Journal::new(ctx);
        if let Some(end) = ctx.end() {
            return Err(journal.ended(&end));
        }
        let deadline = self.deadline(ctx);
        let attempt = journal.bounded(deadline, self.attempt(&journal, deadline));
        let (mut attempt, mut end) = (pin!(attempt), pin!(ctx.ended()));
        poll_fn(|cx| {
            match attempt.as_mut().poll(cx) {
                Poll::Ready(Ok(connected)) => return Poll::Ready(Ok(connected)),
                // The last host's time is up when the context's is: the end
                // is the cause then.
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(match ctx.end() {
                        Some(end) => journal.ended_after(&end, error),
                        None => error,
                    }));
                }
                Poll::Pending => {}
            }
            end.as_mut().poll(cx).map(|end| Err(journal.ended(&end)))
        })
        .await
    }

    /// The configuration; `None` if it comes from a provider.
    pub fn config(&self) -> Option<&Config> {
        self.inner.source.fixed()
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// What is known of each server, shared by all sessions.
    pub(crate) fn gates(&self) -> &Gates {
        &self.inner.gates
    }

    fn tls(&self) -> &dyn EraseTls {
        &*self.inner.tls
    }

    fn dialler(&self) -> &dyn Dial {
        &*self.inner.dial
    }

    async fn attempt(
        &self,
        journal: &Journal<'_>,
        deadline: Instant,
    ) -> Result<(Client, Connection), Error> {
        let provided;
        let config = match &self.inner.source {
            Source::Fixed(config) => config,
            Source::Provider(provider) => {
                provided = provider::ask(&**provider).await?;
                config::check(&provided, self.tls().can_connect())?;
                &provided
            }
        };
        let attempt = Attempt {
            connector: self,
            config,
            journal,
            deadline,
        };
        attempt
            .run(&|_, transport, peer| startup::start_up(self, config, transport, peer))
            .await
    }

    fn deadline(&self, ctx: &Context) -> Instant {
        let bound = from_now(self.inner.settings.connect_deadline);
        match ctx.deadline() {
            Some(deadline) if self.inner.always_bounded => deadline.min(bound),
            Some(deadline) => deadline,
            None => bound,
        }
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector")
            .field("source", &self.inner.source)
            .field("settings", &self.inner.settings)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
