//! A handle of what stands between a pool and its server.

use std::path::Path;
use std::sync::Arc;

use pgdeadline::Connector;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio_postgres::config::SslMode;

use crate::checks;
use crate::error::Error;
use crate::listener::Listener;

/// What stands between a pool and its server: the Unix socket that sqlx
/// connects to, and the connector behind it.
///
/// It is needed by those who give a running pool new options, to rotate its
/// credentials: options that were not rewritten by [`route`](Relay::route)
/// lead to the server itself, where no deadline reaches, and so the
/// connections that are made with them are refused. [`Builder::relay`] gives
/// it.
///
/// ```no_run
/// use pgdeadline_sqlx::Builder;
/// # use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
///
/// # async fn example(
/// #     connector: pgdeadline::Connector,
/// #     pool_options: PgPoolOptions,
/// #     connect_options: PgConnectOptions,
/// #     new_password: &str,
/// # ) -> Result<(), pgdeadline_sqlx::Error> {
/// let mut builder = Builder::new(connector, pool_options, connect_options.clone());
/// let relay = builder.relay()?;
/// let pool = builder.connect().await?;
///
/// // Later: connections that are made from now on use the new password.
/// let rotated = connect_options.password(new_password);
/// pool.set_connect_options(relay.route(rotated)?);
/// # Ok(())
/// # }
/// ```
///
/// Options that were routed also serve for a connection outside any pool, with
/// [`PgConnection::connect_with`](sqlx::Connection::connect_with); there
/// [`within`](crate::ConnectionExt::within) binds a context, and the
/// connector's `default_deadline` counts outside of it.
///
/// The socket is there as long as the pool or one such handle is; its
/// connections live on without it. All of it lives on the Tokio runtime on
/// which it was made.
///
/// [`Builder::relay`]: crate::Builder::relay
#[derive(Clone, Debug)]
pub struct Relay {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    ssl_mode: SslMode,
    listener: Listener,
}

impl Relay {
    /// # Errors
    /// A connector that can't stand behind sqlx, a directory that can't be
    /// used, or no runtime.
    pub(crate) fn open(connector: &Connector, directory: Option<&Path>) -> Result<Relay, Error> {
        let config = checks::connector(connector)?;
        // Only a name, but one that says where it leads.
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let shared = Shared {
            ssl_mode: config.get_ssl_mode(),
            listener: Listener::open(connector.clone(), directory, port)?,
        };
        Ok(Relay {
            shared: Arc::new(shared),
        })
    }

    /// Rewrites options so that they lead through pgdeadline: to be given to
    /// [`PgPool::set_connect_options`](sqlx::Pool::set_connect_options).
    ///
    /// User, password, database, `options` and all else that concerns the
    /// session stay as they are; host, port and TLS are the connector's, and
    /// what the options say of them is replaced. A password from `.pgpass` has
    /// been looked up by then, under the options' own host and port, when they
    /// were made or parsed.
    ///
    /// # Errors
    /// [`Error::Database`] for options that ask for TLS
    /// (`sslmode=require`, `verify-ca` or `verify-full`) where the connector
    /// does not require it.
    pub fn route(&self, options: PgConnectOptions) -> Result<PgConnectOptions, Error> {
        checks::tls(&options, self.shared.ssl_mode)?;
        let listener = &self.shared.listener;
        Ok(options
            .socket(listener.directory())
            .port(listener.port())
            .ssl_mode(PgSslMode::Disable))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use sqlx::ConnectOptions;

    #[tokio::test]
    async fn options_lead_to_the_socket_and_stay_as_they_are_otherwise() {
        let relay = Relay::open(&testing::connector("host=db.test port=6543"), None).unwrap();
        let options: PgConnectOptions =
            "postgres://me:secret@other.test:7777/app?application_name=visits&sslmode=prefer"
                .parse()
                .unwrap();
        let routed = relay.route(options.options([("geqo", "off")])).unwrap();
        let directory = relay.shared.listener.directory();
        assert_eq!(routed.get_socket().unwrap(), directory);
        assert_eq!(routed.get_port(), 6543);
        assert!(matches!(routed.get_ssl_mode(), PgSslMode::Disable));
        assert_eq!(routed.get_username(), "me");
        assert_eq!(routed.get_database(), Some("app"));
        assert_eq!(routed.get_application_name(), Some("visits"));
        assert_eq!(routed.get_options(), Some("-c geqo=off"));
        assert_eq!(routed.to_url_lossy().password(), Some("secret"));
        assert!(directory.join(".s.PGSQL.6543").exists());
    }

    #[tokio::test]
    async fn options_that_ask_for_tls_need_a_connector_that_does_it() {
        let options: PgConnectOptions = "postgres://me@db.test/app?sslmode=verify-full"
            .parse()
            .unwrap();
        let plain = Relay::open(&testing::connector("host=db.test"), None).unwrap();
        let error = plain.route(options.clone()).unwrap_err();
        assert!(error.database().unwrap().is_config(), "{error}");

        let connector = testing::tls_connector("host=db.test sslmode=require");
        let secure = Relay::open(&connector, None).unwrap();
        let routed = secure.route(options).unwrap();
        assert!(matches!(routed.get_ssl_mode(), PgSslMode::Disable));
    }

    #[tokio::test]
    async fn the_socket_is_there_until_the_last_handle_goes() {
        let relay = Relay::open(&testing::connector("host=db.test"), None).unwrap();
        let directory = relay.shared.listener.directory().to_owned();
        let other = relay.clone();
        drop(relay);
        assert!(directory.exists());
        drop(other);
        assert!(!directory.exists());
    }
}
