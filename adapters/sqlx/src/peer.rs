//! Who is at the other end of a Unix socket.

use std::fmt;
use std::io;

use tokio::net::UnixStream;

/// A process, as the kernel names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Not every system tells it.
    pub(crate) pid: Option<i32>,
    pub(crate) uid: u32,
}

impl Peer {
    /// This process.
    pub(crate) fn this() -> io::Result<Peer> {
        let (one, _other) = UnixStream::pair()?;
        Peer::of(&one)
    }

    /// The process that has connected `stream`.
    pub(crate) fn of(stream: &UnixStream) -> io::Result<Peer> {
        let credentials = stream.peer_cred()?;
        Ok(Peer {
            pid: credentials.pid(),
            uid: credentials.uid(),
        })
    }

    /// Whether both are one process; of the same user, where the system does
    /// not tell processes apart.
    pub(crate) fn is_same(self, other: Peer) -> bool {
        let same_process = match (self.pid, other.pid) {
            (Some(pid), Some(other)) => pid == other,
            _ => true,
        };
        same_process && self.uid == other.uid
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "process {pid} of user {}", self.uid),
            None => write!(f, "a process of user {}", self.uid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn this_process_is_itself() {
        let this = Peer::this().unwrap();
        assert!(this.is_same(Peer::this().unwrap()));
        if cfg!(target_os = "linux") {
            assert_eq!(this.pid, i32::try_from(std::process::id()).ok());
        }
    }

    #[test]
    fn process_and_user_must_be_the_same_as_far_as_they_are_told() {
        let peer = |pid, uid| Peer { pid, uid };
        for (other, same) in [
            (peer(Some(7), 1000), true),
            (peer(None, 1000), true),
            (peer(Some(8), 1000), false),
            (peer(Some(7), 1001), false),
            (peer(None, 0), false),
        ] {
            assert_eq!(peer(Some(7), 1000).is_same(other), same, "{other}");
        }
    }
}
