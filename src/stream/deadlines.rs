//! The deadlines themselves, shared by a stream and its handles.
//!
//! All that changes is changed under one lock. Beside it stands a byte of
//! flags, written under the lock and read without it, so that a poll of a
//! stream that has no deadline costs one load.
//!
//! 1. A waker is put in place before its task looks at the deadline; a handle
//!    changes the deadline before it takes the waker. So one of the two sees
//!    the other: a move is never missed.
//! 2. A waker is taken to be woken, never woken in place: while its flag is
//!    set it is there, and the task need not put it there again.
//! 3. Nobody is woken under the lock.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use tokio::time::Instant;

/// Sets the deadlines of a [`DeadlineStream`](super::DeadlineStream), from
/// its own task or from another.
///
/// Cheap to clone; all clones and the stream mean the same deadlines. Setting
/// one on a stream that is gone does nothing.
#[derive(Clone)]
pub struct Deadlines(Arc<Shared>);

impl Deadlines {
    pub(super) fn new() -> Self {
        Deadlines(Arc::new(Shared {
            flags: AtomicU8::new(0),
            state: Mutex::new(State::default()),
        }))
    }

    /// Sets the deadline of reads: absolute, `None` for never, one that has
    /// passed for at once. A pending read is told.
    pub fn set_read_deadline(&self, deadline: Option<Instant>) {
        self.0.set(deadline, &[Direction::Read]);
    }

    /// Sets the deadline of writes. A pending write is told.
    pub fn set_write_deadline(&self, deadline: Option<Instant>) {
        self.0.set(deadline, &[Direction::Write]);
    }

    /// Sets both deadlines.
    pub fn set_deadline(&self, deadline: Option<Instant>) {
        self.0.set(deadline, &[Direction::Read, Direction::Write]);
    }

    /// Whether neither direction has a deadline: one load.
    pub(super) fn none_set(&self) -> bool {
        self.0.flags.load(Ordering::Acquire) & (Direction::Read.set() | Direction::Write.set()) == 0
    }

    pub(super) fn get(&self, direction: Direction) -> Option<Instant> {
        if self.0.flags.load(Ordering::Acquire) & direction.set() == 0 {
            return None;
        }
        self.0.lock().deadlines[direction as usize]
    }

    pub(super) fn passed(&self, direction: Direction) -> bool {
        self.get(direction)
            .is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Puts the waker of a pending operation in place (rule 1). Where it is in
    /// place already (rule 2) this costs one load.
    pub(super) fn wait(&self, direction: Direction, waiting: &mut Waiting, waker: &Waker) {
        let in_place = self.0.flags.load(Ordering::Acquire) & direction.waiting() != 0;
        if in_place && waiting.0.as_ref().is_some_and(|own| own.will_wake(waker)) {
            return;
        }
        let mut state = self.0.lock();
        state.wakers[direction as usize] = Some(waker.clone());
        self.0.publish(&state);
        drop(state);
        waiting.0 = Some(waker.clone());
    }

    /// A waker for the timer: wakes whoever waits, in both directions.
    pub(super) fn waker(&self) -> Waker {
        Waker::from(self.0.clone())
    }
}

impl std::fmt::Debug for Deadlines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deadlines")
            .field("read", &self.get(Direction::Read))
            .field("write", &self.get(Direction::Write))
            .finish()
    }
}

/// Which side of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Read = 0,
    Write = 1,
}

impl Direction {
    pub(super) fn timed_out(self) -> io::Error {
        let text = match self {
            Direction::Read => "the read deadline has passed",
            Direction::Write => "the write deadline has passed",
        };
        io::Error::new(io::ErrorKind::TimedOut, text)
    }

    /// The flag: a deadline is set.
    fn set(self) -> u8 {
        1 << (self as u8)
    }

    /// The flag: a waker is in place.
    fn waiting(self) -> u8 {
        4 << (self as u8)
    }
}

/// The stream's own copy of the waker that it put in place, so that finding it
/// there again needs no lock.
#[derive(Debug)]
pub(super) struct Waiting(Option<Waker>);

impl Waiting {
    pub(super) fn new() -> Self {
        Waiting(None)
    }
}

struct Shared {
    flags: AtomicU8,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    deadlines: [Option<Instant>; 2],
    wakers: [Option<Waker>; 2],
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the flags say what the state says; called under the lock.
    fn publish(&self, state: &State) {
        let mut flags = 0;
        for direction in [Direction::Read, Direction::Write] {
            if state.deadlines[direction as usize].is_some() {
                flags |= direction.set();
            }
            if state.wakers[direction as usize].is_some() {
                flags |= direction.waiting();
            }
        }
        self.flags.store(flags, Ordering::Release);
    }

    fn set(&self, deadline: Option<Instant>, directions: &[Direction]) {
        let mut state = self.lock();
        let mut wake = [None, None];
        for &direction in directions {
            let old = std::mem::replace(&mut state.deadlines[direction as usize], deadline);
            // A later deadline wakes nobody: the timer set for the old one
            // fires, and the task then looks at the new one. One taken away
            // does wake, so that the timer goes with the last of them.
            let matters = match (old, deadline) {
                (Some(old), Some(new)) => new < old,
                (None, None) => false,
                _ => true,
            };
            if matters {
                wake[direction as usize] = state.wakers[direction as usize].take();
            }
        }
        self.publish(&state);
        drop(state);
        wake.into_iter().flatten().for_each(Waker::wake);
    }
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = self.lock();
        let wakers = std::mem::take(&mut state.wakers);
        self.publish(&state);
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}
