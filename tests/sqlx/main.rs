//! The sqlx door against real servers.
#[test]
fn nothing_yet() {}
