//! Whole answers of a server's.

use super::Message;
use super::message;

/// What it says to a statement that it was made to cancel.
pub fn canceled(status: u8) -> Message {
    [
        message::error("57014", "canceling statement due to user request"),
        message::ready_for_query(status),
    ]
    .into()
}

/// What it says to a statement without rows.
pub fn done(tag: &str, status: u8) -> Message {
    [
        message::command_complete(tag),
        message::ready_for_query(status),
    ]
    .into()
}

/// The beginning of what it says to a Query with rows.
pub fn first_rows(count: usize) -> Message {
    [
        message::row_description(&[("n", message::TEXT)]),
        message::rows(count),
    ]
    .into()
}

/// All that it says to a Query that has so many rows.
pub fn rows(count: usize) -> Message {
    [first_rows(count), done(&format!("SELECT {count}"), b'I')].into()
}
