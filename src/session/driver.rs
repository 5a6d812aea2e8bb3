//! Drives a client and its session together.
//!
//! A client does not poll the socket while a slow reader holds it up, and the
//! deadline must fire all the same: so one task does both. Which client it is
//! does not matter here: tokio-postgres's [`Connection`](super::Connection), or
//! one behind a [relay](crate::relay).

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::{Span, debug, info, warn};

use super::Session;
use super::cancel::attempt;
use super::exit::{self, Departing};
use super::machine::{Output, Retired};
use super::shared::Shared;
use super::timer::Timer;
use crate::error::Error;

/// What a session is driven for.
pub(crate) trait Client {
    /// What it has to tell whoever polls the driver.
    type Message;

    /// Moves what can be moved between the client and its session, until both
    /// are told to wait. `None` and errors are final.
    fn poll(
        &mut self,
        shared: &Arc<Shared>,
        cx: &Context<'_>,
        now: Instant,
    ) -> Poll<Option<Result<Self::Message, Error>>>;
}

/// See the [module](self).
pub(crate) struct Driver<C> {
    session: Session,
    client: C,
    timer: Timer,
    span: Span,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The session is closed, and the client has one more poll to take up what
    /// it was told before.
    Closing,
    Done,
}

impl<C: Client> Driver<C> {
    pub(crate) fn new(shared: Arc<Shared>, client: C) -> Self {
        let process_id = shared.lock().machine.facts().process_id;
        let span = tracing::info_span!(target: "pgdeadline", "connection", process_id, server = %shared.peer.address());
        info!(target: "pgdeadline", parent: &span, process_id, "connected");
        Driver {
            session: Session(shared),
            client,
            timer: Timer::default(),
            span,
            state: State::Open,
        }
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    pub(crate) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<C::Message, Error>>> {
        let span = self.span.clone();
        let _entered = span.enter();
        if self.state == State::Done {
            return Poll::Ready(None);
        }
        let shared = Arc::clone(&self.session.0);
        shared.waker.register(cx.waker());
        loop {
            let now = Instant::now();
            look_at_the_clock(&shared, now);
            if let Poll::Ready(message) = self.client.poll(&shared, cx, now) {
                if !matches!(message, Some(Ok(_))) {
                    // What the machine has decided by then is done first: it
                    // knows better why.
                    self.carry_out(&shared);
                    self.close(message.as_ref().and_then(|result| result.as_ref().err()));
                }
                return Poll::Ready(message);
            }
            let closed = shared.lock().error().cloned();
            if let Some(error) = closed {
                // The client may never look again while a reader holds it up,
                // so it ends here, which tells everybody.
                if self.state == State::Open {
                    self.state = State::Closing;
                    continue;
                }
                self.close(Some(&error));
                return Poll::Ready(Some(Err(error)));
            }
            // In a statement of its own, so that the lock is not held below.
            let driven = shared.lock().poll_drive(cx);
            let again = match driven {
                Ok(again) => again,
                Err(error) => {
                    let error = Error::retired(format!("the connection was lost: {error}"), None);
                    self.lose(&error);
                    // Whoever waits is answered by the client's own end.
                    true
                }
            };
            if self.carry_out(&shared) || again {
                continue;
            }
            // Whoever waits looks for itself: clean, retired, or still neither.
            shared.changed.notify_waiters();
            let due = shared.lock().machine.poll_timeout();
            ready!(self.timer.poll(due, cx));
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
                    let left = shared.left_behind(&mut core);
                    core.close(retirement(&why));
                    drop(core);
                    left.into_iter().for_each(exit::send);
                    again = true;
                }
            }
        }
    }

    /// The connection is lost, which the client is still to be told.
    fn lose(&mut self, error: &Error) {
        let shared = &self.session.0;
        let mut core = shared.lock();
        let process_id = core.machine.facts().process_id;
        if !core.is_closed() {
            debug!(target: "pgdeadline", process_id, %error, "closed");
        }
        // A server that has closed works no more; one that was cut off may.
        let by_server = error
            .as_postgres()
            .is_some_and(tokio_postgres::Error::is_closed);
        let left = match by_server {
            true => None,
            false => shared.left_behind(&mut core),
        };
        core.bound.leave_time();
        core.close(error.clone());
        drop(core);
        shared.waker.close();
        shared.tell_closed();
        left.into_iter().for_each(exit::send);
    }
}

impl<C> Driver<C> {
    /// Closes for good: in order, or for an error.
    fn close(&mut self, error: Option<&Error>)
    where
        C: Client,
    {
        if self.state == State::Done {
            return;
        }
        self.state = State::Done;
        match error {
            Some(error) => self.lose(error),
            None => {
                let shared = &self.session.0;
                let mut core = shared.lock();
                let process_id = core.machine.facts().process_id;
                debug!(target: "pgdeadline", process_id, "closed");
                core.bound.leave_time();
                core.close(Error::retired("the connection is closed", Some(false)));
                drop(core);
                shared.waker.close();
                shared.tell_closed();
            }
        }
    }
}

/// Ends contexts whose deadline has passed before anything else is looked at,
/// so that everybody learns of it in the same order.
fn look_at_the_clock(shared: &Arc<Shared>, now: Instant) {
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

impl<C: Client + Unpin> Future for Driver<C> {
    type Output = Result<(), Error>;

    /// Lets go what the client has to tell.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            match ready!(self.poll_next(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(error)),
                Some(Ok(_)) => {}
            }
        }
    }
}

impl<C> Drop for Driver<C> {
    /// Leaves nothing running on the server that nobody waits for (rule 8).
    fn drop(&mut self) {
        let shared = &self.session.0;
        let mut core = shared.lock();
        let left = shared.left_behind(&mut core);
        core.close(Error::retired("its connection task was dropped", None));
        core.bound.clear(&shared.observer());
        shared.waker.close();
        drop(core);
        shared.tell_closed();
        left.into_iter().for_each(exit::send);
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
            Retired::OutOfStep => {
                f.write_str("its client has left a COPY, and may miscount from there on")
            }
            Retired::Protocol(malformed) => malformed.fmt(f),
        }
    }
}
