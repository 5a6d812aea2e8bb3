//! `Context::try_run` for error types that are made from sqlx's.

use std::future::Future;

use pgdeadline::error::Walk;
use pgdeadline::{Context, Error};

use crate::error::carry;

/// Does something that can fail with sqlx's error until `ctx` ends, and tells
/// the end in that type: [`Context::try_run`] can't, because only sqlx could
/// say how its error is made from pgdeadline's.
///
/// The end of `ctx` has one shape, whoever noticed it first: a
/// [`sqlx::Error::Io`] in which [`pgdeadline::Error::find`] finds it. The same
/// errors through [`Error`](crate::Error), `anyhow::Error` or a box need no
/// function of this crate: there use `ctx.try_run`.
///
/// ```no_run
/// use std::time::Duration;
/// use pgdeadline::Context;
/// use sqlx::PgPool;
///
/// # async fn example(pool: &PgPool) -> Result<(), sqlx::Error> {
/// let ctx = Context::background().with_timeout(Duration::from_millis(200));
/// let name: String = pgdeadline_sqlx::try_run(&ctx, async {
///     sqlx::query_scalar("SELECT name FROM visitors").fetch_one(pool).await
/// })
/// .await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// That of `future`, or the end of `ctx`.
///
/// # Cancel safety
/// As [`Context::run`]: dropping it drops `future`, and what that has in
/// flight ends as *dropped*. `ctx` goes on.
pub async fn try_run<T>(
    ctx: &Context,
    future: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    under(ctx, future).await
}

/// The same for every error type that is made from sqlx's.
pub(crate) async fn under<T, E, As>(
    ctx: &Context,
    future: impl Future<Output = Result<T, E>>,
) -> Result<T, E>
where
    E: From<sqlx::Error> + Walk<As>,
{
    let carried = ctx.try_run(async { future.await.map_err(Carried) });
    carried.await.map_err(|carried| carried.0)
}

/// What `Context::try_run` can make from pgdeadline's error, by way of sqlx's.
struct Carried<E>(E);

impl<E: From<sqlx::Error>> From<Error> for Carried<E> {
    fn from(error: Error) -> Carried<E> {
        Carried(carry(error).into())
    }
}

/// `As` names the way, as for what is carried.
impl<E: Walk<As>, As> Walk<(As,)> for Carried<E> {
    fn as_error(&self) -> &(dyn std::error::Error + 'static) {
        self.0.as_error()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn the_end_is_told_in_sqlxs_type() {
        let ctx = Context::background().with_timeout(Duration::from_millis(200));
        let result: Result<(), _> = try_run(&ctx, std::future::pending()).await;
        let error = result.unwrap_err();
        assert!(matches!(error, sqlx::Error::Io(_)), "{error:?}");
        assert!(Error::find(&error).unwrap().is_deadline());
    }

    #[tokio::test]
    async fn what_is_not_the_end_is_passed_on_as_it_is() {
        let ctx = Context::background().child();
        assert_eq!(try_run(&ctx, async { Ok(42) }).await.unwrap(), 42);
        let result: Result<(), _> = try_run(&ctx, async { Err(sqlx::Error::RowNotFound) }).await;
        assert!(matches!(result, Err(sqlx::Error::RowNotFound)));
    }

    #[tokio::test]
    async fn an_inner_error_that_tells_this_end_counts_as_it() {
        let ctx = Context::background().child();
        let inner = async {
            let child = Context::current().unwrap();
            ctx.cancel_with("enough");
            let told = child.run(async {}).await.unwrap_err();
            Err(sqlx::Error::Configuration(Box::new(told)))
        };
        let result: Result<(), _> = try_run(&ctx, inner).await;
        let error = result.unwrap_err();
        assert!(matches!(error, sqlx::Error::Io(_)), "{error:?}");
        assert!(Error::find(&error).unwrap().is_cancelled());

        let other = Error::find(&error).unwrap();
        let ctx = Context::background().child();
        let inner = async { Err(sqlx::Error::Configuration(Box::new(other))) };
        let result: Result<(), _> = try_run(&ctx, inner).await;
        let error = result.unwrap_err();
        assert!(matches!(error, sqlx::Error::Configuration(_)), "{error:?}");
    }

    #[tokio::test]
    async fn other_error_types_are_carried_too() {
        let ctx = Context::background().child();
        ctx.cancel();
        let anyhow: Result<(), anyhow::Error> = under(&ctx, std::future::pending()).await;
        assert!(Error::find(&*anyhow.unwrap_err()).unwrap().is_cancelled());
        let ours: Result<(), crate::Error> = under(&ctx, std::future::pending()).await;
        assert!(ours.unwrap_err().database().unwrap().is_cancelled());
        type Boxed = Box<dyn std::error::Error + Send + Sync>;
        let boxed: Result<(), Boxed> = under(&ctx, std::future::pending()).await;
        assert!(Error::find(&*boxed.unwrap_err()).unwrap().is_cancelled());
    }
}
