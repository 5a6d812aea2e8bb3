//! SCRAM channel binding: what the client proves, against what it should.
//!
//! The server plays SCRAM-SHA-256-PLUS up to the message in which the client
//! names the channel, and ends it there: it has no password to check.

use std::io;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::SignatureAlgorithm;
use sha2::{Digest, Sha256, Sha384};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::failing;
use crate::server::*;
use crate::tls::{Identity, connector};

/// What a client said: its mechanism, and the channel that it names.
type Said = Arc<Mutex<Option<(String, Vec<u8>)>>>;

/// Connects to a server with such a certificate.
async fn said(identity: &Identity, options: &str) -> (Option<(String, Vec<u8>)>, String) {
    let said = Said::default();
    let (acceptor, log) = (identity.acceptor.clone(), said.clone());
    let address = listen(move |mut stream| {
        let (acceptor, log) = (acceptor.clone(), log.clone());
        async move {
            answer_ssl_request(&mut stream, b'S').await?;
            play(acceptor.accept(stream).await?, &log).await
        }
    })
    .await;
    let options = format!("sslmode=require password=secret {options}");
    let error = failing(&connector(address, &options, &identity.client)).await;
    (said.lock().unwrap().take(), error.to_string())
}

async fn play(mut stream: impl AsyncRead + AsyncWrite + Unpin, said: &Said) -> io::Result<()> {
    read_start_up(&mut stream).await?;
    send(
        &mut stream,
        b'R',
        b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0",
    )
    .await?;
    let (_, first) = read_message(&mut stream).await?;
    let end = first.iter().position(|&byte| byte == 0).unwrap();
    let mechanism = String::from_utf8(first[..end].to_vec()).unwrap();
    let first = String::from_utf8_lossy(&first[end + 5..]);
    let nonce = first.split_once(",r=").unwrap().1;
    let salt = STANDARD.encode("salt");
    let challenge = format!("\0\0\0\x0br={nonce}server,s={salt},i=4096");
    send(&mut stream, b'R', challenge.as_bytes()).await?;
    let (_, last) = read_message(&mut stream).await?;
    let last = String::from_utf8(last).unwrap();
    let channel = last.strip_prefix("c=").unwrap().split(',').next().unwrap();
    *said.lock().unwrap() = Some((mechanism, STANDARD.decode(channel).unwrap()));
    send(&mut stream, b'E', &error_response("28P01", "that will do")).await
}

async fn binds(algorithm: &'static SignatureAlgorithm, hash: fn(&[u8]) -> Vec<u8>) {
    let identity = Identity::new(algorithm);
    let mut expected = b"p=tls-server-end-point,,".to_vec();
    expected.extend(hash(&identity.certificate));
    for options in ["channel_binding=require", "channel_binding=prefer"] {
        let (said, _) = said(&identity, options).await;
        let expected = ("SCRAM-SHA-256-PLUS".to_owned(), expected.clone());
        assert_eq!(said, Some(expected), "{options}");
    }
}

#[tokio::test]
async fn the_hash_is_that_of_the_certificates_signature() {
    binds(&rcgen::PKCS_ECDSA_P256_SHA256, |der| {
        Sha256::digest(der).to_vec()
    })
    .await;
    binds(&rcgen::PKCS_ECDSA_P384_SHA384, |der| {
        Sha384::digest(der).to_vec()
    })
    .await;
}

#[tokio::test]
async fn a_certificate_without_a_binding_is_told_and_taken_only_by_prefer() {
    let identity = Identity::new(&rcgen::PKCS_ED25519);
    let (said_nothing, error) = said(&identity, "channel_binding=require").await;
    assert_eq!(said_nothing, None);
    assert!(error.contains("did not use channel binding"), "{error}");

    let (said, _) = said(&identity, "channel_binding=prefer").await;
    assert_eq!(said, Some(("SCRAM-SHA-256".to_owned(), b"n,,".to_vec())));
}
