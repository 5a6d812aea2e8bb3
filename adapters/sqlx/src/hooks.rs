//! What sqlx calls when a connection is made, acquired and released.
//!
//! 1. `before_acquire` and `after_connect` bind the context, or none: that
//!    ends the check-out before it, and stands in for sqlx's ping, since the
//!    relay refuses it when its server is gone. What fails there is closed
//!    hard, the quickest way for sqlx to go on.
//! 2. A user's hooks run after that, so that what they ask for ends with the
//!    context.
//! 3. A check-out under a context that has ended is let through, and all that
//!    is asked of it answered with that end. But the user's hook must not fail
//!    with it: sqlx would close the connection, and then others, one after
//!    another, that it makes in its place. So the hook runs under an *upkeep*
//!    context, with the grace as its deadline, and the ended one is bound
//!    after it.
//! 4. A user's `after_release` runs outside any lease: a ping comes first,
//!    which says that the lease is over, and is answered when the session is
//!    clean.
//! 5. The hooks hold the relay, so that the socket is there as long as the
//!    pool.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use pgdeadline::Context;
use sqlx::Connection;
use sqlx::pool::PoolConnectionMetadata;
use sqlx::postgres::{PgConnection, PgPoolOptions};

use crate::acquire::{context_to_bind, refuse};
use crate::binding;
use crate::relay::Relay;

/// A hook of the user's, as sqlx has it.
pub(crate) type Hook<T> = Arc<
    dyn for<'c> Fn(&'c mut PgConnection, PoolConnectionMetadata) -> Answer<'c, T> + Send + Sync,
>;

/// What a hook returns.
pub(crate) type Answer<'c, T> = Pin<Box<dyn Future<Output = Result<T, sqlx::Error>> + Send + 'c>>;

/// The user's own hooks.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) after_connect: Option<Hook<()>>,
    pub(crate) before_acquire: Option<Hook<bool>>,
    pub(crate) after_release: Option<Hook<bool>>,
}

impl Hooks {
    /// Puts ours in, with the user's behind them.
    pub(crate) fn install(
        self,
        options: PgPoolOptions,
        relay: Relay,
        grace: Duration,
    ) -> PgPoolOptions {
        // Rule 5; what is moved into a closure stays as long as that.
        let kept = relay;
        let options = match self.after_connect {
            None => options.after_connect(|connection, _| Box::pin(check_out(connection))),
            Some(hook) => options.after_connect(move |connection, metadata| {
                let hook = Arc::clone(&hook);
                Box::pin(check_out_for(connection, hook, metadata, grace))
            }),
        };
        let options = match self.before_acquire {
            None => options.before_acquire(move |connection, _| {
                let _ = &kept;
                Box::pin(async move {
                    check_out(connection).await?;
                    Ok(true)
                })
            }),
            Some(hook) => options.before_acquire(move |connection, metadata| {
                let _ = &kept;
                let hook = Arc::clone(&hook);
                Box::pin(check_out_for(connection, hook, metadata, grace))
            }),
        };
        let options = match self.after_release {
            None => options,
            Some(hook) => options.after_release(move |connection, metadata| {
                let hook = Arc::clone(&hook);
                Box::pin(async move {
                    // Rule 4.
                    connection.ping().await?;
                    hook(connection, metadata).await
                })
            }),
        };
        options.test_before_acquire(false)
    }
}

/// Rule 1.
async fn check_out(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    bind_to(connection, context_to_bind().as_ref()).await
}

/// Rules 2 and 3.
async fn check_out_for<T>(
    connection: &mut PgConnection,
    hook: Hook<T>,
    metadata: PoolConnectionMetadata,
    grace: Duration,
) -> Result<T, sqlx::Error> {
    let context = context_to_bind();
    if !context.as_ref().is_some_and(Context::is_ended) {
        bind_to(connection, context.as_ref()).await?;
        return hook(connection, metadata).await;
    }
    let upkeep = Context::background().with_timeout(grace);
    bind_to(connection, Some(&upkeep)).await?;
    let answer = hook(connection, metadata).await?;
    bind_to(connection, context.as_ref()).await?;
    Ok(answer)
}

async fn bind_to(
    connection: &mut PgConnection,
    context: Option<&Context>,
) -> Result<(), sqlx::Error> {
    binding::check_out(connection, context)
        .await
        .inspect_err(refuse)
}

#[cfg(test)]
mod tests;
