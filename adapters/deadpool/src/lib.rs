//! A stock deadpool-postgres pool whose deadlines reach the server.
