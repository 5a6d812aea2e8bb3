//! The scripted server on a real port.

use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::io::ServerIo;
use super::net::{DialOutcome, Net};

/// A port of 127.0.0.1 behind which a [`Net`]'s server is. Closed when dropped.
pub struct Listener {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Listener {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Net {
    /// Puts the server on a port of 127.0.0.1 as well.
    ///
    /// Real sockets need real time: a paused clock jumps over their delays. Of
    /// [`DialOutcome`], a port knows `Accept` and `Unread`; the others can't be
    /// had from a listening socket, and close the connection at once.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn listen(&self) -> Listener {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("a bound listener");
        let shared = self.shared().clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                match shared.next_outcome(None) {
                    DialOutcome::Accept => shared.take_in(ServerIo::Tcp(stream)),
                    DialOutcome::Unread => shared.put_aside(ServerIo::Tcp(stream)),
                    DialOutcome::Refuse | DialOutcome::BlackHole => drop(stream),
                }
            }
        });
        Listener { address, task }
    }
}
