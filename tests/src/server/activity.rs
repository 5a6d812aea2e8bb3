//! What the server itself says about its backends (`pg_stat_activity`).

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio_postgres::Client;

use super::Server;
use crate::eventually;

/// One backend, as `pg_stat_activity` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its process id.
    pub pid: i32,
    /// `active`, `idle`, `idle in transaction`, ...
    pub state: String,
    /// The query that runs, or the last one.
    pub query: String,
    /// What it waits for, such as `Lock` or `Client`; empty: nothing.
    pub wait_event_type: String,
}

impl Server {
    /// The backends with this application name, oldest first.
    pub async fn backends(&self, application_name: &str) -> Vec<Backend> {
        let admin = self.admin().await;
        self.backends_seen_by(&admin, application_name).await
    }

    /// The state of the one backend with this name; `None`: there is none.
    ///
    /// # Panics
    /// When there are several.
    pub async fn backend_state(&self, application_name: &str) -> Option<String> {
        let mut backends = self.backends(application_name).await;
        assert!(backends.len() < 2, "more than one backend: {backends:?}");
        backends.pop().map(|backend| backend.state)
    }

    /// Waits until a backend runs nothing and has no transaction open.
    ///
    /// # Panics
    /// When the bound has passed, or the backend is gone.
    pub async fn wait_idle(&self, pid: i32, bound: Duration) {
        self.wait_state(pid, "idle", bound).await;
    }

    /// Waits until a backend is in this state.
    ///
    /// # Panics
    /// When the bound has passed, or the backend is gone.
    pub async fn wait_state(&self, pid: i32, state: &str, bound: Duration) {
        let admin = self.admin().await;
        eventually(
            bound,
            format_args!("backend {pid} is {state}"),
            async || {
                let backend = backend(&admin, pid).await;
                let backend = backend.unwrap_or_else(|| panic!("backend {pid} is gone"));
                (backend.state == state).then_some(())
            },
        )
        .await;
    }

    /// Waits until a backend waits for this type of event, such as `Lock`.
    ///
    /// # Panics
    /// When the bound has passed, or the backend is gone.
    pub async fn wait_event_type(&self, pid: i32, event: &str, bound: Duration) {
        let admin = self.admin().await;
        eventually(
            bound,
            format_args!("backend {pid} waits for {event}"),
            async || {
                let backend = backend(&admin, pid).await;
                let backend = backend.unwrap_or_else(|| panic!("backend {pid} is gone"));
                (backend.wait_event_type == event).then_some(())
            },
        )
        .await;
    }

    /// Waits until a backend has ended.
    ///
    /// # Panics
    /// When the bound has passed.
    pub async fn wait_gone(&self, pid: i32, bound: Duration) {
        let admin = self.admin().await;
        eventually(bound, format_args!("backend {pid} has ended"), async || {
            backend(&admin, pid).await.is_none().then_some(())
        })
        .await;
    }

    /// Waits until one of the backends with this name runs `query`.
    ///
    /// # Panics
    /// When the bound has passed.
    pub async fn wait_active(&self, application_name: &str, query: &str, bound: Duration) {
        let admin = self.admin().await;
        let what = format_args!("{application_name} works");
        eventually(bound, what, async || {
            let backends = self.backends_seen_by(&admin, application_name).await;
            let mut active = backends.iter().filter(|b| b.state == "active");
            active.any(|backend| backend.query == query).then_some(())
        })
        .await;
    }

    /// Waits until there are so many backends with this name, and none of them
    /// has anything to do.
    ///
    /// # Panics
    /// When the bound has passed.
    pub async fn wait_quiet(&self, application_name: &str, backends: usize, bound: Duration) {
        let admin = self.admin().await;
        let what = format_args!("{backends} backends of {application_name} are idle");
        eventually(bound, what, async || {
            let all = self.backends_seen_by(&admin, application_name).await;
            let idle = all.iter().all(|backend| backend.state == "idle");
            (all.len() == backends && idle).then_some(())
        })
        .await;
    }

    /// [`Server::backends`] through a client that is there already.
    pub async fn backends_seen_by(&self, admin: &Client, application_name: &str) -> Vec<Backend> {
        ask(admin, "application_name = $1", &[&application_name]).await
    }
}

/// A name that no other test, thread or process has.
pub(crate) fn fresh_application_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("pgdeadline-test-{}-{number}", std::process::id())
}

async fn backend(admin: &Client, pid: i32) -> Option<Backend> {
    ask(admin, "pid = $1", &[&pid]).await.pop()
}

async fn ask(
    admin: &Client,
    condition: &str,
    parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
) -> Vec<Backend> {
    let rows = admin
        .query(
            &format!(
                "SELECT pid, coalesce(state, '') AS state, query, \
                        coalesce(wait_event_type, '') AS wait_event_type \
                 FROM pg_stat_activity WHERE {condition} ORDER BY backend_start"
            ),
            parameters,
        )
        .await
        .expect("the test's own question about pg_stat_activity");
    rows.iter()
        .map(|row| Backend {
            pid: row.get("pid"),
            state: row.get("state"),
            query: row.get("query"),
            wait_event_type: row.get("wait_event_type"),
        })
        .collect()
}
