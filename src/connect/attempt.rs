//! One connect from end to end: every host, every address, every phase.
//!
//! 1. Hosts are tried one after the other; each may take an equal share of
//!    the time that is left.
//! 2. The addresses of a host are raced. Where the winner then fails in TLS or
//!    start-up, the rest are raced: another address may be another server.
//! 3. Whatever does not lead to a connection is told in the final error.
//!
//! What is made of a transport that is ready for the start-up message is the
//! caller's: `start`.

use std::future::Future;

use tokio::time::{Instant, timeout_at};
use tokio_postgres::Config;
use tokio_postgres::config::LoadBalanceHosts;

use super::config::socket_options;
use super::dial::{Address, Socket};
use super::failure::Failure;
use super::hosts::{Host, Target, share};
use super::journal::Journal;
use super::peer::{Peer, PeerTls};
use super::race::race;
use super::resolve::resolve;
use super::tls::{self, Wanted};
use super::transport::Transport;
use super::{Connector, Stream};
use crate::error::{Error, Phase};

/// One connect under way.
pub(super) struct Attempt<'a> {
    pub(super) connector: &'a Connector,
    pub(super) config: &'a Config,
    pub(super) journal: &'a Journal<'a>,
    pub(super) deadline: Instant,
}

impl Attempt<'_> {
    /// Tries every host.
    pub(super) async fn run<T, F>(
        &self,
        start: &impl Fn(&Host, Transport, Peer) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut hosts = Host::list(self.config)?;
        self.connector.put_off_avoided(&mut hosts);
        for (i, host) in hosts.iter().enumerate() {
            let (begun, by) = (Instant::now(), share(self.deadline, hosts.len() - i)); // rule 1
            let failure = match timeout_at(by, self.host(host, by, start)).await {
                Ok(Ok(connected)) => return Ok(connected),
                Ok(Err(failure)) => failure,
                Err(_) => Failure::timed_out(self.journal.phase(), begun.elapsed()),
            };
            self.journal.failed(failure.at(host)); // rule 3
        }
        Err(self.journal.all_failed())
    }

    /// Tries every address of one host.
    async fn host<T, F>(
        &self,
        host: &Host,
        by: Instant,
        start: &impl Fn(&Host, Transport, Peer) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut candidates = self.addresses(host).await?;
        let mut failures = Vec::new();
        while !candidates.is_empty() {
            let (address, socket) = match self.race(candidates, &mut failures).await {
                (Some(winner), left) => {
                    candidates = left;
                    winner
                }
                (None, _) => break,
            };
            // The other family most often leads to the same server, so it
            // takes no share from this one.
            let alike = candidates
                .iter()
                .filter(|other| same_family(other, &address));
            let (begun, by) = (Instant::now(), share(by, 1 + alike.count()));
            let failure = match timeout_at(by, self.start(host, &address, socket, start)).await {
                Ok(Ok(connected)) => return Ok(connected),
                Ok(Err(failure)) => failure,
                Err(_) => Failure::timed_out(self.journal.phase(), begun.elapsed()),
            };
            failures.push(failure.at(&address)); // rule 2
        }
        Err(Failure::all(failures))
    }

    async fn addresses(&self, host: &Host) -> Result<Vec<Address>, Failure> {
        match &host.target {
            Target::Address(address) => Ok(vec![address.clone()]),
            Target::Name(name, port) => {
                self.journal.enter(Phase::Resolve);
                let order: LoadBalanceHosts = self.config.get_load_balance_hosts();
                resolve(self.connector.dialler(), name, *port, order).await
            }
        }
    }

    /// Races the candidates; the winner, and those that are still candidates.
    async fn race(
        &self,
        candidates: Vec<Address>,
        failures: &mut Vec<Failure>,
    ) -> (Option<(Address, Socket)>, Vec<Address>) {
        self.journal.enter(Phase::Connect);
        let options = socket_options(self.config);
        let connect_timeout = self.config.get_connect_timeout().copied();
        let outcome = race(
            candidates,
            self.connector.settings().race_step,
            |address: Address| {
                let options = &options;
                async move {
                    self.connector
                        .dial(&address, options, connect_timeout)
                        .await
                }
            },
        )
        .await;
        let failed = outcome.failed.into_iter();
        failures.extend(failed.map(|(address, error)| Failure::dial(&address, error)));
        (outcome.winner, outcome.left)
    }

    /// TLS and start-up on a connected socket.
    async fn start<T, F>(
        &self,
        host: &Host,
        address: &Address,
        socket: Socket,
        start: &impl Fn(&Host, Transport, Peer) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let (transport, peer) = self.establish(host, address, socket).await?;
        self.journal.enter(Phase::StartUp);
        start(host, transport, peer).await
    }

    async fn establish(
        &self,
        host: &Host,
        address: &Address,
        socket: Socket,
    ) -> Result<(Transport, Peer), Failure> {
        self.journal.enter(Phase::Tls);
        let wanted = Wanted {
            mode: self.config.get_ssl_mode(),
            negotiation: self.config.get_ssl_negotiation(),
            name: host.tls_name.clone(),
            unix: matches!(address, Address::Unix(_)),
        };
        let transport = tls::negotiate(Stream::new(socket), &wanted, self.connector.tls()).await?;
        let peer = Peer {
            address: address.clone(),
            options: socket_options(self.config),
            connect_timeout: self.config.get_connect_timeout().copied(),
            tls: transport.is_tls().then_some(PeerTls {
                negotiation: wanted.negotiation,
                name: wanted.name,
            }),
        };
        Ok((transport, peer))
    }
}

fn same_family(a: &Address, b: &Address) -> bool {
    match (a, b) {
        (Address::Tcp(a), Address::Tcp(b)) => a.is_ipv6() == b.is_ipv6(),
        _ => false,
    }
}
