//! Tests of the tests' own support: what it promises, it does.

mod eventually;
mod leaks;
mod scripted;
mod server;
