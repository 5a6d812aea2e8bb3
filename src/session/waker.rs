//! Whose a request is (rule 7): told by who wakes the connection task.
//!
//! A `tokio_postgres::Client` that queues a request wakes the connection in
//! the caller's own poll, where the ambient context can be read. So the driver
//! polls tokio-postgres's `Connection` with this waker, and the socket with
//! the task's own.
//!
//! What a note means for the requests that come out of the next poll is decided
//! in [`attribution`](super::attribution). Whoever is noted is promised that its
//! deadline is kept (rule 12), right there in its own poll: `run` then needs no
//! timer.
//!
//! A client wakes once until the connection is polled. So a note is also
//! flagged as unread in the caller's thread: a `run` or `scope` that begins
//! there lets the connection be polled first, and then wakes by itself what
//! would else be nobody's. tokio-postgres queues a Close of its own accord when
//! a `Statement` drops, so without this the request after a query by text would
//! be nobody's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

use crate::context::{Context, Unread};

/// The waker that tokio-postgres's `Connection` is polled with.
pub(crate) struct ConnectionWaker {
    task: Mutex<Option<Waker>>,
    note: Mutex<Note>,
    woken: AtomicBool,
    unread: Unread,
    /// Nobody polls the connection any more: nothing is promised.
    closed: AtomicBool,
}

/// Who woke the connection since it was polled last.
#[derive(Default)]
pub(crate) enum Note {
    /// Nobody.
    #[default]
    Quiet,
    /// One context, so often; `None`: outside any.
    One { wakes: u32, who: Option<Context> },
    /// Several.
    Several,
}

impl Note {
    /// The notes of two times together. Promises are left to the caller.
    pub(crate) fn and(self, later: Note) -> Note {
        match (self, later) {
            (Note::Quiet, note) | (note, Note::Quiet) => note,
            (
                Note::One { wakes, who },
                Note::One {
                    wakes: more,
                    who: other,
                },
            ) if same(who.as_ref(), other.as_ref()) => Note::One {
                wakes: wakes.saturating_add(more),
                who,
            },
            _ => Note::Several,
        }
    }
}

impl ConnectionWaker {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(ConnectionWaker {
            task: Mutex::new(None),
            note: Mutex::new(Note::Quiet),
            woken: AtomicBool::new(false),
            unread: Unread::default(),
            closed: AtomicBool::new(false),
        })
    }

    /// The task that is to be woken.
    pub(crate) fn register(&self, task: &Waker) {
        let mut slot = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *slot {
            Some(known) => known.clone_from(task),
            none => *none = Some(task.clone()),
        }
    }

    /// Wakes the task for the session's own sake: says nothing of a caller.
    pub(crate) fn wake_task(&self) {
        let task = self
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Has anybody woken the connection since it was polled last?
    pub(crate) fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Acquire)
    }

    /// Who it was. To be called before the poll: what wakes during the poll is
    /// for the next. The promise to keep its time passes to the caller.
    pub(crate) fn take(&self) -> Note {
        self.unread.lower();
        if !self.woken.swap(false, Ordering::AcqRel) {
            return Note::Quiet;
        }
        std::mem::take(&mut *self.note.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The connection is not polled any more.
    pub(crate) fn close(&self) {
        let mut note = self.note.lock().unwrap_or_else(PoisonError::into_inner);
        self.closed.store(true, Ordering::Release);
        self.unread.lower();
        let last = std::mem::take(&mut *note);
        drop(note);
        if let Note::One {
            who: Some(context), ..
        } = last
        {
            context.leave_time();
        }
    }

    fn note(&self, who: Option<Context>) {
        let mut note = self.note.lock().unwrap_or_else(PoisonError::into_inner);
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        let before = std::mem::take(&mut *note);
        let promised = match &before {
            Note::One { who, .. } => who.clone(),
            _ => None,
        };
        *note = before.and(Note::One { wakes: 1, who });
        // Exactly the one context that a note names has a promise of ours.
        let withdrawn = match &*note {
            Note::One {
                who: Some(context), ..
            } if promised.is_none() => {
                context.keep_time();
                None
            }
            Note::One { .. } => None,
            _ => promised,
        };
        self.unread.raise();
        self.woken.store(true, Ordering::Release);
        drop(note);
        if let Some(context) = withdrawn {
            context.leave_time();
        }
    }
}

impl Wake for ConnectionWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.note(Context::current());
        self.wake_task();
    }
}

impl Drop for ConnectionWaker {
    fn drop(&mut self) {
        if let Note::One {
            who: Some(context), ..
        } = self.take()
        {
            context.leave_time();
        }
    }
}

fn same(one: Option<&Context>, other: Option<&Context>) -> bool {
    one.map(Context::id) == other.map(Context::id)
}

#[cfg(all(test, not(pgdeadline_loom)))]
mod tests {
    use super::*;
    use std::future::{Future, ready};
    use std::pin::pin;
    use std::task;

    /// Does what begins in this thread let a connection be polled first?
    fn is_unread() -> bool {
        let mut cx = task::Context::from_waker(Waker::noop());
        let context = Context::background();
        pin!(context.scope(ready(()))).poll(&mut cx).is_pending()
    }

    #[test]
    fn a_note_is_unread_until_the_connection_is_polled() {
        let waker = ConnectionWaker::new();
        waker.wake_task();
        assert!(!is_unread(), "for the session's own sake");
        waker.wake_by_ref();
        assert!(is_unread());
        assert!(matches!(
            waker.take(),
            Note::One {
                wakes: 1,
                who: None
            }
        ));
        assert!(!is_unread());
    }

    #[test]
    fn a_connection_that_is_polled_no_more_leaves_nothing_unread() {
        let closed = ConnectionWaker::new();
        closed.wake_by_ref();
        closed.close();
        assert!(!is_unread());
        closed.wake_by_ref();
        assert!(!is_unread());

        let dropped = ConnectionWaker::new();
        dropped.wake_by_ref();
        drop(dropped);
        assert!(!is_unread());
    }
}
