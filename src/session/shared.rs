//! One session, as its stream, its driver and its handles share it.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{debug, trace};

use super::cancel::Target;
use super::core::Core;
use super::exit::Left;
use super::machine::{Machine, Outcome};
use super::stream::SessionStream;
use super::waker::{ConnectionWaker, Note};
use crate::connect::{Connector, Peer, Transport};
use crate::context::{Context, End, Observer, Over, Progress};
use crate::error::Phase;
use crate::wire::request::LeaseId;

/// See the [module](self).
///
/// Lock order: this core, then the tree of contexts. A context calls its
/// observers outside every lock of the tree, but in whatever thread notices an
/// end; so nothing that may notice one, by the clock or otherwise, is asked of
/// a context while this core is locked.
pub(crate) struct Shared {
    core: Mutex<Core>,
    pub(super) waker: Arc<ConnectionWaker>,
    /// Woken when a check-out that waits should look again.
    pub(super) changed: Notify,
    /// Woken when it is closed: who waits for nothing else is not woken for
    /// each request.
    pub(super) closed: Notify,
    pub(super) connector: Connector,
    pub(super) peer: Arc<Peer>,
    /// Told when a request has been in flight for longer than the sweep
    /// interval.
    pub(super) on_busy: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// Looks at what a client behind a socket has said that nobody has looked at.
    look: OnceLock<Look>,
    this: Weak<Shared>,
}

/// Says whether it could: whether all that the client has said is known now.
type Look = Box<dyn Fn(&Shared) -> bool + Send + Sync>;

/// Opens a session over a transport on which nothing was said yet.
pub(crate) fn open(
    transport: Transport,
    peer: Arc<Peer>,
    connector: Connector,
) -> (SessionStream, Arc<Shared>) {
    let machine = Machine::new(*connector.settings(), invented_key());
    let shared = Arc::new_cyclic(|this| Shared {
        this: Weak::clone(this),
        core: Mutex::new(Core::new(machine, transport)),
        waker: ConnectionWaker::new(),
        changed: Notify::new(),
        closed: Notify::new(),
        connector,
        peer,
        on_busy: OnceLock::new(),
        look: OnceLock::new(),
    });
    (
        SessionStream {
            shared: Arc::clone(&shared),
        },
        shared,
    )
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client says what it says through a socket: `look` looks there.
    pub(crate) fn set_look(&self, look: impl Fn(&Shared) -> bool + Send + Sync + 'static) {
        let _ = self.look.set(Box::new(look));
    }

    /// Looks at what the client has said. Not to be called with the core locked.
    /// `true`: all of it is known now.
    pub(super) fn look(&self) -> bool {
        self.look.get().is_none_or(|look| look(self))
    }

    /// Whom a cancel of this session is for; `None`: the server sent no key.
    pub(super) fn target(&self, core: &Core) -> Option<Target> {
        let facts = core.machine.facts();
        (!facts.key.is_empty()).then(|| Target {
            connector: self.connector.clone(),
            peer: Arc::clone(&self.peer),
            process_id: facts.process_id,
            key: facts.key.clone(),
        })
    }

    /// Whom a last cancel is for if this session is dropped or closed now: work
    /// in flight that nobody wants any more (rule 8). To be closed right after.
    pub(super) fn left_behind(&self, core: &mut Core) -> Option<Left> {
        if core.is_closed() || !core.machine.leaves_work() {
            return None;
        }
        let target = self.target(core)?;
        let socket = match core.machine.eof_proves() {
            true => None,
            false => core.take_transport(),
        };
        Some(Left { target, socket })
    }

    /// Wakes all who wait for anything, or for the close: to be called when it
    /// is closed.
    pub(super) fn tell_closed(&self) {
        self.changed.notify_waiters();
        self.closed.notify_waiters();
    }

    pub(super) fn attempt_over(&self, number: u32, outcome: Outcome) {
        self.lock()
            .machine
            .handle_attempt_over(number, outcome, Instant::now());
        self.waker.wake_task();
    }

    /// This session, from inside a callback of it: somebody holds it there.
    fn this(&self) -> Arc<dyn Observer> {
        match self.this.upgrade() {
            Some(this) => this,
            None => unreachable!("an observer is called by a tree that holds it"),
        }
    }

    pub(super) fn observer(self: &Arc<Self>) -> Arc<dyn Observer> {
        Arc::clone(self) as Arc<dyn Observer>
    }

    /// Binds the context of a check-out or of an operation to its lease.
    pub(crate) fn bind(self: &Arc<Self>, core: &mut Core, lease: LeaseId, context: &Context) {
        let now = Instant::now();
        if context.is_run() {
            core.machine.set_runs(lease);
        }
        match core.bound.bind(lease, context, &self.observer()) {
            Ok(()) => {
                let process_id = core.machine.facts().process_id;
                trace!(target: "pgdeadline", process_id, lease = lease.0, deadline = ?context.remaining(), "lease bound");
            }
            Err(Over::Ended(_)) => core.machine.handle_ended(lease, now),
            Err(Over::Finished) => core.machine.handle_finished(lease, now),
        }
    }

    /// Before a poll of the client: whose the first request out of it is, as
    /// far as that is certain (rule 7). The note is to be handed to
    /// [`attribute_late`](Shared::attribute_late) after it.
    pub(super) fn attribute(self: &Arc<Self>, core: &mut Core, note: &Note) {
        core.seen = match core.attribution.certain(note) {
            Some(context) => self.lease_of(core, context),
            None => None,
        };
    }

    /// After a poll of the client: a request of which it is known only now
    /// whose it is.
    pub(super) fn attribute_late(self: &Arc<Self>, core: &mut Core, note: Note) {
        // The waker's promise: by now it was renewed for a lease, or is not
        // needed. An awaited request's caller arms its own timer until then.
        let promised = match &note {
            Note::One {
                who: Some(context), ..
            } => Some(context.clone()),
            _ => None,
        };
        let polled = core.end_poll();
        if let Some((request, context)) = core.attribution.polled(note, polled)
            && let Some(lease) = self.lease_of(core, &context)
        {
            core.machine
                .handle_attributed(request, lease, Instant::now());
        }
        if let Some(context) = promised {
            context.leave_time();
        }
    }

    /// The lease of a context that asks for something on this session, if it
    /// descends from the check-out's. That may be the child of a `run`, beside
    /// which the caller has derived: its end ends all of the check-out.
    fn lease_of(self: &Arc<Self>, core: &mut Core, context: &Context) -> Option<LeaseId> {
        let known = |lease| core.machine.knows(lease);
        if let Some(lease) = core.bound.lease_of(context, known) {
            return Some(lease);
        }
        let base = core.machine.base();
        let bound = core.bound.context(base);
        let under = bound.is_none_or(|bound| context.is_under(bound));
        under.then(|| {
            let lease = core.machine.handle_seen(context.deadline());
            self.bind(core, lease, context);
            lease
        })
    }

    /// Forgets the contexts of leases that are over.
    pub(super) fn forget(self: &Arc<Self>, core: &mut Core) {
        if !core.bound.is_only(core.machine.base()) {
            let Core { machine, bound, .. } = core;
            for lease in bound.deserted() {
                machine.handle_deserted(lease);
            }
            bound.retain_ended(&self.observer(), |lease| machine.knows(lease));
        }
    }

    /// Forgets all that was bound before a check-out.
    pub(crate) fn forget_before(self: &Arc<Self>, core: &mut Core) {
        let Core { machine, bound, .. } = core;
        bound.retain(&self.observer(), |lease| machine.knows(lease));
    }
}

