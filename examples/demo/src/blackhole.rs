//! A proxy before the server that can become a black hole: connections stay
//! open, and nothing comes through them any more. So does a firewall that has
//! forgotten a connection, or a host that has lost its power.

use std::sync::Arc;

use anyhow::Result;
use tokio::io::{self, AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio_postgres::Config;

use crate::postgres::Address;

/// The proxy; dropping it closes all its connections.
pub(crate) struct BlackHole {
    port: u16,
    state: Arc<watch::Sender<State>>,
    acceptor: AbortHandle,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Connections accepted in an earlier age than this are dead.
    age: u64,
    /// New connections are accepted, and hear nothing.
    silent: bool,
}

impl BlackHole {
    pub(crate) async fn before(address: Address) -> Result<BlackHole> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(watch::Sender::new(State::default()));
        let acceptor = tokio::spawn(accept(listener, address, state.clone())).abort_handle();
        Ok(BlackHole {
            port,
            state,
            acceptor,
        })
    }

    /// From now on nothing comes through the connections that are open. New
    /// ones work.
    pub(crate) fn swallow_open(&self) {
        self.state.send_modify(|state| state.age += 1);
    }

    /// Whether new connections are accepted and hear nothing.
    pub(crate) fn swallow_new(&self, silent: bool) {
        self.state.send_modify(|state| state.silent = silent);
    }

    /// `config` with this proxy in the server's place.
    pub(crate) fn config(&self, config: &Config) -> Config {
        let mut proxied = Config::new();
        proxied.host("127.0.0.1").port(self.port);
        proxied.ssl_mode(config.get_ssl_mode());
        if let Some(user) = config.get_user() {
            proxied.user(user);
        }
        if let Some(password) = config.get_password() {
            proxied.password(password);
        }
        if let Some(database) = config.get_dbname() {
            proxied.dbname(database);
        }
        if let Some(options) = config.get_options() {
            proxied.options(options);
        }
        proxied
    }
}

impl Drop for BlackHole {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

async fn accept(listener: TcpListener, address: Address, state: Arc<watch::Sender<State>>) {
    // Dropped with this task, and every connection with it.
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            return;
        };
        while connections.try_join_next().is_some() {}
        connections.spawn(serve(client, address.clone(), state.subscribe()));
    }
}

async fn serve(
    client: TcpStream,
    address: Address,
    state: watch::Receiver<State>,
) -> io::Result<()> {
    if state.borrow().silent {
        return hold(client).await;
    }
    client.set_nodelay(true)?;
    match address {
        Address::Tcp(host, port) => {
            let server = TcpStream::connect((host, port)).await?;
            server.set_nodelay(true)?;
            forward(client, server, state).await
        }
        Address::Unix(path) => forward(client, UnixStream::connect(path).await?, state).await,
    }
}

async fn forward<S>(
    mut client: TcpStream,
    mut server: S,
    mut state: watch::Receiver<State>,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let born = state.borrow().age;
    let swallowed = async {
        // An error says that the proxy is gone, and this task with it soon.
        let _ = state.wait_for(|state| state.age > born).await;
    };
    tokio::select! {
        done = copy_bidirectional(&mut client, &mut server) => return done.map(|_| ()),
        () = swallowed => {}
    }
    hold((client, server)).await
}

/// Keeps what it is given open for as long as the proxy lives.
async fn hold<T>(_open: T) -> io::Result<()> {
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    /// A server that gives back what it gets.
    async fn echo() -> Address {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    io::copy(&mut read, &mut write).await
                });
            }
        });
        Address::Tcp("127.0.0.1".into(), port)
    }

    async fn open(hole: &BlackHole) -> TcpStream {
        TcpStream::connect(("127.0.0.1", hole.port))
            .await
            .expect("accepts")
    }

    /// Whether a byte comes back. What is swallowed never does: the wait only
    /// has to be longer than the way there and back can take.
    async fn answers(stream: &mut TcpStream, wait: Duration) -> bool {
        stream.write_all(b"x").await.expect("written");
        let mut byte = [0];
        match timeout(wait, stream.read_exact(&mut byte)).await {
            Ok(read) => read.map(|_| byte == *b"x").expect("open"),
            Err(_) => false,
        }
    }

    const LONG: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn open_connections_are_swallowed_and_new_ones_come_through() {
        let hole = BlackHole::before(echo().await).await.expect("listens");
        let mut old = open(&hole).await;
        assert!(answers(&mut old, LONG).await);
        hole.swallow_open();
        assert!(!answers(&mut old, SHORT).await);
        assert!(answers(&mut open(&hole).await, LONG).await);
        assert!(!answers(&mut old, SHORT).await);
    }

    #[tokio::test]
    async fn new_connections_are_swallowed_until_it_heals() {
        let hole = BlackHole::before(echo().await).await.expect("listens");
        hole.swallow_new(true);
        assert!(!answers(&mut open(&hole).await, SHORT).await);
        hole.swallow_new(false);
        assert!(answers(&mut open(&hole).await, LONG).await);
    }

    #[tokio::test]
    async fn a_dropped_black_hole_closes_what_it_held() {
        let hole = BlackHole::before(echo().await).await.expect("listens");
        hole.swallow_new(true);
        let mut held = open(&hole).await;
        assert!(!answers(&mut held, SHORT).await);
        drop(hole);
        let closed = timeout(LONG, held.read(&mut [0])).await.expect("closes");
        assert!(closed.is_err() || closed.is_ok_and(|read| read == 0));
    }

    #[test]
    fn the_proxy_takes_the_servers_place_and_keeps_the_rest() {
        let config = "postgres://u:p@db.example:6000/d?options=-cgeqo%3Doff&sslmode=disable"
            .parse()
            .expect("a URL");
        let hole = BlackHole {
            port: 7,
            state: Arc::new(watch::Sender::new(State::default())),
            acceptor: tokio::runtime::Runtime::new()
                .expect("a runtime")
                .spawn(async {})
                .abort_handle(),
        };
        let proxied = hole.config(&config);
        assert_eq!(
            Address::of(&proxied).expect("one"),
            Address::Tcp("127.0.0.1".into(), 7)
        );
        assert_eq!(proxied.get_user(), Some("u"));
        assert_eq!(proxied.get_password(), Some(&b"p"[..]));
        assert_eq!(proxied.get_dbname(), Some("d"));
        assert_eq!(proxied.get_options(), Some("-cgeqo=off"));
        assert_eq!(proxied.get_ssl_mode(), config.get_ssl_mode());
    }
}
