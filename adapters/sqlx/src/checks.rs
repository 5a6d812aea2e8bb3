//! What is looked at before a pool is built, so that what can't work is said
//! then, and on which side to change it.

use pgdeadline::Connector;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, SslMode};

use crate::error::Error;

/// A connector that can stand behind a pool of sqlx's, by its configuration.
pub(crate) fn connector(connector: &Connector) -> Result<&Config, Error> {
    let Some(config) = connector.config() else {
        return Err(Error::config(
            "the connector's configuration comes from a provider, but behind a sqlx pool user and \
             password are sqlx's: build the connector from a fixed configuration, and rotate \
             credentials with PgPool::set_connect_options and Relay::route",
        ));
    };
    if config.get_channel_binding() == ChannelBinding::Require {
        return Err(Error::config(
            "the connector's channel_binding is `require`, but sqlx authenticates by itself and \
             can't bind that to the connector's TLS: set it to `prefer` or `disable` on the \
             connector; sslmode=require works",
        ));
    }
    Ok(config)
}

/// A pool that can hand something out.
pub(crate) fn pool(options: &PgPoolOptions) -> Result<(), Error> {
    if options.get_max_connections() == 0 {
        return Err(Error::config(
            "the pool's max_connections is 0, so that every acquire would wait for ever: set it \
             to 1 or more on PgPoolOptions",
        ));
    }
    Ok(())
}

/// Options that ask for no more TLS than the connector does.
pub(crate) fn tls(options: &PgConnectOptions, connector: SslMode) -> Result<(), Error> {
    let asked = match options.get_ssl_mode() {
        PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer => return Ok(()),
        PgSslMode::Require => "require",
        PgSslMode::VerifyCa => "verify-ca",
        PgSslMode::VerifyFull => "verify-full",
    };
    if connector == SslMode::Require {
        return Ok(());
    }
    Err(Error::config(format!(
        "sqlx's options ask for sslmode={asked}, but the TLS to the server is the connector's, \
         and that does not require it: set sslmode=require on the connector's configuration and \
         give it a TLS implementation that verifies what you want verified; or set a lower \
         sslmode on sqlx's options (from its URL, PGSSLMODE or PgConnectOptions::ssl_mode)"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use tokio_postgres::NoTls;

    #[test]
    fn a_connector_that_sqlx_can_not_authenticate_through_is_refused() {
        let config: Config = "host=db.test".parse().unwrap();
        let provider = move || std::future::ready(std::io::Result::Ok(config.clone()));
        let provided = Connector::builder_with_provider(provider, NoTls)
            .build()
            .unwrap();
        let error = connector(&provided).unwrap_err().to_string();
        assert!(error.contains("Relay::route"), "{error}");

        let binding = testing::tls_connector("host=db.test channel_binding=require");
        let error = connector(&binding).unwrap_err().to_string();
        assert!(error.contains("on the connector"), "{error}");

        for fine in [
            testing::connector("host=db.test"),
            testing::tls_connector("host=db.test sslmode=require"),
        ] {
            connector(&fine).unwrap();
        }
    }

    #[test]
    fn a_pool_of_no_connections_is_refused() {
        let error = pool(&PgPoolOptions::new().max_connections(0)).unwrap_err();
        assert!(
            error.to_string().contains("max_connections is 0"),
            "{error}"
        );
        pool(&PgPoolOptions::new()).unwrap();
    }

    #[test]
    fn tls_that_the_connector_does_not_do_is_refused() {
        use PgSslMode::*;
        let options = |mode| PgConnectOptions::new_without_pgpass().ssl_mode(mode);
        for (mode, text) in [
            (Require, "sslmode=require"),
            (VerifyCa, "sslmode=verify-ca"),
            (VerifyFull, "sslmode=verify-full"),
        ] {
            for connectors in [SslMode::Disable, SslMode::Prefer] {
                let error = tls(&options(mode), connectors).unwrap_err().to_string();
                assert!(error.contains(text), "{error}");
                assert!(
                    error.contains("on the connector's configuration"),
                    "{error}"
                );
            }
            tls(&options(mode), SslMode::Require).unwrap();
        }
        for mode in [Disable, Allow, Prefer] {
            for connectors in [SslMode::Disable, SslMode::Prefer, SslMode::Require] {
                tls(&options(mode), connectors).unwrap();
            }
        }
    }
}
