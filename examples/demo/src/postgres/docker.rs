//! PostgreSQL in a Docker container.
//!
//! 1. The image is looked for where the tests look for theirs: the one that
//!    `PGDEADLINE_TEST_IMAGE` names, a local `pgdeadline-postgres:MAJOR`,
//!    `postgres:MAJOR` from the registry, else one that `docker/build-image`
//!    builds from Debian packages.
//! 2. The container is removed when [`Container`] drops, which is made, with
//!    the container's name, before the container is.

use std::path::Path;
use std::process::{self, Output, Stdio};
use std::time::Duration;
use std::{env, io, thread};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use tokio::process::Command;
use tokio::time::timeout;
use tokio_postgres::Config;

use super::{password, ready};

/// A running container.
pub(super) struct Container {
    name: String,
    image: String,
    config: Config,
    /// Whether `docker run` has ended, so that there is one thing to remove or
    /// nothing.
    settled: bool,
}

/// Starts a container.
///
/// # Cancel safety
/// Dropped half-way it leaves no container behind (rule 2).
pub(super) async fn start() -> Result<Container> {
    docker(&["version", "--format", "{{.Server.Version}}"])
        .await
        .context("Docker can't be used")?;
    let password = password()?;
    let mut container = Container {
        name: format!("pgdeadline-demo-{}", process::id()),
        image: image(&major()?).await?,
        config: Config::new(),
        settled: false,
    };
    let run = container.run(&password).await;
    container.settled = true;
    run?;
    let ports = docker(&["port", &container.name, "5432/tcp"]).await?;
    let port = published_port(&ports)
        .with_context(|| format!("`docker port` said {ports:?} and no port"))?;
    container
        .config
        .host("127.0.0.1")
        .port(port)
        .user("postgres")
        .password(&password)
        .dbname("postgres");
    if let Err(error) = ready::wait(&container.config, START_BOUND, || None).await {
        let log = command(&["logs", "--tail", "5", &container.name])
            .output()
            .await?;
        let log = String::from_utf8_lossy(&log.stderr);
        return Err(error.context(format!("in {}: {}", container.image, log.trim())));
    }
    Ok(container)
}

impl Container {
    async fn run(&self, password: &str) -> Result<String> {
        let mut run = command(&["run", "--rm", "--detach", "--name", &self.name]);
        // By name only: every user of the machine can read a command line.
        run.args(["--env", "POSTGRES_PASSWORD"])
            .env("POSTGRES_PASSWORD", password)
            .args(["--publish", "127.0.0.1::5432"])
            .arg(&self.image)
            .args(["-c", "fsync=off"]);
        printed("docker run", run.output().await)
    }

    fn remove(&self) -> io::Result<Output> {
        process::Command::new("docker")
            .args(["rm", "--force", "--volumes", &self.name])
            .stdin(Stdio::null())
            .output()
    }

    pub(super) fn config(&self) -> Config {
        self.config.clone()
    }

    pub(super) fn origin(&self) -> String {
        format!("Docker image {}", self.image)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // A `docker run` that was given up may have asked the daemon already,
        // which then makes the container a moment later.
        let tries = if self.settled { 1 } else { 10 };
        for left in (0..tries).rev() {
            match self.remove() {
                Ok(output) if !output.stdout.is_empty() => return,
                Ok(output) if self.settled && !output.status.success() => {
                    eprintln!("warning: {} could not be removed", self.name);
                }
                _ if left > 0 => thread::sleep(Duration::from_millis(100)),
                _ => {}
            }
        }
    }
}

/// The image to run, there or made (rule 1).
async fn image(major: &str) -> Result<String> {
    if let Ok(named) = env::var("PGDEADLINE_TEST_IMAGE")
        && !named.is_empty()
    {
        return Ok(named);
    }
    let own = format!("pgdeadline-postgres:{major}");
    if docker(&["image", "inspect", &own]).await.is_ok() {
        return Ok(own);
    }
    let official = format!("postgres:{major}");
    if docker(&["image", "inspect", &official]).await.is_ok() {
        return Ok(official);
    }
    eprintln!("Pulling {official} ...");
    let pulled = match timeout(PULL_BOUND, docker(&["pull", "--quiet", &official])).await {
        Ok(Ok(_)) => return Ok(official),
        Ok(Err(error)) => error,
        Err(_) => anyhow!("not there after {PULL_BOUND:?}"),
    };
    eprintln!("{official} can't be pulled; building {own} ...");
    build(major)
        .await
        .with_context(|| format!("{official} can't be pulled ({pulled:#})"))?;
    Ok(own)
}

/// Builds an image with the project's own script, whose words the user sees.
async fn build(major: &str) -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docker/build-image");
    let status = Command::new(&script)
        .arg(major)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await
        .with_context(|| format!("{} can't be run", script.display()))?;
    ensure!(status.success(), "docker/build-image ended with {status}");
    Ok(())
}

fn major() -> Result<String> {
    checked_major(&env::var("PGDEADLINE_TEST_MAJOR").unwrap_or_else(|_| MAJOR.to_owned()))
}

fn checked_major(text: &str) -> Result<String> {
    match text.parse::<u8>() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => bail!("PGDEADLINE_TEST_MAJOR is {text:?}, and no version such as 17"),
    }
}

/// What the command printed, or an error with what it complained of.
async fn docker(arguments: &[&str]) -> Result<String> {
    printed(
        &format!("docker {}", arguments[0]),
        command(arguments).output().await,
    )
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

fn printed(what: &str, output: io::Result<Output>) -> Result<String> {
    let output = output.with_context(|| format!("`{what}` can't be run"))?;
    ensure!(
        output.status.success(),
        "`{what}` failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The port in what `docker port` prints: one `address:port` a line.
fn published_port(ports: &str) -> Option<u16> {
    ports
        .lines()
        .find_map(|line| line.trim().rsplit_once(':')?.1.parse().ok())
}

const MAJOR: &str = "17";

/// The image is some 150 MB: minutes on a slow line.
const PULL_BOUND: Duration = Duration::from_secs(300);

/// The container runs initdb first.
const START_BOUND: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_found_behind_either_family_of_address() {
        assert_eq!(published_port("127.0.0.1:49153"), Some(49153));
        assert_eq!(published_port("[::1]:49154\n127.0.0.1:49155"), Some(49154));
        assert_eq!(published_port(""), None);
        assert_eq!(published_port("Error: No public port"), None);
    }

    #[test]
    fn a_major_is_a_small_number() {
        assert_eq!(checked_major("17").expect("a version"), "17");
        for wrong in ["", "latest", "17.2", "-1"] {
            let error = checked_major(wrong).expect_err("no version");
            assert!(error.to_string().contains("PGDEADLINE_TEST_MAJOR"));
        }
    }
}
