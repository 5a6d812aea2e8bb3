//! What opens a byte stream: the trait, and the default on socket2.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use super::socket;
pub use super::socket::Socket;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// TCP, version 4 or 6.
    Tcp(SocketAddr),
    /// The path of a Unix socket, file name included.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "{address}"),
            Address::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The options of a socket, as the configuration has them.
///
/// `TCP_NODELAY` is not among them: it is always on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketOptions {
    /// TCP keepalive; `None`: off.
    pub keepalive: Option<Keepalive>,
    /// How long sent data may stay unacknowledged (`TCP_USER_TIMEOUT`, where
    /// the system has it); `None`: the system's default.
    pub user_timeout: Option<Duration>,
}

/// TCP keepalive; what is `None` is left to the system.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Keepalive {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Time between probes.
    pub interval: Option<Duration>,
    /// Unanswered probes after which the connection is given up.
    pub retries: Option<u32>,
}

/// A dial under way. Dropping it must close whatever it has opened.
pub type DialFuture = Pin<Box<dyn Future<Output = io::Result<Socket>> + Send>>;

/// A look-up under way.
pub type ResolveFuture = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Opens byte streams to servers, for connections and for cancels alike.
///
/// The default is right for servers on a network. Put another in its place to
/// go through a tunnel, to look names up elsewhere, or to test without
/// sockets. It is given no deadline and needs none: a dial that takes too long
/// is dropped.
///
/// # Examples
/// A server in memory:
/// ```
/// use pgdeadline::dial::{Address, Dial, DialFuture, Socket, SocketOptions};
///
/// struct InMemory;
///
/// impl Dial for InMemory {
///     fn dial(&self, _to: Address, _options: SocketOptions) -> DialFuture {
///         let (near, far) = tokio::io::duplex(4096);
///         tokio::spawn(async move { drop(far) }); // a server would go here
///         Box::pin(async move { Ok(Socket::new(near)) })
///     }
/// }
/// ```
pub trait Dial: Send + Sync + 'static {
    /// Opens a stream to an address.
    ///
    /// May be called on any runtime, also on one that lives only for a cancel.
    fn dial(&self, to: Address, options: SocketOptions) -> DialFuture;

    /// The addresses of a name, the best first.
    ///
    /// Asks the system unless overridden. That runs on a blocking thread which
    /// nobody can interrupt: at a deadline only the caller is released.
    fn resolve(&self, name: String, port: u16) -> ResolveFuture {
        Box::pin(async move { Ok(tokio::net::lookup_host((name, port)).await?.collect()) })
    }
}

/// The default: sockets made with `socket2` and handed to tokio.
#[derive(Clone, Copy, Debug, Default)]
pub struct SocketDial;

impl Dial for SocketDial {
    fn dial(&self, to: Address, options: SocketOptions) -> DialFuture {
        Box::pin(async move { socket::connect(&to, &options).await })
    }
}
