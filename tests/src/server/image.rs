//! Which image a container runs: looked for once a process, in this order.
//!
//! 1. `PGDEADLINE_TEST_IMAGE`, whatever it is.
//! 2. `pgdeadline-postgres:MAJOR`, if it is on this machine.
//! 3. `postgres:MAJOR`, if it is on this machine or a registry can be reached.
//! 4. The second, built by `docker/build-image` from Debian's packages.
//!
//! For what stands between client and server there is no official image: the
//! variable is `PGDEADLINE_TEST_PROXIES_IMAGE`, the name `pgdeadline-proxies`,
//! the script `docker/build-proxies`, and the third is left out.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::docker::{ASK_BOUND, docker, run};

/// An image's name, in the two parts that testcontainers wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) repository: String,
    pub(crate) tag: String,
}

impl Name {
    /// A colon is the tag's only after the last slash: a registry has a port.
    fn parse(text: &str) -> Name {
        match text.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => Name {
                repository: repository.into(),
                tag: tag.into(),
            },
            _ => Name {
                repository: text.into(),
                tag: "latest".into(),
            },
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

/// PostgreSQL's major version under test: also the Debian release that has it,
/// from which pgbouncer and HAProxy are.
pub(crate) fn major() -> String {
    std::env::var("PGDEADLINE_TEST_MAJOR").unwrap_or_else(|_| DEFAULT_MAJOR.into())
}

/// PostgreSQL's image, or what to do to get one.
pub(super) async fn find() -> Result<Name, String> {
    static FOUND: OnceCell<Result<Name, String>> = OnceCell::const_new();
    FOUND.get_or_init(|| search(&POSTGRES)).await.clone()
}

/// The image of what stands in between, or what to do to get one.
pub(crate) async fn find_proxies() -> Result<Name, String> {
    static FOUND: OnceCell<Result<Name, String>> = OnceCell::const_new();
    FOUND.get_or_init(|| search(&PROXIES)).await.clone()
}

/// The names of one image.
struct Kind {
    variable: &'static str,
    ours: &'static str,
    official: Option<&'static str>,
    script: &'static str,
}

const POSTGRES: Kind = Kind {
    variable: "PGDEADLINE_TEST_IMAGE",
    ours: "pgdeadline-postgres",
    official: Some("postgres"),
    script: "build-image",
};

const PROXIES: Kind = Kind {
    variable: "PGDEADLINE_TEST_PROXIES_IMAGE",
    ours: "pgdeadline-proxies",
    official: None,
    script: "build-proxies",
};

async fn search(kind: &Kind) -> Result<Name, String> {
    docker_answers().await?;
    if let Ok(name) = std::env::var(kind.variable) {
        return Ok(Name::parse(&name));
    }
    let major = major();
    let ours = format!("{}:{major}", kind.ours);
    if is_here(&ours).await {
        return Ok(Name::parse(&ours));
    }
    if let Some(official) = kind.official {
        let official = format!("{official}:{major}");
        if is_here(&official).await || pull(&official).await {
            return Ok(Name::parse(&official));
        }
    }
    build(kind, &major).await?;
    Ok(Name::parse(&ours))
}

async fn docker_answers() -> Result<(), String> {
    let answer = docker(&["info", "--format", "{{.ServerVersion}}"], ASK_BOUND).await;
    answer.map(drop).map_err(|error| {
        format!(
            "this test needs Docker, and `docker info` failed: {error}\n\
             Install it (Debian: apt-get install docker.io), start it (systemctl start docker) and \
             let this user use it (adduser USER docker, then log in again).\n\
             Without Docker: cargo test --workspace --lib runs what needs no server."
        )
    })
}

async fn is_here(image: &str) -> bool {
    docker(&["image", "inspect", image], ASK_BOUND)
        .await
        .is_ok()
}

/// Where no registry can be reached this fails, sooner or later.
async fn pull(image: &str) -> bool {
    eprintln!("pgdeadline-tests: no local image; pulling {image}");
    docker(&["pull", "--quiet", image], PULL_BOUND)
        .await
        .is_ok()
}

async fn build(kind: &Kind, major: &str) -> Result<(), String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docker")
        .join(kind.script);
    let ours = kind.ours;
    eprintln!("pgdeadline-tests: building {ours}:{major} from Debian's packages");
    let mut command = Command::new(&script);
    command.arg(major);
    run(command, BUILD_BOUND).await.map(drop).map_err(|error| {
        let pulled = match kind.official {
            Some(official) => format!(" {official}:{major} could not be pulled,"),
            None => String::new(),
        };
        format!(
            "no image: there is no {ours}:{major} here,{pulled} and {} failed: {error}\n\
             Name an image in {}, or make one of the other ways work.",
            script.display(),
            kind.variable
        )
    })
}

/// The major that the project is developed against.
const DEFAULT_MAJOR: &str = "17";
/// The official image has some 150 MB.
const PULL_BOUND: Duration = Duration::from_secs(300);
/// Two minutes on a small machine with a near mirror.
const BUILD_BOUND: Duration = Duration::from_secs(1200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_split_at_its_tag() {
        for (text, repository, tag) in [
            ("postgres:17", "postgres", "17"),
            ("postgres", "postgres", "latest"),
            ("registry:5000/postgres", "registry:5000/postgres", "latest"),
            ("registry:5000/postgres:17", "registry:5000/postgres", "17"),
        ] {
            let name = Name::parse(text);
            assert_eq!((&*name.repository, &*name.tag), (repository, tag), "{text}");
        }
    }
}
