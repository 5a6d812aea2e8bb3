//! A pool from one URL, of which two libraries read a part each.
//!
//! 1. sqlx gets what it knows, and of several hosts the first, under which
//!    `.pgpass` is looked up. The connector gets hosts, ports and what else
//!    concerns the way to the server, but neither user nor password.
//! 2. Where the URL names one host or none, the connector's is the one that
//!    sqlx has read: so `PGHOST` and the like count as they do for sqlx.
//! 3. What neither knows is refused: sqlx would ignore it, and a misspelt
//!    `target_session_attrs` must not be ignored. So is what asks for TLS,
//!    which this way has none of.
//! 4. No error repeats a value: one of them is the password.

use std::borrow::Cow;

use pgdeadline::Connector;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio_postgres::{Config, NoTls};

use crate::builder::Builder;
use crate::error::Error;

/// A pool from a URL, without TLS, and with every setting at its default: in
/// place of `PgPool::connect`.
///
/// ```no_run
/// # async fn example() -> Result<(), pgdeadline_sqlx::Error> {
/// let pool: sqlx::PgPool = pgdeadline_sqlx::connect("postgres://me:secret@localhost/app").await?;
/// # Ok(())
/// # }
/// ```
///
/// The URL may have what sqlx understands (`user`, `password`, `dbname`,
/// `application_name`, `options` and `options[..]`,
/// `statement-cache-capacity`), and what the [`Connector`] does: several hosts
/// (`postgres://me@one,two:5433/app`), `hostaddr`, `target_session_attrs`,
/// `load_balance_hosts`, `connect_timeout`, `tcp_user_timeout`, `keepalives`,
/// `keepalives_idle`, `keepalives_interval`, `keepalives_retries`. `.pgpass`
/// and the variables `PGHOST`, `PGPORT`, `PGUSER`, `PGPASSWORD`, `PGDATABASE`
/// and so on count as they do for sqlx.
///
/// For TLS, or any other setting, use a [`Builder`] with a connector of your
/// own.
///
/// # Errors
/// [`Error::Database`] that says what to change, for a URL that can't be read
/// or asks for TLS, and those of [`Builder::connect`]. The URL's password is
/// in none of them.
///
/// # Cancel safety
/// As [`Builder::connect`].
pub async fn connect(url: &str) -> Result<PgPool, Error> {
    let (config, options) = read(url)?;
    let connector = Connector::new(config, NoTls)?;
    let builder = Builder::new(connector, PgPoolOptions::new(), options);
    builder.connect().await
}

/// What the URL says to the connector, and what it says to sqlx.
fn read(url: &str) -> Result<(Config, PgConnectOptions), Error> {
    let parts = Parts::split(url)?;
    let options: PgConnectOptions = parts.for_sqlx().parse().map_err(unreadable)?;
    let mut config: Config = parts
        .for_connector()
        .parse()
        .map_err(|error| Error::Database(pgdeadline::Error::from(error)))
        .map_err(unreadable)?;
    if !parts.has_list() {
        // Rule 2.
        match options.get_socket() {
            Some(directory) => config.host_path(directory),
            // sqlx keeps the brackets of an IPv6 address.
            None => config.host(options.get_host().trim_matches(['[', ']'])),
        };
        config.port(options.get_port());
    }
    Ok((config, options))
}

/// A URL, still percent-encoded.
struct Parts<'a> {
    scheme: &'a str,
    /// With its `@`.
    credentials: &'a str,
    hosts: &'a str,
    /// With its `/`.
    path: &'a str,
    parameters: Vec<Parameter<'a>>,
}

struct Parameter<'a> {
    key: Cow<'a, str>,
    /// As it stands in the URL, `key=value`.
    text: &'a str,
    value: &'a str,
    whose: Whose,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Sqlx,
    Connector,
    /// Hosts and ports, which may be lists.
    Both,
}

