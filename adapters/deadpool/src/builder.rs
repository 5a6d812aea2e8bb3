//! Builds a stock pool on a connector.

use std::fmt;
use std::sync::Arc;

use deadpool_postgres::{
    Config, ConfigError, Manager, ManagerConfig, Pool, PoolBuilder, PoolConfig, QueueMode,
    RecyclingMethod, Runtime, Timeouts,
};
use pgdeadline::{Connector, Stream};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};

use crate::connect::PgConnect;
use crate::hooks::Hooks;
use crate::sweep::Sweeper;

/// Builds a [`deadpool_postgres::Pool`] whose deadlines reach the server.
///
/// Everything that deadpool's own builder has is here too: by its name for the
/// usual things, and by [`configure`](Builder::configure) for all others.
///
/// ```no_run
/// use pgdeadline::Connector;
/// use pgdeadline_deadpool::Builder;
/// use tokio_postgres::NoTls;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let connector = Connector::from_url("postgres://me@localhost/app", NoTls)?;
/// let pool: deadpool_postgres::Pool = Builder::new(connector).max_size(16).build()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "call build() to get the pool"]
pub struct Builder {
    connector: Connector,
    manager: Option<Manager>,
    manager_config: ManagerConfig,
    pool_config: PoolConfig,
    configure: Vec<Configure>,
}

type Configure = Box<dyn FnOnce(PoolBuilder) -> PoolBuilder>;

impl Builder {
    /// A pool whose connections `connector` opens, and otherwise with
    /// deadpool's defaults.
    pub fn new(connector: Connector) -> Builder {
        Builder {
            connector,
            manager: None,
            manager_config: ManagerConfig::default(),
            pool_config: PoolConfig::default(),
            configure: Vec::new(),
        }
    }

    /// A pool as deadpool's own configuration has it: in place of
    /// `config.create_pool(Some(Runtime::Tokio1), tls)`. The connector has all
    /// settings at their defaults; to change one, make it from
    /// [`config.get_pg_config()`](Config::get_pg_config) and use
    /// [`new`](Builder::new).
    ///
    /// ```no_run
    /// use deadpool_postgres::Config;
    /// use pgdeadline_deadpool::Builder;
    /// use tokio_postgres::NoTls;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut config = Config::new();
    /// config.host = Some("localhost".into());
    /// config.dbname = Some("app".into());
    /// let pool = Builder::from_config(&config, NoTls)?.build()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`BuildError::Config`] where deadpool finds it incomplete,
    /// [`BuildError::Connector`] where no server could satisfy it.
    pub fn from_config<T>(config: &Config, tls: T) -> Result<Builder, BuildError>
    where
        T: MakeTlsConnect<Stream> + Clone + Send + Sync + 'static,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Stream>>::Future: Send,
    {
        let pg_config = config.get_pg_config().map_err(BuildError::Config)?;
        let connector = Connector::new(pg_config, tls).map_err(BuildError::Connector)?;
        Ok(Builder::new(connector)
            .manager_config(config.get_manager_config())
            .pool_config(config.get_pool_config()))
    }

    /// Uses this manager, in place of one made from the connector and
    /// [`manager_config`](Builder::manager_config).
    ///
    /// Make it with [`Manager::from_connect`] and a [`PgConnect`] on the same
    /// connector. The connector's configuration wins: the manager's must be
    /// the same, or empty.
    ///
    /// A manager shows neither what it connects with nor its configuration, so
    /// a wrong one is found when it makes its first connection: `get` then
    /// returns an error that says so.
    pub fn manager(mut self, manager: Manager) -> Builder {
        self.manager = Some(manager);
        self
    }

    /// How the manager recycles; without effect where a
    /// [`manager`](Builder::manager) is given.
    pub fn manager_config(mut self, config: ManagerConfig) -> Builder {
        self.manager_config = config;
        self
    }

    /// What deadpool does when it recycles a client; default
    /// [`Fast`](RecyclingMethod::Fast), which needs no round trip. It is safe
    /// here: a session is proven clean before it is handed out again.
    pub fn recycling_method(mut self, method: RecyclingMethod) -> Builder {
        self.manager_config.recycling_method = method;
        self
    }

    /// Size, time-outs and order of the pool, all at once.
    pub fn pool_config(mut self, config: PoolConfig) -> Builder {
        self.pool_config = config;
        self
    }

    /// How many connections the pool has at most; default four times the
    /// number of cores.
    pub fn max_size(mut self, size: usize) -> Builder {
        self.pool_config.max_size = size;
        self
    }

