//! A certificate authority of the test's own, and the server's certificate.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::WantsClientCert;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, ServerConfig};

/// One authority and one certificate for `localhost` and 127.0.0.1.
pub struct Certificates {
    authority: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Certificates {
    /// The setting that makes a server look at its clients' certificates.
    pub const CLIENTS: &str = "ssl_ca_file=/etc/pgdeadline-tls/authority.crt";

    /// What makes `postgres` use the files that [`Certificates::INSTALL`] puts
    /// in place.
    pub(super) const SERVER_ARGS: [&str; 6] = [
        "-c",
        "ssl=on",
        "-c",
        "ssl_cert_file=/etc/pgdeadline-tls/server.crt",
        "-c",
        "ssl_key_file=/etc/pgdeadline-tls/server.key",
    ];

    /// Run as root inside the container, before the image's own entrypoint.
    pub(super) const INSTALL: &str = "chown -R postgres /etc/pgdeadline-tls \
         && chmod 700 /etc/pgdeadline-tls \
         && exec docker-entrypoint.sh \"$@\"";

    /// A new authority with a new certificate (ECDSA P-256, SHA-256).
    pub fn generate() -> Certificates {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let name = "pgdeadline test authority";
        authority.distinguished_name.push(DnType::CommonName, name);
        let authority_key = KeyPair::generate().expect("a key");
        let root = authority.self_signed(&authority_key).expect("a root");
        let issuer = Issuer::new(authority, authority_key);

        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let server = CertificateParams::new(names).expect("two valid names");
        let key = KeyPair::generate().expect("a key");
        let certificate = server.signed_by(&key, &issuer).expect("a certificate");
        Certificates {
            authority: root,
            issuer,
            certificate,
            key,
        }
    }

    /// The authority's certificate, for a client's root store.
    pub fn authority(&self) -> CertificateDer<'static> {
        self.authority.der().clone()
    }

    /// A client configuration that trusts this authority only.
    pub fn client_config(&self) -> ClientConfig {
        self.trusting().with_no_client_auth()
    }

    /// The same, with a certificate for this user (`cert` in pg_hba.conf).
    pub fn client_config_of(&self, user: &str) -> ClientConfig {
        let mut client = CertificateParams::default();
        client.distinguished_name.push(DnType::CommonName, user);
        let key = KeyPair::generate().expect("a key");
        let client = client.signed_by(&key, &self.issuer);
        let client = client.expect("a certificate").der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("PKCS #8");
        self.trusting()
            .with_client_auth_cert(vec![client], key)
            .expect("a key that fits its certificate")
    }

    fn trusting(&self) -> ConfigBuilder<ClientConfig, WantsClientCert> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority()).expect("a valid root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has the default versions")
            .with_root_certificates(roots)
    }

    /// A configuration for a server of the test's own making. It names the
    /// protocol `postgresql` (ALPN), as direct TLS requires.
    pub fn server_config(&self) -> ServerConfig {
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).expect("PKCS #8");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has the default versions")
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.der().clone()], key)
            .expect("a key that fits its certificate");
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        config
    }

    /// Path in the container and content of each file.
    pub(super) fn files(&self) -> [(&'static str, Vec<u8>); 3] {
        [
            (
                "/etc/pgdeadline-tls/authority.crt",
                self.authority.pem().into_bytes(),
            ),
            (
                "/etc/pgdeadline-tls/server.crt",
                self.certificate.pem().into_bytes(),
            ),
            (
                "/etc/pgdeadline-tls/server.key",
                self.key.serialize_pem().into_bytes(),
            ),
        ]
    }
}