impl<'a> Parts<'a> {
    fn split(url: &'a str) -> Result<Parts<'a>, Error> {
        let Some((scheme @ ("postgres" | "postgresql"), rest)) = url.split_once("://") else {
            return Err(Error::config(format!("the URL is none: {EXPECTED}")));
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (credentials, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
        let parameters = query
            .split('&')
            .filter(|text| !text.is_empty())
            .map(Parameter::read)
            .collect::<Result<Vec<_>, _>>()?;
        if !hosts.is_empty()
            && let Some(twice) = parameters.iter().find(|p| p.key == "host")
        {
            let key = &twice.key;
            return Err(Error::config(format!(
                "the URL names its host twice, before and after the `?`: remove `{key}=`, or what \
                 stands before the database"
            )));
        }
        Ok(Parts {
            scheme,
            credentials,
            hosts,
            path,
            parameters,
        })
    }

    /// Whether more than one server is named.
    fn has_list(&self) -> bool {
        let of_both = |p: &&Parameter| p.whose == Whose::Both;
        let parameters = self.parameters.iter().filter(of_both).map(|p| p.value);
        std::iter::once(self.hosts)
            .chain(parameters)
            .any(|hosts| first(hosts).len() < hosts.len())
    }

    /// Rule 1.
    fn for_sqlx(&self) -> String {
        let Parts {
            scheme,
            credentials,
            hosts,
            path,
            ..
        } = self;
        let named = !hosts.is_empty() || self.parameters.iter().any(|p| p.key == "host");
        let parameters = self.parameters.iter().filter_map(|p| match p.whose {
            Whose::Sqlx => Some(p.text),
            Whose::Connector => None,
            // For sqlx an address is another host.
            Whose::Both if p.key == "hostaddr" && named => None,
            Whose::Both => Some(p.first()),
        });
        let query = parameters.collect::<Vec<_>>().join("&");
        format!("{scheme}://{credentials}{}{path}?{query}", first(hosts))
    }

    /// Rules 1 and 2.
    fn for_connector(&self) -> String {
        let is_list = self.has_list();
        let mut url = String::from("postgres://");
        if is_list {
            url += &list(self.hosts).join(",");
        }
        url.push('?');
        for parameter in &self.parameters {
            match (parameter.whose, &*parameter.key) {
                (Whose::Both, "host") if is_list => {
                    // tokio-postgres takes what is after `host=` for one host.
                    for host in list(parameter.value) {
                        url += &format!("host={host}&");
                    }
                }
                (Whose::Both, "hostaddr") | (Whose::Connector, _) => {
                    url += &format!("{}&", parameter.text);
                }
                (Whose::Both, _) if is_list => url += &format!("{}&", parameter.text),
                (Whose::Both | Whose::Sqlx, _) => {}
            }
        }
        url
    }
}

impl<'a> Parameter<'a> {
    /// Rule 3.
    fn read(text: &'a str) -> Result<Parameter<'a>, Error> {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        let key = decode(key);
        let whose = match &*key {
            "host" | "hostaddr" | "port" => Whose::Both,
            "target_session_attrs"
            | "load_balance_hosts"
            | "connect_timeout"
            | "tcp_user_timeout"
            | "keepalives"
            | "keepalives_idle"
            | "keepalives_interval"
            | "keepalives_retries" => Whose::Connector,
            "user"
            | "password"
            | "dbname"
            | "application_name"
            | "options"
            | "statement-cache-capacity" => Whose::Sqlx,
            key if key.starts_with("options[") => Whose::Sqlx,
            "sslmode" | "ssl-mode" => match &*decode(value).to_ascii_lowercase() {
                "disable" | "allow" | "prefer" => Whose::Sqlx,
                _ => return Err(without_tls(&key)),
            },
            "sslrootcert" | "ssl-root-cert" | "ssl-ca" | "sslcert" | "ssl-cert" | "sslkey"
            | "ssl-key" | "sslnegotiation" | "channel_binding" => return Err(without_tls(&key)),
            _ => {
                return Err(Error::config(format!(
                    "the URL has a parameter `{key}`, which neither sqlx nor pgdeadline knows: \
                     remove it, or correct its name"
                )));
            }
        };
        Ok(Parameter {
            key,
            text,
            value,
            whose,
        })
    }

    /// `key=value` with the first of the values.
    fn first(&self) -> &'a str {
        let rest = self.value.len() - first(self.value).len();
        &self.text[..self.text.len() - rest]
    }
}

/// What stands between commas, which may be percent-encoded.
fn list(text: &str) -> Vec<&str> {
    let mut all = vec![text];
    for comma in [",", "%2C", "%2c"] {
        all = all.into_iter().flat_map(|part| part.split(comma)).collect();
    }
    all
}

/// The first of a list.
fn first(text: &str) -> &str {
    list(text)[0]
}

/// Decodes what is percent-encoded, for comparing; what can't be decoded stays.
fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        let encoded = match after {
            [high, low, ..] if *byte == b'%' => std::str::from_utf8(&[*high, *low])
                .ok()
                .and_then(|digits| u8::from_str_radix(digits, 16).ok()),
            _ => None,
        };
        bytes.push(encoded.unwrap_or(*byte));
        rest = if encoded.is_some() {
            &after[2..]
        } else {
            after
        };
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn without_tls(key: &str) -> Error {
    Error::config(format!(
        "the URL's `{key}` is about TLS, and pgdeadline_sqlx::connect has none: use \
         pgdeadline_sqlx::Builder with a Connector that was given a TLS implementation, or remove \
         it (sslmode may be disable, allow or prefer)"
    ))
}

fn unreadable(error: impl std::error::Error) -> Error {
    Error::config(format!("the URL could not be read ({error}): {EXPECTED}"))
}

const EXPECTED: &str = "expected postgres://user:password@host:port/database?parameter=value";

#[cfg(test)]
mod tests;