impl Observer for Shared {
    fn ended(&self, key: u64, end: &End) {
        let Some(lease) = lease(key) else { return };
        // What was asked before the end belongs to it.
        let all_known = self.look();
        let mut core = self.lock();
        let progress = self.progress_of(&core, lease, all_known);
        core.bound.ended(lease, end, progress);
        let process_id = core.machine.facts().process_id;
        debug!(target: "pgdeadline", process_id, lease = lease.0, cause = %end, "context ended");
        core.machine.handle_ended(lease, Instant::now());
        let idle = core.is_idle();
        drop(core);
        if !idle {
            self.waker.wake_task();
        }
    }

    fn finished(&self, key: u64) {
        let Some(lease) = lease(key) else { return };
        let mut core = self.lock();
        core.machine.handle_finished(lease, Instant::now());
        let idle = core.is_idle();
        core.bound.finished(lease, &self.this());
        drop(core);
        if !idle {
            self.waker.wake_task();
        }
    }

    fn progress(&self, key: u64) -> Option<Progress> {
        let lease = lease(key)?;
        let known = self.lock().bound.progress(lease);
        Some(known.unwrap_or_else(|| {
            let all_known = self.look();
            self.progress_of(&self.lock(), lease, all_known)
        }))
    }
}

impl Shared {
    fn progress_of(&self, core: &Core, lease: LeaseId, all_known: bool) -> Progress {
        // What the client has queued and the driver not yet seen counts as
        // sent.
        let queued = self.waker.is_woken();
        let progress = core.machine.progress(lease);
        Progress {
            phase: match progress {
                _ if progress.half_written || progress.queued => Phase::Write,
                _ if progress.in_flight => Phase::Read,
                _ if queued => Phase::Write,
                _ => Phase::Outside,
            },
            sent: match queued || progress.sent || progress.in_flight {
                false if !all_known => None,
                sent => Some(sent),
            },
            commit_in_doubt: progress.commit,
        }
    }
}

fn lease(key: u64) -> Option<LeaseId> {
    u32::try_from(key).ok().map(LeaseId)
}

/// A key for clients of servers that send none: never zero, so that it can be
/// told from none.
fn invented_key() -> i32 {
    static NEXT: AtomicI32 = AtomicI32::new(1);
    match NEXT.fetch_add(1, Ordering::Relaxed) {
        0 => NEXT.fetch_add(1, Ordering::Relaxed),
        key => key,
    }
}
