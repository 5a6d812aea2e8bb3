//! Support for the integration tests of `pgdeadline`.
//!
//! | module | what it offers |
//! | --- | --- |
//! | [`server`] | real PostgreSQL servers, in containers |
//! | [`between`] | pgbouncer, HAProxy and a packet filter before them, in containers |
//! | [`scripted`] | a server that misbehaves on request, over a network in memory or on 127.0.0.1 |
//! | [`proxy`] | a proxy before a real server, that holds answers up and loses cancels |
//! | [`black_hole`] | an address that neither accepts nor refuses |
//! | [`leaks`] | counts of what an operation could leave behind |
//! | [`listen`](mod@listen) | what `tracing` tells in one test |
//! | [`bounds`], [`paused`] | bounds for tests on real servers; exact times for those under paused time |
//! | [`told`], [`truth`] | what callers were told, and whether it is so |
//! | [`eventually`](mod@eventually) | waiting, with a bound, until something is so |
//!
//! How tests are written here:
//!
//! 1. Nothing is asserted on a short absolute time: machines stall. Exact
//!    timing is tested under `start_paused = true`, with [`scripted`].
//! 2. A wait has a bound, and its panic says what was waited for.
//! 3. A test on the shared server has an application name of its own
//!    ([`server::Server::config`]), so tests run in parallel; one that pauses,
//!    stops or reconfigures a server starts its own.
//! 4. Nothing is left behind, also by a test that panics: see [`server`].

pub mod between;
pub mod black_hole;
pub mod bounds;
mod docker;
pub mod eventually;
pub mod leaks;
pub mod listen;
pub mod paused;
pub mod proxy;
pub mod scripted;
pub mod server;
pub mod told;
pub mod truth;

pub use eventually::eventually;
pub use listen::{listen, trace_if_asked};

/// The README's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
