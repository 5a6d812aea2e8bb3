//! One operation under a context of its own.

use std::future::Future;

use pgdeadline::Context;
use pgdeadline::error::Walk;
use sqlx::postgres::PgConnection;

use crate::binding::operation;
use crate::error::carry;
use crate::try_run::under;

/// What pgdeadline adds to a [`PgConnection`], and so to what derefs to one:
/// a pool's connection and a transaction.
pub trait ConnectionExt: sealed::Sealed {
    /// Does `work` with this connection until `ctx` ends: what it asks for is
    /// bound to `ctx`, in place of what the connection was acquired under.
    ///
    /// The connection is borrowed mutably, so nothing else is asked of it
    /// meanwhile, and the end of `ctx` hits nobody else's query. `work` may
    /// use `within` again, with a context of its own.
    ///
    /// `E` is any error type that is made from sqlx's: that itself,
    /// [`Error`](crate::Error), `anyhow::Error`, a box, or an enum of your
    /// own.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use pgdeadline::Context;
    /// use pgdeadline_sqlx::ConnectionExt;
    /// use sqlx::PgPool;
    ///
    /// # async fn example(pool: &PgPool) -> Result<(), sqlx::Error> {
    /// let ctx = Context::background().with_timeout(Duration::from_millis(50));
    /// let mut transaction = pool.begin().await?;
    /// let name: String = transaction
    ///     .within(&ctx, async |c| {
    ///         sqlx::query_scalar("SELECT name FROM visitors").fetch_one(c).await
    ///     })
    ///     .await?;
    /// transaction.commit().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The end of `ctx` leaves a transaction of the caller's open, but failed:
    /// all that can be done in it is to roll back.
    ///
    /// # Errors
    /// That of `work`; or the end of `ctx`, in a [`sqlx::Error::Io`] that `E`
    /// is made from, whoever noticed it first. If the context has ended under
    /// which the connection was acquired, the error tells that end, and `work`
    /// was not begun: return the connection and acquire another. A
    /// [`sqlx::Error::Configuration`] for a connection that was not made
    /// through pgdeadline. [`pgdeadline::Error::find`] finds all of these.
    ///
    /// # Cancel safety
    /// Dropping the future drops `work`; what that has in flight ends as
    /// *dropped*. The connection can be used again.
    fn within<T, E, As, F>(&mut self, ctx: &Context, work: F) -> impl Future<Output = Result<T, E>>
    where
        F: AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
        E: From<sqlx::Error> + Walk<As>;
}

impl ConnectionExt for PgConnection {
    async fn within<T, E, As, F>(&mut self, ctx: &Context, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
        E: From<sqlx::Error> + Walk<As>,
    {
        under(ctx, async {
            // The child that `run` works in: it finishes with the work.
            let context = Context::current().unwrap_or_else(|| ctx.clone());
            let _operation = operation(self, &context).await.map_err(told)?;
            work(self).await
        })
        .await
    }
}

/// What pgdeadline has refused an operation with is told in the one shape that
/// its errors have in sqlx's.
fn told(error: sqlx::Error) -> sqlx::Error {
    match error {
        sqlx::Error::Database(_) => match pgdeadline::Error::find(&error) {
            Some(found) => carry(found),
            None => error,
        },
        other => other,
    }
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for sqlx::postgres::PgConnection {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, Answer};
    use pgdeadline::Error;

    #[tokio::test]
    async fn a_context_that_has_ended_lets_nothing_begin() {
        let server = testing::serve(|text| panic!("sent: {text}"));
        let mut connection = server.connect().await;
        let ctx = Context::background().child();
        ctx.cancel_with("enough");
        let result: Result<(), sqlx::Error> =
            connection.within(&ctx, async |_| panic!("was begun")).await;
        let error = result.unwrap_err();
        assert!(matches!(error, sqlx::Error::Io(_)), "{error:?}");
        assert!(Error::find(&error).unwrap().is_cancelled());
    }

    #[tokio::test]
    async fn a_connection_that_bypasses_pgdeadline_is_refused() {
        let server = testing::serve(|_| Answer::Error("42601", "syntax error"));
        let mut connection = server.connect().await;
        let result: Result<(), crate::Error> = connection
            .within(&Context::background(), async |_| panic!("was begun"))
            .await;
        let error = result.unwrap_err();
        assert!(error.database().unwrap().is_config(), "{error:?}");
        assert!(
            error.to_string().contains("did not come through"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn it_can_be_awaited_in_a_task_of_its_own() {
        let server = testing::serve(|_| Answer::Error("42601", "syntax error"));
        let mut connection = server.connect().await;
        let task = tokio::spawn(async move {
            let ctx = Context::background();
            let work = async |c: &mut PgConnection| {
                sqlx::query("SELECT 1").execute(c).await?;
                anyhow::Ok(())
            };
            connection.within(&ctx, work).await
        });
        let error = task.await.unwrap().unwrap_err();
        assert!(Error::find(&*error).unwrap().is_config());
    }
}
