//! A cluster from the machine's own PostgreSQL binaries, in a temporary
//! directory.
//!
//! 1. PostgreSQL refuses to run as root; where the caller is root, everything
//!    runs as an unprivileged user, who owns the directory ([`Scratch`]).
//! 2. It listens on the loopback only, and asks for a password that only this
//!    process knows: a superuser without one would let every user of the
//!    machine run programs as the server's.
//! 3. It is stopped at once, and its directory removed, when [`Cluster`] drops.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::{Context as _, Result, anyhow, ensure};
use tokio_postgres::Config;

use super::scratch::Scratch;
use super::{Attempt, password, ready};

/// A running cluster.
pub(super) struct Cluster {
    binaries: PathBuf,
    server: Child,
    directory: Scratch,
    config: Config,
}

/// Tries one set of binaries after the other until one runs; what did not do
/// is added to `tried`.
///
/// # Cancel safety
/// Dropped half-way it leaves nothing behind.
pub(super) async fn start_any(tried: &mut Vec<Attempt>) -> Option<Cluster> {
    let sets = sets();
    if sets.is_empty() {
        let why = anyhow!(
            "no directory with initdb and postgres on PATH, in `pg_config --bindir` or in {DEBIAN}/*/bin"
        );
        tried.push(Attempt::new("the machine's own binaries", &why));
    }
    for binaries in sets {
        match Cluster::start(&binaries).await {
            Ok(cluster) => return Some(cluster),
            Err(error) => tried.push(Attempt::new(binaries.display().to_string(), &error)),
        }
    }
    None
}

impl Cluster {
    async fn start(binaries: &Path) -> Result<Cluster> {
        let directory = Scratch::new()?;
        let password = password()?;
        initdb(binaries, &directory, &password).await?;
        let port = free_port()?;
        let mut config = Config::new();
        config
            .host("127.0.0.1")
            .port(port)
            .user(USER)
            .password(&password)
            .dbname("postgres");
        let mut cluster = Cluster {
            server: serve(binaries, &directory, port)?,
            binaries: binaries.to_owned(),
            directory,
            config: config.clone(),
        };
        let log = cluster.directory.path().join(LOG);
        let server = &mut cluster.server;
        ready::wait(&config, START_BOUND, || match server.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(format!("postgres ended with {status}: {}", tail(&log))),
            Err(error) => Some(error.to_string()),
        })
        .await?;
        Ok(cluster)
    }

    pub(super) fn config(&self) -> Config {
        self.config.clone()
    }

    pub(super) fn origin(&self) -> String {
        format!("started from {}", self.binaries.display())
    }

    fn stop(&mut self) -> Result<()> {
        let status = self
            .directory
            .command(&self.binaries.join("pg_ctl"))
            .args(["stop", "--silent", "--mode=immediate", "--pgdata", DATA])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        ensure!(status.success(), "pg_ctl ended with {status}");
        let until = Instant::now() + STOP_BOUND;
        while Instant::now() < until {
            if self.server.try_wait()?.is_some() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err(anyhow!("still running after {STOP_BOUND:?}"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if matches!(self.server.try_wait(), Ok(Some(_))) {
            return;
        }
        if self.stop().is_err() {
            // Its backends see that it is gone and go too.
            let _ = self.server.kill();
            let _ = self.server.wait();
        }
    }
}

async fn initdb(binaries: &Path, directory: &Scratch, password: &str) -> Result<()> {
    let file = directory.secret("password", password)?;
    let mut command = directory.command(&binaries.join("initdb"));
    command
        .args(["--no-sync", "--encoding=UTF8", "--locale=C"])
        .args(["--auth=scram-sha-256", "--username", USER, "--pgdata", DATA])
        .arg("--pwfile")
        .arg(&file);
    let output = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .output()
        .await
        .context("initdb can't be run")?;
    ensure!(
        output.status.success(),
        "initdb ended with {}: {}",
        output.status,
        last_lines(&String::from_utf8_lossy(&output.stderr))
    );
    fs::remove_file(file)?;
    Ok(())
}

fn serve(binaries: &Path, directory: &Scratch, port: u16) -> Result<Child> {
    let log = File::create(directory.path().join(LOG))?;
    directory
        .command(&binaries.join("postgres"))
        .args(["-D", DATA, "-p", &port.to_string()])
        .args(["-c", "listen_addresses=127.0.0.1"])
        .args(["-c", "unix_socket_directories="])
        .args(["-c", "fsync=off"])
        .stdout(log.try_clone()?)
        .stderr(log)
        // A Ctrl-C at the terminal is for the demo, which stops the server in
        // its turn.
        .process_group(0)
        .spawn()
        .context("postgres can't be run")
}

/// Every directory that has what is needed, best first, each once.
fn sets() -> Vec<PathBuf> {
    let mut seen = HashSet::new();
    on_path()
        .into_iter()
        .chain(pg_config())
        .chain(debian(Path::new(DEBIAN)))
        .filter_map(|directory| complete(&directory))
        .filter(|directory| seen.insert(directory.clone()))
        .collect()
}

fn on_path() -> Vec<PathBuf> {
    env::var_os("PATH")
        .map(|path| env::split_paths(&path).collect())
        .unwrap_or_default()
}

fn pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().into())
}

