//! The client's end of its socket.

use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

/// The far end of a socket that a client has opened by itself.
pub trait ClientSocket: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Reads what is there at this very moment, without waiting.
    ///
    /// A runtime learns of it only when it asks the system the next time. Whoever
    /// notices an end has to know what was asked before.
    ///
    /// # Errors
    /// `WouldBlock`: nothing is there.
    fn read_now(&mut self, buf: &mut [u8]) -> io::Result<usize>;
}

impl ClientSocket for TcpStream {
    fn read_now(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*SockRef::from(&*self)).read(buf)
    }
}

#[cfg(unix)]
impl ClientSocket for UnixStream {
    fn read_now(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*SockRef::from(&*self)).read(buf)
    }
}

impl ClientSocket for DuplexStream {
    fn read_now(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        match Pin::new(self).poll_read(&mut Context::from_waker(Waker::noop()), &mut buf) {
            Poll::Ready(result) => result.map(|()| buf.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn what_is_there_is_read_before_the_runtime_knows_of_it() {
        let (mut client, mut relay) = UnixStream::pair().unwrap();
        let mut buf = [0; 16];
        let nothing = relay.read_now(&mut buf).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        client.write_all(b"just now").await.unwrap();
        assert_eq!(relay.read_now(&mut buf).unwrap(), 8);
        assert_eq!(&buf[..8], b"just now");
    }
}
