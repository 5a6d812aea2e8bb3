//! pgbouncer, of the Debian release that has the PostgreSQL under test.

use std::net::IpAddr;

use tokio_postgres::Config;

use super::Between;
use crate::server::{PASSWORD, Server, USER};

/// One pgbouncer in front of one server.
pub struct Pgbouncer {
    between: Between,
}

/// When a server's connection goes back to pgbouncer's pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// When its client leaves.
    Session,
    /// When its client's transaction ends.
    Transaction,
}

/// The first two numbers of a version.
pub type Version = (u32, u32);

impl Pgbouncer {
    /// In front of this server, with more settings, one a line.
    ///
    /// # Panics
    /// Where it can't be started, with what to do about it.
    pub async fn before(server: &Server, mode: Mode, more: &str) -> Pgbouncer {
        let settings = Pgbouncer::settings(server.address().await, PORT, mode, more);
        let files = [
            (USERS, Pgbouncer::users()),
            ("/etc/pgdeadline/1.ini", settings),
        ];
        let script = "exec pgbouncer -u postgres /etc/pgdeadline/1.ini";
        let between = Between::start(script, &files, &[PORT]).await;
        Pgbouncer { between }
    }

    /// A configuration for the server behind it.
    pub fn config(&self) -> Config {
        self.between.config(PORT)
    }

    /// Its version.
    pub async fn version(&self) -> Version {
        version(&self.between).await
    }

    /// What pgbouncer.ini says for a server at this address.
    pub fn settings(server: IpAddr, port: u16, mode: Mode, more: &str) -> String {
        let mode = match mode {
            Mode::Session => "session",
            Mode::Transaction => "transaction",
        };
        // The last is sent by sqlx, and unknown to pgbouncer.
        format!(
            "[databases]\n\
             * = host={server} port=5432\n\
             [pgbouncer]\n\
             listen_addr = *\n\
             listen_port = {port}\n\
             unix_socket_dir =\n\
             auth_type = scram-sha-256\n\
             auth_file = {USERS}\n\
             pool_mode = {mode}\n\
             max_client_conn = 300\n\
             ignore_startup_parameters = extra_float_digits\n\
             {more}\n"
        )
    }

    /// Those whom pgbouncer lets in, and as whom it goes to the server.
    pub fn users() -> String {
        format!("\"{USER}\" \"{PASSWORD}\"\n")
    }
}

/// The version of the pgbouncer in a container.
pub(super) async fn version(between: &Between) -> Version {
    let answer = between.ask(&["pgbouncer", "--version"]).await;
    let number = answer.split_whitespace().nth(1).unwrap_or_default();
    let mut parts = number.split('.').map(|part| part.parse().unwrap_or(0));
    match (parts.next(), parts.next()) {
        (Some(major), Some(minor)) if major > 0 => (major, minor),
        _ => panic!("not pgbouncer's version: {answer}"),
    }
}

/// pgbouncer's own port.
const PORT: u16 = 6432;

/// `auth_file`.
pub(super) const USERS: &str = "/etc/pgdeadline/users";
