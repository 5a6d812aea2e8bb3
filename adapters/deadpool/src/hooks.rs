//! What deadpool calls at a check-out: binds the context to the connection.
//!
//! 1. `post_create`: a new client is matched to its session and bound.
//! 2. `pre_recycle`, before the user's own hooks, which may query: the check-out
//!    before is over, and this one is bound once the session is clean. One that
//!    is not in time is refused, and deadpool closes it (see
//!    [`patience`](crate::patience)).
//! 3. A check-out under a context that has ended is let through, and all that
//!    is asked of it answered with that end. But the pool's own upkeep, its
//!    recycling statement and the user's hooks, must not fail with it: else one
//!    such check-out would close every idle connection in turn. So while the
//!    client is recycled an *upkeep* context is bound, with the grace as its
//!    deadline, and the ended one in `post_recycle`, after the user's hooks.
//! 4. deadpool closes what a hook refuses, and what a check-out holds that is
//!    dropped while it waits. Both are told as retired, reason "pool".

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Hook, HookError};
use pgdeadline::{Context, Refusal, Session, Settings};
use tracing::info;

use crate::acquire::context_to_bind;
use crate::patience::Patience;
use crate::sessions;
use crate::sweep::Sweeper;

/// What the hooks of one pool share.
pub(crate) struct Hooks {
    pub(crate) settings: Settings,
    pub(crate) sweeper: Arc<Sweeper>,
    /// deadpool recycles with a statement, or may for all that is known.
    pub(crate) recycles_by_statement: bool,
}

impl Hooks {
    /// Rule 1.
    pub(crate) fn post_create(self: &Arc<Self>) -> Hook {
        let hooks = Arc::clone(self);
        Hook::async_fn(move |client, _| {
            let (hooks, session) = (Arc::clone(&hooks), known(sessions::of_new(client)));
            Box::pin(async move { hooks.created(&session?).await })
        })
    }

    /// Rule 2.
    pub(crate) fn pre_recycle(self: &Arc<Self>) -> Hook {
        let hooks = Arc::clone(self);
        Hook::async_fn(move |client, _| {
            let patience = Patience::take();
            let (hooks, session) = (Arc::clone(&hooks), sessions::of(client));
            Box::pin(async move {
                match session {
                    Some(session) => hooks.recycle(&session, patience).await,
                    None => {
                        patience.leave();
                        Err(HookError::message(UNKNOWN))
                    }
                }
            })
        })
    }

    /// Rule 3.
    pub(crate) fn post_recycle() -> Hook {
        Hook::async_fn(|client, _| {
            let session = known(sessions::of(client));
            Box::pin(async move { recycled(&session?).await })
        })
    }

    async fn created(&self, session: &Session) -> Result<(), HookError> {
        let sweeper = Arc::clone(&self.sweeper);
        session.on_busy(move || sweeper.busy());
        // Nothing was said on it yet: it is clean as soon as its task has been
        // polled, however busy the machine is.
        let context = context_to_bind();
        let waiting = Waiting::new(session);
        let result = session
            .check_out_within(context.as_ref(), self.settings.grace)
            .await;
        waiting.over(result)
    }

    async fn recycle(&self, session: &Session, patience: Patience) -> Result<(), HookError> {
        let waiting = Waiting::new(session);
        let context = context_to_bind();
        let mut result = Ok(());
        if !is_ended(&context) {
            let wait = patience.as_wait(&self.settings);
            result = session.check_out_within(context.as_ref(), wait).await;
        }
        // Or it has ended during the wait.
        if result.is_ok() && is_ended(&context) {
            result = self
                .recycle_ended(session, context.as_ref(), patience)
                .await;
        }
        match result {
            Err(Refusal::Closed) => patience.leave(),
            Err(_) => Patience::Spent.leave(),
            Ok(()) => {}
        }
        waiting.over(result)
    }

    /// Rule 3.
    async fn recycle_ended(
        &self,
        session: &Session,
        ended: Option<&Context>,
        patience: Patience,
    ) -> Result<(), Refusal> {
        let upkeep = Context::background()
            .with_timeout(self.settings.grace)
            .disarm();
        if self.recycles_by_statement {
            let wait = patience.as_wait(&self.settings);
            return session.check_out_within(Some(&upkeep), wait).await;
        }
        match session
            .check_out_within(Some(&upkeep), Duration::ZERO)
            .await
        {
            // It drains: its holder can do nothing with it, so it need not be
            // waited for.
            Err(Refusal::Busy) => session.check_out(ended).await,
            other => other,
        }
    }
}

async fn recycled(session: &Session) -> Result<(), HookError> {
    let context = context_to_bind();
    if !is_ended(&context) {
        return Ok(());
    }
    let waiting = Waiting::new(session);
    let result = session.check_out(context.as_ref()).await;
    waiting.over(result)
}

fn is_ended(context: &Option<Context>) -> bool {
    context.as_ref().is_some_and(Context::is_ended)
}

fn known(session: Option<Session>) -> Result<Session, HookError> {
    session.ok_or(HookError::message(UNKNOWN))
}

/// A check-out that waits for a session (rule 4).
struct Waiting<'a> {
    session: Option<&'a Session>,
}

impl<'a> Waiting<'a> {
    fn new(session: &'a Session) -> Self {
        Waiting {
            session: Some(session),
        }
    }

    fn over(mut self, result: Result<(), Refusal>) -> Result<(), HookError> {
        let session = self.session.take();
        result.map_err(|refusal| {
            if let Some(session) = session {
                retired(session, &refusal.to_string());
            }
            HookError::message(refusal.to_string())
        })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session {
            retired(session, "its check-out was dropped");
        }
    }
}

fn retired(session: &Session, why: &str) {
    let process_id = session.process_id();
    info!(target: "pgdeadline", process_id, reason = "pool", why, "retired");
}

const UNKNOWN: &str = "the connection was not made by pgdeadline, or was lost: if this pool's \
                       manager was given to pgdeadline_deadpool::Builder, make it with \
                       Manager::from_connect and a pgdeadline_deadpool::PgConnect";
