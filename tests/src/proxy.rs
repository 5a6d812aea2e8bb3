//! A proxy before a real server, that bends what passes.
//!
//! For what a real server does not do by itself, and only a real server can
//! follow up: an answer that stops on its way, a cancel that is lost. It knows
//! no more of the protocol than how a CancelRequest begins; over TLS it can't
//! see even that, and passes everything.
//!
//! ```no_run
//! use pgdeadline_tests::proxy::{CancelFate, Proxy};
//! use pgdeadline_tests::server::Server;
//!
//! # async fn example() {
//! let proxy = Proxy::before(Server::shared().await).await;
//! proxy.next_cancels([CancelFate::Lose]);
//! let config = proxy.config();
//! // ... a query of `config` is cancelled ...
//! assert_eq!(proxy.cancels(), 2);
//! # }
//! ```

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::Config;

use crate::server::Server;

/// A port of 127.0.0.1 that leads to a server. Dropping it closes the port and
/// every connection through it.
pub struct Proxy {
    port: u16,
    config: Config,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

/// What of a server's answers is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// Everything.
    Pass,
    /// Of each connection the first so many bytes, counted from its start; the
    /// rest waits.
    First(u64),
    /// Nothing more: all waits.
    Hold,
}

/// What becomes of a CancelRequest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelFate {
    /// It reaches the server, and its connection ends when the server ends it.
    Forward,
    /// It is lost, and its connection ends in order: a signal that fell
    /// between two messages looks like this.
    Lose,
    /// It is lost, and its connection stays open for as long as its client
    /// wants.
    Hold,
    /// It is lost, and its connection is reset.
    Reset,
}

impl Proxy {
    /// A proxy before this server.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn before(server: &Server) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a free port");
        let port = listener.local_addr().expect("a bound listener").port();
        let address: SocketAddr = (std::net::Ipv4Addr::LOCALHOST, server.port()).into();
        let shared = Arc::new(Shared {
            server: address,
            answers: watch::Sender::new(Answers::Pass),
            cancels: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Proxy {
            port,
            config: server.config(),
            shared,
            accepting,
        }
    }

    /// The server's configuration, with this port in place of its own; always
    /// with the same application name.
    pub fn config(&self) -> Config {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port);
        let server = &self.config;
        if let Some(user) = server.get_user() {
            config.user(user);
        }
        if let Some(password) = server.get_password() {
            config.password(password);
        }
        if let Some(dbname) = server.get_dbname() {
            config.dbname(dbname);
        }
        if let Some(name) = server.get_application_name() {
            config.application_name(name);
        }
        config
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes what of the answers is passed on, of all connections, those
    /// that are open included.
    pub fn answers(&self, answers: Answers) {
        self.shared.answers.send_replace(answers);
    }

    /// What becomes of the next cancels; those after them are as usual.
    pub fn next_cancels(&self, fates: impl IntoIterator<Item = CancelFate>) {
        self.shared.cancels().next.extend(fates);
    }

    /// What becomes of all cancels from now on about which
    /// [`Proxy::next_cancels`] says nothing; at first they are forwarded.
    pub fn all_cancels(&self, fate: CancelFate) {
        self.shared.cancels().usual = fate;
    }

    /// How many cancels have come, whatever became of them.
    pub fn cancels(&self) -> usize {
        self.shared.cancels().count
    }

    /// How many cancels there were at once at the most.
    pub fn cancels_at_once(&self) -> usize {
        self.shared.cancels().most
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

struct Shared {
    server: SocketAddr,
    answers: watch::Sender<Answers>,
    cancels: Mutex<Cancels>,
}

struct Cancels {
    next: VecDeque<CancelFate>,
    usual: CancelFate,
    count: usize,
    open: usize,
    most: usize,
}

impl Default for Cancels {
    fn default() -> Self {
        Cancels {
            next: VecDeque::new(),
            usual: CancelFate::Forward,
            count: 0,
            open: 0,
            most: 0,
        }
    }
}

impl Shared {
    fn cancels(&self) -> MutexGuard<'_, Cancels> {
        self.cancels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One connection, from its first bytes to its end.
    async fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let mut first = [0; 8];
        client.read_exact(&mut first).await?;
        if first[4..] == CANCEL_REQUEST {
            let fate = {
                let mut cancels = self.cancels();
                cancels.count += 1;
                cancels.open += 1;
                cancels.most = cancels.most.max(cancels.open);
                cancels.next.pop_front().unwrap_or(cancels.usual)
            };
            let result = self.cancel(&mut client, &first, fate).await;
            // Before it is closed, and its client may dial again.
            self.cancels().open -= 1;
            return result;
        }
        let mut server = TcpStream::connect(self.server).await?;
        server.set_nodelay(true)?;
        client.set_nodelay(true)?;
        server.write_all(&first).await?;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        // Whichever side ends first, both connections end with it.
        tokio::select! {
            result = forward(from_client, to_server) => result,
            result = self.pass_answers(from_server, to_client) => result,
        }
    }

    async fn cancel(
        &self,
        client: &mut TcpStream,
        first: &[u8],
        fate: CancelFate,
    ) -> io::Result<()> {
        let mut rest = [0; 8];
        client.read_exact(&mut rest).await?;
        match fate {
            CancelFate::Forward => {
                let mut server = TcpStream::connect(self.server).await?;
                server.write_all(first).await?;
                server.write_all(&rest).await?;
                server.read_to_end(&mut Vec::new()).await?;
            }
            CancelFate::Lose => {}
            CancelFate::Hold => {
                client.read_to_end(&mut Vec::new()).await?;
            }
            CancelFate::Reset => {
                socket2::SockRef::from(&*client).set_linger(Some(Duration::ZERO))?;
            }
        }
        Ok(())
    }

    async fn pass_answers(
        &self,
        mut server: impl AsyncRead + Unpin,
        mut client: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let mut answers = self.answers.subscribe();
        let mut passed = 0;
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let len = server.read(&mut buffer).await?;
            if len == 0 {
                return client.shutdown().await;
            }
            let mut rest = &buffer[..len];
            while !rest.is_empty() {
                let room = answers.wait_for(|answers| answers.room(passed) > 0).await;
                let room = room.map_err(io::Error::other)?.room(passed);
                let len = rest.len().min(usize::try_from(room).unwrap_or(usize::MAX));
                client.write_all(&rest[..len]).await?;
                passed += len as u64;
                rest = &rest[len..];
            }
        }
    }
}

impl Answers {
    /// How much may be passed on of a connection of which so much was.
    fn room(self, passed: u64) -> u64 {
        match self {
            Answers::Pass => u64::MAX,
            Answers::First(bytes) => bytes.saturating_sub(passed),
            Answers::Hold => 0,
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped, it ends all connections.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            // Connections that break are what this is for.
            let _ = shared.serve(client).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn forward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    copy(&mut from, &mut to).await?;
    to.shutdown().await
}

/// The request code of a CancelRequest, 1234 and 5678.
const CANCEL_REQUEST: [u8; 4] = 80_877_102_u32.to_be_bytes();
