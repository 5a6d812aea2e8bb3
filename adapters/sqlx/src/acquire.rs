//! An acquire under a context that is named.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use pgdeadline::context::PhaseGuard;
use pgdeadline::{Context, Phase};
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgPool;
use sqlx::{Postgres, Transaction};

use crate::error::Error;

/// What pgdeadline adds to a [`PgPool`].
pub trait PoolExt: sealed::Sealed {
    /// Acquires a connection, at the latest until `ctx` ends, and binds it to
    /// `ctx` until it is returned: what is asked of it ends with `ctx`,
    /// whatever is ambient.
    ///
    /// The pool's own `acquire` does the same inside of
    /// [`ctx.run`](Context::run) or [`ctx.scope`](Context::scope). Use this
    /// where a connection is to outlive the call that acquires it, or where
    /// the error should tell that the time was spent waiting for the pool: the
    /// phase [`PoolWait`](Phase::PoolWait) is told by this and by
    /// [`begin_under`](PoolExt::begin_under) alone. With sqlx it covers the
    /// making of a new connection.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use pgdeadline::Context;
    /// use pgdeadline_sqlx::{Error, PoolExt};
    /// use sqlx::PgPool;
    ///
    /// # async fn example(pool: PgPool) -> Result<(), Error> {
    /// let ctx = Context::background().with_timeout(Duration::from_millis(200));
    /// let mut connection = pool.acquire_under(&ctx).await?;
    /// sqlx::query("UPDATE visits SET n = n + 1").execute(&mut *connection).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Database`] when `ctx` has ended, when no connection could be
    /// made, and at once when the pool's options were replaced by ones that
    /// bypass pgdeadline (see [`Relay`](crate::Relay); the pool's own
    /// `acquire` tries again until its `acquire_timeout` then);
    /// [`Error::Sqlx`] for what sqlx says of its own.
    ///
    /// # Cancel safety
    /// Dropping the future, or the end of `ctx`, gives up the place in the
    /// pool's queue, and nothing else. A connection that was being opened or
    /// bound is closed; the pool opens another when it needs one.
    fn acquire_under(
        &self,
        ctx: &Context,
    ) -> impl Future<Output = Result<PoolConnection<Postgres>, Error>> + Send;

    /// Begins a transaction under `ctx`: as
    /// [`acquire_under`](PoolExt::acquire_under), and what is asked in the
    /// transaction ends with `ctx` too.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use pgdeadline::Context;
    /// use pgdeadline_sqlx::{Error, PoolExt};
    /// use sqlx::PgPool;
    ///
    /// # async fn example(pool: PgPool) -> Result<(), Error> {
    /// let ctx = Context::background().with_timeout(Duration::from_millis(200));
    /// let mut transaction = pool.begin_under(&ctx).await?;
    /// sqlx::query("UPDATE visits SET n = n + 1").execute(&mut *transaction).await?;
    /// transaction.commit().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`acquire_under`](PoolExt::acquire_under), and those of `BEGIN`.
    ///
    /// # Cancel safety
    /// As [`acquire_under`](PoolExt::acquire_under). A `BEGIN` that is under
    /// way leaves no transaction open.
    fn begin_under(
        &self,
        ctx: &Context,
    ) -> impl Future<Output = Result<Transaction<'static, Postgres>, Error>> + Send;
}

impl PoolExt for PgPool {
    async fn acquire_under(&self, ctx: &Context) -> Result<PoolConnection<Postgres>, Error> {
        under(ctx, self.acquire()).await
    }

    async fn begin_under(&self, ctx: &Context) -> Result<Transaction<'static, Postgres>, Error> {
        under(ctx, self.begin()).await
    }
}

async fn under<T>(
    ctx: &Context,
    acquire: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Error> {
    ctx.try_run(async {
        let waiting = Context::current().map(|ctx| ctx.enter_phase(Phase::PoolWait));
        let asked = Asked::new(Some(ctx.clone()), waiting);
        ASKED.scope(asked, or_refused(acquire)).await
    })
    .await
}

/// sqlx only logs what `after_connect` fails with, and tries again until its
/// own time is up; what can't get better is told at once.
async fn or_refused<T>(acquire: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
    let mut acquire = pin!(acquire);
    poll_fn(|cx| match acquire.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(result.map_err(Error::from)),
        Poll::Pending => match ASKED.with(|asked| asked.refusal.take()) {
            Some(refusal) => Poll::Ready(Err(Error::Database(refusal))),
            None => Poll::Pending,
        },
    })
    .await
}

