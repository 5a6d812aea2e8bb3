//! Which hosts are tried, in which order, and how long each may take.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, SocketAddr};
#[cfg(unix)]
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Config;
use tokio_postgres::config::{Host as ConfigHost, LoadBalanceHosts};

use super::dial::Address;
use crate::error::Error;

/// One host of the configuration, with its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) target: Target,
    /// The name that a certificate must have: that of `host`, also where
    /// `hostaddr` saves the look-up.
    pub(super) tls_name: Option<String>,
    port: u16,
}

/// What is dialled for a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A name, still to be looked up, and the port.
    Name(String, u16),
    /// An address: nothing to look up.
    Address(Address),
}

impl Host {
    /// The hosts of a configuration in the order in which they are tried.
    ///
    /// # Errors
    /// No host, or numbers of hosts, addresses and ports that don't match.
    pub(super) fn list(config: &Config) -> Result<Vec<Host>, Error> {
        let (names, addresses) = (config.get_hosts(), config.get_hostaddrs());
        let ports = config.get_ports();
        let count = names.len().max(addresses.len());
        if count == 0 {
            return Err(Error::config(
                "the configuration names no server: set host or hostaddr",
            ));
        }
        if !names.is_empty() && !addresses.is_empty() && names.len() != addresses.len() {
            return Err(Error::config(format!(
                "host has {} entries and hostaddr {}: give one hostaddr a host, or \
                 leave it out",
                names.len(),
                addresses.len(),
            )));
        }
        if ports.len() > 1 && ports.len() != count {
            return Err(Error::config(format!(
                "port has {} entries for {count} hosts: give one port for all, or one a host",
                ports.len(),
            )));
        }
        let mut hosts: Vec<_> = (0..count)
            .filter_map(|i| {
                let port = ports.get(i).or(ports.first()).copied().unwrap_or(5432);
                Host::new(names.get(i), addresses.get(i).copied(), port)
            })
            .collect();
        if config.get_load_balance_hosts() == LoadBalanceHosts::Random {
            shuffle(&mut hosts);
        }
        Ok(hosts)
    }

    fn new(name: Option<&ConfigHost>, address: Option<IpAddr>, port: u16) -> Option<Host> {
        let tls_name = match name {
            Some(ConfigHost::Tcp(name)) => Some(name.clone()),
            _ => None,
        };
        let target = match (address, name) {
            (Some(ip), _) => Target::tcp(ip, port),
            (None, Some(ConfigHost::Tcp(name))) => match name.parse() {
                Ok(ip) => Target::tcp(ip, port),
                Err(_) => Target::Name(name.clone(), port),
            },
            #[cfg(unix)]
            (None, Some(ConfigHost::Unix(directory))) => {
                Target::Address(Address::Unix(socket_path(directory, port)))
            }
            (None, None) => return None,
        };
        Some(Host {
            target,
            tls_name,
            port,
        })
    }
}

impl Target {
    fn tcp(ip: IpAddr, port: u16) -> Target {
        Target::Address(Address::Tcp(SocketAddr::new(ip, port)))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.tls_name, &self.target) {
            (Some(name), _) | (None, Target::Name(name, _)) => write!(f, "{name}:{}", self.port),
            (None, Target::Address(address)) => write!(f, "{address}"),
        }
    }
}

/// When the next of `left` candidates must be done, so that each of those
/// after it gets as much: one black hole does not eat the time of all.
pub(super) fn share(deadline: Instant, left: usize) -> Instant {
    let now = Instant::now();
    let left = u32::try_from(left.max(1)).unwrap_or(u32::MAX);
    match left {
        1 => deadline,
        _ => now + deadline.saturating_duration_since(now) / left,
    }
}

/// An instant `time` from now, or as good as never where the clock ends.
pub(crate) fn from_now(time: Duration) -> Instant {
    const AS_GOOD_AS_NEVER: Duration = Duration::from_secs(60 * 60 * 24 * 365);
    let now = Instant::now();
    now.checked_add(time).unwrap_or(now + AS_GOOD_AS_NEVER)
}

