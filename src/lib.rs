//! Deadlines and cancellation that reach PostgreSQL.
