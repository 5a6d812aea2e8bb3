//! What the sessions of one connector know of each server together: how many
//! cancels may be on their way to it (rule 10), and whether the EOF of one
//! proves anything (rule 4).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::connect::dial::Address;

/// One gate a server, shared by all sessions of a connector.
#[derive(Default)]
pub(crate) struct Gates(Mutex<HashMap<Address, Gate>>);

/// What is known of one server.
struct Gate {
    dials: Arc<Semaphore>,
    eof_proves: Option<bool>,
}

impl Gates {
    /// Waits for a place among the dials to this server. Waiting is bounded by
    /// the attempt's own deadline.
    ///
    /// # Cancel safety
    /// Dropping it gives the place in the queue up.
    pub(crate) async fn enter(
        &self,
        server: &Address,
        dials: usize,
    ) -> Option<OwnedSemaphorePermit> {
        let gate = self.with(server, dials, |gate| Arc::clone(&gate.dials));
        gate.acquire_owned().await.ok()
    }

    /// Does the EOF of a cancel prove anything on this server? `None`: nobody
    /// has found out yet.
    pub(crate) fn eof_proves(&self, server: &Address, dials: usize) -> Option<bool> {
        self.with(server, dials, |gate| gate.eof_proves)
    }

    pub(crate) fn set_eof_proves(&self, server: &Address, dials: usize, proves: bool) {
        self.with(server, dials, |gate| gate.eof_proves = Some(proves));
    }

    fn with<T>(&self, server: &Address, dials: usize, look: impl FnOnce(&mut Gate) -> T) -> T {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Gate {
            dials: Arc::new(Semaphore::new(dials)),
            eof_proves: None,
        };
        look(gates.entry(server.clone()).or_insert_with(new))
    }
}
