//! A PostgreSQL for the demo, found with nothing configured.
//!
//! 1. Looked for in this order: the server that the user named; the machine's
//!    own binaries; Docker. A server that was named is used or the demo fails:
//!    it never falls back from what was asked for.
//! 2. What was started here is stopped when its value drops, so also on a
//!    panic and on a signal. Nothing of it stays on the machine.
//! 3. A failure lists everything that was tried, why each did not do, and what
//!    to install.

mod binaries;
mod docker;
mod ready;
mod scratch;

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::{fmt, io};

use anyhow::{Context as _, Result, bail, ensure};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Config, NoTls};

/// A running server, and what keeps it running.
pub struct Postgres {
    config: Config,
    origin: String,
    version: String,
    /// Stops the server when dropped (rule 2).
    _keeper: Keeper,
}

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host and a port.
    Tcp(String, u16),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

enum Keeper {
    Elsewhere,
    Cluster(#[allow(dead_code, reason = "held for its drop")] binaries::Cluster),
    Container(#[allow(dead_code, reason = "held for its drop")] docker::Container),
}

/// One way that was tried and did not do (rule 3).
struct Attempt {
    what: String,
    why: String,
}

impl Postgres {
    /// Finds a server, starting one if need be: the one that is `named` by its URL,
    /// else one of the machine's own, else one in Docker; with `docker` only that.
    ///
    /// # Cancel safety
    /// Dropped half-way it stops what it has started (rule 2).
    pub async fn find(named: Option<&str>, docker: bool) -> Result<Postgres> {
        if let Some(url) = named {
            return Postgres::named(url).await;
        }
        let mut tried = Vec::new();
        if !docker {
            match binaries::start_any(&mut tried).await {
                Some(cluster) => {
                    let (config, origin) = (cluster.config(), cluster.origin());
                    return Postgres::started(config, origin, Keeper::Cluster(cluster)).await;
                }
                None => eprintln!("No PostgreSQL of this machine's own will do; trying Docker."),
            }
        }
        match docker::start().await {
            Ok(container) => {
                let (config, origin) = (container.config(), container.origin());
                Postgres::started(config, origin, Keeper::Container(container)).await
            }
            Err(error) => {
                tried.push(Attempt::new("Docker", &error));
                bail!(nothing_found(&tried))
            }
        }
    }

    /// How to connect to it. Sets no application name.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether it is somebody else's, so that the demo must tidy up in it.
    pub fn is_borrowed(&self) -> bool {
        matches!(self._keeper, Keeper::Elsewhere)
    }

    async fn named(url: &str) -> Result<Postgres> {
        let config: Config = url
            .parse()
            .context("--url or DATABASE_URL is no PostgreSQL URL")?;
        ensure!(
            config.get_ssl_mode() != SslMode::Require,
            "--url or DATABASE_URL asks for sslmode=require and the demo speaks no TLS: \
             name a server without it, or leave the URL out"
        );
        Postgres::started(config, "as the URL says".to_owned(), Keeper::Elsewhere)
            .await
            .context("the server of --url or DATABASE_URL")
    }

    async fn started(config: Config, origin: String, keeper: Keeper) -> Result<Postgres> {
        let (client, connection) = config.connect(NoTls).await?;
        let connection = tokio::spawn(connection);
        let row = client.query_one("SHOW server_version", &[]).await?;
        drop(client);
        let _ = connection.await;
        Ok(Postgres {
            config,
            origin,
            version: row.get(0),
            _keeper: keeper,
        })
    }
}

impl fmt::Display for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgreSQL {} ({})", self.version, self.origin)
    }
}

impl Address {
    /// The first address that `config` names.
    pub fn of(config: &Config) -> Result<Address> {
        let port = config.get_ports().first().copied().unwrap_or(5432);
        if let Some(address) = config.get_hostaddrs().first() {
            return Ok(Address::Tcp(address.to_string(), port));
        }
        match config.get_hosts().first() {
            Some(Host::Tcp(name)) => Ok(Address::Tcp(name.clone(), port)),
            Some(Host::Unix(folder)) => Ok(Address::Unix(folder.join(format!(".s.PGSQL.{port}")))),
            None => bail!("the URL names no host"),
        }
    }
}

impl Attempt {
    fn new(what: impl Into<String>, why: &anyhow::Error) -> Attempt {
        Attempt {
            what: what.into(),
            why: format!("{why:#}"),
        }
    }
}

/// A password for a server of our own, from the system's randomness.
fn password() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn nothing_found(tried: &[Attempt]) -> String {
    let mut text = String::from("no PostgreSQL to be had. Tried:\n");
    for Attempt { what, why } in tried {
        text.push_str(&format!("  - {what}: {}\n", why.replace('\n', "\n    ")));
    }
    text + "Any one of these helps:\n  \
        - install PostgreSQL (Debian, Ubuntu: apt-get install postgresql; macOS: brew install postgresql)\n  \
        - install Docker, and start it\n  \
        - name a server: cargo demo --url postgres://user:password@host/database"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> Address {
        Address::of(&url.parse().expect("a URL")).expect("an address")
    }

    #[test]
    fn it_is_the_first_host_and_a_hostaddr_outranks_its_name() {
        assert_eq!(
            address("postgres://one:6000,two:6001/db"),
            Address::Tcp("one".into(), 6000)
        );
        assert_eq!(address("host=one"), Address::Tcp("one".into(), 5432));
        assert_eq!(
            address("host=one hostaddr=192.0.2.7"),
            Address::Tcp("192.0.2.7".into(), 5432)
        );
        assert_eq!(
            address("host=/run/pg port=5433"),
            Address::Unix("/run/pg/.s.PGSQL.5433".into())
        );
    }

    #[test]
    fn a_configuration_without_a_host_has_no_address() {
        assert!(Address::of(&Config::new()).is_err());
    }

    #[test]
    fn passwords_are_long_and_never_the_same() {
        let (one, other) = (password().expect("one"), password().expect("another"));
        assert_eq!(one.len(), 32);
        assert_ne!(one, other);
    }

    #[test]
    fn the_error_lists_what_was_tried_and_what_to_install() {
        let why = anyhow::anyhow!("line one\nline two").context("initdb failed");
        let text = nothing_found(&[Attempt::new("/opt/pg/bin", &why)]);
        assert!(
            text.contains("- /opt/pg/bin: initdb failed: line one\n    line two"),
            "{text}"
        );
        for help in ["apt-get install postgresql", "Docker", "--url"] {
            assert!(text.contains(help), "{text}");
        }
    }
}
