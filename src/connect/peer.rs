//! Where a session is connected, and the way back to it (rule 9 of the
//! design: same door).

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tokio_postgres::config::{SslMode, SslNegotiation};

use super::dial::{Address, SocketOptions};
use super::failure::Failure;
use super::hosts::from_now;
use super::tls::{self, Wanted};
use super::transport::Transport;
use super::{Connector, Stream};
use crate::error::{Error, Phase};

/// The door that a session went through: enough to go through it again
/// without asking anybody for the way.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(super) address: Address,
    pub(super) options: SocketOptions,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) tls: Option<PeerTls>,
}

/// How TLS was set up.
#[derive(Clone, Debug)]
pub(super) struct PeerTls {
    pub(super) negotiation: SslNegotiation,
    pub(super) name: Option<String>,
}

impl Peer {
    /// The address; the key by which cancels to one server are counted.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// TLS exactly when the session has it: a cancel carries a key, which must
    /// not cross in the clear what the session crossed encrypted.
    fn wanted(&self) -> Wanted {
        let (mode, negotiation, name) = match &self.tls {
            Some(tls) => (SslMode::Require, tls.negotiation, tls.name.clone()),
            None => (SslMode::Disable, SslNegotiation::Postgres, None),
        };
        Wanted {
            mode,
            negotiation,
            name,
            unix: matches!(self.address, Address::Unix(_)),
        }
    }
}

impl Connector {
    /// Connects once more to where a session is connected: same address, no
    /// look-up, TLS when the session has it. For cancels.
    ///
    /// Works on whatever runtime polls it; nothing of the connector is tied to
    /// one.
    ///
    /// # Errors
    /// As for a first connection, and a time-out at the deadline.
    ///
    /// # Cancel safety
    /// Dropping it closes what it has opened.
    pub(crate) async fn redial(&self, peer: &Peer, deadline: Instant) -> Result<Transport, Error> {
        let start = Instant::now();
        let mut phase = Phase::Connect;
        let wanted = peer.wanted();
        let redial = async {
            let socket = self
                .dial(&peer.address, &peer.options, peer.connect_timeout)
                .await;
            let socket = socket.map_err(|error| Failure::dial(&peer.address, error))?;
            phase = Phase::Tls;
            tls::negotiate(Stream::new(socket), &wanted, self.tls())
                .await
                .map_err(|failure| failure.at(&peer.address))
        };
        match timeout_at(deadline, redial).await {
            Ok(result) => result,
            Err(_) => Err(Failure::timed_out(phase, start.elapsed()).at(&peer.address)),
        }
        .map_err(Failure::into_error)
    }

    /// Opens a socket to one address, within its own time if it has one.
    pub(super) async fn dial(
        &self,
        address: &Address,
        options: &SocketOptions,
        connect_timeout: Option<Duration>,
    ) -> std::io::Result<super::dial::Socket> {
        let dial = self.dialler().dial(address.clone(), options.clone());
        let Some(time) = connect_timeout else {
            return dial.await;
        };
        match timeout_at(from_now(time), dial).await {
            Ok(result) => result,
            Err(_) => Err(std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                format!("neither accepted nor refused within connect_timeout ({time:?})"),
            )),
        }
    }
}
