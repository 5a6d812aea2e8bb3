//! One operation under a context of its own.

use std::future::Future;

use deadpool_postgres::Client;
use pgdeadline::error::Walk;
use pgdeadline::{Context, Error};

use crate::sessions;

/// What pgdeadline adds to a [`Client`].
pub trait ClientExt: sealed::Sealed {
    /// Does `work` with this client until `ctx` ends: what it asks for is bound
    /// to `ctx`, in place of what the client was checked out under.
    ///
    /// The client is borrowed mutably, so nothing else is asked of it
    /// meanwhile, and the end of `ctx` hits nobody else's query. `work` may use
    /// `within` again, with a context of its own.
    ///
    /// The result is that of [`ctx.try_run`](Context::try_run), and so are the
    /// error types that it can have.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use deadpool_postgres::Client;
    /// use pgdeadline::Context;
    /// use pgdeadline_deadpool::ClientExt;
    ///
    /// # async fn example(client: &mut Client) -> Result<(), tokio_postgres::Error> {
    /// let ctx = Context::background().with_timeout(Duration::from_millis(50));
    /// let statement = client.prepare_cached("SELECT now()").await?;
    /// let row = client.within(&ctx, async |c| c.query_one(&statement, &[]).await).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The end of `ctx` leaves a transaction of the caller's open, but failed:
    /// all that can be done in it is to roll back.
    ///
    /// # Errors
    /// That of `work`; or the end of `ctx`. If the context has ended under
    /// which the client was checked out, the error tells that end, and `work`
    /// was not begun: return the client and check another out. The same for a
    /// client of a pool that was not built with pgdeadline.
    ///
    /// # Cancel safety
    /// Dropping the future drops `work`; what that has in flight ends as
    /// *dropped*. The client can be used again.
    fn within<T, E, As, F>(&mut self, ctx: &Context, work: F) -> impl Future<Output = Result<T, E>>
    where
        F: AsyncFnOnce(&mut Client) -> Result<T, E>,
        E: From<Error> + Walk<As>;
}

impl ClientExt for Client {
    async fn within<T, E, As, F>(&mut self, ctx: &Context, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&mut Client) -> Result<T, E>,
        E: From<Error> + Walk<As>,
    {
        ctx.try_run(async {
            let Some(session) = sessions::of(self) else {
                if self.is_closed() {
                    // The client knows best how to say so.
                    return work(self).await;
                }
                return Err(Error::config(UNKNOWN).into());
            };
            // The child that `run` works in: it finishes with the work.
            let context = Context::current().unwrap_or_else(|| ctx.clone());
            let _operation = session.operation(&context).await?;
            work(self).await
        })
        .await
    }
}

const UNKNOWN: &str = "this client was not made by pgdeadline, so no deadline can reach its \
                       server: build its pool with pgdeadline_deadpool::Builder";

mod sealed {
    pub trait Sealed {}

    impl Sealed for deadpool_postgres::Client {}
}