/// `<root>/<version>/bin`, newest version first.
fn debian(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let mut versions: Vec<(Vec<u32>, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = name.split('.').map(|part| part.parse().ok());
            Some((version.collect::<Option<_>>()?, entry.path().join("bin")))
        })
        .collect();
    versions.sort_by(|one, other| other.0.cmp(&one.0));
    versions.into_iter().map(|(_, path)| path).collect()
}

/// The directory, links resolved, if all programs are there.
fn complete(directory: &Path) -> Option<PathBuf> {
    let has_all = |directory: &Path| {
        ["initdb", "postgres", "pg_ctl"]
            .iter()
            .all(|program| directory.join(program).is_file())
    };
    let real = fs::canonicalize(directory.join("initdb")).ok()?;
    let real = real.parent()?;
    [real, directory]
        .into_iter()
        .find(|directory| has_all(directory))
        .map(Path::to_owned)
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}

fn tail(log: &Path) -> String {
    match fs::read(log) {
        Ok(bytes) => last_lines(&String::from_utf8_lossy(&bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => "no log".to_owned(),
        Err(error) => format!("no log: {error}"),
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

/// Where Debian's packages, and PostgreSQL's own for Debian, put binaries.
const DEBIAN: &str = "/usr/lib/postgresql";

const USER: &str = "postgres";
const DATA: &str = "data";
const LOG: &str = "log";

/// A machine under load takes seconds for what is usually done in 0.2 s.
const START_BOUND: Duration = Duration::from_secs(30);

const STOP_BOUND: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(directory: &Path, names: &[&str]) {
        fs::create_dir_all(directory).expect("made");
        for name in names {
            fs::write(directory.join(name), "").expect("written");
        }
    }

    #[test]
    fn debian_versions_come_newest_first_by_number() {
        let root = tempfile::tempdir().expect("a directory");
        for name in ["9.6", "13", "17", "lib", "9.10"] {
            fs::create_dir(root.path().join(name)).expect("made");
        }
        let found = debian(root.path());
        let expected = ["17", "13", "9.10", "9.6"].map(|v| root.path().join(v).join("bin"));
        assert_eq!(found, expected);
        assert!(debian(&root.path().join("none")).is_empty());
    }

    #[test]
    fn a_link_to_initdb_leads_to_the_directory_that_has_the_rest() {
        let root = tempfile::tempdir().expect("a directory");
        let (real, links) = (root.path().join("real"), root.path().join("links"));
        programs(&real, &["initdb", "postgres", "pg_ctl"]);
        fs::create_dir(&links).expect("made");
        std::os::unix::fs::symlink(real.join("initdb"), links.join("initdb")).expect("linked");
        let real = fs::canonicalize(real).expect("there");
        assert_eq!(complete(&links), Some(real.clone()));
        assert_eq!(complete(&real), Some(real));
    }

    #[test]
    fn a_directory_without_the_server_is_passed_over() {
        let root = tempfile::tempdir().expect("a directory");
        programs(root.path(), &["initdb", "psql"]);
        assert_eq!(complete(root.path()), None);
        assert_eq!(complete(&root.path().join("none")), None);
    }

    #[tokio::test]
    async fn an_initdb_that_fails_is_told_with_its_last_words() {
        let root = tempfile::tempdir().expect("a directory");
        let initdb = root.path().join("initdb");
        fs::write(&initdb, "#!/bin/sh\necho 'no room left' >&2\nexit 3\n").expect("written");
        use std::os::unix::fs::PermissionsExt;
        for path in [root.path(), &initdb] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("set");
        }
        let error = Cluster::start(root.path()).await.err().expect("fails");
        let text = format!("{error:#}");
        assert!(text.contains("exit status: 3"), "{text}");
        assert!(text.contains("no room left"), "{text}");
    }

    #[test]
    fn the_last_lines_are_at_most_five() {
        assert_eq!(last_lines("a\nb\nc\nd\ne\nf\n"), "b\nc\nd\ne\nf");
        assert_eq!(last_lines(""), "");
    }
}
