//! The network as what a `Connector` dials with.
//!
//! Names are looked up on the network too, so that under paused time nothing
//! waits for a thread: a name has the address 192.0.2.1 (one that documents
//! may use), unless [`Net::name`] says otherwise.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use pgdeadline::dial::{Address, Dial, DialFuture, ResolveFuture, Socket, SocketOptions};

use super::net::{DialOutcome, Net};

impl Net {
    /// The addresses of a name; none: there is no such name.
    pub fn name(&self, name: &str, addresses: impl IntoIterator<Item = IpAddr>) {
        let addresses = addresses.into_iter().collect();
        self.shared().dials().names.insert(name.into(), addresses);
    }

    /// What becomes of all dials to this address, whatever
    /// [`Net::next_dials`] and [`Net::all_dials`] say.
    pub fn dials_to(&self, address: SocketAddr, outcome: DialOutcome) {
        let address = Address::Tcp(address);
        self.shared().dials().at.insert(address, outcome);
    }

    /// The addresses that a `Connector` has dialled, in order.
    pub fn dialled(&self) -> Vec<Address> {
        self.shared().dials().dialled.clone()
    }
}

impl Dial for Net {
    fn dial(&self, to: Address, _options: SocketOptions) -> DialFuture {
        let net = self.clone();
        Box::pin(async move {
            let outcome = net.shared().next_outcome(Some(to));
            net.meet(outcome).await.map(Socket::new)
        })
    }

    fn resolve(&self, name: String, port: u16) -> ResolveFuture {
        let addresses = self.shared().dials().names.get(&name).cloned();
        let addresses = addresses.unwrap_or_else(|| vec![DEFAULT_ADDRESS]);
        Box::pin(async move {
            if addresses.is_empty() {
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    format!("no such name: {name}"),
                ));
            }
            Ok(addresses
                .into_iter()
                .map(|ip| SocketAddr::new(ip, port))
                .collect())
        })
    }
}

const DEFAULT_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
