//! The socket that sqlx connects to, in a directory of its own.
//!
//! 1. Nobody else gets in: the directory is this user's alone (0700), its name
//!    is random, and whoever connects must be this process.
//! 2. It is there as long as the listener is, and removed with it. Those whom
//!    it let in stay: a connection outlives its pool.
//! 3. No error ends the accepting, nor makes it spin: out of file descriptors,
//!    it pauses and goes on.

use std::fmt;
use std::fs::Permissions;
use std::future::poll_fn;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use pgdeadline::Connector;
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tracing::warn;

use crate::error::Error;
use crate::peer::Peer;
use crate::stale;

/// See the [module](self).
pub(crate) struct Listener {
    directory: TempDir,
    port: u16,
    accepting: AbortHandle,
}

impl Listener {
    /// Listens in a new directory below `parent`, and serves with `connector`
    /// whoever of this process connects. `port` is part of the socket's name,
    /// and nothing else.
    pub(crate) fn open(
        connector: Connector,
        parent: Option<&Path>,
        port: u16,
    ) -> Result<Listener, Error> {
        if Handle::try_current().is_err() {
            return Err(Error::config(
                "there is no Tokio runtime here for the pool's connections to live on: build the \
                 pool inside of one",
            ));
        }
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_path_buf);
        let this = Peer::this().map_err(|error| failed("make a Unix socket", &parent, &error))?;
        stale::remove(&parent, this.uid, SystemTime::now());
        let directory = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(&parent)
            .map_err(|error| failed("make a directory", &parent, &error))?;
        let socket = directory.path().join(format!("{SOCKET}{port}"));
        check(&socket, &parent)?;
        let listener = UnixListener::bind(&socket)
            .map_err(|error| failed("listen on a Unix socket", &parent, &error))?;
        let accept = accept(
            move |cx| {
                let (stream, _) = ready!(listener.poll_accept(cx))?;
                Poll::Ready(Ok(stream))
            },
            this,
            move |client| {
                let relay = connector.relay(client);
                tokio::spawn(async move {
                    // How it ended is told by the connection's own events.
                    let _ = relay.await;
                });
            },
        );
        Ok(Listener {
            directory,
            port,
            accepting: tokio::spawn(accept).abort_handle(),
        })
    }

    /// The directory that the socket is in.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The number in the socket's name.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("directory", &self.directory.path())
            .field("port", &self.port)
            .finish()
    }
}

