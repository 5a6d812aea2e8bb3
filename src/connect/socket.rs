//! Sockets: made with socket2, connected without blocking, handed to tokio.
//!
//! All options are set before the socket connects, so that no byte is sent
//! without them. `SO_RCVTIMEO` and `SO_SNDTIMEO` are left alone: they do
//! nothing on a non-blocking socket, and `DeadlineStream` keeps the deadlines.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::{Domain, Protocol, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};

use super::dial::{Address, Keepalive, SocketOptions};

/// A connected byte stream: a TCP or Unix socket, or whatever a
/// [`Dial`](super::dial::Dial) made.
pub struct Socket(Kind);

enum Kind {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(tokio::net::UnixStream),
    Other(Box<dyn ByteStream>),
}

trait ByteStream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> ByteStream for S {}

impl Socket {
    /// A socket of any other kind.
    pub fn new(stream: impl AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static) -> Socket {
        Socket(Kind::Other(Box::new(stream)))
    }
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Socket {
        Socket(Kind::Tcp(stream))
    }
}

#[cfg(unix)]
impl From<tokio::net::UnixStream> for Socket {
    fn from(stream: tokio::net::UnixStream) -> Socket {
        Socket(Kind::Unix(stream))
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Tcp(stream) => stream.fmt(f),
            #[cfg(unix)]
            Kind::Unix(stream) => stream.fmt(f),
            Kind::Other(_) => f.write_str("Socket"),
        }
    }
}

/// Calls one poll method on whatever the socket is.
macro_rules! forward {
    ($self:ident, $method:ident ( $($argument:expr),* )) => {
        match &mut $self.get_mut().0 {
            Kind::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            #[cfg(unix)]
            Kind::Unix(stream) => Pin::new(stream).$method($($argument),*),
            Kind::Other(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        forward!(self, poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        forward!(self, poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        forward!(self, poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.0 {
            Kind::Tcp(stream) => stream.is_write_vectored(),
            #[cfg(unix)]
            Kind::Unix(stream) => stream.is_write_vectored(),
            Kind::Other(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, poll_shutdown(cx))
    }
}

/// Opens a socket to an address. Dropping the future closes it.
pub(super) async fn connect(to: &Address, options: &SocketOptions) -> io::Result<Socket> {
    match to {
        Address::Tcp(address) => connect_tcp(*address, options).await.map(Socket::from),
        #[cfg(unix)]
        Address::Unix(path) => connect_unix(path).await.map(Socket::from),
        #[cfg(not(unix))]
        Address::Unix(_) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this system has no Unix sockets",
        )),
    }
}

async fn connect_tcp(address: SocketAddr, options: &SocketOptions) -> io::Result<TcpStream> {
    let socket = tcp_socket(address, options)?;
    TcpSocket::from_std_stream(socket.into())
        .connect(address)
        .await
}

fn tcp_socket(address: SocketAddr, options: &SocketOptions) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(keepalive) = &options.keepalive {
        socket.set_tcp_keepalive(&keepalive.into())?;
    }
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    if let Some(timeout) = options.user_timeout {
        socket.set_tcp_user_timeout(Some(timeout))?;
    }
    Ok(socket)
}

impl From<&Keepalive> for TcpKeepalive {
    fn from(keepalive: &Keepalive) -> TcpKeepalive {
        let mut to = TcpKeepalive::new().with_time(keepalive.idle);
        #[cfg(not(any(target_os = "openbsd", target_os = "solaris")))]
        if let Some(interval) = keepalive.interval {
            to = to.with_interval(interval);
        }
        #[cfg(not(any(target_os = "openbsd", target_os = "solaris", target_os = "windows")))]
        if let Some(retries) = keepalive.retries {
            to = to.with_retries(retries);
        }
        to
    }
}

#[cfg(unix)]
async fn connect_unix(path: &std::path::Path) -> io::Result<tokio::net::UnixStream> {
    let address = socket2::SockAddr::unix(path)?;
    loop {
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&address) {
            Ok(()) => {
                let stream: std::os::fd::OwnedFd = socket.into();
                return tokio::net::UnixStream::from_std(stream.into());
            }
            // The listener's queue is full. A blocking connect would wait, and
            // nothing tells when there is room; so ask again, until whoever
            // holds the deadline drops this.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(UNIX_RETRY).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Pause before a Unix socket whose queue was full is asked again: short, since
/// a server on the same machine empties it in well under this.
#[cfg(unix)]
const UNIX_RETRY: std::time::Duration = std::time::Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use socket2::SockRef;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn options() -> SocketOptions {
        SocketOptions {
            keepalive: Some(Keepalive {
                idle: Duration::from_secs(77),
                interval: Some(Duration::from_secs(7)),
                retries: Some(3),
            }),
            user_timeout: Some(Duration::from_millis(4500)),
        }
    }

    async fn connected(options: &SocketOptions) -> TcpStream {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        connect_tcp(address, options).await.unwrap()
    }

    #[tokio::test]
    async fn every_option_reaches_the_socket() {
        let stream = connected(&options()).await;
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        #[cfg(target_os = "linux")]
        {
            assert_eq!(
                socket.tcp_keepalive_time().unwrap(),
                Duration::from_secs(77)
            );
            assert_eq!(
                socket.tcp_keepalive_interval().unwrap(),
                Duration::from_secs(7)
            );
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
            assert_eq!(
                socket.tcp_user_timeout().unwrap(),
                Some(Duration::from_millis(4500))
            );
        }
    }

    #[tokio::test]
    async fn without_options_only_nodelay_is_set() {
        let stream = connected(&SocketOptions::default()).await;
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(!socket.keepalive().unwrap());
    }

    #[tokio::test]
    async fn a_refused_connection_says_so() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = connect(&Address::Tcp(address), &options())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_unix_socket_is_connected_too() {
        let directory = TempDir::new("plain");
        let path = directory.0.join(".s.PGSQL.5432");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let mut near = connect(&Address::Unix(path), &options()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        near.write_all(b"a").await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), b'a');
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_unix_socket_with_a_full_queue_is_waited_for() {
        let directory = TempDir::new("full");
        let path = directory.0.join("s");
        let listener = socket2::Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener
            .bind(&socket2::SockAddr::unix(&path).unwrap())
            .unwrap();
        listener.listen(0).unwrap();
        let address = Address::Unix(path);
        let _first = connect(&address, &options()).await.unwrap();
        let second = tokio::spawn(async move { connect(&address, &options()).await });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!second.is_finished());

        listener.accept().unwrap();

        second.await.unwrap().unwrap();
    }

    #[cfg(unix)]
    struct TempDir(std::path::PathBuf);

    #[cfg(unix)]
    impl TempDir {
        fn new(name: &str) -> TempDir {
            let path =
                std::env::temp_dir().join(format!("pgdeadline-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            TempDir(path)
        }
    }

    #[cfg(unix)]
    impl Drop for TempDir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
