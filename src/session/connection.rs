//! The task behind a `tokio_postgres::Client`.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use tokio::time::Instant;
use tokio_postgres::AsyncMessage;
use tracing::info;

use super::Session;
use super::driver::{Client, Driver};
use super::shared::Shared;
use super::stream::SessionStream;
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
pub struct Connection(Driver<Postgres>);

/// tokio-postgres's own end of it, and the waker by which it is known who has
/// queued a request (rule 7).
struct Postgres {
    connection: Box<tokio_postgres::Connection<SessionStream, SessionStream>>,
    waker: Waker,
}

impl Connection {
    pub(crate) fn new(
        shared: Arc<Shared>,
        postgres: tokio_postgres::Connection<SessionStream, SessionStream>,
    ) -> Self {
        let client = Postgres {
            connection: Box::new(postgres),
            waker: Waker::from(Arc::clone(&shared.waker)),
        };
        Connection(Driver::new(shared, client))
    }

    /// The session, for whoever binds contexts to it.
    pub fn session(&self) -> &Session {
        self.0.session()
    }

    /// Polls for notifications and notices, as
    /// [`tokio_postgres::Connection::poll_message`] does. `None` and errors are
    /// final.
    pub fn poll_message(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<AsyncMessage, Error>>> {
        self.0.poll_next(cx)
    }
}

impl Client for Postgres {
    type Message = AsyncMessage;

    fn poll(
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
            .connection
            .poll_message(&mut Context::from_waker(&self.waker));
        let mut core = shared.lock();
        shared.attribute_late(&mut core, note);
        if poll.is_pending() && core.flushed {
            core.machine.handle_polled(mark, now);
        }
        poll.map_err(|error| core.error().cloned().unwrap_or_else(|| Error::from(error)))
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

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("session", self.session())
            .finish_non_exhaustive()
    }
}
