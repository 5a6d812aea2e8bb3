//! Builds a stock pool on a connector.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use pgdeadline::Connector;
use sqlx::pool::PoolConnectionMetadata;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};

use crate::acquire;
use crate::checks;
use crate::error::Error;
use crate::hooks::Hooks;
use crate::relay::Relay;

/// Builds a [`PgPool`] whose deadlines reach the server.
///
/// Sizes, time-outs and lifetimes are set on [`PgPoolOptions`]; user,
/// password, database and all that concerns the session on
/// [`PgConnectOptions`]; where the server is and how it is reached on the
/// [`Connector`]. See the [crate](crate#whose-settings-count).
///
/// ```no_run
/// use pgdeadline::Connector;
/// use pgdeadline_sqlx::Builder;
/// use sqlx::postgres::PgPoolOptions;
/// use tokio_postgres::NoTls;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let url = "postgres://me:secret@localhost/app";
/// let pool: sqlx::PgPool = Builder::new(
///     Connector::from_url(url, NoTls)?,
///     PgPoolOptions::new().max_connections(16),
///     url.parse()?,
/// )
/// .connect()
/// .await?;
/// # Ok(())
/// # }
/// ```
///
/// # Hooks
///
/// **Hooks that were set on `PgPoolOptions` are lost.** pgdeadline needs
/// sqlx's hooks, each is one slot, and sqlx lets nobody read a hook that was
/// set: `after_connect` and `before_acquire` on the options are replaced
/// without a word. Give yours to this builder, under sqlx's names; they run
/// after pgdeadline's, so that what they ask for ends with the context. An
/// `after_release` that was set there stays, but runs before the context is
/// let go, behind whatever was abandoned.
#[must_use = "call connect() or connect_lazy() to get the pool"]
pub struct Builder {
    connector: Connector,
    pool: PgPoolOptions,
    connect: PgConnectOptions,
    directory: Option<PathBuf>,
    hooks: Hooks,
    relay: Option<Relay>,
}

impl Builder {
    /// A pool whose connections `connector` opens.
    pub fn new(connector: Connector, pool: PgPoolOptions, connect: PgConnectOptions) -> Builder {
        Builder {
            connector,
            pool,
            connect,
            directory: None,
            hooks: Hooks::default(),
            relay: None,
        }
    }

    /// Where the private directory of the pool's Unix socket is made; default
    /// the system's directory for temporary files. A path of some 70 bytes is
    /// the longest that can be used.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Builder {
        self.directory = Some(directory.into());
        self
    }

    /// [`PgPoolOptions::after_connect`](sqlx::pool::PoolOptions::after_connect),
    /// run after pgdeadline's own.
    ///
    /// ```no_run
    /// use sqlx::Executor;
    ///
    /// # fn example(builder: pgdeadline_sqlx::Builder) -> pgdeadline_sqlx::Builder {
    /// builder.after_connect(|connection, _| {
    ///     Box::pin(async move {
    ///         connection.execute("SET search_path = app").await?;
    ///         Ok(())
    ///     })
    /// })
    /// # }
    /// ```
    pub fn after_connect<F>(mut self, hook: F) -> Builder
    where
        for<'c> F: Fn(
                &'c mut PgConnection,
                PoolConnectionMetadata,
            ) -> Pin<Box<dyn Future<Output = Result<(), sqlx::Error>> + Send + 'c>>
            + Send
            + Sync
            + 'static,
    {
        self.hooks.after_connect = Some(Arc::new(hook));
        self
    }

    /// [`PgPoolOptions::before_acquire`](sqlx::pool::PoolOptions::before_acquire),
    /// run after pgdeadline's own.
    ///
    /// `test_before_acquire` has no effect: binding the context tells whether
    /// the connection is alive, and costs no round trip to the server.
    pub fn before_acquire<F>(mut self, hook: F) -> Builder
    where
        for<'c> F: Fn(
                &'c mut PgConnection,
                PoolConnectionMetadata,
            ) -> Pin<Box<dyn Future<Output = Result<bool, sqlx::Error>> + Send + 'c>>
            + Send
            + Sync
            + 'static,
    {
        self.hooks.before_acquire = Some(Arc::new(hook));
        self
    }

    /// [`PgPoolOptions::after_release`](sqlx::pool::PoolOptions::after_release),
    /// run when the context is let go and the session is clean: outside any
    /// context, so that only the connector's `default_deadline` bounds it.
    pub fn after_release<F>(mut self, hook: F) -> Builder
    where
        for<'c> F: Fn(
                &'c mut PgConnection,
                PoolConnectionMetadata,
            ) -> Pin<Box<dyn Future<Output = Result<bool, sqlx::Error>> + Send + 'c>>
            + Send
            + Sync
            + 'static,
    {
        self.hooks.after_release = Some(Arc::new(hook));
        self
    }

    /// A handle of what the pool's connections go through, for those who will
    /// change the pool's options while it runs; see [`Relay`]. Made at the
    /// first call: [`directory`](Builder::directory) has no effect after it.
    ///
    /// # Errors
    /// As [`connect_lazy`](Builder::connect_lazy).
    pub fn relay(&mut self) -> Result<Relay, Error> {
        if let Some(relay) = &self.relay {
            return Ok(relay.clone());
        }
        let relay = Relay::open(&self.connector, self.directory.as_deref())?;
        Ok(self.relay.insert(relay).clone())
    }

    /// Builds the pool and opens one connection, or `min_connections` if that
    /// is more, as
    /// [`PgPoolOptions::connect_with`](sqlx::pool::PoolOptions::connect_with)
    /// does. They are bound to no context.
    ///
    /// # Errors
    /// As [`connect_lazy`](Builder::connect_lazy), and whatever the connecting
    /// fails with.
    ///
    /// # Cancel safety
    /// Dropping the future closes whatever it has opened, and removes the
    /// socket.
    pub async fn connect(self) -> Result<PgPool, Error> {
        let (pool, connect) = self.options()?;
        Ok(acquire::unbound(pool.connect_with(connect)).await?)
    }

    /// Builds the pool and opens no connection, as
    /// [`PgPoolOptions::connect_lazy_with`](sqlx::pool::PoolOptions::connect_lazy_with)
    /// does.
    ///
    /// # Errors
    /// [`Error::Database`], for which
    /// [`is_config`](pgdeadline::Error::is_config) is true, for what can't
    /// work: a pool of no connections; a connector with a provider, or one that
    /// requires channel binding; an `sslmode` of sqlx's that asks for TLS which
    /// the connector does not require; a directory in which no socket can be
    /// made; no Tokio runtime, on which the pool's connections then live. It
    /// says what to change.
    pub fn connect_lazy(self) -> Result<PgPool, Error> {
        let (pool, connect) = self.options()?;
        Ok(pool.connect_lazy_with(connect))
    }

    fn options(mut self) -> Result<(PgPoolOptions, PgConnectOptions), Error> {
        checks::pool(&self.pool)?;
        let relay = self.relay()?;
        let connect = relay.route(self.connect)?;
        let grace = self.connector.settings().grace;
        Ok((self.hooks.install(self.pool, relay, grace), connect))
    }
}

