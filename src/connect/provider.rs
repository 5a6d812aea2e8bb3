//! Where the configuration comes from: fixed, or from a provider.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use tokio_postgres::Config;

use super::failure::{BoxError, Failure, chain};
use crate::error::{Error, Phase};

/// The source of a connector's configuration.
pub(super) enum Source {
    Fixed(Box<Config>),
    /// Asked once a connection, inside the connect deadline.
    Provider(Box<dyn Provide>),
}

/// A provider without its type.
pub(super) trait Provide: Send + Sync {
    fn provide(&self) -> Pin<Box<dyn Future<Output = Result<Config, BoxError>> + Send + '_>>;
}

impl Source {
    pub(super) fn provider<P, F, E>(provider: P) -> Source
    where
        P: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<Config, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Source::Provider(Box::new(Closure(provider)))
    }

    pub(super) fn fixed(&self) -> Option<&Config> {
        match self {
            Source::Fixed(config) => Some(config),
            Source::Provider(_) => None,
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // tokio-postgres leaves the password out.
            Source::Fixed(config) => config.fmt(f),
            Source::Provider(_) => f.write_str("Provider"),
        }
    }
}

/// Asks a provider.
///
/// # Errors
/// Its own, said to be its own.
pub(super) async fn ask(provider: &dyn Provide) -> Result<Config, Error> {
    provider.provide().await.map_err(|error| {
        Failure::new(
            Phase::Outside,
            format!("the configuration provider failed: {}", chain(&*error)),
        )
        .because(error)
        .into_error()
    })
}

struct Closure<P>(P);

impl<P, F, E> Provide for Closure<P>
where
    P: Fn() -> F + Send + Sync,
    F: Future<Output = Result<Config, E>> + Send + 'static,
    E: Into<BoxError>,
{
    fn provide(&self) -> Pin<Box<dyn Future<Output = Result<Config, BoxError>> + Send + '_>> {
        let provided = (self.0)();
        Box::pin(async move { provided.await.map_err(Into::into) })
    }
}
