//! Placeholder.
#![allow(missing_docs, dead_code)]
use crate::error::Phase;
use std::sync::{Arc, Mutex};
use tokio::time::{Duration, Instant};
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cause {
    Deadline,
    Cancelled,
}
#[derive(Clone, Debug)]
pub struct End {
    pub(crate) cause: Cause,
}
pub(crate) struct Progress {
    pub(crate) phase: Phase,
    pub(crate) sent: Option<bool>,
    pub(crate) commit_in_doubt: bool,
}
#[derive(Clone)]
pub struct Context {
    token: tokio_util::sync::CancellationToken,
    deadline: Option<Instant>,
    end: Arc<Mutex<Option<End>>>,
}
impl Context {
    pub fn background() -> Context {
        Context {
            token: Default::default(),
            deadline: None,
            end: Default::default(),
        }
    }
    pub fn with_timeout(&self, t: Duration) -> Context {
        Context {
            token: Default::default(),
            deadline: Some(Instant::now() + t),
            end: Default::default(),
        }
    }
    pub fn cancel(&self) {
        self.over(Cause::Cancelled)
    }
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
    pub(crate) fn expire(&self) {
        self.over(Cause::Deadline)
    }
    fn over(&self, cause: Cause) {
        self.end.lock().unwrap().get_or_insert(End { cause });
        self.token.cancel();
    }
    pub fn end(&self) -> Option<End> {
        self.end.lock().unwrap().clone()
    }
    pub async fn ended(&self) -> End {
        match self.deadline {
            Some(d) => {
                if tokio::time::timeout_at(d, self.token.cancelled())
                    .await
                    .is_err()
                {
                    self.expire()
                }
            }
            None => self.token.cancelled().await,
        }
        self.end().unwrap()
    }
}
