//! Deadlines and cancellation that reach PostgreSQL.
pub mod settings;
mod session;
mod wire;
