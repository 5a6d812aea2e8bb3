//! The relay alone: a client that opens its own socket, a server that plays its
//! part step by step, and nothing of sqlx.
//!
//! One module a theme. Time is paused, so that it can be told exactly when each
//! thing happened. [`stage`] has what all of them use, [`client`] the client,
//! [`say`] what it says, [`server`] a server that plays by itself.

mod binding;
mod client;
mod copies;
mod counts;
mod leaving;
mod noise;
mod operations;
mod reflex;
mod returns;
mod say;
mod server;
mod server_gone;
mod sizes;
mod splits;
mod stage;
mod start_up;
mod start_up_failures;
mod target;
