//! What tokio-postgres is told of a server, told to sqlx.

use std::str;

use anyhow::{Context as _, Result};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio_postgres::Config;

use crate::postgres::Address;

/// `config` as sqlx's options, for the first address in it. The demo speaks no
/// TLS, and `.pgpass` is not looked into, as tokio-postgres does not.
pub(super) fn of(config: &Config) -> Result<PgConnectOptions> {
    let mut options = match config.get_options() {
        None => PgConnectOptions::new_without_pgpass(),
        // A URL is the one way to give sqlx options that are one text already.
        Some(text) => format!("postgres:///?options={}", percent_encoded(text)).parse()?,
    };
    options = options.ssl_mode(PgSslMode::Disable);
    options = match Address::of(config)? {
        Address::Tcp(host, port) => options.host(&host).port(port),
        Address::Unix(socket) => {
            let folder = socket.parent().context("a socket is in a folder")?;
            let port = config.get_ports().first().copied();
            options.socket(folder).port(port.unwrap_or(5432))
        }
    };
    if let Some(user) = config.get_user() {
        options = options.username(user);
    }
    if let Some(password) = config.get_password() {
        let password = str::from_utf8(password).context("sqlx takes a password in UTF-8 only")?;
        options = options.password(password);
    }
    if let Some(database) = config.get_dbname() {
        options = options.database(database);
    }
    if let Some(name) = config.get_application_name() {
        options = options.application_name(name);
    }
    Ok(options)
}

fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::ConnectOptions;

    fn options(config: &str) -> PgConnectOptions {
        of(&config.parse().expect("a configuration")).expect("options")
    }

    #[test]
    fn sqlx_is_told_all_that_tokio_postgres_is() {
        let options = options(
            "host=db.example port=6000 user=u password='p @' dbname=d application_name=a \
             options='-c geqo=off -cwork_mem=1MB' sslmode=prefer",
        );
        assert_eq!(options.get_host(), "db.example");
        assert_eq!(options.get_port(), 6000);
        assert_eq!(options.get_username(), "u");
        assert_eq!(options.to_url_lossy().password(), Some("p%20%40"));
        assert_eq!(options.get_database(), Some("d"));
        assert_eq!(options.get_application_name(), Some("a"));
        assert_eq!(options.get_options(), Some("-c geqo=off -cwork_mem=1MB"));
        assert!(matches!(options.get_ssl_mode(), PgSslMode::Disable));
    }

    #[test]
    fn a_socket_stays_a_socket() {
        let options = options("host=/run/pg port=5433 user=u");
        assert_eq!(options.get_socket().expect("one").to_str(), Some("/run/pg"));
        assert_eq!(options.get_port(), 5433);
    }
}
