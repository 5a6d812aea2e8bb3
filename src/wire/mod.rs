//! Splits the byte stream into messages and keeps the ledger of what is owed.
//!
//! This layer knows PostgreSQL's message flow ([protocol, chapter 54]) and
//! nothing of contexts, clocks or sockets. It never allocates for a message
//! and never copies a payload: it hops from header to header over bytes that
//! somebody else holds, cut anywhere.
//!
//! - [`framer`]: message boundaries, the same for both directions;
//! - [`frontend`]: what a client's bytes are: which request they begin,
//!   continue or end;
//! - [`backend`]: what a server's message means for the request at the head;
//! - [`statement`]: the few statements whose text matters (COMMIT, ROLLBACK);
//! - [`saying`]: what a relay's client says to the session itself;
//! - [`ledger`]: the requests between client and server, oldest first;
//! - [`message`]: the messages that the session sends of its own accord.
//!
//! [protocol, chapter 54]: https://www.postgresql.org/docs/current/protocol-flow.html

pub(crate) mod backend;
pub(crate) mod framer;
pub(crate) mod frontend;
pub(crate) mod ledger;
pub(crate) mod message;
pub(crate) mod request;
pub(crate) mod saying;
pub(crate) mod statement;
#[cfg(test)]
pub(crate) mod testing;
