//! Which image the servers run: looked for once a process, in this order.
//!
//! 1. `PGDEADLINE_TEST_IMAGE`, whatever it is.
//! 2. `pgdeadline-postgres:MAJOR`, if it is on this machine.
//! 3. `postgres:MAJOR`, if it is on this machine or a registry can be reached.
//! 4. The former, built by `docker/build-image` from Debian's packages.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::OnceCell;

/// An image's name, in the two parts that testcontainers wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) repository: String,
    pub(super) tag: String,
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

/// PostgreSQL's major version under test.
pub(super) fn major() -> String {
    std::env::var("PGDEADLINE_TEST_MAJOR").unwrap_or_else(|_| DEFAULT_MAJOR.into())
}

/// The image to run, or what to do to get one.
pub(super) async fn find() -> Result<Name, String> {
    static FOUND: OnceCell<Result<Name, String>> = OnceCell::const_new();
    FOUND.get_or_init(search).await.clone()
}

async fn search() -> Result<Name, String> {
    docker_answers().await?;
    if let Ok(name) = std::env::var("PGDEADLINE_TEST_IMAGE") {
        return Ok(Name::parse(&name));
    }
    let major = major();
    let ours = format!("pgdeadline-postgres:{major}");
    let official = format!("postgres:{major}");
    if is_here(&ours).await {
        return Ok(Name::parse(&ours));
    }
    if is_here(&official).await || pull(&official).await {
        return Ok(Name::parse(&official));
    }
    build(&major).await?;
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

async fn build(major: &str) -> Result<(), String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docker/build-image");
    eprintln!("pgdeadline-tests: building pgdeadline-postgres:{major} from Debian's packages");
    let mut command = Command::new(&script);
    command.arg(major);
    run(command, BUILD_BOUND).await.map(drop).map_err(|error| {
        format!(
            "no PostgreSQL {major} image: there is no pgdeadline-postgres:{major} here, \
             postgres:{major} could not be pulled, and {} failed: {error}\n\
             Name an image in PGDEADLINE_TEST_IMAGE, or make one of the other ways work.",
            script.display()
        )
    })
}

async fn docker(arguments: &[&str], bound: Duration) -> Result<String, String> {
    let mut command = Command::new("docker");
    command.args(arguments);
    run(command, bound).await
}

/// What the program printed, or why it failed: the end of what it complained.
async fn run(mut command: Command, bound: Duration) -> Result<String, String> {
    command
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    let output = match tokio::time::timeout(bound, command.output()).await {
        Ok(output) => output.map_err(|error| error.to_string())?,
        Err(_) => return Err(format!("no end within {bound:?}")),
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = complaint.trim().lines().collect();
    Err(lines[lines.len().saturating_sub(20)..].join("\n"))
}

/// The major that the project is developed against.
const DEFAULT_MAJOR: &str = "17";
/// A Docker that has stopped answering would hold up every test.
const ASK_BOUND: Duration = Duration::from_secs(60);
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

    #[tokio::test]
    async fn a_failure_says_what_the_program_complained_of() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no room >&2; exit 3"]);
        assert_eq!(run(command, ASK_BOUND).await, Err("no room".into()));
    }
}
