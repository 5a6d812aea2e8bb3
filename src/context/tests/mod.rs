//! What a context does, one file a subject. Polled by hand, with counted
//! wakers, wherever a wake-up is part of the promise; in paused time wherever
//! a moment is.

mod ambient;
mod deadline;
mod observe;
mod run;
mod timekeeper;
mod token;
mod tree;
mod try_run;
mod unread;

use super::{Context, End, Observer, Progress};
use crate::error::Phase;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{self, Poll, Wake, Waker};

/// A waker that counts.
struct Wakes {
    count: AtomicUsize,
}

impl Wakes {
    fn new() -> (Arc<Wakes>, Waker) {
        let wakes = Arc::new(Wakes {
            count: AtomicUsize::new(0),
        });
        (wakes.clone(), Waker::from(wakes))
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Wakes>) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

fn poll<F: Future>(future: Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    future.poll(&mut task::Context::from_waker(waker))
}

/// An observer that writes down what it is told, and says what it is made to.
struct Recorder {
    told: Mutex<Vec<String>>,
    progress: Option<Progress>,
}

impl Recorder {
    fn new() -> (Arc<Recorder>, Arc<dyn Observer>) {
        Recorder::saying(None)
    }

    /// One that says that the work is in `phase`, its request sent.
    fn in_phase(phase: Phase) -> (Arc<Recorder>, Arc<dyn Observer>) {
        Recorder::saying(Some(Progress {
            phase,
            sent: Some(true),
            commit_in_doubt: false,
        }))
    }

    fn saying(progress: Option<Progress>) -> (Arc<Recorder>, Arc<dyn Observer>) {
        let recorder = Arc::new(Recorder {
            told: Mutex::default(),
            progress,
        });
        (recorder.clone(), recorder)
    }

    fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }
}

impl Observer for Recorder {
    fn ended(&self, key: u64, end: &End) {
        self.told.lock().unwrap().push(format!("{key}: {end}"));
    }

    fn finished(&self, key: u64) {
        self.told.lock().unwrap().push(format!("{key}: finished"));
    }

    fn progress(&self, _key: u64) -> Option<Progress> {
        self.progress
    }
}

/// Calls a closure when dropped: where in the order of things a future goes.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A future that never is ready and holds `held` until it is dropped.
async fn holding<T>(held: T) {
    let _held = held;
    std::future::pending().await
}

/// The words of a context's end.
fn end_of(ctx: &Context) -> Option<String> {
    ctx.end().map(|end| end.to_string())
}
