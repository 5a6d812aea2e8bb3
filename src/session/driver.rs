//! Drives tokio-postgres's `Connection` and the session together.
//!
//! `Connection` does not poll the socket while a slow reader holds it up, and
//! the deadline must fire all the same: so one task does both.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_postgres::AsyncMessage;
use tracing::{Span, debug, info, warn};

use super::Session;
use super::cancel::attempt;
use super::exit::{self, Departing};
use super::machine::{Output, Retired};
use super::shared::Shared;
use super::stream::SessionStream;
use super::timer::Timer;
use super::waker::Note;
use crate::error::Error;

/// The task behind a client: spawn it.
///
/// It resolves when the connection is closed: in order after the client was
/// dropped, or with the error that ended it. Dropping it while something is in
/// flight sends a cancel (rule 8).
///
/// ```no_run
/// # async fn example(connector: pgdeadline::Connector) -> Result<(), pgdeadline::Error> {
/// let context = pgdeadline::Context::background();
/// let (client, connection) = connector.connect(&context).await?;
/// tokio::spawn(connection);
/// # Ok(()) }
/// ```
#[must_use = "a connection does nothing unless it is polled: spawn it"]
pub struct Connection {
    session: Session,
    postgres: Box<tokio_postgres::Connection<SessionStream, SessionStream>>,
    waker: Waker,
    timer: Timer,
    span: Span,
    /// The session is closed, and the client is being told.
    closing: bool,
    done: bool,
}

impl Connection {
    pub(crate) fn new(
        shared: Arc<Shared>,
        postgres: tokio_postgres::Connection<SessionStream, SessionStream>,
    ) -> Self {
        let process_id = shared.lock().machine.facts().process_id;
        let span = tracing::info_span!(target: "pgdeadline", "connection", process_id, server = %shared.peer.address());
        info!(target: "pgdeadline", parent: &span, process_id, "connected");
        Connection {
            waker: Waker::from(Arc::clone(&shared.waker)),
            session: Session(shared),
            postgres: Box::new(postgres),
            timer: Timer::default(),
            span,
            closing: false,
            done: false,
        }
    }

