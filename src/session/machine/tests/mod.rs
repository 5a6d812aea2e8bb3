//! The machine between a client, a server and a clock that tests play.
//!
//! - [`pair`]: the session's place between two byte streams, as `core` and
//!   `driver` have it, with a clock that a test moves;
//! - [`rules_1_to_3`], [`rules_4_and_5`], [`rule_6`], [`rules_7_to_14`],
//!   [`copies`], [`sayings`]: a dialogue for each of the rules;
//! - [`world`], with [`holders`], [`client`], [`backend`]: a pool, a client, a
//!   server and a network that behave as the real ones may;
//! - [`relayed`], [`between`]: in place of that client one like sqlx, and the
//!   relay before it;
//! - [`truth`]: what must hold of them at any time;
//! - [`explore`], [`explore_relayed`]: the machine in that world under random
//!   event sequences;
//! - [`noise`]: the machine under bytes that nobody should send.

mod backend;
mod between;
mod client;
mod copies;
mod explore;
mod explore_relayed;
mod holders;
mod noise;
mod pair;
mod relayed;
mod rule_6;
mod rules_1_to_3;
mod rules_4_and_5;
mod rules_7_to_14;
mod sayings;
mod truth;
mod world;

use pair::{Did, Pair};
