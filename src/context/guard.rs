//! The owner of a context: ends it, at the latest when dropped.

use super::Context;
use super::cause::{Cause, Reason};
use std::error::Error as StdError;
use std::ops::Deref;

/// A context and the right to end it.
///
/// Deriving a context ([`Context::child`], [`Context::with_deadline`],
/// [`Context::with_timeout`]) gives a guard. It can be used wherever a
/// `&Context` is asked for. Clone the [`Context`] in it to hand it on:
/// contexts are for those who do the work, and can't end what they were given;
/// the guard stays with whoever decides.
///
/// A guard that is dropped ends its context as [`Cause::Dropped`], so that
/// nothing goes on for somebody who has left. [`disarm`](Guard::disarm) is the
/// way to say that it shall go on.
///
/// ```
/// use pgdeadline::{Cause, Context};
///
/// let background = Context::background();
/// let guard = background.child();
/// let handed_on: Context = guard.context().clone();
/// drop(guard);
/// assert!(matches!(handed_on.end().unwrap().cause(), Cause::Dropped));
/// ```
#[derive(Debug)]
#[must_use = "a guard ends its context when dropped; `disarm` it to prevent that"]
pub struct Guard {
    context: Context,
    armed: bool,
}

impl Guard {
    pub(super) fn new(context: Context) -> Guard {
        Guard {
            context,
            armed: true,
        }
    }

    /// The context, to clone it or to be clear about which of the two is
    /// meant.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Ends the context as [`Cause::Cancelled`], without a reason. Does
    /// nothing if it is over already.
    pub fn cancel(&self) {
        self.context.node.end(Cause::Cancelled(Reason::not_given()));
    }

    /// Ends the context as [`Cause::Cancelled`] for a reason, a text or an
    /// error, that errors then tell. Does nothing if it is over already.
    ///
    /// ```
    /// use pgdeadline::Context;
    ///
    /// let ctx = Context::background().child();
    /// ctx.cancel_with("the client went away");
    /// ctx.cancel_with("too late, the first cause stays");
    /// let end = ctx.end().unwrap();
    /// assert_eq!(end.reason().unwrap().to_string(), "the client went away");
    /// ```
    pub fn cancel_with(&self, reason: impl Into<Box<dyn StdError + Send + Sync>>) {
        let reason = Reason::new(reason.into());
        self.context.node.end(Cause::Cancelled(reason));
    }

    /// Gives up the right to end the context: it goes on until its deadline
    /// passes or an ancestor ends.
    ///
    /// ```
    /// use pgdeadline::Context;
    ///
    /// let parent = Context::background().child();
    /// let ctx: Context = parent.child().disarm();
    /// assert!(!ctx.is_ended());
    /// ```
    pub fn disarm(mut self) -> Context {
        self.armed = false;
        self.context.clone()
    }
}

impl Deref for Guard {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.context
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.armed {
            self.context.node.end(Cause::Dropped);
        }
    }
}
