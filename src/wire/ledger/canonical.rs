//! For a model: two ledgers that will behave alike are the same.

use std::hash::{Hash, Hasher};

use super::Ledger;

impl Ledger {
    /// Counts the requests from [`FIRST`]; returns by how much the numbers went
    /// down. What is over is older than the first, and no more is known of it.
    pub(crate) fn renumber(&mut self) -> impl Fn(u64) -> u64 + use<> {
        let was = self.first;
        let renumbered = move |number: u64| (number + FIRST).saturating_sub(was);
        self.first = FIRST;
        for part in &mut self.parts {
            part.request = renumbered(part.request).max(FIRST - 1);
        }
        for number in [
            self.open.as_mut(),
            self.last.as_mut().map(|(number, _)| number),
        ]
        .into_iter()
        .flatten()
        {
            *number = renumbered(*number).max(FIRST - 1);
        }
        renumbered
    }
}

/// The facts of start-up, and whether it is over, are the same in a whole model.
impl Hash for Ledger {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Ledger {
            frontend,
            backend,
            writer,
            requests,
            first: _,
            parts,
            open,
            last,
            tail_sync_due,
            client_copies,
            own,
            listens,
            terminates,
            starting: _,
            negotiations: _,
            server,
            client,
            told_open,
            fate,
            facts: _,
        } = self;
        (frontend, backend, writer, requests, parts).hash(state);
        (open, last, tail_sync_due, client_copies, own, listens).hash(state);
        (server, client, told_open, terminates).hash(state);
        // It is of the message that is being read.
        (!backend.at_boundary()).then_some(fate).hash(state);
    }
}

const FIRST: u64 = 2;
