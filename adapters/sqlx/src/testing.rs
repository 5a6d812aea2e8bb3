//! What several modules' unit tests need.

use std::future::{Ready, ready};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pgdeadline::{Connector, Context, Stream};
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio_postgres::NoTls;
use tokio_postgres::tls::{MakeTlsConnect, NoTlsStream, TlsConnect};

pub(crate) fn connector(config: &str) -> Connector {
    Connector::from_url(config, NoTls).unwrap()
}

/// One with a TLS implementation, which fails when it is used.
pub(crate) fn tls_connector(config: &str) -> Connector {
    Connector::from_url(config, NeverTls).unwrap()
}

#[derive(Clone)]
struct NeverTls;

impl MakeTlsConnect<Stream> for NeverTls {
    type Stream = NoTlsStream;
    type TlsConnect = NeverTls;
    type Error = io::Error;

    fn make_tls_connect(&mut self, _: &str) -> io::Result<NeverTls> {
        Ok(NeverTls)
    }
}

impl TlsConnect<Stream> for NeverTls {
    type Stream = NoTlsStream;
    type Error = io::Error;
    type Future = Ready<io::Result<NoTlsStream>>;

    fn connect(self, _: Stream) -> Self::Future {
        ready(Err(io::ErrorKind::Unsupported.into()))
    }
}

/// The end of a context that was cancelled for `reason`.
pub(crate) async fn ended(reason: &'static str) -> pgdeadline::Error {
    let ctx = Context::background().child();
    ctx.cancel_with(reason);
    ctx.run(async {}).await.unwrap_err()
}

/// Waits until `is_so`, at most ten seconds.
pub(crate) async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain: {what}");
}

/// A server that lets everybody in and answers queries by text.
pub(crate) struct Server {
    directory: TempDir,
    log: Log,
}

/// What was asked, of all connections; a connect, and a Sync by itself too.
type Log = Arc<Mutex<Vec<String>>>;

/// What a query is answered with, before the ReadyForQuery.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// CommandComplete, with this tag.
    Complete(&'static str),
    /// What a relay says to the binding of this number.
    Bound(String),
    /// CommandComplete of BEGIN, and then a ReadyForQuery inside a transaction.
    Begin,
    /// Code and message.
    Error(&'static str, &'static str),
    Nothing,
}

impl Answer {
    /// As a relay answers what binds a context, of which the last word is the
    /// number; and everything else well.
    pub(crate) fn as_relay(text: &str) -> Answer {
        match text.rsplit_once(' ') {
            Some((_, number)) if is_binding(text) => Answer::Bound(number.to_owned()),
            _ => Answer::Complete("SELECT 0"),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Answer::Complete(tag) => message(b'C', format!("{tag}\0").as_bytes()),
            Answer::Bound(number) => {
                let told = format!("pgdeadline: bound {number}");
                error("00000", &told)
            }
            Answer::Begin => Answer::Complete("BEGIN").bytes(),
            Answer::Error(code, text) => error(code, text),
            Answer::Nothing => Vec::new(),
        }
    }
}

impl Server {
    pub(crate) fn options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(self.directory.path())
            .port(5432)
            .ssl_mode(PgSslMode::Disable)
    }

    /// Takes what was asked since the last time, bindings without their
    /// number.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    pub(crate) async fn connect(&self) -> PgConnection {
        PgConnection::connect_with(&self.options()).await.unwrap()
    }
}

pub(crate) fn is_binding(text: &str) -> bool {
    text.starts_with("pgdeadline ")
}

/// Answers every query with what `answer` makes of its text.
pub(crate) fn serve(answer: impl FnMut(&str) -> Answer + Send + 'static) -> Server {
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(directory.path().join(".s.PGSQL.5432")).unwrap();
    let answer = Arc::new(Mutex::new(answer));
    let log = Log::default();
    let server = Server {
        directory,
        log: Arc::clone(&log),
    };
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
            let serving = serve_one(client, log, move |text| answer.lock().unwrap()(text));
            tokio::spawn(serving);
        }
    });
    server
}

async fn serve_one(
    mut client: UnixStream,
    log: Log,
    mut answer: impl FnMut(&str) -> Answer,
) -> io::Result<()> {
    let ready_for_query = message(b'Z', b"I");
    body(&mut client).await?;
    let note = |text: &str| log.lock().unwrap().push(text.to_owned());
    note("connect");
    client.write_all(&message(b'R', &[0; 4])).await?;
    client.write_all(&ready_for_query).await?;
    loop {
        let tag = client.read_u8().await?;
        let body = body(&mut client).await?;
        match tag {
            b'Q' => {
                let text = String::from_utf8_lossy(&body[..body.len() - 1]).into_owned();
                match text.rsplit_once(' ') {
                    Some((binding, _)) if is_binding(&text) => note(binding),
                    _ => note(&text),
                }
                let answer = answer(&text);
                client.write_all(&answer.bytes()).await?;
                let ready_for_query = match answer {
                    Answer::Begin => message(b'Z', b"T"),
                    _ => ready_for_query.clone(),
                };
                client.write_all(&ready_for_query).await?;
            }
            b'S' => {
                note("Sync");
                client.write_all(&ready_for_query).await?;
            }
            _ => return Ok(()),
        }
    }
}

fn error(code: &str, text: &str) -> Vec<u8> {
    let fields = format!("SERROR\0VERROR\0C{code}\0M{text}\0\0");
    message(b'E', fields.as_bytes())
}

async fn body(client: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut body = vec![0; client.read_u32().await? as usize - 4];
    client.read_exact(&mut body).await?;
    Ok(body)
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![tag];
    message.extend((body.len() as u32 + 4).to_be_bytes());
    message.extend(body);
    message
}