/// Makes a pool's connections without binding them to anything: what was
/// ambient when the pool was made is not what its first holder asks under.
pub(crate) async fn unbound<F: Future>(work: F) -> F::Output {
    ASKED.scope(Asked::new(None, None), work).await
}

/// The context that a check-out is to be bound to: that which `acquire_under`
/// was given, else the ambient one.
///
/// `acquire_under` waits inside `run`, whose own context is over when it
/// returns.
pub(crate) fn context_to_bind() -> Option<Context> {
    ASKED
        .try_with(|asked| {
            // The wait is over: a connection is there.
            drop(asked.waiting.take());
            asked.context.clone()
        })
        .unwrap_or_else(|_| Context::current())
}

/// Leaves word for the `acquire_under` that a hook was called by, if it was
/// one, that its connection was refused and why.
pub(crate) fn refuse(error: &sqlx::Error) {
    let _ = ASKED.try_with(|asked| {
        let found = pgdeadline::Error::find(error);
        asked
            .refusal
            .set(found.filter(pgdeadline::Error::is_config));
    });
}

/// What the hooks, which sqlx calls within the same task, know of the acquire
/// that they are called for.
struct Asked {
    context: Option<Context>,
    waiting: Cell<Option<PhaseGuard>>,
    refusal: Cell<Option<pgdeadline::Error>>,
}

impl Asked {
    fn new(context: Option<Context>, waiting: Option<PhaseGuard>) -> Asked {
        Asked {
            context,
            waiting: Cell::new(waiting),
            refusal: Cell::new(None),
        }
    }
}

tokio::task_local! {
    static ASKED: Asked;
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for sqlx::postgres::PgPool {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn the_time_that_is_spent_waiting_is_told() {
        let ctx = Context::background().with_timeout(Duration::from_millis(200));
        let result: Result<(), _> = under(&ctx, std::future::pending()).await;
        let error = result.unwrap_err();
        let end = error.database().unwrap();
        assert!(end.is_deadline() && end.is_retry_safe());
        assert_eq!(end.phase(), Some(Phase::PoolWait));
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_is_over_when_a_hook_runs() {
        let ctx = Context::background().with_timeout(Duration::from_millis(200));
        let hook = async {
            assert_eq!(context_to_bind().as_ref(), Some(ctx.context()));
            std::future::pending().await
        };
        let result: Result<(), _> = under(&ctx, hook).await;
        let error = result.unwrap_err();
        let phase = error.database().unwrap().phase();
        assert_eq!(phase, Some(Phase::Outside));
    }

    #[tokio::test]
    async fn the_ambient_context_is_bound_where_none_is_named() {
        assert_eq!(context_to_bind(), None);
        let ctx = Context::background().child();
        let ambient = ctx.scope(async { context_to_bind() }).await;
        assert_eq!(ambient.as_ref(), Some(ctx.context()));
        let none = ctx.scope(unbound(async { context_to_bind() })).await;
        assert_eq!(none, None);
    }

    #[tokio::test]
    async fn a_refusal_that_lasts_is_told_at_once() {
        let ctx = Context::background().child();
        let acquire = async {
            refuse(&crate::error::carry(pgdeadline::Error::config("replaced")));
            std::future::pending().await
        };
        let result: Result<(), _> = under(&ctx, acquire).await;
        assert!(result.unwrap_err().database().unwrap().is_config());

        let acquire = async {
            refuse(&crate::error::carry(testing::ended("a moment ago").await));
            refuse(&sqlx::Error::PoolTimedOut);
            tokio::task::yield_now().await;
            Err(sqlx::Error::PoolTimedOut)
        };
        let result: Result<(), _> = under(&ctx, acquire).await;
        assert!(matches!(
            result,
            Err(Error::Sqlx(sqlx::Error::PoolTimedOut))
        ));
    }
}
