//! The connector against servers that misbehave, on real sockets.
//!
//! What needs exact times is tested inside the crate, in memory and under
//! paused time. Here the sockets, the system's name look-up and TLS are real,
//! and no test asserts on how long anything took.

mod channel_binding;
mod misbehaving;
mod server;
mod tls;

use std::net::SocketAddr;
use std::time::Duration;

use pgdeadline::{Connector, Context, Error};

/// Longer than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// Short enough to wait for.
const SHORT: Duration = Duration::from_millis(100);

/// The error of a connect that fails by itself.
async fn failing(connector: &Connector) -> Error {
    let ctx = Context::background().with_timeout(LONG);
    let error = connector.connect(&ctx).await.expect_err("it can't connect");
    assert!(!error.is_deadline(), "it should fail at once: {error}");
    error
}

/// A connection string for a server on this machine.
fn url(address: SocketAddr, options: &str) -> String {
    format!(
        "host={} port={} user=me {options}",
        address.ip(),
        address.port()
    )
}
