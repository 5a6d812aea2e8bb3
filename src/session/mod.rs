//! One server connection, from start-up to close: lets run, cancels, drains,
//! proves clean, retires.
//!
//! - [`machine`]: every decision, pure;
//! - [`core`]: the socket and what waits to go up, behind one lock;
//! - [`stream`]: the client's end; [`driver`]: the task behind it, with its
//!   one [`timer`]; [`connection`]: the same for tokio-postgres;
//! - [`waker`], [`attribution`], [`bound`]: who woke the connection, whose a
//!   request therefore is, and which context that means;
//! - [`cancel`], [`gate`]: one CancelRequest, and how many at once;
//! - [`exit`]: those that must still get out when all else ends.

mod attribution;
pub(crate) mod bound;
pub(crate) mod cancel;
mod connection;
pub(crate) mod core;
pub(crate) mod driver;
mod exit;
pub(crate) mod gate;
pub(crate) mod machine;
mod shared;
mod stream;
mod timer;
mod waker;

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::context::Context;
use crate::error::Error;
use crate::wire::request::LeaseId;
pub use connection::Connection;
pub(crate) use shared::{Shared, open};
pub(crate) use stream::SessionStream;

/// A handle to one server connection, for those who bind contexts to it: a
/// pool's adapter, or code that holds a bare client.
///
/// Cheap to clone. It does not keep the connection open.
#[derive(Clone)]
pub struct Session(pub(crate) Arc<Shared>);

/// Why a session can't be checked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// It is closed or retired.
    Closed,
    /// It has not become clean in the time there was.
    Busy,
}

impl Session {
    /// The backend's process id, as the server told it at start-up.
    pub fn process_id(&self) -> i32 {
        self.0.lock().machine.facts().process_id
    }

    /// The process id and secret key that the `tokio_postgres::Client` of this
    /// session holds, by which the two can be matched. Where the server sent
    /// none they are the session's own, unique in this process.
    pub fn client_key(&self) -> (i32, i32) {
        let core = self.0.lock();
        let facts = core.machine.facts();
        match facts.key.first_chunk() {
            Some(key) => (facts.process_id, i32::from_be_bytes(*key)),
            None => (0, facts.invented),
        }
    }

    /// The server that it is connected to.
    pub(crate) fn server(&self) -> &crate::connect::dial::Address {
        self.0.peer.address()
    }

    /// Sets whether the EOF of a cancel proves that the server has handled it.
    pub(crate) fn set_eof_proves(&self, proves: bool) {
        self.0.lock().machine.set_eof_proves(proves);
    }

    /// Is it closed or retired?
    pub fn is_closed(&self) -> bool {
        self.0.lock().is_closed()
    }

    /// Resolves when the session is closed or retired.
    ///
    /// # Cancel safety
    /// Holds nothing but a place in a queue.
    pub async fn closed(&self) {
        wait_on(&self.0.closed, || self.is_closed().then_some(())).await;
    }

    /// Begins a check-out under `context`; `None`: under none, so that the
    /// connector's default deadline applies. The check-out before it is over.
    ///
    /// A session that is still draining is waited for, for at most the
    /// connector's `checkout_wait` and not past the context's end. Under a
    /// context that has ended nothing is waited for: what is asked for then is
    /// answered with that end.
    ///
    /// # Errors
    /// It is closed, or is not clean in time: close it and take another.
    ///
    /// # Cancel safety
    /// Dropped half-way, the check-out before it is over and none has begun.
    pub async fn check_out(&self, context: Option<&Context>) -> Result<(), Refusal> {
        let patience = self.0.connector.settings().checkout_wait;
        self.check_out_within(context, patience).await
    }

    /// The same, with another patience than `checkout_wait`, for a pool that
    /// would rather wait than close one connection after the other.
    ///
    /// A session that is draining becomes clean, or is retired, inside its
    /// grace: to wait as long is to wait for all but work that runs on after
    /// its context finished.
    ///
    /// # Errors
    /// As [`check_out`](Session::check_out).
    ///
    /// # Cancel safety
    /// As [`check_out`](Session::check_out).
    pub async fn check_out_within(
        &self,
        context: Option<&Context>,
        patience: Duration,
    ) -> Result<(), Refusal> {
        self.check_in();
        let take = |session: &Session| session.try_check_out(context);
        if let Some(result) = take(self) {
            return result;
        }
        let mut waiting = pin!(timeout(patience, self.until(take)));
        let mut ended = pin!(context.map(Context::ended));
        let waited = poll_fn(|cx| {
            if let Poll::Ready(waited) = waiting.as_mut().poll(cx) {
                return Poll::Ready(waited.ok());
            }
            match ended.as_mut().as_pin_mut() {
                Some(ended) => ended.poll(cx).map(|_| None),
                None => Poll::Pending,
            }
        })
        .await;
        match waited {
            Some(result) => result,
            None => take(self).unwrap_or(Err(Refusal::Busy)),
        }
    }

    fn try_check_out(&self, context: Option<&Context>) -> Option<Result<(), Refusal>> {
        // Before the lock: to ask is to notice, and to notice is to tell the
        // session.
        let ended = context.is_some_and(Context::is_ended);
        let mut core = self.0.lock();
        if core.is_closed() {
            return Some(Err(Refusal::Closed));
        }
        self.note_quiet(&mut core);
        if !ended && !core.machine.is_clean() {
            return None;
        }
        self.begin_check_out(&mut core, context, Instant::now());
        if !core.is_idle() || core.machine.poll_timeout().is_some() {
            self.0.waker.wake_task();
        }
        Some(Ok(()))
    }

