//! Waiting for a server that was just started.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Config, NoTls};

/// Waits until `config` can be connected to.
///
/// `given_up` is asked between two tries whether there is still something to
/// wait for; its text becomes the error.
pub(super) async fn wait(
    config: &Config,
    bound: Duration,
    mut given_up: impl FnMut() -> Option<String>,
) -> Result<()> {
    let until = Instant::now() + bound;
    loop {
        let last = match timeout(ONE_TRY, config.connect(NoTls)).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => format!("{:#}", anyhow::Error::from(error)),
            Err(_) => format!("no answer within {ONE_TRY:?}"),
        };
        if let Some(why) = given_up() {
            bail!(why);
        }
        if Instant::now() >= until {
            bail!("not ready after {bound:?}: {last}");
        }
        sleep(PAUSE).await;
    }
}

/// A server that is still starting can accept and say nothing.
const ONE_TRY: Duration = Duration::from_secs(5);

const PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody listens on port 1 of the loopback.
    fn nobody() -> Config {
        "host=127.0.0.1 port=1 user=u".parse().expect("a URL")
    }

    #[tokio::test]
    async fn a_server_that_died_ends_the_wait_at_once() {
        let error = wait(&nobody(), Duration::from_secs(3_600), || {
            Some("it died".to_owned())
        })
        .await
        .expect_err("nobody there");
        assert_eq!(error.to_string(), "it died");
    }

    #[tokio::test]
    async fn the_bound_ends_the_wait_and_names_the_last_error() {
        let error = wait(&nobody(), Duration::ZERO, || None)
            .await
            .expect_err("nobody there");
        let text = error.to_string();
        assert!(text.contains("not ready"), "{text}");
        assert!(text.contains("onnect"), "{text}");
    }
}
