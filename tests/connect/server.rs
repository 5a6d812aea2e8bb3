//! Servers for one test each: a listener and what is done with a connection.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Serves every connection in the same way, until the test's runtime ends.
pub(crate) async fn listen<H, F>(handle: H) -> SocketAddr
where
    H: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(handle(stream));
        }
    });
    address
}

/// Reads SSLRequest and answers it.
pub(crate) async fn answer_ssl_request(stream: &mut TcpStream, answer: u8) -> io::Result<()> {
    let mut request = [0; 8];
    stream.read_exact(&mut request).await?;
    assert_eq!(request, [0, 0, 0, 8, 4, 210, 22, 47], "SSLRequest");
    stream.write_all(&[answer]).await
}

/// Reads the start-up message.
pub(crate) async fn read_start_up(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = stream.read_u32().await?;
    let mut body = vec![0; length as usize - 4];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

/// Reads one message: its tag and its body.
pub(crate) async fn read_message(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<(u8, Vec<u8>)> {
    let tag = stream.read_u8().await?;
    Ok((tag, read_start_up(stream).await?))
}

/// Sends one message.
pub(crate) async fn send(
    stream: &mut (impl AsyncWrite + Unpin),
    tag: u8,
    body: &[u8],
) -> io::Result<()> {
    let mut message = vec![tag];
    message.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    message.extend(body);
    stream.write_all(&message).await?;
    stream.flush().await
}

/// Lets anybody in, then waits for him to leave.
pub(crate) async fn welcome(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    read_start_up(&mut stream).await?;
    send(&mut stream, b'R', &[0; 4]).await?;
    send(&mut stream, b'K', &[0, 0, 0, 1, 0, 0, 0, 2]).await?;
    send(&mut stream, b'Z', b"I").await?;
    until_closed(stream).await
}

/// An ErrorResponse's body.
pub(crate) fn error_response(code: &str, message: &str) -> Vec<u8> {
    format!("SFATAL\0VFATAL\0C{code}\0M{message}\0\0").into_bytes()
}

/// Reads whatever comes.
pub(crate) async fn until_closed(mut stream: impl AsyncRead + Unpin) -> io::Result<()> {
    while stream.read(&mut [0; 256]).await? > 0 {}
    Ok(())
}
