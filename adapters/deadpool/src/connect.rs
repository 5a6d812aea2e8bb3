//! What deadpool's manager connects with.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use deadpool_postgres::Connect;
use pgdeadline::{Connector, Context, Error, Session};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config};

use crate::patience::Patience;
use crate::sessions::{self, Entry};

/// Opens a pool's connections with a [`Connector`].
///
/// [`Builder`](crate::Builder) uses it by itself. On its own it is for a pool
/// that is built elsewhere, by deadpool's means alone. Such a pool has not the
/// hooks of this crate: no context is bound at check-out, a connection that is
/// still draining is not waited for, and abandoned work is not searched for.
/// What is asked for under a context, with `run` or `scope`, ends with that
/// context all the same, on the server too.
///
/// ```no_run
/// use deadpool_postgres::{Manager, ManagerConfig, Pool};
/// use pgdeadline_deadpool::PgConnect;
///
/// # fn example(connector: pgdeadline::Connector) -> Result<(), Box<dyn std::error::Error>> {
/// let connect = PgConnect::new(connector);
/// // The configuration is the connector's: none need be given again.
/// let config = tokio_postgres::Config::new();
/// let manager = Manager::from_connect(config, connect, ManagerConfig::default());
/// let pool = Pool::builder(manager).max_size(16).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PgConnect {
    connector: Connector,
}

impl PgConnect {
    /// What connects as `connector` says.
    pub fn new(connector: Connector) -> PgConnect {
        PgConnect { connector }
    }

    /// The connector.
    pub fn connector(&self) -> &Connector {
        &self.connector
    }

    /// A manager may leave its configuration empty, or repeat the connector's.
    fn check(&self, managers: &Config) -> Result<(), Error> {
        if Some(managers) == self.connector.config() || *managers == Config::new() {
            return Ok(());
        }
        Err(Error::config(
            "the pool's manager has another configuration than the connector, which would be \
             ignored: give the manager the connector's, or an empty `Config::new()`",
        ))
    }
}

/// A connect under way.
type Connecting<'a> = Pin<
    Box<dyn Future<Output = Result<(Client, JoinHandle<()>), tokio_postgres::Error>> + Send + 'a>,
>;

impl Connect for PgConnect {
    /// Connects under the ambient context.
    ///
    /// # Errors
    /// A manager's configuration that is neither empty nor the connector's;
    /// else those of [`Connector::connect`]. [`pgdeadline::Error::find`] finds
    /// them in what is returned.
    ///
    /// # Cancel safety
    /// Dropping the future closes whatever it has opened.
    fn connect(&self, pg_config: &Config) -> Connecting<'_> {
        Patience::take();
        let checked = self.check(pg_config);
        Box::pin(async move {
            checked?;
            let context = Context::current().unwrap_or_else(Context::background);
            let (client, connection) = self.connector.connect(&context).await?;
            let held = Held {
                _entry: sessions::enter(connection.session().clone()),
                session: connection.session().clone(),
            };
            tokio::spawn(async move {
                // How it ended is told by the connection's own events.
                let _ = connection.await;
            });
            Ok((client, tokio::spawn(held.until_closed())))
        })
    }
}

impl fmt::Debug for PgConnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgConnect")
            .field("connector", &self.connector)
            .finish()
    }
}

/// What deadpool holds the handle of, and aborts when it lets go of a client.
/// The connection's own task lives on as long as it must (rule 8).
struct Held {
    _entry: Entry,
    session: Session,
}

impl Held {
    async fn until_closed(self) {
        self.session.closed().await;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.session.client_dropped();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_postgres::NoTls;

    #[test]
    fn a_managers_configuration_is_empty_or_the_connectors() {
        let config: Config = "postgres://me@db.test/app".parse().unwrap();
        let fixed = PgConnect::new(Connector::new(config.clone(), NoTls).unwrap());
        let other: Config = "postgres://me@db.test/other".parse().unwrap();
        assert!(fixed.check(&config).is_ok());
        assert!(fixed.check(&Config::new()).is_ok());
        let error = fixed.check(&other).unwrap_err();
        assert!(error.is_config());
        assert!(
            error.to_string().contains("another configuration"),
            "{error}"
        );

        let provided = config.clone();
        let provider = move || std::future::ready(std::io::Result::Ok(provided.clone()));
        let rotating = Connector::builder_with_provider(provider, NoTls)
            .build()
            .unwrap();
        let rotating = PgConnect::new(rotating);
        assert!(rotating.check(&Config::new()).is_ok());
        assert!(
            rotating.check(&config).is_err(),
            "nobody can say that it is the same"
        );
    }
}