    /// The pool's own time-outs, beside those of contexts; default none.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Builder {
        self.pool_config.timeouts = timeouts;
        self
    }

    /// Which idle connection is taken first; default the longest idle.
    pub fn queue_mode(mut self, mode: QueueMode) -> Builder {
        self.pool_config.queue_mode = mode;
        self
    }

    /// Whatever else deadpool's builder can do: hooks, above all.
    ///
    /// Your hooks run when the context is bound already, so that what they ask
    /// for ends with it. Under a context that has ended they can still query:
    /// it is bound only after your last hook.
    ///
    /// ```no_run
    /// use deadpool_postgres::{Hook, HookError};
    /// # fn example(builder: pgdeadline_deadpool::Builder) -> pgdeadline_deadpool::Builder {
    /// builder.configure(|pool| {
    ///     pool.post_create(Hook::async_fn(|client, _| {
    ///         Box::pin(async move {
    ///             let set = client.batch_execute("SET search_path = app");
    ///             set.await.map_err(HookError::Backend)
    ///         })
    ///     }))
    /// })
    /// # }
    /// ```
    pub fn configure(
        mut self,
        configure: impl FnOnce(PoolBuilder) -> PoolBuilder + 'static,
    ) -> Builder {
        self.configure.push(Box::new(configure));
        self
    }

    /// Builds the pool. No connection is opened yet.
    ///
    /// # Errors
    /// [`BuildError::ZeroSize`]: no `get` could ever return. [`BuildError::Pool`]
    /// where deadpool's builder finds fault.
    pub fn build(self) -> Result<Pool, BuildError> {
        let settings = *self.connector.settings();
        let method = &self.manager_config.recycling_method;
        let hooks = Arc::new(Hooks {
            settings,
            sweeper: Arc::new(Sweeper::new(settings.sweep)),
            recycles_by_statement: self.manager.is_some()
                || !matches!(method, RecyclingMethod::Fast),
        });
        let (connector, manager_config) = (self.connector, self.manager_config);
        let manager = self.manager.unwrap_or_else(|| {
            let pg_config = connector.config().cloned().unwrap_or_default();
            Manager::from_connect(pg_config, PgConnect::new(connector), manager_config)
        });
        let mut builder = Pool::builder(manager)
            .config(self.pool_config)
            .runtime(Runtime::Tokio1)
            .post_create(hooks.post_create())
            .pre_recycle(hooks.pre_recycle());
        for configure in self.configure {
            builder = configure(builder);
        }
        let pool = builder
            .post_recycle(Hooks::post_recycle())
            .build()
            .map_err(BuildError::Pool)?;
        if pool.status().max_size == 0 {
            return Err(BuildError::ZeroSize);
        }
        hooks.sweeper.set_pool(&pool);
        Ok(pool)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("connector", &self.connector)
            .field("manager", &self.manager)
            .field("manager_config", &self.manager_config)
            .field("pool_config", &self.pool_config)
            .finish_non_exhaustive()
    }
}

/// Why a pool can't be built.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// The pool is to have no connection at all.
    ZeroSize,
    /// deadpool's configuration is not complete.
    Config(ConfigError),
    /// No connector can be made from it.
    Connector(pgdeadline::Error),
    /// deadpool's builder finds fault.
    Pool(deadpool_postgres::BuildError),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::ZeroSize => f.write_str(
                "the pool's max_size is 0, so that every get() would wait for ever: set it to 1 or more",
            ),
            BuildError::Config(error) => error.fmt(f),
            BuildError::Connector(error) => error.fmt(f),
            BuildError::Pool(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BuildError {
    /// The error in it, so that [`pgdeadline::Error::find`] finds that.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BuildError::ZeroSize => None,
            BuildError::Config(error) => Some(error),
            BuildError::Connector(error) => Some(error),
            BuildError::Pool(error) => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_postgres::NoTls;

    fn connector() -> Connector {
        Connector::from_url("postgres://me@db.test/app", NoTls).unwrap()
    }

    #[test]
    fn a_pool_of_no_connections_is_refused_however_it_was_asked_for() {
        let builders = [
            Builder::new(connector()).max_size(0),
            Builder::new(connector()).pool_config(PoolConfig::new(0)),
            Builder::new(connector()).configure(|pool| pool.max_size(0)),
        ];
        for builder in builders {
            let error = builder.build().unwrap_err();
            assert!(matches!(error, BuildError::ZeroSize));
            assert!(error.to_string().contains("max_size is 0"), "{error}");
        }
    }

    #[test]
    fn what_is_set_reaches_the_pool_and_the_closure_has_the_last_word() {
        let timeouts = Timeouts::wait_millis(70);
        let pool = Builder::new(connector())
            .max_size(3)
            .timeouts(timeouts)
            .queue_mode(QueueMode::Lifo)
            .build()
            .unwrap();
        assert_eq!(pool.status().max_size, 3);
        assert_eq!(pool.timeouts().wait, timeouts.wait);

        let pool = Builder::new(connector())
            .max_size(3)
            .configure(|pool| pool.max_size(5))
            .configure(|pool| pool.wait_timeout(None))
            .build()
            .unwrap();
        assert_eq!(pool.status().max_size, 5);
    }

    #[test]
    fn deadpools_own_configuration_is_taken_whole() {
        let mut config = Config::new();
        config.url = Some("postgres://me@db.test/app".into());
        config.manager = Some(ManagerConfig {
            recycling_method: RecyclingMethod::Verified,
        });
        config.pool = Some(PoolConfig::new(7));
        let builder = Builder::from_config(&config, NoTls).unwrap();
        let dbname = builder.connector.config().unwrap().get_dbname();
        assert_eq!(dbname, Some("app"));
        let method = &builder.manager_config.recycling_method;
        assert!(matches!(method, RecyclingMethod::Verified));
        assert_eq!(builder.build().unwrap().status().max_size, 7);
    }

    #[test]
    fn a_configuration_that_cannot_work_says_why() {
        let error = Builder::from_config(&Config::new(), NoTls).unwrap_err();
        assert!(matches!(error, BuildError::Config(_)));
        assert!(error.to_string().contains("dbname"), "{error}");

        let mut config = Config::new();
        config.url = Some("postgres://me@db.test/app?sslmode=require".into());
        let error = Builder::from_config(&config, NoTls).unwrap_err();
        assert!(matches!(error, BuildError::Connector(_)));
        let found = pgdeadline::Error::find(&error).unwrap();
        assert!(found.is_config(), "{found}");
    }
}
