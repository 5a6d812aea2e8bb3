//! Every number that decides how long something may take, in one place.
//!
//! Each default is documented with its reason and what changing it costs.

use std::time::Duration;

/// What a proxy's EOF on a cancel connection proves (rule 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum EofProof {
    /// Found out once a server: the process id in BackendKeyData is compared
    /// with `pg_backend_pid()`; a difference is a pooler, and its EOF proves
    /// nothing.
    #[default]
    Automatic,
    /// The other side closes a cancel connection only after the server has
    /// handled the request: PostgreSQL itself, or a proxy known to wait.
    Proof,
    /// EOF proves nothing: a session that was cancelled is retired.
    NoProof,
}

/// The times and bounds of a [`Connector`](crate::Connector).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// How long after an end a session may take to become clean (cancel dial,
    /// TLS, EOF, resends, drain and clean-up together) before it is retired.
    ///
    /// 2 s: a cancel on a healthy server is over in milliseconds; a server
    /// that needs longer is better left than waited for. 10 ms to 60 s.
    pub grace: Duration,
    /// Pauses before a cancel is sent again while the ended work is still in
    /// flight; the last one repeats.
    ///
    /// 50, 100, 200, then 500 ms: a signal that fell between two messages is
    /// lost, so the first repeat is soon; the rest spare a busy server.
    pub resend: [Duration; 4],
    /// How many CancelRequests may be on their way to one server at once.
    ///
    /// 8: each is a connection, and a fork, on the server (though no place in
    /// its `max_connections`).
    pub cancel_dials: usize,
    /// Bound of a whole connect (resolve, connect, TLS, start-up) where
    /// neither the context nor the configuration has one.
    ///
    /// 10 s: longer than a failover's DNS change and a slow TLS handshake.
    pub connect_deadline: Duration,
    /// Head start of one address before the next is tried beside it.
    ///
    /// 250 ms: RFC 8305, section 5.
    pub race_step: Duration,
    /// How long a check-out waits for a session that is still draining before
    /// it takes another.
    ///
    /// 50 ms: a cancel takes a few milliseconds; a new connection about as
    /// long as this.
    pub checkout_wait: Duration,
    /// How often a pool is searched for sessions that were returned with work
    /// in flight, while there is any.
    ///
    /// 100 ms: bounds what an abandoned query costs the server.
    pub sweep: Duration,
    /// How long work may run on after its context finished, where there was
    /// no deadline.
    ///
    /// 30 s: long enough for a statement with effects, short enough for a
    /// pool.
    pub finish_bound: Duration,
    /// How long the process may be held up at its end by cancels that must
    /// still get out.
    ///
    /// 200 ms a process: several round trips inside one data centre.
    pub exit_bound: Duration,
    /// Deadline of a request for which no context is bound, from when the
    /// session sees it to its ReadyForQuery. Off unless set.
    pub default_deadline: Option<Duration>,
    /// What the EOF of a cancel connection proves.
    pub eof_proof: EofProof,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            grace: Duration::from_secs(2),
            resend: [50, 100, 200, 500].map(Duration::from_millis),
            cancel_dials: 8,
            connect_deadline: Duration::from_secs(10),
            race_step: Duration::from_millis(250),
            checkout_wait: Duration::from_millis(50),
            sweep: Duration::from_millis(100),
            finish_bound: Duration::from_secs(30),
            exit_bound: Duration::from_millis(200),
            default_deadline: None,
            eof_proof: EofProof::Automatic,
        }
    }
}
