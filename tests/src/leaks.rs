//! Counts of what an operation could leave behind: tasks, file descriptors,
//! backends.
//!
//! Take a count before, do the work some hundred times, and let
//! [`Count::assert_no_more`] wait until no more is there than before:
//!
//! - tasks are those of the current runtime, so a test sees only its own;
//! - file descriptors are the process's: a test that counts them must be alone
//!   in its binary, or run with `--test-threads=1`;
//! - backends are those with one application name.
//!
//! Do the work once before the first count: what is made once and kept (a
//! pool's connection, a look-up's thread) is no leak.

use std::fmt;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::server::Server;

/// How long what is on its way out may take to be gone.
const BOUND: Duration = Duration::from_secs(20);

/// What was there at one moment. What was not counted is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Tasks alive in the current runtime.
    pub tasks: Option<usize>,
    /// Open file descriptors of the process.
    pub descriptors: Option<usize>,
    /// Backends with the application name that was asked for.
    pub backends: Option<usize>,
}

impl Count {
    /// Counts the tasks of the current runtime.
    pub fn tasks() -> Count {
        Count {
            tasks: Some(Handle::current().metrics().num_alive_tasks()),
            ..Count::default()
        }
    }

    /// Counts file descriptors too.
    ///
    /// # Panics
    /// Where there is no `/proc/self/fd`: only Linux can be asked so.
    pub fn and_descriptors(self) -> Count {
        let entries = std::fs::read_dir("/proc/self/fd").expect("descriptors are counted on Linux");
        // One of the entries is the descriptor that this very question uses.
        Count {
            descriptors: Some(entries.count() - 1),
            ..self
        }
    }

    /// Counts backends too.
    pub async fn and_backends(self, server: &Server, application_name: &str) -> Count {
        let admin = server.admin().await;
        let backends = server.backends_seen_by(&admin, application_name).await;
        Count {
            backends: Some(backends.len()),
            ..self
        }
    }

    /// Waits until what this count has is no more than it was.
    ///
    /// `server` is asked for backends where the count has them.
    ///
    /// # Panics
    /// When more is left after a generous bound, with both counts.
    pub async fn assert_no_more(self, server: Option<(&Server, &str)>) {
        let began = Instant::now();
        loop {
            let now = self.again(server).await;
            if self.covers(now) {
                return;
            }
            assert!(
                began.elapsed() < BOUND,
                "left behind: there were {self}, there are {now}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn again(self, server: Option<(&Server, &str)>) -> Count {
        let mut now = Count::default();
        if self.tasks.is_some() {
            now.tasks = Count::tasks().tasks;
        }
        if self.descriptors.is_some() {
            now = now.and_descriptors();
        }
        // Last: whoever asks the server is a task and a descriptor himself.
        if self.backends.is_some() {
            let (server, name) = server.expect("the count has backends: name their server");
            now = now.and_backends(server, name).await;
        }
        now
    }

    fn covers(self, now: Count) -> bool {
        now.tasks <= self.tasks
            && now.descriptors <= self.descriptors
            && now.backends <= self.backends
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (number, what) in [
            (self.tasks, "tasks"),
            (self.descriptors, "file descriptors"),
            (self.backends, "backends"),
        ] {
            if let Some(number) = number {
                write!(f, "{separator}{number} {what}")?;
                separator = ", ";
            }
        }
        Ok(())
    }
}
