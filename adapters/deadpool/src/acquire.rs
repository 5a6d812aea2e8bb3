//! A check-out under a context that is named.

use std::future::Future;

use deadpool_postgres::{Client, Pool};
use pgdeadline::{Context, Phase};

use crate::error::Error;

/// What pgdeadline adds to a [`Pool`].
pub trait PoolExt: sealed::Sealed {
    /// Checks a client out, at the latest until `ctx` ends, and binds it to
    /// `ctx` until it is returned: what is asked of it ends with `ctx`,
    /// whatever is ambient, unless a descendant of `ctx` is.
    ///
    /// The pool's own `get` does the same inside of
    /// [`ctx.run`](Context::run) or [`ctx.scope`](Context::scope). Use this
    /// where a client is to outlive the call that checks it out, or where the
    /// error should tell that the time was spent waiting for the pool: the
    /// phase [`PoolWait`](Phase::PoolWait) is told by this alone.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use deadpool_postgres::Pool;
    /// use pgdeadline::Context;
    /// use pgdeadline_deadpool::{Error, PoolExt};
    ///
    /// # async fn example(pool: Pool) -> Result<(), Error> {
    /// let ctx = Context::background().with_timeout(Duration::from_millis(200));
    /// let client = pool.acquire(&ctx).await?;
    /// client.execute("UPDATE visits SET n = n + 1", &[]).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Database`] when `ctx` has ended, in whichever phase, or when no
    /// connection could be made; [`Error::Pool`] for what the pool says of its
    /// own.
    ///
    /// # Cancel safety
    /// Dropping the future, or the end of `ctx`, gives up the place in the
    /// pool's queue, and nothing else. A connection that was being opened or
    /// recycled is closed; the pool opens another when it needs one.
    fn acquire(&self, ctx: &Context) -> impl Future<Output = Result<Client, Error>> + Send;
}

impl PoolExt for Pool {
    async fn acquire(&self, ctx: &Context) -> Result<Client, Error> {
        let get = async {
            let waiting = Context::current().map(|ctx| ctx.enter_phase(Phase::PoolWait));
            let client = self.get().await?;
            drop(waiting);
            Ok(client)
        };
        ctx.try_run(NAMED.scope(ctx.clone(), get)).await
    }
}

/// The context that a check-out is to be bound to: that which `acquire` was
/// given, else the ambient one.
///
/// `acquire` waits inside `run`, whose own context is over when it returns.
pub(crate) fn context_to_bind() -> Option<Context> {
    NAMED
        .try_with(Context::clone)
        .ok()
        .or_else(Context::current)
}

tokio::task_local! {
    static NAMED: Context;
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for deadpool_postgres::Pool {}
}
