//! HAProxy: before two pgbouncers, and before a primary and its standby.

use tokio_postgres::Config;

use super::pgbouncer::{USERS, version};
use super::{Between, Mode, Pgbouncer, Version};
use crate::server::Server;

/// One HAProxy.
pub struct Haproxy {
    between: Between,
}

impl Haproxy {
    /// In front of two pgbouncers, before one server. By [`Haproxy::config`]
    /// sessions and cancels reach either in turn; by [`Haproxy::astray`]
    /// sessions reach one, and every cancel the other.
    ///
    /// With `peers` the two know each other (from pgbouncer 1.19 on).
    ///
    /// # Panics
    /// Where it can't be started, with what to do about it.
    pub async fn before_two_pgbouncers(server: &Server, peers: bool) -> Haproxy {
        let address = server.address().await;
        let settings = |number: u16| {
            let more = match peers {
                true => format!("peer_id = {number}\n{PEERS}"),
                false => String::new(),
            };
            Pgbouncer::settings(address, 6430 + number, Mode::Session, &more)
        };
        let files = [
            (USERS, Pgbouncer::users()),
            ("/etc/pgdeadline/1.ini", settings(1)),
            ("/etc/pgdeadline/2.ini", settings(2)),
            (FILE, format!("{DEFAULTS}{TWO_PGBOUNCERS}")),
        ];
        let script = format!(
            "pgbouncer -u postgres /etc/pgdeadline/1.ini & \
             pgbouncer -u postgres /etc/pgdeadline/2.ini & \
             exec haproxy -f {FILE}"
        );
        let ports = [6431, 6432, PORT, ASTRAY];
        let between = Between::start(&script, &files, &ports).await;
        Haproxy { between }
    }

    /// In front of two servers; it asks each twice a second whether it is the
    /// primary, and leads to that one only.
    ///
    /// # Panics
    /// Where it can't be started, with what to do about it.
    pub async fn before_primary(servers: [&Server; 2]) -> Haproxy {
        let mut text = format!("{DEFAULTS}{PRIMARY}");
        for (number, server) in servers.iter().enumerate() {
            let address = server.address().await;
            text += &format!(
                "    server server{number} {address}:5432 check inter 500 fall 2 rise 1 \
                 on-marked-down shutdown-sessions\n"
            );
        }
        let script = format!("exec haproxy -f {FILE}");
        let between = Between::start(&script, &[(FILE, text)], &[PORT]).await;
        Haproxy { between }
    }

    /// In front of one server, giving up on either side that says nothing for
    /// so many milliseconds.
    ///
    /// # Panics
    /// Where it can't be started, with what to do about it.
    pub async fn impatient(server: &Server, milliseconds: u32) -> Haproxy {
        let address = server.address().await;
        let text = format!(
            "{DEFAULTS}    timeout server {milliseconds}\n\
             listen one\n    bind *:{PORT}\n    server only {address}:5432\n"
        );
        let script = format!("exec haproxy -f {FILE}");
        let between = Between::start(&script, &[(FILE, text)], &[PORT]).await;
        Haproxy { between }
    }

    /// A configuration for what is behind it.
    pub fn config(&self) -> Config {
        self.between.config(PORT)
    }

    /// The same, for cancels that go astray.
    pub fn astray(&self) -> Config {
        self.between.config(ASTRAY)
    }

    /// The version of the pgbouncers behind it.
    pub async fn pgbouncer_version(&self) -> Version {
        version(&self.between).await
    }

    /// Its version, as it says it.
    pub async fn version(&self) -> String {
        let answer = self.between.ask(&["haproxy", "-v"]).await;
        let number = answer.split_whitespace().find(|word| word.contains('.'));
        number.unwrap_or("?").to_owned()
    }
}

const FILE: &str = "/etc/pgdeadline/haproxy.cfg";
const PORT: u16 = 5000;
const ASTRAY: u16 = 5001;

/// An hour: nothing here ends because it is silent.
const DEFAULTS: &str = "
defaults
    mode tcp
    timeout connect 2s
    timeout client 1h
    timeout server 1h
";

/// A cancel is told by its code, 1234 and 5678, behind its length.
const TWO_PGBOUNCERS: &str = "
listen in_turn
    bind *:5000
    balance roundrobin
    server one 127.0.0.1:6431
    server two 127.0.0.1:6432

frontend astray
    bind *:5001
    tcp-request inspect-delay 5s
    acl cancel req.payload(4,4) -m bin 04d2162e
    tcp-request content accept if { req.len ge 8 }
    use_backend two if cancel
    default_backend one

backend one
    server one 127.0.0.1:6431

backend two
    server two 127.0.0.1:6432
";

const PEERS: &str = "
[peers]
1 = host=127.0.0.1 port=6431
2 = host=127.0.0.1 port=6432
";

/// Start-up of the role `checker` (protocol 3.0, user and database), then a
/// Query; the answer that counts is a DataRow with one field, `f`.
const PRIMARY: &str = "
listen primary
    bind *:5000
    option tcp-check
    tcp-check connect
    tcp-check send-binary 00000028 # length
    tcp-check send-binary 00030000 # protocol
    tcp-check send-binary 7573657200 # user
    tcp-check send-binary 636865636b657200 # checker
    tcp-check send-binary 646174616261736500 # database
    tcp-check send-binary 706f73746772657300 # postgres
    tcp-check send-binary 00
    tcp-check send-binary 51 # Query
    tcp-check send-binary 00000020 # length
    tcp-check send-binary 53454c4543542070675f69735f696e5f7265636f7665727928293b00 # SELECT pg_is_in_recovery();
    tcp-check expect binary 440000000b00010000000166
    tcp-check send-binary 5800000004 # Terminate
";