impl fmt::Debug for Builder {
    /// Without sqlx's options for connecting, which would show the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("connector", &self.connector)
            .field("pool", &self.pool)
            .field("user", &self.connect.get_username())
            .field("database", &self.connect.get_database())
            .field("directory", &self.directory)
            .field("relay", &self.relay)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn builder() -> Builder {
        let options = "postgres://me:secret@db.test/app".parse().unwrap();
        let connector = testing::connector("host=db.test");
        Builder::new(connector, PgPoolOptions::new(), options)
    }

    #[tokio::test]
    async fn a_pool_can_be_built_without_a_server() {
        let pool = builder().connect_lazy().unwrap();
        assert!(!pool.options().get_test_before_acquire());
        let socket = pool.connect_options().get_socket().unwrap().clone();
        assert!(socket.starts_with(std::env::temp_dir()) && socket.exists());
    }

    #[tokio::test]
    async fn the_relay_is_the_one_that_the_pool_uses() {
        let directory = tempfile::tempdir().unwrap();
        let mut builder = builder().directory(directory.path());
        let relay = builder.relay().unwrap();
        let pool = builder.connect_lazy().unwrap();
        let options = pool.connect_options();
        let again = relay.route(PgConnectOptions::clone(&options)).unwrap();
        assert_eq!(options.get_socket(), again.get_socket());
        assert!(again.get_socket().unwrap().starts_with(directory.path()));
    }

    #[tokio::test]
    async fn what_can_not_work_is_refused_either_way() {
        let bad = || {
            let options = "postgres://me@db.test/app?sslmode=require".parse().unwrap();
            Builder::new(
                testing::connector("host=db.test"),
                PgPoolOptions::new(),
                options,
            )
        };
        let none = || {
            let options = "postgres://me@db.test/app".parse().unwrap();
            let pool = PgPoolOptions::new().max_connections(0);
            Builder::new(testing::connector("host=db.test"), pool, options)
        };
        for error in [
            bad().connect_lazy().unwrap_err(),
            bad().connect().await.unwrap_err(),
            none().connect_lazy().unwrap_err(),
            none().connect().await.unwrap_err(),
        ] {
            assert!(error.database().unwrap().is_config(), "{error}");
        }
    }

    #[tokio::test]
    async fn the_password_is_not_shown() {
        let mut builder = builder();
        builder.relay().unwrap();
        let shown = format!("{builder:?}");
        assert!(
            shown.contains("\"me\"") && !shown.contains("secret"),
            "{shown}"
        );
    }
}
