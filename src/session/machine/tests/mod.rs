//! The machine between a client, a server and a clock that tests play.
//!
//! - [`pair`]: the session's place between two byte streams, as `core` and
//!   `driver` have it, with a clock that a test moves;
//! - [`rules_1_to_5`], [`rules_6_to_14`]: a dialogue for each of the rules;
//! - [`world`], [`backend`], [`truth`]: a client, a server and a network that
//!   behave as the real ones may, and what must hold of them at any time;
//! - [`explore`]: the machine in that world under random event sequences;
//! - [`noise`]: the machine under bytes that nobody should send.

mod backend;
mod explore;
mod noise;
mod pair;
mod rules_1_to_5;
mod rules_6_to_14;
mod truth;
mod world;

use pair::{Did, Pair};
