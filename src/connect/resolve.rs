//! From a name to addresses, in the order in which they are raced.

use std::net::SocketAddr;

use tokio_postgres::config::LoadBalanceHosts;

use super::dial::{Address, Dial};
use super::failure::Failure;
use super::hosts::shuffle;
use crate::error::Phase;

/// Looks a name up.
///
/// # Errors
/// The name is unknown, or has no address.
pub(super) async fn resolve(
    dial: &dyn Dial,
    name: &str,
    port: u16,
    order: LoadBalanceHosts,
) -> Result<Vec<Address>, Failure> {
    let mut addresses = dial.resolve(name.to_owned(), port).await.map_err(|error| {
        Failure::new(
            Phase::Resolve,
            format!(
                "the host name {name:?} could not be looked up ({error}): check its \
                 spelling and the DNS"
            ),
        )
        .because(error)
    })?;
    if addresses.is_empty() {
        return Err(Failure::new(
            Phase::Resolve,
            format!("the host name {name:?} has no address"),
        ));
    }
    if order == LoadBalanceHosts::Random {
        shuffle(&mut addresses);
    }
    Ok(interleave(addresses)
        .into_iter()
        .map(Address::Tcp)
        .collect())
}

/// Alternates between the families, beginning with that of the first address
/// (RFC 8305, section 4), so that a family without a route costs one step.
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let mut second = second.into_iter();
    let mut mixed: Vec<_> = first
        .into_iter()
        .flat_map(|address| [Some(address), second.next()])
        .flatten()
        .collect();
    mixed.extend(second);
    mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interleaved(addresses: &[&str]) -> Vec<String> {
        interleave(addresses.iter().map(|a| a.parse().unwrap()).collect())
            .iter()
            .map(SocketAddr::to_string)
            .collect()
    }

    #[test]
    fn families_alternate_beginning_with_the_first() {
        assert_eq!(
            interleaved(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"]),
            ["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"]
        );
        assert_eq!(
            interleaved(&["1.1.1.1:1", "[::1]:1", "[::2]:1", "[::3]:1"]),
            ["1.1.1.1:1", "[::1]:1", "[::2]:1", "[::3]:1"]
        );
        assert_eq!(
            interleaved(&["1.1.1.1:1", "1.1.1.2:1"]),
            ["1.1.1.1:1", "1.1.1.2:1"]
        );
        assert!(interleaved(&[]).is_empty());
    }
}
