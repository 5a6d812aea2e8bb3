//! What the demo and the benchmarks share: a PostgreSQL that is found with
//! nothing configured.

pub mod postgres;