/// Serves all that come, if they are of `this` process.
async fn accept(
    mut next: impl FnMut(&mut Context<'_>) -> Poll<io::Result<UnixStream>>,
    this: Peer,
    mut serve: impl FnMut(UnixStream),
) {
    loop {
        let client = match poll_fn(&mut next).await {
            Ok(client) => client,
            Err(error) => {
                // Rule 3.
                warn!(target: "pgdeadline", %error, "a connection of the pool was not accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Rule 1.
        match Peer::of(&client) {
            Ok(peer) if peer.is_same(this) => serve(client),
            Ok(peer) => warn!(target: "pgdeadline", %peer, "refused who is not this process"),
            Err(error) => warn!(target: "pgdeadline", %error, "refused who can't be told"),
        }
    }
}

/// Refuses a path that sqlx or the system could not connect to.
fn check(socket: &Path, parent: &Path) -> Result<(), Error> {
    let advice = format!(
        "set another one with pgdeadline_sqlx::Builder::directory, in place of {}",
        parent.display()
    );
    if socket.to_str().is_none() {
        return Err(Error::config(format!(
            "sqlx can't connect to a socket in a directory whose name is not UTF-8: {advice}"
        )));
    }
    let length = socket.as_os_str().len();
    if length > LONGEST {
        return Err(Error::config(format!(
            "the path of the pool's Unix socket would have {length} bytes, and this system allows \
             {LONGEST}: {advice}, which is shorter"
        )));
    }
    Ok(())
}

fn failed(what: &str, parent: &Path, error: &io::Error) -> Error {
    Error::config(format!(
        "can't {what} in {}, which the pool needs ({error}): set another directory with \
         pgdeadline_sqlx::Builder::directory",
        parent.display()
    ))
}

/// How the directories' names begin.
pub(crate) const PREFIX: &str = "pgdeadline-";

/// How the sockets' names begin: what sqlx looks for, as libpq does.
pub(crate) const SOCKET: &str = ".s.PGSQL.";

/// How long a path `sockaddr_un` holds, a NUL aside.
const LONGEST: usize = if cfg!(any(target_os = "linux", target_os = "android")) {
    107
} else {
    103
};

/// Long enough not to spin, short beside what an acquire waits for.
const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, connector};
    use std::os::unix::fs::FileTypeExt;
    use std::process::Command;
    use std::sync::mpsc;

    fn open(parent: &Path) -> Result<Listener, Error> {
        Listener::open(connector("host=db.test"), Some(parent), 5433)
    }

    #[tokio::test]
    async fn directory_is_private_and_goes_with_the_listener() {
        let parent = tempfile::tempdir().unwrap();
        let (one, other) = (open(parent.path()).unwrap(), open(parent.path()).unwrap());
        assert_ne!(one.directory(), other.directory());
        let directory = one.directory().to_owned();
        let mode = directory.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let socket = directory.join(".s.PGSQL.5433");
        assert!(socket.metadata().unwrap().file_type().is_socket());

        let mut client = UnixStream::connect(&socket).await.unwrap();
        // Until it is let in, which this thread does while it waits.
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(one);
        assert!(!directory.exists());
        assert!(other.directory().exists());
        // Rule 2: still served.
        use tokio::io::AsyncReadExt;
        let read = tokio::time::timeout(Duration::from_millis(50), client.read_u8());
        assert!(read.await.is_err(), "was closed");
    }

    #[tokio::test]
    async fn its_task_goes_with_it() {
        let tasks = || {
            tokio::runtime::Handle::current()
                .metrics()
                .num_alive_tasks()
        };
        let before = tasks();
        let listener = open(&std::env::temp_dir()).unwrap();
        assert_eq!(tasks(), before + 1);
        drop(listener);
        testing::eventually("the task is gone", || tasks() == before).await;
    }

    #[tokio::test]
    async fn what_is_stale_is_gone_when_it_listens() {
        let parent = tempfile::tempdir().unwrap();
        let stale = parent.path().join("pgdeadline-crashd");
        std::fs::create_dir(&stale).unwrap();
        let old = std::fs::File::open(&stale).unwrap();
        old.set_modified(SystemTime::now() - Duration::from_secs(3600))
            .unwrap();
        let listener = open(parent.path()).unwrap();
        assert!(!stale.exists() && listener.directory().exists());
    }

    #[tokio::test]
    async fn a_directory_that_can_not_be_used_is_an_error_that_says_so() {
        let parent = tempfile::tempdir().unwrap();
        let long = parent.path().join("x".repeat(LONGEST));
        std::fs::create_dir(&long).unwrap();
        for (directory, text) in [
            (parent.path().join("missing"), "make a directory"),
            (long, "bytes, and this system allows"),
        ] {
            let error = open(&directory).unwrap_err();
            assert!(error.database().unwrap().is_config());
            let error = error.to_string();
            assert!(error.contains(text), "{error}");
            assert!(error.contains("Builder::directory"), "{error}");
        }
        let left = std::fs::read_dir(parent.path()).unwrap().count();
        assert_eq!(left, 1, "only the long one, which is the test's");
    }

    #[test]
    fn without_a_runtime_it_is_an_error_and_no_panic() {
        let error = open(&std::env::temp_dir()).unwrap_err();
        assert!(error.to_string().contains("Tokio runtime"), "{error}");
    }

    /// Serves `accepted`, errors and clients, then waits for ever.
    async fn serve_all(accepted: Vec<io::Result<UnixStream>>, this: Peer) -> usize {
        let (served, count) = mpsc::channel();
        let mut accepted = accepted.into_iter();
        let next = move |_: &mut Context<'_>| accepted.next().map_or(Poll::Pending, Poll::Ready);
        let accept = accept(next, this, move |client| served.send(client).unwrap());
        let _ = tokio::time::timeout(Duration::from_secs(3600), accept).await;
        count.iter().count()
    }

    #[tokio::test(start_paused = true)]
    async fn errors_neither_end_it_nor_make_it_spin() {
        let begun = tokio::time::Instant::now();
        let mut accepted: Vec<io::Result<UnixStream>> = Vec::new();
        accepted.extend((0..3).map(|_| Err(io::Error::from_raw_os_error(24))));
        let (client, _other) = UnixStream::pair().unwrap();
        accepted.push(Ok(client));
        let (served, count) = mpsc::channel();
        let mut accepted = accepted.into_iter();
        let next = move |_: &mut Context<'_>| accepted.next().map_or(Poll::Pending, Poll::Ready);
        let this = Peer::this().unwrap();
        let accepting = tokio::spawn(accept(next, this, move |client| {
            served.send((client, tokio::time::Instant::now())).unwrap();
        }));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (_, at) = count.try_recv().unwrap();
        assert!(at - begun >= 3 * PAUSE);
        assert!(!accepting.is_finished());
        accepting.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_not_this_process_is_closed() {
        let this = Peer::this().unwrap();
        let uid = this.uid + 1;
        let (client, _far) = UnixStream::pair().unwrap();
        assert_eq!(serve_all(vec![Ok(client)], this).await, 1);
        let (client, mut far) = UnixStream::pair().unwrap();
        assert_eq!(serve_all(vec![Ok(client)], Peer { uid, ..this }).await, 0);
        use tokio::io::AsyncReadExt;
        assert_eq!(far.read(&mut [0]).await.unwrap(), 0);
    }

    /// The other process in the test after it.
    #[test]
    fn other_process() {
        let Ok(socket) = std::env::var(OTHER_PROCESS) else {
            return;
        };
        use std::io::Read;
        let mut client = std::os::unix::net::UnixStream::connect(socket).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "was let in");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn another_process_of_the_same_user_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let listener = open(parent.path()).unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "listener::tests::other_process", "--nocapture"])
            .env(OTHER_PROCESS, listener.directory().join(".s.PGSQL.5433"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
        assert!(text.contains("1 passed"), "{text}");
    }

    const OTHER_PROCESS: &str = "PGDEADLINE_TEST_OTHER_PROCESS";
}
