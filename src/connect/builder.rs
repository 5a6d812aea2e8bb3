//! Building a connector: where the configuration comes from, and the settings.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};

use super::dial::{Dial, SocketDial};
use super::provider::Source;
use super::tls::{EraseTls, Erased};
use super::{Connector, Inner, Stream, config};
use crate::error::Error;
use crate::settings::{EofProof, Settings};

/// Builds a [`Connector`]: every setting has a default, given with its reason
/// at the field of [`Settings`] of the same name.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use pgdeadline::Connector;
/// use tokio_postgres::NoTls;
///
/// # fn main() -> Result<(), pgdeadline::Error> {
/// let connector = Connector::builder("postgres://me@localhost/app".parse()?, NoTls)
///     .grace(Duration::from_millis(500))
///     .connect_deadline(Duration::from_secs(3))
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "call build() to get the connector"]
pub struct ConnectorBuilder {
    source: Source,
    tls: Box<dyn EraseTls>,
    dial: Box<dyn Dial>,
    settings: Settings,
    connect_deadline: Option<Duration>,
}

impl ConnectorBuilder {
    pub(super) fn fixed<T>(config: Config, tls: T) -> ConnectorBuilder
    where
        T: MakeTlsConnect<Stream> + Clone + Send + Sync + 'static,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Stream>>::Future: Send,
    {
        ConnectorBuilder::new(Source::Fixed(Box::new(config)), Box::new(Erased(tls)))
    }

    pub(super) fn provided<P, F, E, T>(provider: P, tls: T) -> ConnectorBuilder
    where
        P: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<Config, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
        T: MakeTlsConnect<Stream> + Clone + Send + Sync + 'static,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Stream>>::Future: Send,
    {
        ConnectorBuilder::new(Source::provider(provider), Box::new(Erased(tls)))
    }

    fn new(source: Source, tls: Box<dyn EraseTls>) -> ConnectorBuilder {
        ConnectorBuilder {
            source,
            tls,
            dial: Box::new(SocketDial),
            settings: Settings::default(),
            connect_deadline: None,
        }
    }

    /// How long a session may take to become clean after an end; 10 ms to
    /// 60 s, default 2 s. See [`Settings::grace`].
    pub fn grace(mut self, grace: Duration) -> Self {
        self.settings.grace = grace;
        self
    }

    /// Pauses before a cancel is sent again; the last repeats. Default 50,
    /// 100, 200, then 500 ms. See [`Settings::resend`].
    pub fn resend(mut self, pauses: [Duration; 4]) -> Self {
        self.settings.resend = pauses;
        self
    }

    /// How many cancels may be on their way to one server at once; default 8.
    /// See [`Settings::cancel_dials`].
    pub fn cancel_dials(mut self, dials: usize) -> Self {
        self.settings.cancel_dials = dials;
        self
    }

    /// Bound of a whole connect: provider, look-up, connect, TLS and start-up.
    ///
    /// A connect under a context ends with the context, or at this bound if it
    /// is set here and comes first. Unset, it is 10 s, or what all hosts
    /// together may take by their `connect_timeout` if that is longer, and
    /// counts only where the context has no deadline. See
    /// [`Settings::connect_deadline`].
    pub fn connect_deadline(mut self, bound: Duration) -> Self {
        self.connect_deadline = Some(bound);
        self
    }

    /// Head start of one address over the next; default 250 ms. See
    /// [`Settings::race_step`].
    pub fn race_step(mut self, step: Duration) -> Self {
        self.settings.race_step = step;
        self
    }

    /// How long a check-out waits for a session that is still draining;
    /// default 50 ms. See [`Settings::checkout_wait`].
    pub fn checkout_wait(mut self, wait: Duration) -> Self {
        self.settings.checkout_wait = wait;
        self
    }

    /// How often a pool is searched for abandoned work; default 100 ms. See
    /// [`Settings::sweep`].
    pub fn sweep(mut self, interval: Duration) -> Self {
        self.settings.sweep = interval;
        self
    }

    /// How long work may run on after its context finished, where there was no
    /// deadline; default 30 s. See [`Settings::finish_bound`].
    pub fn finish_bound(mut self, bound: Duration) -> Self {
        self.settings.finish_bound = bound;
        self
    }

    /// How long the process may be held up at its end by cancels that must
    /// still get out; default 200 ms. See [`Settings::exit_bound`].
    pub fn exit_bound(mut self, bound: Duration) -> Self {
        self.settings.exit_bound = bound;
        self
    }

    /// Deadline of every request for which no context is bound; default none.
    /// See [`Settings::default_deadline`].
    pub fn default_deadline(mut self, deadline: Duration) -> Self {
        self.settings.default_deadline = Some(deadline);
        self
    }

    /// What the end of a cancel connection proves; default: found out. See
    /// [`Settings::eof_proof`].
    pub fn eof_proof(mut self, proof: EofProof) -> Self {
        self.settings.eof_proof = proof;
        self
    }

    /// What opens byte streams; default [`SocketDial`].
    pub fn dial(mut self, dial: impl Dial) -> Self {
        self.dial = Box::new(dial);
        self
    }

    /// Checks everything that can be checked without a server, and builds.
    ///
    /// # Errors
    /// A setting out of its range, or a configuration that no server could
    /// satisfy: no host, numbers that don't match, `sslmode=require` with
    /// `NoTls`. The error says what to change.
    pub fn build(self) -> Result<Connector, Error> {
        let ConnectorBuilder {
            source,
            tls,
            dial,
            mut settings,
            connect_deadline,
        } = self;
        if let Some(config) = source.fixed() {
            config::check(config, tls.can_connect())?;
        }
        settings.connect_deadline = connect_deadline
            .unwrap_or_else(|| settings.connect_deadline.max(asked_by(source.fixed())));
        config::check_settings(&settings)?;
        Ok(Connector {
            inner: Arc::new(Inner {
                source,
                tls,
                dial,
                settings,
                always_bounded: connect_deadline.is_some(),
                gates: Default::default(),
                avoided: Default::default(),
            }),
        })
    }
}

impl std::fmt::Debug for ConnectorBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectorBuilder")
            .field("source", &self.source)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// What the configuration lets all hosts together take to connect: a default
/// must not cut short what was asked for.
fn asked_by(config: Option<&Config>) -> Duration {
    let Some((config, timeout)) = config.and_then(|c| Some((c, c.get_connect_timeout()?))) else {
        return Duration::ZERO;
    };
    let hosts = config.get_hosts().len().max(config.get_hostaddrs().len());
    timeout.saturating_mul(u32::try_from(hosts).unwrap_or(u32::MAX))
}
