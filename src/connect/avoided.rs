//! Hosts that are tried last: they were of the wrong kind, or mute, when tried
//! before.
//!
//! A connect of our own goes on to the next host when `target_session_attrs`
//! is not met. A client that authenticates by itself can't be sent on: it is
//! told to come again, and finds the other hosts first.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Connector;
use super::hosts::Host;

/// In the order in which they were found out, the latest last.
#[derive(Default)]
pub(super) struct Avoided(Mutex<Vec<String>>);

impl Avoided {
    fn hosts(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connector {
    /// This host was of the wrong kind.
    pub(crate) fn avoid(&self, host: &str) {
        let mut hosts = self.inner.avoided.hosts();
        hosts.retain(|known| known != host);
        hosts.push(host.to_owned());
    }

    /// It is of the right kind.
    pub(crate) fn favour(&self, host: &str) {
        self.inner.avoided.hosts().retain(|known| known != host);
    }

    /// Moves the hosts that are avoided to the end, the one last that was found
    /// out last.
    pub(super) fn put_off_avoided(&self, hosts: &mut [Host]) {
        let avoided = self.inner.avoided.hosts();
        if !avoided.is_empty() {
            hosts.sort_by_cached_key(|host| {
                let host = host.to_string();
                avoided
                    .iter()
                    .position(|known| *known == host)
                    .map(|n| n + 1)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_avoided_last_is_tried_last() {
        let config = "host=a,b,c".parse().unwrap();
        let connector = Connector::from_url("host=a,b,c", tokio_postgres::NoTls).unwrap();
        let order = || {
            let mut hosts = Host::list(&config).unwrap();
            connector.put_off_avoided(&mut hosts);
            hosts.iter().map(Host::to_string).collect::<Vec<_>>()
        };
        assert_eq!(order(), ["a:5432", "b:5432", "c:5432"]);
        connector.avoid("b:5432");
        connector.avoid("a:5432");
        assert_eq!(order(), ["c:5432", "b:5432", "a:5432"]);
        connector.favour("b:5432");
        assert_eq!(order(), ["b:5432", "c:5432", "a:5432"]);
    }
}