/// Puts the items in a random order (Fisher and Yates).
pub(super) fn shuffle<T>(items: &mut [T]) {
    for i in (1..items.len()).rev() {
        // Each RandomState hashes with another key: random enough to spread
        // connections, and no dependency.
        let random = RandomState::new().build_hasher().finish();
        let bound = i as u64 + 1;
        let j = usize::try_from(random % bound).unwrap_or(i);
        items.swap(i, j);
    }
}

#[cfg(unix)]
fn socket_path(directory: &std::path::Path, port: u16) -> PathBuf {
    directory.join(format!(".s.PGSQL.{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(config: &str) -> Result<Vec<Host>, Error> {
        Host::list(&config.parse().unwrap())
    }

    fn shown(config: &str) -> Vec<String> {
        list(config).unwrap().iter().map(Host::to_string).collect()
    }

    #[test]
    fn ports_are_one_for_all_or_one_a_host() {
        assert_eq!(shown("host=a,b"), ["a:5432", "b:5432"]);
        assert_eq!(shown("host=a,b port=1"), ["a:1", "b:1"]);
        assert_eq!(shown("host=a,b port=1,2"), ["a:1", "b:2"]);
        assert_eq!(shown("host=a,b,c port=1,,2"), ["a:1", "b:5432", "c:2"]);
    }

    #[test]
    fn hostaddr_is_dialled_and_host_stays_the_name_for_tls() {
        let hosts = list("host=db hostaddr=10.0.0.1 port=7").unwrap();
        assert_eq!(hosts[0].target, Target::tcp([10, 0, 0, 1].into(), 7));
        assert_eq!(hosts[0].tls_name.as_deref(), Some("db"));

        let hosts = list("hostaddr=10.0.0.1").unwrap();
        assert_eq!(hosts[0].target, Target::tcp([10, 0, 0, 1].into(), 5432));
        assert_eq!(hosts[0].tls_name, None);
    }

    #[test]
    fn a_literal_address_as_host_needs_no_look_up() {
        let hosts = list("host=::1").unwrap();
        assert!(matches!(hosts[0].target, Target::Address(_)));
        assert_eq!(hosts[0].tls_name.as_deref(), Some("::1"));
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_means_the_servers_unix_socket_in_it() {
        assert_eq!(shown("host=/run/pg port=6000"), ["/run/pg/.s.PGSQL.6000"]);
    }

    #[test]
    fn numbers_that_do_not_match_are_told() {
        for (config, text) in [
            ("user=a", "names no server"),
            (
                "host=a,b hostaddr=10.0.0.1",
                "host has 2 entries and hostaddr 1",
            ),
            ("host=a,b port=1,2,3", "port has 3 entries for 2 hosts"),
        ] {
            let error = list(config).unwrap_err().to_string();
            assert!(error.contains(text), "{config}: {error}");
        }
    }

    #[test]
    fn random_load_balancing_starts_with_each_host_at_times() {
        let firsts: std::collections::HashSet<_> = (0..200)
            .map(|_| shown("host=a,b,c load_balance_hosts=random")[0].clone())
            .collect();
        assert_eq!(firsts.len(), 3);
    }

    #[test]
    fn shuffling_loses_nobody() {
        let mut items: Vec<_> = (0..50).collect();
        shuffle(&mut items);
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn each_candidate_gets_an_equal_share_of_the_time_that_is_left() {
        let start = Instant::now();
        let deadline = start + Duration::from_secs(9);
        assert_eq!(share(deadline, 3), start + Duration::from_secs(3));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(share(deadline, 2), start + Duration::from_secs(5));
        assert_eq!(share(deadline, 1), deadline);
        assert_eq!(share(start, 2), Instant::now(), "past: at once");
    }
}
