//! `run` for work that can fail: one error type, and one shape for the end,
//! whoever noticed it first.

use super::Context;
use super::run::Run;
use crate::error::{Error, Walk};
use pin_project_lite::pin_project;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{self, Poll, ready};

pin_project! {
    /// The future that [`Context::try_run`] returns.
    #[must_use = "futures do nothing unless polled"]
    pub struct TryRun<F, As> {
        #[pin]
        run: Run<F>,
        walk_as: PhantomData<fn() -> As>,
    }
}

impl Context {
    /// Does something that can fail until this context ends, with one error
    /// for both.
    ///
    /// The end can be noticed by `run`, by the connection that a query is on,
    /// or by the server: an error of `future`'s own in which [`Error::find`]
    /// knows the end of this context counts as that end, and is returned as
    /// one made from [`Error`]. So it has one shape, whoever was first.
    ///
    /// `E` is any error type that can be made from [`Error`] and searched:
    /// `tokio_postgres::Error`, `anyhow::Error`, `Box<dyn std::error::Error>`
    /// (with or without `Send + Sync`), this crate's [`Error`], or an enum of
    /// your own that implements [`std::error::Error`] and `From<Error>`. `As`
    /// is found by the compiler; see [`Walk`].
    ///
    /// ```
    /// use pgdeadline::{Context, Error};
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// async fn count() -> Result<u64, Box<dyn std::error::Error>> {
    ///     std::future::pending().await
    /// }
    ///
    /// let ctx = Context::background().with_timeout(Duration::from_millis(200));
    /// let error = ctx.try_run(count()).await.unwrap_err();
    /// assert!(Error::find(&*error).unwrap().is_deadline());
    /// # }
    /// ```
    ///
    /// Fairness, cancel safety and panics are those of [`run`](Context::run).
    pub fn try_run<T, E, F, As>(&self, future: F) -> TryRun<F::IntoFuture, As>
    where
        F: IntoFuture<Output = Result<T, E>>,
        E: From<Error> + Walk<As>,
    {
        TryRun {
            run: self.run(future),
            walk_as: PhantomData,
        }
    }
}

impl<T, E, F, As> Future for TryRun<F, As>
where
    F: Future<Output = Result<T, E>>,
    E: From<Error> + Walk<As>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Result<T, E>> {
        let mut this = self.project();
        let own = match ready!(this.run.as_mut().poll(cx)) {
            Ok(Ok(value)) => return Poll::Ready(Ok(value)),
            Ok(Err(own)) => own,
            Err(error) => return Poll::Ready(Err(error.into())),
        };
        let told = this.run.end().and_then(|end| {
            let found = Error::find(own.as_error())?;
            found.told_as(&end)
        });
        Poll::Ready(Err(told.map_or(own, E::from)))
    }
}

impl<F, As> std::fmt::Debug for TryRun<F, As> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TryRun").finish_non_exhaustive()
    }
}
