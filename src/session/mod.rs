//! One server connection, from start-up to close.
pub(crate) mod machine;