    /// Ends the check-out. What is in flight then was abandoned: it is
    /// cancelled, unless it has sent rows, in which case it runs on until its
    /// deadline, or `finish_bound`. A second call does nothing.
    pub fn check_in(&self) {
        let mut core = self.0.lock();
        let lease = core.machine.check_out_lease();
        core.machine.handle_released(lease, Instant::now());
        self.note_quiet(&mut core);
        if !core.is_idle() || !core.machine.is_clean() {
            drop(core);
            self.0.waker.wake_task();
        }
    }

    /// Binds `context` to what is asked of the client until the operation is
    /// dropped; its place is that of the check-out, so the client must be
    /// borrowed mutably for as long.
    ///
    /// Waits, for nothing but the connection task, until what an operation
    /// before it has queued is known to be its own.
    ///
    /// # Errors
    /// The check-out that it would be part of has ended, or the session is
    /// closed.
    ///
    /// # Cancel safety
    /// Dropped half-way, nothing was bound.
    pub async fn operation(&self, context: &Context) -> Result<Operation, Error> {
        self.until(|session| {
            let mut core = session.0.lock();
            session.note_quiet(&mut core);
            (core.machine.is_polled() || core.is_closed()).then_some(())
        })
        .await;
        // Before the lock, as at a check-out.
        context.is_ended();
        let mut core = self.0.lock();
        let lease = self.begin_operation(&mut core, context, Instant::now())?;
        drop(core);
        self.0.waker.wake_task();
        Ok(self.operation_of(lease))
    }

    /// Cancels what is in flight. Takes the place of tokio-postgres's
    /// `CancelToken::cancel_query`, which has no address to dial on a client
    /// made by this crate: the same rules hold as for a context's end, so
    /// nobody else's query is hit. `false`: there was nothing in flight.
    ///
    /// The caller of that work is told at once; the server may stop later.
    pub fn cancel(&self) -> bool {
        let mut core = self.0.lock();
        let any = core.machine.handle_cancel(Instant::now());
        drop(core);
        if any {
            self.0.waker.wake_task();
        }
        any
    }

    /// Tells that the client was dropped. The session lives on only as long as
    /// it has to: until what rule 14 lets run on is over, or the grace.
    pub fn client_dropped(&self) {
        let mut core = self.0.lock();
        core.machine.handle_client_gone(Instant::now());
        drop(core);
        self.0.waker.wake_task();
    }

    /// Has `told` called whenever a request has been in flight for longer than
    /// the connector's sweep interval, so that a pool can look for clients
    /// that were returned with it. Only the first call counts.
    pub fn on_busy(&self, told: impl Fn() + Send + Sync + 'static) {
        let _ = self.0.on_busy.set(Box::new(told));
    }

    /// Begins a check-out on a session that is clean, or under a context that
    /// has ended. Whether that has, is to be asked before the lock.
    pub(crate) fn begin_check_out(
        &self,
        core: &mut core::Core,
        context: Option<&Context>,
        now: Instant,
    ) {
        let deadline = context.and_then(Context::deadline);
        let lease = core
            .machine
            .handle_check_out(deadline, context.is_some(), now);
        self.0.forget_before(core);
        if let Some(context) = context {
            self.0.bind(core, lease, context);
        }
    }

    /// Begins an operation. Whether its context has ended, is to be asked before
    /// the lock.
    ///
    /// # Errors
    /// As [`operation`](Session::operation).
    pub(crate) fn begin_operation(
        &self,
        core: &mut core::Core,
        context: &Context,
        now: Instant,
    ) -> Result<LeaseId, Error> {
        if core.is_closed() {
            return Err(core
                .error()
                .cloned()
                .unwrap_or_else(|| Error::retired("the connection is closed", Some(false))));
        }
        if let Some(end) = core.bound.end(core.machine.base()) {
            return Err(Error::end(end, crate::context::Progress::OUTSIDE));
        }
        let lease = core.machine.handle_begin(context.deadline(), now);
        self.0.bind(core, lease, context);
        Ok(lease)
    }

    /// The hold of an operation that has begun.
    pub(crate) fn operation_of(&self, lease: LeaseId) -> Operation {
        Operation {
            session: self.clone(),
            lease,
        }
    }

    /// Nothing has woken the connection since it was polled last, so nothing
    /// is queued that it has not seen: as good as another poll (rule 6).
    fn note_quiet(&self, core: &mut core::Core) {
        if core.rests() && !self.0.waker.is_woken() {
            let mark = core.machine.mark();
            core.machine.handle_polled(mark, Instant::now());
        }
    }

    /// Waits until `look` finds something.
    async fn until<T>(&self, look: impl Fn(&Session) -> Option<T>) -> T {
        wait_on(&self.0.changed, || look(self)).await
    }
}

/// Looks whenever it is notified, until it finds something.
async fn wait_on<T>(notify: &Notify, look: impl Fn() -> Option<T>) -> T {
    loop {
        let mut notified = pin!(notify.notified());
        notified.as_mut().enable();
        if let Some(found) = look() {
            return found;
        }
        notified.await;
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("process_id", &self.process_id())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Closed => "the connection is closed",
            Refusal::Busy => "the connection is still busy with work that has ended; it is closed instead of waited for",
        })
    }
}

impl std::error::Error for Refusal {}

/// One operation's hold on a session; see [`Session::operation`].
#[derive(Debug)]
#[must_use = "dropping it ends the operation's hold"]
pub struct Operation {
    session: Session,
    lease: LeaseId,
}

impl Drop for Operation {
    fn drop(&mut self) {
        // What was asked until now is its own.
        self.session.0.look();
        let mut core = self.session.0.lock();
        core.machine.handle_released(self.lease, Instant::now());
        self.session.note_quiet(&mut core);
        drop(core);
        self.session.0.waker.wake_task();
    }
}
