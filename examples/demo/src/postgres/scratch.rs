//! A temporary directory, owned by a user that PostgreSQL agrees to run as.
//!
//! PostgreSQL refuses to run as root, and its user must be able to reach the
//! directory: so root gets one below a directory that everybody may enter,
//! given to `postgres` or, where there is no such user, to `nobody`.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

/// The directory; removed when it drops.
pub(super) struct Scratch {
    directory: Option<TempDir>,
    /// `None`: the caller is no root, and owns it himself.
    owner: Option<Owner>,
}

/// An unprivileged user.
#[derive(Clone, Copy, Debug)]
struct Owner {
    uid: u32,
    gid: u32,
}

impl Scratch {
    pub(super) fn new() -> Result<Scratch> {
        let directory = TempDir::with_prefix_in(PREFIX, base())
            .context("no temporary directory can be made")?;
        let owner = match fs::metadata(directory.path())?.uid() {
            0 => Some(Owner::find()?),
            _ => None,
        };
        let scratch = Scratch {
            directory: Some(directory),
            owner,
        };
        scratch.hand_over(scratch.path())?;
        Ok(scratch)
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.as_ref().expect("kept until the drop").path()
    }

    /// A command that runs inside, as the owner.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path()).stdin(Stdio::null());
        if let Some(owner) = self.owner {
            command.uid(owner.uid).gid(owner.gid);
        }
        command
    }

    /// Writes a file that only the owner may read.
    pub(super) fn secret(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?
            .write_all(text.as_bytes())?;
        self.hand_over(&path)?;
        Ok(path)
    }

    fn hand_over(&self, path: &Path) -> Result<()> {
        if let Some(owner) = self.owner {
            chown(path, Some(owner.uid), Some(owner.gid))
                .with_context(|| format!("{} can't be given away", path.display()))?;
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let Some(directory) = self.directory.take() else {
            return;
        };
        // A killed initdb leaves a child that writes for some moments more,
        // and a directory is not removed while files are put into it.
        let path = directory.keep();
        for _ in 0..REMOVALS {
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => thread::sleep(PAUSE),
                _ => return,
            }
        }
        eprintln!("warning: {} could not be removed", path.display());
    }
}

impl Owner {
    fn find() -> Result<Owner> {
        for user in ["postgres", "nobody"] {
            if let (Some(uid), Some(gid)) = (id("-u", user), id("-g", user))
                && uid != 0
            {
                return Ok(Owner { uid, gid });
            }
        }
        bail!(
            "PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody`: \
             call the demo as another user, or add one"
        )
    }
}

/// What `id` says: it asks whatever the machine keeps its users in.
fn id(option: &str, user: &str) -> Option<u32> {
    let output = Command::new("id").args([option, user]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().parse().ok())?
}

/// The usual directory for temporary files, if everybody may enter it.
fn base() -> PathBuf {
    let usual = std::env::temp_dir();
    if anybody_may_enter(&usual) {
        usual
    } else {
        PathBuf::from("/tmp")
    }
}

fn anybody_may_enter(path: &Path) -> bool {
    path.ancestors()
        .filter(|step| !step.as_os_str().is_empty())
        .all(|step| fs::metadata(step).is_ok_and(|step| step.permissions().mode() & 0o001 != 0))
}

const PREFIX: &str = "pgdeadline-demo-";

const REMOVALS: usize = 40;
const PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_and_its_files_belong_to_who_runs_commands_in_it() {
        let scratch = Scratch::new().expect("a directory");
        let secret = scratch.secret("pw", "secret").expect("a file");
        let output = scratch
            .command(Path::new("/bin/sh"))
            .args(["-c", "id -u; cat pw; : >made"])
            .output()
            .expect("runs");
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("text");
        let (uid, rest) = text.split_once('\n').expect("two lines");
        assert_ne!(uid, "0");
        assert_eq!(rest, "secret");
        let mode = fs::metadata(secret).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_dropped_directory_is_gone_with_all_that_is_in_it() {
        let scratch = Scratch::new().expect("a directory");
        let path = scratch.path().to_owned();
        scratch.secret("pw", "secret").expect("a file");
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn a_directory_below_a_closed_one_is_not_for_everybody() {
        let outer = tempfile::tempdir().expect("a directory");
        let inner = outer.path().join("inner");
        fs::create_dir(&inner).expect("made");
        fs::set_permissions(outer.path(), fs::Permissions::from_mode(0o700)).expect("set");
        assert!(!anybody_may_enter(&inner));
        assert!(anybody_may_enter(Path::new("/")));
    }

    #[test]
    fn a_user_that_is_not_there_has_no_id() {
        assert_eq!(id("-u", "no such user"), None);
        assert_eq!(id("-u", "root"), Some(0));
    }
}
