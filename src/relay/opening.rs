//! What a client opens with, before its first message with a tag.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::wire::message;

/// What a client opens with.
pub(super) enum Opening {
    /// A start-up message, whole.
    StartUp(Vec<u8>),
    /// A CancelRequest: nobody has our keys but the session's own client.
    Cancel,
}

/// Reads what a client opens with; says no to encryption, which has no use
/// inside a process.
///
/// # Errors
/// `InvalidData`: it is no client of PostgreSQL. `UnexpectedEof`: it has left.
pub(super) async fn opening(
    client: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> io::Result<Opening> {
    loop {
        let mut head = [0; 8];
        client.read_exact(&mut head).await?;
        let [a, b, c, d, e, f, g, h] = head;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        match u32::from_be_bytes([e, f, g, h]) {
            SSL_REQUEST | GSSENC_REQUEST if length == head.len() => {
                client.write_all(&[message::NO_ENCRYPTION]).await?;
                client.flush().await?;
            }
            CANCEL_REQUEST => return Ok(Opening::Cancel),
            _ if (head.len()..=MAX_START_UP).contains(&length) => {
                let mut packet = head.to_vec();
                packet.resize(length, 0);
                client.read_exact(&mut packet[head.len()..]).await?;
                return Ok(Opening::StartUp(packet));
            }
            _ => {
                let text = format!("a start-up packet can't be {length} bytes long");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
    }
}

const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;
/// The server's own bound, `MAX_STARTUP_PACKET_LENGTH` in its pqcomm.h.
const MAX_START_UP: usize = 10_000;
