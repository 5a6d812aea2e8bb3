//! The connector against servers in memory, under paused time.

mod ends;
mod hosts;
mod provider;
mod redial;
mod tls;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_postgres::NoTls;

use super::dial::{Address, Dial, DialFuture, ResolveFuture, Socket, SocketOptions};
use super::{Connector, ConnectorBuilder};
use crate::context::Context;
use crate::error::Error;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// What a server does.
#[derive(Clone, Copy, Debug)]
enum Conduct {
    /// Packets to it are dropped.
    BlackHole,
    /// It refuses connections.
    Refuses,
    /// It connects after a time and then serves.
    Slow(Duration),
    /// It accepts and never says a word.
    Silent,
    /// It answers SSLRequest with this, then serves.
    AnswersTls(&'static [u8]),
    /// It says this at once, then serves.
    Greets(&'static [u8]),
    /// It closes what it accepts.
    Closes,
    /// It asks for a password, then never says a word.
    SilentInAuthentication,
    /// It says this, whatever it is asked.
    Says(&'static [u8]),
    /// It serves; in recovery it takes no writes.
    Serves { read_only: bool },
}

const SERVES: Conduct = Conduct::Serves { read_only: false };

/// A network of such servers, and what was asked of it.
#[derive(Clone, Default)]
struct Network(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    names: HashMap<String, Vec<SocketAddr>>,
    servers: HashMap<SocketAddr, Conduct>,
    /// What every Unix socket does.
    unix: Option<Conduct>,
    dialled: Vec<Address>,
    resolved: usize,
    open: usize,
}

impl Network {
    fn new(servers: &[(&str, Conduct)]) -> Network {
        let network = Network::default();
        let parsed = servers.iter().map(|(a, conduct)| (address(a), *conduct));
        network.state().servers = parsed.collect();
        network
    }

    fn name(self, name: &str, addresses: &[&str]) -> Network {
        let addresses = addresses.iter().map(|a| address(a)).collect();
        self.state().names.insert(name.to_owned(), addresses);
        self
    }

    fn builder(&self, config: &str) -> ConnectorBuilder {
        Connector::builder(config.parse().unwrap(), NoTls).dial(self.clone())
    }

    /// A connector that can do TLS, of a kind.
    fn tls_connector(&self, config: &str) -> Connector {
        let builder = Connector::builder(config.parse().unwrap(), tls::FakeTls);
        builder.dial(self.clone()).build().unwrap()
    }

    fn connector(&self, config: &str) -> Connector {
        self.builder(config).build().unwrap()
    }

    /// Everything dialled so far, in order.
    fn dialled(&self) -> Vec<String> {
        self.state()
            .dialled
            .iter()
            .map(Address::to_string)
            .collect()
    }

    /// How many connections are open.
    fn open(&self) -> usize {
        self.state().open
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl Dial for Network {
    fn dial(&self, to: Address, _options: SocketOptions) -> DialFuture {
        let mut state = self.state();
        state.dialled.push(to.clone());
        let conduct = match &to {
            Address::Tcp(to) => state.servers.get(to).copied(),
            Address::Unix(_) => state.unix,
        };
        state.open += 1;
        let open = Open(self.clone());
        Box::pin(async move {
            match conduct {
                None | Some(Conduct::Refuses) => {
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                Some(Conduct::BlackHole) => std::future::pending().await,
                Some(Conduct::Slow(time)) => tokio::time::sleep(time).await,
                Some(_) => {}
            }
            let (near, far) = tokio::io::duplex(4096);
            tokio::spawn(async move {
                let _open = open;
                let _ = serve(far, conduct.unwrap_or(SERVES)).await;
            });
            Ok(Socket::new(near))
        })
    }

    fn resolve(&self, name: String, _port: u16) -> ResolveFuture {
        let mut state = self.state();
        state.resolved += 1;
        let addresses = state.names.get(&name).cloned();
        Box::pin(async move {
            match (addresses, &*name) {
                (Some(addresses), _) => Ok(addresses),
                (None, "lost") => std::future::pending().await,
                (None, _) => Err(io::Error::other("Name or service not known")),
            }
        })
    }
}

/// Counts a connection as open until it is closed at both ends.
struct Open(Network);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.state().open -= 1;
    }
}

async fn failing(connector: &Connector, ctx: &Context) -> Error {
    connector.connect(ctx).await.expect_err("it can't connect")
}

/// Lets the servers notice that their connections are closed.
async fn nothing_is_open(network: &Network) {
    tokio::time::sleep(MS).await;
    assert_eq!(network.open(), 0);
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

async fn serve(mut stream: DuplexStream, conduct: Conduct) -> io::Result<()> {
    let read_only = match conduct {
        Conduct::Silent => return until_closed(stream).await,
        Conduct::Closes => return Ok(()),
        Conduct::Greets(text) => {
            stream.write_all(text).await?;
            false
        }
        Conduct::AnswersTls(answer) => {
            stream.read_exact(&mut [0; 8]).await?;
            stream.write_all(answer).await?;
            false
        }
        Conduct::Says(text) => {
            stream.write_all(text).await?;
            return until_closed(stream).await;
        }
        Conduct::SilentInAuthentication => {
            start_up_message(&mut stream).await?;
            stream.write_all(b"R\0\0\0\x08\0\0\0\x03").await?;
            return until_closed(stream).await;
        }
        Conduct::Serves { read_only } => read_only,
        _ => false,
    };
    start_up_message(&mut stream).await?;
    stream.write_all(b"R\0\0\0\x08\0\0\0\0").await?;
    stream.write_all(b"K\0\0\0\x0c\0\0\0\x07\0\0\0\x09").await?;
    stream.write_all(b"Z\0\0\0\x05I").await?;
    while let Ok(b'Q') = stream.read_u8().await {
        let length = stream.read_u32().await? as usize;
        stream.read_exact(&mut vec![0; length - 4]).await?;
        stream.write_all(b"T\0\0\0\x1d\0\x01show\0").await?;
        stream.write_all(b"\0\0\0\0\0\0\0\0\0\x19").await?; // type 25: text
        stream.write_all(b"\xff\xff\xff\xff\xff\xff\0\0").await?;
        // Length and text of the one column; a row and its end.
        let value: &[u8] = if read_only { b"on" } else { b"off" };
        let length = value.len() as u8;
        stream
            .write_all(&[b'D', 0, 0, 0, 10 + length, 0, 1, 0, 0, 0, length])
            .await?;
        stream.write_all(value).await?;
        stream.write_all(b"C\0\0\0\x09SHOW\0Z\0\0\0\x05I").await?;
    }
    until_closed(stream).await
}

async fn start_up_message(stream: &mut DuplexStream) -> io::Result<()> {
    let length = stream.read_u32().await? as usize;
    stream.read_exact(&mut vec![0; length - 4]).await?;
    Ok(())
}

async fn until_closed(mut stream: DuplexStream) -> io::Result<()> {
    while stream.read(&mut [0; 256]).await? > 0 {}
    Ok(())
}
