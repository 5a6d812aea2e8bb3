//! Placeholder.
#![allow(missing_docs, dead_code)]
use crate::context::{Cause, End, Progress};
use std::fmt;
use std::sync::Arc;
type Source = Box<dyn std::error::Error + Send + Sync>;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Outside,
    PoolWait,
    Resolve,
    Connect,
    Tls,
    StartUp,
    Write,
    Read,
    Drain,
}
#[derive(Clone, Debug)]
pub struct Error(Arc<Inner>);
#[derive(Debug)]
struct Inner {
    text: String,
    phase: Phase,
    source: Option<Source>,
    end: Option<End>,
    config: bool,
}
impl Error {
    pub(crate) fn config(text: impl Into<String>) -> Error {
        Error(Arc::new(Inner {
            text: text.into(),
            phase: Phase::Outside,
            source: None,
            end: None,
            config: true,
        }))
    }
    pub(crate) fn connect(phase: Phase, text: impl Into<String>, source: Option<Source>) -> Error {
        Error(Arc::new(Inner {
            text: text.into(),
            phase,
            source,
            end: None,
            config: false,
        }))
    }
    pub(crate) fn end(end: &End, p: Progress) -> Error {
        Error(Arc::new(Inner {
            text: format!("{end:?}"),
            phase: p.phase,
            source: None,
            end: Some(end.clone()),
            config: false,
        }))
    }
    pub fn phase(&self) -> Phase {
        self.0.phase
    }
    pub fn is_deadline(&self) -> bool {
        self.0
            .end
            .as_ref()
            .is_some_and(|e| e.cause == Cause::Deadline)
    }
    pub fn is_cancelled(&self) -> bool {
        self.0
            .end
            .as_ref()
            .is_some_and(|e| e.cause == Cause::Cancelled)
    }
    pub fn is_config(&self) -> bool {
        self.0.config
    }
    pub fn is_connect(&self) -> bool {
        !self.0.config && self.0.end.is_none()
    }
    pub fn was_sent(&self) -> Option<bool> {
        Some(false)
    }
}
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}
impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|e| &**e as _)
    }
}
impl From<tokio_postgres::Error> for Error {
    fn from(e: tokio_postgres::Error) -> Error {
        Error::connect(Phase::Read, e.to_string(), Some(e.into()))
    }
}
