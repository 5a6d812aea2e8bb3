//! A connection's first message, which tells what the connection is.

use std::collections::BTreeMap;
use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use super::backend::Backend;
use super::cancel::Cancel;
use super::io::{Rewound, ServerIo};

/// What a connection turned out to be.
pub(super) enum Accepted {
    Session(Backend),
    Cancel(Cancel),
    /// Closed before its first message was whole: a dial that was dropped.
    Nothing,
}

/// Reads up to and with the first StartupMessage or CancelRequest.
///
/// # Panics
/// On anything else: no client may begin so.
pub(super) async fn accept(mut io: ServerIo, tls: Option<TlsAcceptor>) -> Accepted {
    loop {
        let mut head = [0; 8];
        // A TLS record is too short to be waited for as eight bytes of ours
        // only in theory: a ClientHello has hundreds.
        if io.read_exact(&mut head).await.is_err() {
            return Accepted::Nothing;
        }
        if head[0] == TLS_HANDSHAKE {
            let acceptor = tls.clone().expect("direct TLS: use Net::with_tls");
            match encrypt(io, head.to_vec(), acceptor).await {
                Ok(encrypted) => io = encrypted,
                Err(_) => return Accepted::Nothing,
            }
            continue;
        }
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let code = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        assert!(
            (8..=MAX_FIRST_MESSAGE).contains(&length),
            "a first message of {length} bytes, code {code}"
        );
        let mut body = vec![0; length - 8];
        if io.read_exact(&mut body).await.is_err() {
            return Accepted::Nothing;
        }
        match code {
            SSL_REQUEST => {
                let answer = if tls.is_some() { b'S' } else { b'N' };
                if io.write_all(&[answer]).await.is_err() {
                    return Accepted::Nothing;
                }
                if let Some(acceptor) = tls.clone() {
                    match encrypt(io, Vec::new(), acceptor).await {
                        Ok(encrypted) => io = encrypted,
                        Err(_) => return Accepted::Nothing,
                    }
                }
            }
            GSS_ENCRYPTION_REQUEST => {
                if io.write_all(b"N").await.is_err() {
                    return Accepted::Nothing;
                }
            }
            CANCEL_REQUEST => {
                let (pid, key) = body.split_first_chunk().expect("a process id");
                let pid = i32::from_be_bytes(*pid);
                return Accepted::Cancel(Cancel::new(io, pid, key.to_vec()));
            }
            PROTOCOL_3_0..=PROTOCOL_3_MAX => {
                return Accepted::Session(Backend::new(io, parameters(&body)));
            }
            _ => panic!("no client begins with code {code}"),
        }
    }
}

async fn encrypt(io: ServerIo, first: Vec<u8>, acceptor: TlsAcceptor) -> io::Result<ServerIo> {
    let stream = acceptor.accept(Rewound::new(first, io)).await?;
    Ok(ServerIo::Tls(Box::new(stream)))
}

/// The name-value pairs of a StartupMessage.
fn parameters(body: &[u8]) -> BTreeMap<String, String> {
    let mut words = body
        .split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned());
    let mut parameters = BTreeMap::new();
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        if name.is_empty() {
            break;
        }
        parameters.insert(name, value);
    }
    parameters
}

/// The content type that a TLS connection begins with (RFC 8446, 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
const PROTOCOL_3_0: u32 = 3 << 16;
const PROTOCOL_3_MAX: u32 = (3 << 16) | 0xffff;
const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSS_ENCRYPTION_REQUEST: u32 = 80_877_104;
/// The server's own limit (MAX_STARTUP_PACKET_LENGTH).
const MAX_FIRST_MESSAGE: usize = 10_000;
