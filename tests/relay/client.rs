//! A client that says what a test makes it say, and hears message by message.

use std::fmt;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::FutureExt;
use pgdeadline::Error;
use pgdeadline_tests::scripted::STEP_BOUND;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;

/// One end of a socket, the relay at the other. Dropping it closes the socket.
pub(crate) struct Client {
    io: DuplexStream,
    unread: BytesMut,
}

/// A message that it heard.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    pub tag: u8,
    pub body: Bytes,
}

impl Client {
    pub(crate) fn new(io: DuplexStream) -> Client {
        Client {
            io,
            unread: BytesMut::new(),
        }
    }

    pub(crate) async fn says(&mut self, bytes: impl AsRef<[u8]>) {
        let said = timeout(STEP_BOUND, self.io.write_all(bytes.as_ref())).await;
        said.expect("the relay reads").expect("the relay is there");
    }

    /// As far as the relay takes it within this time.
    pub(crate) async fn tries_to_say(&mut self, bytes: &[u8], time: Duration) {
        let _ = timeout(time, self.io.write_all(bytes)).await;
    }

    /// One byte that answers a request for encryption.
    pub(crate) async fn hears_byte(&mut self) -> u8 {
        let byte = timeout(STEP_BOUND, self.io.read_u8()).await;
        byte.expect("an answer").expect("the relay is there")
    }

    /// What the next message is.
    pub(crate) async fn next_tag(&mut self) -> u8 {
        let next = timeout(STEP_BOUND, self.next()).await;
        next.expect("a message").expect("the relay is there").tag
    }

    /// The next messages have these tags, one a letter.
    #[track_caller]
    pub(crate) fn hears(&mut self, tags: &str) -> impl Future<Output = Vec<Heard>> {
        let at = std::panic::Location::caller();
        async move {
            let mut heard = Vec::new();
            for tag in tags.bytes() {
                let next = timeout(STEP_BOUND, self.next()).await;
                match next {
                    Err(_) => panic!("{at}: expected {tags}, heard {heard:?} and no more"),
                    Ok(None) => panic!("{at}: expected {tags}, heard {heard:?} and the end"),
                    Ok(Some(next)) if next.tag != tag => {
                        panic!("{at}: expected {tags}, heard {heard:?}, then {next:?}")
                    }
                    Ok(Some(next)) => heard.push(next),
                }
            }
            heard
        }
    }

    /// The next message, which has this tag.
    #[track_caller]
    pub(crate) fn hears_one(&mut self, tag: &str) -> impl Future<Output = Heard> {
        let hears = self.hears(tag);
        async move { hears.await.swap_remove(0) }
    }

    /// Nothing comes for this long, not even a part of a message.
    pub(crate) async fn hears_nothing(&mut self, time: Duration) {
        if let Ok(next) = timeout(time, self.next()).await {
            panic!("expected {time:?} of silence, heard {next:?}");
        }
        assert!(self.unread.is_empty(), "part of a message");
    }

    /// Reads what comes within this time, which is no whole message.
    pub(crate) async fn tries_to_hear(&mut self, time: Duration) {
        if let Ok(next) = timeout(time, self.next()).await {
            panic!("expected part of a message, heard {next:?}");
        }
    }

    /// What comes until the relay closes.
    pub(crate) async fn hears_out(&mut self) -> Vec<Heard> {
        let mut heard = Vec::new();
        loop {
            match timeout(STEP_BOUND, self.next()).await {
                Err(_) => panic!("it does not end: {heard:?}"),
                Ok(None) => return heard,
                Ok(Some(next)) => heard.push(next),
            }
        }
    }

    /// The relay closes, after a last word of this SQLSTATE.
    pub(crate) async fn is_told_and_closed(&mut self, code: &str) -> Error {
        let mut heard = self.hears_out().await;
        assert_eq!(heard.len(), 1, "{heard:?}");
        let last = heard.swap_remove(0);
        assert_eq!((last.tag, last.field(b'S')), (b'E', "FATAL".into()));
        assert_eq!(last.field(b'C'), code, "{last:?}");
        last.error()
    }

    /// Reads so many bytes, whatever they are.
    pub(crate) async fn reads(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let read = timeout(STEP_BOUND, self.io.read_exact(&mut bytes)).await;
        read.expect("so many bytes").expect("the relay is there");
        bytes
    }

    /// What comes until the relay closes, whole messages or not.
    pub(crate) async fn reads_out(&mut self) -> Vec<u8> {
        let mut bytes = self.unread.split().to_vec();
        let read = timeout(STEP_BOUND, self.io.read_to_end(&mut bytes)).await;
        read.expect("the end").expect("the end");
        bytes
    }

    /// Is a message of this tag among what has come and was not heard?
    pub(crate) async fn has_heard(&mut self, tag: u8) -> bool {
        while let Some(Ok(1..)) = self.io.read_buf(&mut self.unread).now_or_never() {}
        let mut unread = self.unread.clone();
        std::iter::from_fn(|| Heard::take(&mut unread)).any(|heard| heard.tag == tag)
    }

    /// The next message; `None`: the relay has closed.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn next(&mut self) -> Option<Heard> {
        loop {
            if let Some(heard) = Heard::take(&mut self.unread) {
                return Some(heard);
            }
            match self.io.read_buf(&mut self.unread).await {
                Ok(0) | Err(_) => {
                    assert!(self.unread.is_empty(), "cut off: {:?}", self.unread);
                    return None;
                }
                Ok(_) => {}
            }
        }
    }
}

impl Heard {
    fn take(unread: &mut BytesMut) -> Option<Heard> {
        let (head, _) = unread.split_first_chunk::<5>()?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        assert!(length >= 4, "a length of {length}");
        if unread.len() <= length {
            return None;
        }
        let mut body = unread.split_to(1 + length).freeze();
        let tag = body.get_u8();
        body.advance(4);
        Some(Heard { tag, body })
    }

    /// A field of an ErrorResponse.
    pub(crate) fn field(&self, name: u8) -> String {
        assert_eq!(self.tag, b'E');
        let mut fields = self.body.split(|byte| *byte == 0);
        let field = fields.find(|field| field.first() == Some(&name));
        let field = field.expect("such a field");
        String::from_utf8_lossy(&field[1..]).into_owned()
    }

    /// The error of this crate that an ErrorResponse is of.
    #[track_caller]
    pub(crate) fn error(&self) -> Error {
        let text = std::io::Error::other(self.field(b'M'));
        Error::find(&text).unwrap_or_else(|| panic!("no marker in {self:?}"))
    }

    /// The transaction status of a ReadyForQuery.
    pub(crate) fn status(&self) -> u8 {
        assert_eq!((self.tag, self.body.len()), (b'Z', 1));
        self.body[0]
    }

    /// The tag of a CommandComplete.
    pub(crate) fn command(&self) -> String {
        assert_eq!(self.tag, b'C');
        String::from_utf8_lossy(&self.body[..self.body.len() - 1]).into_owned()
    }
}

impl fmt::Debug for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = &self.body[..self.body.len().min(200)];
        write!(f, "{}({})", char::from(self.tag), body.escape_ascii())
    }
}
