//! Start-up packets of a client, and the few messages that the relay reads
//! itself before it is a session's.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::wire::framer::{Framer, Malformed};
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

/// Which of the two an error is of.
pub(super) enum Lost {
    Client,
    Server(io::Error),
}

/// Passes messages in both directions until the server is ready, beginning with
/// what it has said already. What it says then, its ReadyForQuery, is kept back.
///
/// # Errors
/// One of the two has closed; the server mostly after an error that has been
/// passed on.
pub(super) async fn authenticate(
    client: &mut (impl AsyncRead + AsyncWrite + Unpin),
    server: &mut (impl AsyncRead + AsyncWrite + Unpin),
    mut said: Vec<u8>,
) -> Result<(), Lost> {
    let (mut from_client, mut from_server) = ([0; CHUNK], [0; CHUNK]);
    loop {
        // Whole messages only: behind half of one the client could be told
        // nothing of ours.
        let mut whole = 0;
        let mut bytes = said.as_slice();
        let mut framer = Framer::default();
        while let Some(piece) = framer.next(&mut bytes).map_err(invalid)? {
            match (piece.ends, piece.tag) {
                (false, _) if said.len() > MAX_MESSAGE => return Err(too_long()),
                (false, _) => break,
                (true, b'Z') => {
                    let pass = client.write_all(&said[..whole]).await;
                    pass.map_err(|_| Lost::Client)?;
                    return client.flush().await.map_err(|_| Lost::Client);
                }
                (true, _) => whole += piece.raw.len(),
            }
        }
        let pass = client.write_all(&said[..whole]).await;
        pass.map_err(|_| Lost::Client)?;
        client.flush().await.map_err(|_| Lost::Client)?;
        said.drain(..whole);
        match either(client, &mut from_client, server, &mut from_server).await? {
            Side::Server(len) => said.extend_from_slice(&from_server[..len]),
            Side::Client(len) => {
                let pass = async {
                    server.write_all(&from_client[..len]).await?;
                    server.flush().await
                };
                pass.await.map_err(Lost::Server)?;
            }
        }
    }
}

/// Asks the server something, and gives the first field of the first row that it
/// answers with.
pub(super) async fn ask(
    server: &mut (impl AsyncRead + AsyncWrite + Unpin),
    text: &str,
) -> Result<Option<String>, Lost> {
    let mut question = Vec::new();
    message::query(&mut question, text);
    let send = async {
        server.write_all(&question).await?;
        server.flush().await
    };
    send.await.map_err(Lost::Server)?;
    let (mut framer, mut chunk) = (Framer::default(), [0; CHUNK]);
    let (mut row, mut field) = (Vec::new(), None);
    loop {
        let len = match server.read(&mut chunk).await {
            Ok(0) => return Err(Lost::Server(io::ErrorKind::UnexpectedEof.into())),
            Ok(len) => len,
            Err(error) => return Err(Lost::Server(error)),
        };
        let mut bytes = &chunk[..len];
        while let Some(piece) = framer.next(&mut bytes).map_err(invalid)? {
            match piece.tag {
                b'D' if field.is_none() && row.len() < CHUNK => {
                    row.extend_from_slice(piece.body);
                    if piece.ends {
                        field = Some(first_field(&row));
                    }
                }
                b'Z' if piece.ends => return Ok(field.flatten()),
                _ => {}
            }
        }
    }
}

/// DataRow: the number of fields (two bytes), then each with its length (four).
fn first_field(row: &[u8]) -> Option<String> {
    let (length, rest) = row.get(2..)?.split_first_chunk()?;
    let length = usize::try_from(i32::from_be_bytes(*length)).ok()?;
    String::from_utf8(rest.get(..length)?.to_vec()).ok()
}

/// Which of two has said something, and how much.
enum Side {
    Client(usize),
    Server(usize),
}

async fn either(
    client: &mut (impl AsyncRead + Unpin),
    from_client: &mut [u8],
    server: &mut (impl AsyncRead + Unpin),
    from_server: &mut [u8],
) -> Result<Side, Lost> {
    poll_fn(|cx| {
        let mut buf = ReadBuf::new(from_server);
        if let Poll::Ready(result) = Pin::new(&mut *server).poll_read(cx, &mut buf) {
            return Poll::Ready(match (result, buf.filled().len()) {
                (Ok(()), 0) => Err(Lost::Server(io::ErrorKind::UnexpectedEof.into())),
                (Ok(()), len) => Ok(Side::Server(len)),
                (Err(error), _) => Err(Lost::Server(error)),
            });
        }
        let mut buf = ReadBuf::new(from_client);
        let read = Pin::new(&mut *client).poll_read(cx, &mut buf);
        read.map(|result| match (result, buf.filled().len()) {
            (Ok(()), len @ 1..) => Ok(Side::Client(len)),
            _ => Err(Lost::Client),
        })
    })
    .await
}

fn too_long() -> Lost {
    let text = format!("a message of the start-up is longer than {MAX_MESSAGE} bytes");
    Lost::Server(io::Error::new(io::ErrorKind::InvalidData, text))
}

fn invalid(malformed: Malformed) -> Lost {
    Lost::Server(io::Error::new(
        io::ErrorKind::InvalidData,
        malformed.to_string(),
    ))
}

const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;
/// The server's own bound, `MAX_STARTUP_PACKET_LENGTH` in its pqcomm.h.
const MAX_START_UP: usize = 10_000;
/// libpq's bound of a message during start-up.
const MAX_MESSAGE: usize = 30_000;
const CHUNK: usize = 1024;
