//! The machine, explored: every state that it can reach, up to stated bounds,
//! in a world of a client's queue, a server, a network and those who hold the
//! session.
//!
//! - [`words`]: requests and messages; [`server`]: a backend;
//! - [`world`], with [`holders`] and [`client`]: the state; [`names`]: which
//!   states are the same;
//! - [`steps`]: what may happen next; [`telling`]: how a trace is told;
//! - [`rules`]: what must hold, one function a rule;
//! - [`search`]: all states, and what holds of them as a whole (rule 2);
//! - [`plan`], [`explore`]: the bounds, and the tests;
//! - [`mutations`]: each rule switched off, and noticed.
//!
//! What is modelled, what is not, and the figures: `docs/reliability.md`.

mod client;
mod explore;
mod holders;
mod mutations;
mod names;
mod plan;
mod rules;
mod search;
mod server;
mod steps;
mod telling;
mod words;
mod world;
