//! TLS by rustls, with SCRAM channel binding.
//!
//! Any `MakeTlsConnect` will do for a [`Connector`](crate::Connector). This
//! one is here because `channel_binding=require` stands and falls with it: the
//! stream must report `tls-server-end-point` for every certificate for which
//! RFC 5929 defines it. It also offers the ALPN protocol `postgresql`, without
//! which a server refuses `sslnegotiation=direct`.

mod end_point;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ClientConfig;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as ClientStream;

/// Makes TLS connections with rustls; works with
/// [`Connector`](crate::Connector) and with tokio-postgres itself.
///
/// # Examples
/// ```
/// use pgdeadline::{Connector, MakeRustls};
/// use rustls::{ClientConfig, RootCertStore};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let _ = rustls::crypto::ring::default_provider().install_default();
/// let roots = RootCertStore::empty(); // add your authority's certificate
/// let config = ClientConfig::builder()
///     .with_root_certificates(roots)
///     .with_no_client_auth();
/// let url = "postgres://me@db.internal/app?sslmode=require&channel_binding=require";
/// let connector = Connector::from_url(url, MakeRustls::new(config))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct MakeRustls {
    config: Arc<ClientConfig>,
}

impl MakeRustls {
    /// From a rustls configuration.
    ///
    /// Where it names no ALPN protocols, `postgresql` is set: PostgreSQL 17
    /// insists on it for direct TLS, older servers ignore it.
    pub fn new(config: impl Into<Arc<ClientConfig>>) -> MakeRustls {
        let mut config = config.into();
        if config.alpn_protocols.is_empty() {
            Arc::make_mut(&mut config).alpn_protocols = vec![ALPN.to_vec()];
        }
        MakeRustls { config }
    }
}

impl<S> MakeTlsConnect<S> for MakeRustls
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = RustlsStream<S>;
    type TlsConnect = RustlsConnect;
    type Error = InvalidDnsNameError;

    fn make_tls_connect(&mut self, domain: &str) -> Result<RustlsConnect, InvalidDnsNameError> {
        // tokio-postgres calls this with a name that is no DNS name for
        // servers without one (a Unix socket), also where no TLS follows. So
        // the name is judged when it is used.
        Ok(RustlsConnect {
            connector: TlsConnector::from(self.config.clone()),
            name: ServerName::try_from(domain.to_owned()),
        })
    }
}

/// One TLS connection about to be made.
pub struct RustlsConnect {
    connector: TlsConnector,
    name: Result<ServerName<'static>, InvalidDnsNameError>,
}

impl<S> TlsConnect<S> for RustlsConnect
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = RustlsStream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<RustlsStream<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let name = self.name.map_err(|error| {
                io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("the host is no name that a certificate could have: {error}"),
                )
            })?;
            let inner = self.connector.connect(name, stream).await?;
            Ok(RustlsStream { inner })
        })
    }
}

/// A TLS stream that reports its `tls-server-end-point` channel binding.
#[derive(Debug)]
pub struct RustlsStream<S> {
    inner: ClientStream<S>,
}

impl<S> RustlsStream<S> {
    /// The stream of tokio-rustls, for what it knows of the connection.
    pub fn get_ref(&self) -> &ClientStream<S> {
        &self.inner
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for RustlsStream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        let certificates = self.inner.get_ref().1.peer_certificates();
        certificates
            .and_then(|chain| end_point::hash(chain.first()?))
            .map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for RustlsStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for RustlsStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// The protocol's registered ALPN name.
const ALPN: &[u8] = b"postgresql";