    /// The session, for whoever binds contexts to it.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Polls for notifications and notices, as
    /// [`tokio_postgres::Connection::poll_message`] does. `None` and errors are
    /// final.
    pub fn poll_message(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<AsyncMessage, Error>>> {
        let span = self.span.clone();
        let _entered = span.enter();
        if self.done {
            return Poll::Ready(None);
        }
        let shared = Arc::clone(&self.session.0);
        shared.waker.register(cx.waker());
        loop {
            let now = Instant::now();
            self.look_at_the_clock(&shared, now);
            if let Poll::Ready(message) = self.poll_client(&shared, cx, now) {
                if !matches!(message, Some(Ok(_))) {
                    // What the machine has decided by then is done first: it
                    // knows better why.
                    self.carry_out(&shared);
                    let error = message.as_ref().and_then(|result| result.as_ref().err());
                    self.close(&shared, error);
                    self.done = true;
                }
                return Poll::Ready(message);
            }
            let closed = shared.lock().error().cloned();
            if let Some(error) = closed {
                // The client has one more poll to take up what it was told
                // before. It may never look again while a reader holds it up,
                // so it ends here, which tells everybody.
                if !std::mem::replace(&mut self.closing, true) {
                    continue;
                }
                self.close(&shared, Some(&error));
                return Poll::Ready(Some(Err(error)));
            }
            let again = match shared.lock().poll_drive(cx) {
                Ok(again) => again,
                Err(error) => {
                    let error = Error::retired(format!("the connection was lost: {error}"), None);
                    self.close(&shared, Some(&error));
                    // Whoever waits is answered by the client's own end.
                    true
                }
            };
            if self.carry_out(&shared) || again {
                continue;
            }
            self.tell_waiters(&shared);
            let due = shared.lock().machine.poll_timeout();
            ready!(self.timer.poll(due, cx));
        }
    }

    /// Ends contexts whose deadline has passed before anything else is looked
    /// at, so that everybody learns of it in the same order.
    fn look_at_the_clock(&mut self, shared: &Arc<Shared>, now: Instant) {
        let mut core = shared.lock();
        let Some(due) = core.machine.poll_timeout() else {
            return;
        };
        if due > now {
            return;
        }
        let contexts = core.due(now);
        if !contexts.is_empty() {
            drop(core);
            contexts.iter().for_each(crate::context::Context::expire);
            core = shared.lock();
        }
        core.machine.handle_time(now);
        core.settle(now);
    }

    fn poll_client(
        &mut self,
        shared: &Arc<Shared>,
        cx: &Context<'_>,
        now: Instant,
    ) -> Poll<Option<Result<AsyncMessage, Error>>> {
        let note = shared.waker.take();
        // Before the lock: to ask is to notice, and to notice is to tell the
        // session.
        if let Note::One { who: Some(who), .. } = &note {
            who.is_ended();
        }
        let mark = {
            let mut core = shared.lock();
            shared.attribute(&mut core, &note);
            core.begin_poll(cx.waker(), now);
            core.machine.mark()
        };
        let poll = self
            .postgres
            .poll_message(&mut Context::from_waker(&self.waker));
        let mut core = shared.lock();
        shared.attribute_late(&mut core, note);
        match poll {
            Poll::Pending => {
                if core.flushed {
                    core.machine.handle_polled(mark, now);
                }
                Poll::Pending
            }
            Poll::Ready(Some(Err(error))) => {
                let error = core.error().cloned().unwrap_or_else(|| Error::from(error));
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(Some(Ok(message))) => Poll::Ready(Some(Ok(message))),
            Poll::Ready(None) => Poll::Ready(None),
        }
    }

    /// Does what the machine asks for. Says whether the client should be
    /// polled again for it.
    fn carry_out(&mut self, shared: &Arc<Shared>) -> bool {
        let mut again = false;
        loop {
            let mut core = shared.lock();
            let Some(output) = core.machine.poll_output() else {
                shared.forget(&mut core);
                return again;
            };
            let process_id = core.machine.facts().process_id;
            match output {
                Output::Dial(number) => {
                    let until = core.machine.grace_ends(Instant::now());
                    core.guard_socket(until);
                    if let (Some(target), Ok(runtime)) =
                        (shared.target(&core), Handle::try_current())
                    {
                        drop(core);
                        let dial = attempt(Arc::clone(shared), target.clone(), number, until);
                        runtime.spawn(tracing::Instrument::instrument(
                            Departing::of(target, Box::pin(dial)),
                            self.span.clone(),
                        ));
                    }
                }
                Output::Expire(lease) => {
                    let context = core.bound.context(lease).cloned();
                    drop(core);
                    if let Some(context) = context {
                        context.expire();
                    }
                }
                Output::Busy => {
                    drop(core);
                    if let Some(told) = shared.on_busy.get() {
                        told();
                    }
                }
                Output::Drained => {
                    core.unguard_socket();
                    drop(core);
                    debug!(target: "pgdeadline", process_id, "drained clean");
                    again = true;
                }
                Output::Retire(why) => {
                    warn!(target: "pgdeadline", process_id, reason = %why, "retired");
                    // Once its socket is closed nothing of this session can be
                    // hit but what it leaves behind: so rule 8 holds here, and
                    // not rule 4's "no further cancel", which spares who comes
                    // after on a session that lives.
                    let left = match core.machine.leaves_work() {
                        true => shared.target(&core),
                        false => None,
                    };
                    core.close(retirement(&why));
                    drop(core);
                    left.into_iter().for_each(exit::send);
                    again = true;
                }
            }
        }
    }

    fn tell_waiters(&self, shared: &Arc<Shared>) {
        // Whoever waits looks for itself: clean, retired, or still neither.
        shared.changed.notify_waiters();
    }

    fn close(&mut self, shared: &Arc<Shared>, error: Option<&Error>) {
        if self.done {
            return;
        }
        self.done = error.is_none() || shared.lock().is_closed();
        let mut core = shared.lock();
        let process_id = core.machine.facts().process_id;
        // A server that has closed works no more; one that was cut off may.
        let by_server = error
            .and_then(Error::as_postgres)
            .is_some_and(tokio_postgres::Error::is_closed);
        let cut_off = error.is_some() && !by_server && !core.is_closed();
        let left = match cut_off && core.machine.leaves_work() {
            true => shared.target(&core),
            false => None,
        };
        core.bound.leave_time();
        match error {
            Some(error) => {
                debug!(target: "pgdeadline", process_id, %error, "closed");
                core.close(error.clone());
            }
            None => {
                debug!(target: "pgdeadline", process_id, "closed");
                core.close(Error::retired("the connection is closed", Some(false)));
            }
        }
        drop(core);
        shared.waker.close();
        shared.tell_closed();
        left.into_iter().for_each(exit::send);
    }
}

impl Future for Connection {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            match ready!(self.poll_message(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(error)),
                Some(Ok(AsyncMessage::Notice(notice))) => {
                    info!(target: "pgdeadline", "{}: {}", notice.severity(), notice.message());
                }
                Some(Ok(_)) => {}
            }
        }
    }
}

impl Drop for Connection {
    /// Leaves nothing running on the server that nobody waits for (rule 8).
    fn drop(&mut self) {
        let shared = &self.session.0;
        let mut core = shared.lock();
        let left = if !core.is_closed() && core.machine.leaves_work() {
            shared.target(&core)
        } else {
            None
        };
        core.close(Error::retired("its connection task was dropped", None));
        core.bound.clear(&shared.observer());
        shared.waker.close();
        drop(core);
        shared.tell_closed();
        left.into_iter().for_each(exit::send);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

fn retirement(why: &Retired) -> Error {
    match why {
        Retired::Protocol(malformed) => Error::protocol(malformed.to_string()),
        other => Error::retired(other.to_string(), None),
    }
}

impl fmt::Display for Retired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Retired::Grace => f.write_str("it did not become clean within the grace after an end"),
            Retired::Unproven => f.write_str("a cancel broke off before its end was proven"),
            Retired::NoProof => {
                f.write_str("a cancel was sent, and behind this proxy its end can't be proven")
            }
            Retired::Stalled => f.write_str("the server stopped in the middle of a message"),
            Retired::CleanUp => f.write_str("the session's own clean-up failed"),
            Retired::Protocol(malformed) => malformed.fmt(f),
        }
    }
}
