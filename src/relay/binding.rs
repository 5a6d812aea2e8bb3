//! A context on its way to a session behind a relay.
//!
//! What the client can say to the session is text; a context is not. So the
//! text names an entry of a table that the whole process shares, and the
//! session finds the context there.
//!
//! 1. An entry is there from the making of a [`Binding`] until that is dropped.
//! 2. Its number is not used again, so an answer with it is to this statement and
//!    to no other.

use std::borrow::Cow;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::context::Context;
use crate::session::Operation;
use crate::wire::message;
use crate::wire::saying::{Number, Saying};

/// A context on its way to the session behind a [relay](super), by a statement
/// that the session answers itself.
///
/// To be sent as a simple query with nothing else in it, on a connection that
/// came through [`Connector::relay`](crate::Connector::relay).
///
/// ```
/// use pgdeadline::Context;
/// use pgdeadline::relay::Binding;
///
/// let binding = Binding::check_out(Context::current().as_ref());
/// assert!(binding.statement().starts_with("pgdeadline check out "));
/// ```
#[must_use = "send its statement"]
pub struct Binding {
    saying: Saying,
}

impl Binding {
    /// A check-out under `context` (none: the default deadline applies). The
    /// check-out before it is over. The statement is answered once the session
    /// is clean.
    pub fn check_out(context: Option<&Context>) -> Binding {
        let number = context.map_or(NONE, |context| table().add(context.clone()));
        Binding {
            saying: Saying::CheckOut(number),
        }
    }

    /// One operation under `context`, in place of what the connection is checked
    /// out under.
    pub fn operation(context: &Context) -> Binding {
        Binding {
            saying: Saying::Operation(table().add(context.clone())),
        }
    }

    /// What to send. A server that sees it reports a syntax error (42601): no
    /// relay stands in between.
    pub fn statement(&self) -> Cow<'static, str> {
        match self.saying {
            Saying::CheckOut(NONE) => Cow::Borrowed(CHECK_OUT_NONE),
            saying => Cow::Owned(saying.text()),
        }
    }

    fn number(&self) -> u64 {
        match self.saying {
            Saying::CheckOut(number) | Saying::Operation(number) => number,
            Saying::Return => NONE,
        }
    }

    /// Is this the message of the answer to this check-out's statement?
    ///
    /// The answer is an ErrorResponse, of SQLSTATE 00000 (*successful
    /// completion*): the least that a client reads, and nothing that it could
    /// mistake for anything else. Any other answer is one to something else: the
    /// client is out of step, and is to be closed.
    pub fn is_answer(&self, message: &str) -> bool {
        message.strip_prefix(message::BOUND) == Some(Number::new(self.number()).as_str())
    }

    /// The number of rows that the answer to this operation's statement tells.
    ///
    /// That is no error, since the caller may be gone before it comes, and an
    /// error would be taken for that of the statement after it. Any other number
    /// is the answer to something else.
    pub fn expected_rows(&self) -> u64 {
        self.number()
    }

    /// The hold of an [operation](Binding::operation) whose statement was
    /// answered well: dropping it ends the hold. `None` in every other case.
    pub fn into_operation(self) -> Option<Operation> {
        table().entry(self.number())?.operation.take()
    }
}

impl Drop for Binding {
    fn drop(&mut self) {
        if self.number() != NONE {
            let entry = table().remove(self.number());
            // Outside the lock: an operation tells its session.
            drop(entry);
        }
    }
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Binding")
            .field("statement", &self.statement())
            .finish_non_exhaustive()
    }
}

/// The context of a binding; `None`: it is gone, or never was.
pub(super) fn find(number: u64) -> Option<Option<Context>> {
    match number {
        NONE => Some(None),
        _ => table()
            .entry(number)
            .map(|entry| Some(entry.context.clone())),
    }
}

/// The number of a check-out without a context, which needs no entry.
const NONE: u64 = 0;
const CHECK_OUT_NONE: &str = "pgdeadline check out 0000000000000000";

/// Hands over the hold of an operation. Where nobody waits for it any more it is
/// given back.
pub(super) fn hand_over(number: u64, operation: Operation) -> Option<Operation> {
    match table().entry(number) {
        Some(entry) => entry.operation.replace(operation),
        None => Some(operation),
    }
}

/// Few are ever there at once, each for one round trip inside the process: it
/// is searched from end to end.
struct Table {
    next: u64,
    entries: Vec<Entry>,
}

struct Entry {
    number: u64,
    context: Context,
    operation: Option<Operation>,
}

impl Table {
    fn add(&mut self, context: Context) -> u64 {
        if self.next == NONE {
            // Another process's bindings are not taken for ours.
            self.next = 1 + (RandomState::new().hash_one(0) >> 16);
        }
        let number = self.next;
        self.next += 1;
        self.entries.push(Entry {
            number,
            context,
            operation: None,
        });
        number
    }

    fn entry(&mut self, number: u64) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.number == number)
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let at = self
            .entries
            .iter()
            .position(|entry| entry.number == number)?;
        Some(self.entries.swap_remove(at))
    }
}

fn table() -> MutexGuard<'static, Table> {
    static TABLE: Mutex<Table> = Mutex::new(Table {
        next: NONE,
        entries: Vec::new(),
    });
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_is_found_as_long_as_it_is_there() {
        let context = Context::background().child();
        let binding = Binding::check_out(Some(&context));
        let none = Binding::check_out(None);
        let number = binding.number();
        let answer = format!("pgdeadline: bound {number:016x}");
        assert!(binding.is_answer(&answer));
        assert!(!none.is_answer(&answer) && !none.is_answer("bound"));
        assert_eq!(find(number).flatten().as_ref(), Some(context.context()));
        assert_eq!(find(none.number()), Some(None));
        drop(binding);
        assert_eq!(find(number), None);
    }

    #[test]
    fn the_statement_names_it() {
        let context = Context::background();
        let binding = Binding::operation(&context);
        for binding in [
            &binding,
            &Binding::check_out(None),
            &Binding::check_out(Some(&context)),
        ] {
            let said = Saying::of(binding.statement().as_bytes());
            assert_eq!(said, Some(binding.saying));
        }
        assert!(binding.into_operation().is_none(), "nobody has answered");
    }
}
