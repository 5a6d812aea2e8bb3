//! Removes what processes that crashed have left behind.
//!
//! A directory is removed only if
//!
//! 1. it has our prefix and belongs to this user;
//! 2. it is older than a minute, so that one that is just being made is safe;
//! 3. nothing is in it but sockets of the name that we give them, and nobody
//!    listens on those any more. A connect with a datagram socket tells that
//!    without bothering whoever does listen: it is refused where there is
//!    nobody, and is of the wrong type where there is somebody.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tracing::debug;

use crate::listener::{PREFIX, SOCKET};

/// Removes from `parent` what belongs to user `uid` and is stale at `now`.
/// What can't be looked at or removed is left.
pub(crate) fn remove(parent: &Path, uid: u32, now: SystemTime) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        if !starts_with(&entry, PREFIX) {
            continue;
        }
        let directory = entry.path();
        match remove_if_stale(&directory, uid, now) {
            Ok(true) => debug!(target: "pgdeadline", ?directory, "removed a stale directory"),
            Ok(false) => {}
            Err(error) => debug!(target: "pgdeadline", ?directory, %error, "left as it is"),
        }
    }
}

fn remove_if_stale(directory: &Path, uid: u32, now: SystemTime) -> io::Result<bool> {
    // Not through a symbolic link, which anybody could have put there.
    let metadata = fs::symlink_metadata(directory)?;
    let age = now.duration_since(metadata.modified()?).unwrap_or_default();
    if !metadata.is_dir() || metadata.uid() != uid || age < AGE {
        return Ok(false);
    }
    let mut sockets: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !starts_with(&entry, SOCKET)
            || !entry.file_type()?.is_socket()
            || is_listened_on(&entry.path())
        {
            return Ok(false);
        }
        sockets.push(entry.path());
    }
    for socket in sockets {
        fs::remove_file(socket)?;
    }
    fs::remove_dir(directory)?;
    Ok(true)
}

/// Rule 3. In doubt, yes.
fn is_listened_on(socket: &Path) -> bool {
    let connected = UnixDatagram::unbound().and_then(|probe| probe.connect(socket));
    !matches!(connected, Err(error) if error.kind() == io::ErrorKind::ConnectionRefused)
}

fn starts_with(entry: &fs::DirEntry, prefix: &str) -> bool {
    let name = entry.file_name();
    name.as_encoded_bytes().starts_with(prefix.as_bytes())
}

/// Rule 2.
const AGE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    struct Place {
        parent: tempfile::TempDir,
        uid: u32,
    }

    impl Place {
        fn new() -> Place {
            let parent = tempfile::tempdir().unwrap();
            let uid = parent.path().metadata().unwrap().uid();
            Place { parent, uid }
        }

        fn directory(&self, name: &str) -> PathBuf {
            let directory = self.parent.path().join(name);
            fs::create_dir(&directory).unwrap();
            directory
        }

        fn socket(&self, name: &str) -> (PathBuf, UnixListener) {
            let directory = self.directory(name);
            let listener = UnixListener::bind(directory.join(".s.PGSQL.5432")).unwrap();
            (directory, listener)
        }

        fn remove_after(&self, age: Duration) {
            remove(self.parent.path(), self.uid, SystemTime::now() + age);
        }
    }

    const OLD: Duration = Duration::from_secs(61);

    #[test]
    fn a_directory_on_whose_socket_nobody_listens_is_removed() {
        let place = Place::new();
        let (crashed, listener) = place.socket("pgdeadline-crash1");
        let empty = place.directory("pgdeadline-crash2");
        drop(listener);
        place.remove_after(OLD);
        assert!(!crashed.exists());
        assert!(!empty.exists(), "crashed before it listened");
    }

    #[test]
    fn a_directory_in_use_stays_and_its_listener_sees_nothing() {
        let place = Place::new();
        let (live, listener) = place.socket("pgdeadline-live00");
        place.remove_after(OLD);
        assert!(live.exists());
        listener.set_nonblocking(true).unwrap();
        let seen = listener.accept().unwrap_err();
        assert_eq!(seen.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn what_is_young_or_not_ours_stays() {
        let place = Place::new();
        let (young, listener) = place.socket("pgdeadline-young0");
        drop(listener);
        place.remove_after(OLD / 2);
        assert!(young.exists(), "it may be just being made");
        remove(place.parent.path(), place.uid + 1, SystemTime::now() + OLD);
        assert!(young.exists(), "another user's");

        let (other, listener) = place.socket("something-else");
        drop(listener);
        let with_file = place.directory("pgdeadline-file00");
        fs::write(with_file.join("notes.txt"), "mine").unwrap();
        let plain_file = place.parent.path().join("pgdeadline-file01");
        fs::write(&plain_file, "mine").unwrap();
        let link = place.parent.path().join("pgdeadline-link00");
        std::os::unix::fs::symlink(&other, &link).unwrap();
        place.remove_after(OLD);
        for path in [&other, &with_file, &plain_file, &link] {
            assert!(path.symlink_metadata().is_ok(), "{path:?}");
        }
        assert!(other.join(".s.PGSQL.5432").exists());
    }

    #[test]
    fn a_parent_that_is_not_there_is_no_error() {
        remove(Path::new("/nonexistent"), 0, SystemTime::now());
    }
}
