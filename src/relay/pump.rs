//! Moves bytes between a relay's client and its session.
//!
//! 1. Nothing is looked into here: whose a request is, what may be written, what
//!    goes up, is the session's to decide.
//! 2. A client that leaves, or says good-bye, is answered no more; its session is
//!    driven on until nothing of it is left to do, and then told good-bye.
//! 3. What a client that left was in the middle of, nobody can end: its session
//!    is closed at once.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::answer::answer;
use super::buffer::Buffer;
use super::last_word;
use super::socket::ClientSocket;
use crate::error::Error;
use crate::session::core::Core;
use crate::session::driver::Client;
use crate::session::{Operation, Shared};
use crate::wire::message;

/// See the [module](self).
pub(super) struct Pump<S> {
    client: S,
    /// From the client, not yet taken by the session.
    down: Buffer,
    /// From the session, not yet taken by the client.
    up: Buffer,
    left: bool,
    /// One of the two had more when its turn was over.
    more: bool,
}

impl<S> Pump<S> {
    /// `early`: what the client has said already.
    pub(super) fn new(client: S, early: &[u8]) -> Pump<S> {
        let mut down = Buffer::new(DOWN);
        down.extend(early);
        Pump {
            client,
            down,
            up: Buffer::new(UP),
            left: false,
            more: false,
        }
    }
}

/// The same, where others than its task may look at what the client has said: who
/// notices an end has to know what was asked before it.
pub(super) struct Relayed<S>(Arc<Mutex<Pump<S>>>);

impl<S: ClientSocket> Relayed<S> {
    /// `early`: what the client has said already.
    pub(super) fn new(client: S, early: &[u8], shared: &Shared) -> Relayed<S> {
        let pump = Arc::new(Mutex::new(Pump::new(client, early)));
        let weak = Arc::downgrade(&pump);
        shared.set_look(move |shared| match weak.upgrade() {
            Some(pump) => look(&pump, shared),
            None => true,
        });
        Relayed(pump)
    }
}

/// Looks at what the client has said, unless the pump's own task does just now:
/// in this very thread it may be waiting for that.
fn look<S: ClientSocket>(pump: &Mutex<Pump<S>>, shared: &Shared) -> bool {
    for _ in 0..PATIENCE {
        match pump.try_lock() {
            Ok(mut pump) => return pump.look(&mut shared.lock()),
            Err(TryLockError::Poisoned(_)) => return false,
            Err(TryLockError::WouldBlock) => std::thread::yield_now(),
        }
    }
    false
}

impl<S: ClientSocket> Client for Relayed<S> {
    type Message = Infallible;

    fn poll(
        &mut self,
        shared: &Arc<Shared>,
        cx: &Context<'_>,
        now: Instant,
    ) -> Poll<Option<Result<Infallible, Error>>> {
        let mut refused = None;
        let poll = self.0.lock().unwrap_or_else(PoisonError::into_inner).poll(
            shared,
            cx,
            now,
            &mut refused,
        );
        // Its drop looks at what the client has said.
        drop(refused);
        poll
    }
}

/// Why there is nothing more to move.
enum End {
    /// The server has closed.
    Server,
    /// The session has, or its socket failed.
    Session(io::Error),
    /// The client has left in the middle of a message, or of a request.
    Half,
}

