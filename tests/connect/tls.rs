//! TLS with rustls on both sides.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use pgdeadline::{Connector, Context, EofProof, Error, MakeRustls, Phase};
use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::server::*;
use crate::{LONG, SHORT, failing};

/// A server's certificate for `localhost`, and a client that trusts it.
pub(crate) struct Identity {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) acceptor: TlsAcceptor,
    pub(crate) client: MakeRustls,
}

impl Identity {
    pub(crate) fn new(algorithm: &'static SignatureAlgorithm) -> Identity {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        server.alpn_protocols = vec![b"postgresql".to_vec()];
        Identity {
            client: client(&[&certificate]),
            acceptor: TlsAcceptor::from(Arc::new(server)),
            certificate,
        }
    }
}

/// A client that trusts these certificates.
fn client(trusted: &[&CertificateDer<'static>]) -> MakeRustls {
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        roots.add((*certificate).clone()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    MakeRustls::new(config)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A connector to a server that calls itself `localhost`.
pub(crate) fn connector(address: SocketAddr, options: &str, client: &MakeRustls) -> Connector {
    let port = address.port();
    let config = format!("host=localhost hostaddr=127.0.0.1 port={port} user=me {options}");
    let config: tokio_postgres::Config = config.parse().unwrap();
    // These servers know no query, not even the one for the backend's pid.
    let builder = Connector::builder(config, client.clone()).eof_proof(EofProof::Proof);
    builder.build().unwrap()
}

fn identity() -> Identity {
    Identity::new(&rcgen::PKCS_ECDSA_P256_SHA256)
}

#[derive(Clone, Copy, PartialEq)]
enum Negotiation {
    Classic,
    Direct,
}

/// A server that lets anybody in over TLS, and what its connections agreed on.
async fn server(identity: &Identity, negotiation: Negotiation) -> (SocketAddr, Agreed) {
    let agreed = Agreed::default();
    let (acceptor, log) = (identity.acceptor.clone(), agreed.clone());
    let address = listen(move |mut stream| {
        let (acceptor, log) = (acceptor.clone(), log.clone());
        async move {
            if negotiation == Negotiation::Classic {
                answer_ssl_request(&mut stream, b'S').await?;
            }
            let stream = acceptor.accept(stream).await?;
            log.lock().unwrap().push(Agreement::of(&stream));
            welcome(stream).await
        }
    })
    .await;
    (address, agreed)
}

type Agreed = Arc<Mutex<Vec<Agreement>>>;

#[derive(Debug, PartialEq)]
struct Agreement {
    name: Option<String>,
    protocol: Option<Vec<u8>>,
}

impl Agreement {
    fn of(stream: &TlsStream<TcpStream>) -> Agreement {
        let (_, session) = stream.get_ref();
        Agreement {
            name: session.server_name().map(str::to_owned),
            protocol: session.alpn_protocol().map(<[u8]>::to_vec),
        }
    }
}

#[tokio::test]
async fn classic_and_direct_connect_with_name_and_protocol() {
    let identity = identity();
    for (negotiation, options) in [
        (Negotiation::Classic, "sslmode=prefer"),
        (Negotiation::Classic, "sslmode=require"),
        (Negotiation::Direct, "sslmode=require sslnegotiation=direct"),
    ] {
        let (address, agreed) = server(&identity, negotiation).await;
        let ctx = Context::background().with_timeout(LONG);
        let connector = connector(address, options, &identity.client);
        drop(connector.connect(&ctx).await.unwrap());
        let expected = Agreement {
            name: Some("localhost".to_owned()),
            protocol: Some(b"postgresql".to_vec()),
        };
        assert_eq!(*agreed.lock().unwrap(), [expected], "{options}");
    }
}

async fn tls_error(address: SocketAddr, client: &MakeRustls) -> Error {
    let error = failing(&connector(address, "sslmode=require", client)).await;
    assert_eq!(error.phase(), Some(Phase::Tls), "{error}");
    error
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused() {
    let (address, _) = server(&identity(), Negotiation::Classic).await;
    let stranger = identity().client;
    let text = tls_error(address, &stranger).await.to_string();
    assert!(
        text.contains("TLS handshake failed") && text.contains("certificate"),
        "{text}"
    );
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let identity = identity();
    let (address, _) = server(&identity, Negotiation::Classic).await;
    let config = format!(
        "host=127.0.0.1 port={} user=me sslmode=require",
        address.port()
    );
    let error = failing(&Connector::from_url(&config, identity.client).unwrap()).await;
    assert_eq!(error.phase(), Some(Phase::Tls));
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_host_that_can_have_no_certificate_is_told() {
    let address = listen(|mut stream| async move {
        answer_ssl_request(&mut stream, b'S').await?;
        until_closed(stream).await
    })
    .await;
    let config = format!(
        "host=a_b.- hostaddr=127.0.0.1 port={} user=me",
        address.port()
    );
    let error = failing(&Connector::from_url(&config, identity().client).unwrap()).await;
    assert!(
        error
            .to_string()
            .contains("no name that a certificate could have"),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_breaks_off_the_handshake_is_an_error() {
    for (what, answer) in [
        ("closes", &b""[..]),
        ("garbage", b"garbage, garbage, garbage"),
    ] {
        let address = listen(move |mut stream| async move {
            answer_ssl_request(&mut stream, b'S').await?;
            stream.read_u8().await?;
            stream.write_all(answer).await
        })
        .await;
        let text = tls_error(address, &identity().client).await.to_string();
        assert!(text.contains("TLS handshake failed"), "{what}: {text}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_required() {
    let address = listen(|mut stream| async move {
        answer_ssl_request(&mut stream, b'N').await?;
        welcome(stream).await
    })
    .await;
    let client = identity().client;
    let text = tls_error(address, &client).await.to_string();
    assert!(text.contains("does not offer TLS"), "{text}");
    let ctx = Context::background().with_timeout(LONG);
    let connector = connector(address, "sslmode=prefer", &client);
    drop(connector.connect(&ctx).await.unwrap());
}

#[tokio::test]
async fn deadline_and_cancel_are_told_apart_in_the_handshake() {
    let address = listen(|mut stream| async move {
        answer_ssl_request(&mut stream, b'S').await?;
        until_closed(stream).await
    })
    .await;
    let connector = connector(address, "sslmode=require", &identity().client);

    let ctx = Context::background().with_timeout(SHORT);
    let error = connector.connect(&ctx).await.err().unwrap();
    assert!(
        error.is_deadline() && error.phase() == Some(Phase::Tls),
        "{error}"
    );

    let ctx = Context::background().with_timeout(LONG);
    let cancel = async {
        tokio::time::sleep(SHORT).await;
        ctx.cancel();
    };
    let (connected, ()) = tokio::join!(connector.connect(&ctx), cancel);
    let error = connected.err().unwrap();
    assert!(
        error.is_cancelled() && error.phase() == Some(Phase::Tls),
        "{error}"
    );
}

/// Plain bytes that stand right behind the `S` never reach the protocol above.
#[tokio::test]
async fn bytes_injected_before_the_handshake_break_it() {
    let address = listen(|mut stream| async move {
        stream.read_exact(&mut [0; 8]).await?;
        stream
            .write_all(b"SR\0\0\0\x08\0\0\0\0Z\0\0\0\x05I")
            .await?;
        until_closed(stream).await
    })
    .await;
    let text = tls_error(address, &identity().client).await.to_string();
    assert!(text.contains("TLS handshake failed"), "{text}");
}

#[tokio::test]
async fn tokio_postgres_itself_can_use_it_too() {
    let identity = identity();
    let (address, agreed) = server(&identity, Negotiation::Classic).await;
    let port = address.port();
    let config = format!(
        "host=localhost hostaddr=127.0.0.1 port={port} user=me \
         sslmode=require"
    );
    let connected = tokio_postgres::connect(&config, identity.client).await;
    assert!(connected.is_ok());
    assert_eq!(agreed.lock().unwrap().len(), 1);
}
