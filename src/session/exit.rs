//! Cancels that must still get out while everything else ends (rule 8).
//!
//! 1. An attempt is a task. A task that is dropped unfinished is dropped
//!    because its runtime is going; its drop hands a fresh attempt to one
//!    helper thread, which has a runtime of its own.
//! 2. Whoever hands over waits until it is written, for what is left of one
//!    bound a process: hundreds of sessions don't add up.

use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::warn;

use super::cancel::{Target, farewell};
use super::gate::Gates;
use crate::connect::Transport;

/// What a session leaves behind that is gone.
pub(crate) struct Left {
    /// Whom the cancel is for.
    pub(crate) target: Target,
    /// The session's own socket, where it stays open until the attempt is over:
    /// a pooler forgets a client's key when the client leaves, and the cancel
    /// would be nobody's.
    pub(crate) socket: Option<Transport>,
}

/// Sends a cancel for a session that is gone: as a task where there is a
/// runtime, else through the helper thread.
pub(crate) fn send(left: Left) {
    let attempt = Departing::new(left);
    match Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn(attempt)),
        Err(_) => drop(attempt),
    }
}

/// An attempt that survives its runtime.
pub(crate) struct Departing<F = Pin<Box<dyn Future<Output = ()> + Send>>> {
    target: Option<Target>,
    attempt: Option<F>,
    /// Nobody looks at it: it is only to be open for as long.
    socket: Option<Transport>,
}

impl Departing {
    /// The cancel of a session that is gone.
    pub(crate) fn new(Left { target, socket }: Left) -> Self {
        let bound = target.connector.settings().grace;
        let again = target.clone();
        let attempt = Box::pin(async move {
            let until = tokio::time::Instant::now() + bound;
            farewell(again, until, None, || ()).await;
        });
        let mut departing: Departing = Departing::of(target, attempt);
        departing.socket = socket;
        departing
    }
}

impl<F: Future<Output = ()>> Departing<F> {
    /// `attempt`, and what to do if it is dropped unfinished.
    pub(crate) fn of(target: Target, attempt: F) -> Self {
        Departing {
            target: Some(target),
            attempt: Some(attempt),
            socket: None,
        }
    }
}

impl<F: Future<Output = ()> + Unpin> Future for Departing<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(attempt) = &mut self.attempt else {
            return Poll::Ready(());
        };
        let poll = Pin::new(attempt).poll(cx);
        if poll.is_ready() {
            self.attempt = None;
            self.target = None;
            self.socket = None;
        }
        poll
    }
}

impl<F> Drop for Departing<F> {
    fn drop(&mut self) {
        // Its sockets belong to the runtime that is going.
        self.attempt = None;
        if let Some(target) = self.target.take() {
            hand_over(target);
        }
    }
}

/// Gives a cancel to the helper thread and waits until it is written, within
/// the bound: from there on the kernel sees to it, also when the process ends.
fn hand_over(target: Target) {
    let bound = target.connector.settings().exit_bound;
    let (written, is_written) = channel();
    if helper().send(Job { target, written }).is_err() {
        return;
    }
    let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    let patience = *left.get_or_insert(bound);
    let started = Instant::now();
    if is_written.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
        warn!(target: "pgdeadline", ?bound, "the process ends with a cancel still on its way");
    }
    *left = Some(patience.saturating_sub(started.elapsed()));
}

/// What is left of the process's bound, all hand-overs together.
static LEFT: Mutex<Option<Duration>> = Mutex::new(None);

/// A cancel for the helper thread, and whom to tell that it is written or has
/// come to nothing.
struct Job {
    target: Target,
    written: Sender<()>,
}

/// The way to the helper thread, which is started by the first that needs it.
fn helper() -> UnboundedSender<Job> {
    static HELPER: OnceLock<UnboundedSender<Job>> = OnceLock::new();
    let start = || {
        let (jobs, work) = unbounded_channel();
        let thread = std::thread::Builder::new().name("pgdeadline-exit".into());
        if let Err(error) = thread.spawn(move || serve(work)) {
            warn!(target: "pgdeadline", %error, "no thread for the cancels of ending sessions");
        }
        jobs
    };
    HELPER.get_or_init(start).clone()
}

/// Makes the attempts side by side, as many as the gates let through.
fn serve(mut work: UnboundedReceiver<Job>) {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            warn!(target: "pgdeadline", %error, "no runtime for the cancels of ending sessions");
            return;
        }
    };
    // Of its own: places at the connector's may be held by attempts of the
    // runtime that is going, which nobody polls any more.
    let gates = Arc::new(Gates::default());
    runtime.block_on(async {
        while let Some(Job { target, written }) = work.recv().await {
            let until = tokio::time::Instant::now() + target.connector.settings().grace;
            let gates = Arc::clone(&gates);
            tokio::spawn(async move {
                // Nobody may be waiting any more.
                let written = || {
                    let _ = written.send(());
                };
                farewell(target, until, Some(&gates), written).await;
            });
        }
    });
}