impl<S: ClientSocket> Pump<S> {
    /// Takes in what the client has said, and says whether that is all.
    fn look(&mut self, core: &mut Core) -> bool {
        let Some(task) = core.task.clone() else {
            return false;
        };
        while !self.left && !self.down.is_full() {
            match self.down.read_now_from(&mut self.client) {
                Ok(1..) => {}
                // That the client has left is for the task to notice.
                Ok(0) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let all = core.take_in(self.down.bytes(), Instant::now()).is_ok();
                    task.wake();
                    return all;
                }
                Err(_) => break,
            }
        }
        // What was read here will wake nobody any more.
        task.wake();
        false
    }

    fn poll(
        &mut self,
        shared: &Arc<Shared>,
        cx: &Context<'_>,
        now: Instant,
        refused: &mut Option<Operation>,
    ) -> Poll<Option<Result<Infallible, Error>>> {
        let cx = &mut Context::from_waker(cx.waker());
        let mut core = shared.lock();
        core.begin_poll(cx.waker(), now);
        for _ in 0..ROUNDS {
            let mark = core.machine.mark();
            let moved = self
                .poll_down(&mut core, cx, now)
                .and_then(|()| self.poll_up(&mut core, cx, now));
            match moved {
                // What went up may have made way for what is to go down.
                Ok(true) if !self.down.is_empty() => continue,
                Ok(_) if std::mem::take(&mut self.more) => continue,
                Ok(_) => {}
                Err(end) => return Poll::Ready(self.end(&mut core, cx, end)),
            }
            // Both were told to wait: all that the client had said is known.
            core.machine.handle_polled(mark, now);
            if let Some(saying) = core.machine.due_saying() {
                drop(core);
                *refused = answer(shared, saying, now).or(refused.take());
                core = shared.lock();
                continue;
            }
            if !self.left {
                return Poll::Pending;
            }
            match self.poll_leave(&mut core, cx) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(true)) => return Poll::Ready(None),
                Ok(Poll::Ready(false)) => {}
                Err(end) => return Poll::Ready(self.end(&mut core, cx, end)),
            }
        }
        // There is more, but others have a turn first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// From the client to the session, until one of them tells to wait.
    fn poll_down(
        &mut self,
        core: &mut Core,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Result<(), End> {
        for _ in 0..ROUNDS {
            let no_room = self.left || self.down.is_full();
            let came = match no_room {
                true => Poll::Pending,
                false => self.down.poll_read_from(&mut self.client, cx),
            };
            if let Poll::Ready(Ok(0) | Err(_)) = came {
                self.note_left(core, now)?;
            }
            if self.down.is_empty() {
                return Ok(());
            }
            self.pass_down(core, cx, now)?;
            // Where there is room only now, the client is still to be asked.
            let has_room = !self.left && !self.down.is_full();
            if came.is_pending() && !(no_room && has_room) {
                return Ok(());
            }
        }
        self.more = true;
        Ok(())
    }

    /// Hands the session what it takes.
    fn pass_down(
        &mut self,
        core: &mut Core,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Result<(), End> {
        loop {
            let wrote = core.poll_write(cx, self.down.bytes());
            if core.machine.terminates() && !self.left {
                self.note_left(core, now)?;
                self.more = true;
            }
            match wrote {
                // What is left waits for an answer of the session's.
                Poll::Ready(Ok(0)) => return Ok(()),
                Poll::Ready(Ok(len)) => {
                    // The driver flushes.
                    self.down.consume(len);
                    if self.down.is_empty() {
                        return Ok(());
                    }
                }
                Poll::Ready(Err(error)) => return Err(End::Session(error)),
                Poll::Pending => {
                    if self.down.is_full() {
                        core.machine.handle_no_room(now);
                    }
                    return Ok(());
                }
            }
        }
    }

    /// From the session to the client. Says whether anything was moved.
    fn poll_up(
        &mut self,
        core: &mut Core,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Result<bool, End> {
        let mut moved = false;
        for _ in 0..ROUNDS {
            if self.left {
                self.up.clear();
            }
            match self.up.poll_write_to(&mut self.client, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => {
                    self.note_left(core, now)?;
                    self.more = true;
                    return Ok(true);
                }
                Poll::Pending => return Ok(moved),
            }
            match self.up.poll_fill(|room| core.poll_read(cx, room)) {
                Poll::Ready(Ok(0)) => return Err(End::Server),
                Poll::Ready(Ok(_)) => moved = true,
                Poll::Ready(Err(error)) => return Err(End::Session(error)),
                Poll::Pending => return Ok(moved),
            }
        }
        self.more = true;
        Ok(true)
    }

    fn note_left(&mut self, core: &mut Core, now: Instant) -> Result<(), End> {
        if std::mem::replace(&mut self.left, true) {
            return Ok(());
        }
        if core.machine.is_half_asked() {
            return Err(End::Half);
        }
        core.machine.handle_left(now);
        Ok(())
    }

    /// The client has left (rules 2 and 3). `true`: the server was told
    /// good-bye.
    fn poll_leave(&mut self, core: &mut Core, cx: &mut Context<'_>) -> Result<Poll<bool>, End> {
        if core.machine.is_half_asked() {
            return Err(End::Half);
        }
        if !self.down.is_empty() || !core.machine.may_leave() {
            return Ok(Poll::Pending);
        }
        if !core.machine.terminates() {
            self.down.extend(message::TERMINATE);
            return Ok(Poll::Ready(false));
        }
        match core.poll_flush(cx) {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(_) => {
                // In order under TLS too; the socket is closed in any case.
                let _ = core.poll_shutdown(cx);
                Ok(Poll::Ready(true))
            }
        }
    }

    /// Tells the client, if it is there and at the start of a message, and says
    /// what is to be told of the connection.
    fn end(
        &mut self,
        core: &mut MutexGuard<'_, Core>,
        cx: &mut Context<'_>,
        end: End,
    ) -> Option<Result<Infallible, Error>> {
        let error = match end {
            End::Server if self.left => return None,
            // A server that has closed works no more: there is nothing to cancel.
            End::Server => {
                let error = Error::retired("the server closed the connection", None);
                core.close(error.clone());
                error
            }
            End::Session(error) => Error::find(&error).unwrap_or_else(|| {
                Error::retired(format!("the connection was lost: {error}"), None)
            }),
            End::Half => Error::retired("the client left in the middle of a request", None),
        };
        if !self.left && self.up.is_empty() && !core.machine.is_mid_message() {
            let told = last_word(message::CONNECTION_LOST, &error);
            self.up.extend(&told[..told.len().min(UP)]);
            let _ = self.up.poll_write_to(&mut self.client, cx);
        }
        Some(Err(error))
    }
}

/// Room for what the client says: a request of the usual size in one piece.
const DOWN: usize = 8 * 1024;
/// Room for what it is told: the more, the fewer system calls a row.
const UP: usize = 16 * 1024;
/// How often who wants to look tries, while the pump's task does.
const PATIENCE: usize = 64;
/// How often one poll goes round before others have a turn.
const ROUNDS: usize = 16;
