//! What every test of this binary stands on: one client of a connector's, its
//! session, and the server's side of it, on a network in memory.

use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{Stream, TryStreamExt};
use pgdeadline::dial::{Address, Dial, DialFuture, ResolveFuture, SocketOptions};
use pgdeadline::{Connector, ConnectorBuilder, Context, EofProof, Error, Session};
pub(crate) use pgdeadline_tests::paused::{assert_at, deadline, ms};
pub(crate) use pgdeadline_tests::scripted::answer::{canceled, done, rows};
use pgdeadline_tests::scripted::{Backend, Expect, Message, Net, message};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, NoTls};

pub(crate) const PID: i32 = 42;
pub(crate) const KEY: i32 = 7;

/// A statement that a server never ends by itself.
pub(crate) const SLEEP: &str = "SELECT pg_sleep(30)";

/// One client and everything about it. Tests take it apart.
pub(crate) struct Stage {
    pub net: Net,
    pub connector: Connector,
    pub client: Client,
    pub session: Session,
    pub backend: Backend,
    /// The task that drives the connection.
    pub connection: JoinHandle<Result<(), Error>>,
}

impl Stage {
    /// With every setting at its default, but for the question whether EOF
    /// proves anything: it does.
    pub(crate) async fn new() -> Stage {
        Stage::with(|builder| builder).await
    }

    /// With settings of its own.
    pub(crate) async fn with(set: impl FnOnce(ConnectorBuilder) -> ConnectorBuilder) -> Stage {
        Stage::on(Net::new(), set).await
    }

    /// On a network of its own.
    pub(crate) async fn on(
        net: Net,
        set: impl FnOnce(ConnectorBuilder) -> ConnectorBuilder,
    ) -> Stage {
        let connector = set(over(&net)).build().unwrap();
        Stage::open(net, connector).await
    }

    /// One more connection of a connector's.
    pub(crate) async fn open(net: Net, connector: Connector) -> Stage {
        let context = Context::background();
        let (connected, backend) = tokio::join!(connector.connect(&context), async {
            let mut backend = net.backend().await;
            backend.authenticate(PID, KEY).await;
            backend
        });
        let (client, connection) = connected.unwrap();
        Stage {
            session: connection.session().clone(),
            connection: tokio::spawn(connection),
            net,
            connector,
            client,
            backend,
        }
    }

    /// In a new transaction this statement ends at the deadline of its own
    /// context, or of the check-out's if it has none. The server is made to
    /// cancel it, and answers.
    pub(crate) async fn end_in_transaction(
        &mut self,
        own: Option<&Context>,
        sql: &str,
        answer: Message,
    ) {
        begin(&self.client, &mut self.backend).await;
        let statement = self.client.batch_execute(sql);
        let error = match own {
            Some(own) => end_of(own.run(statement).await),
            None => told(statement.await.unwrap_err()),
        };
        assert!(error.is_deadline(), "{error}");
        is_made_to_cancel(&self.net, &mut self.backend, sql, answer).await;
    }
}

/// A builder that dials the network and takes EOF for proof.
pub(crate) fn over(net: &Net) -> ConnectorBuilder {
    let builder = Connector::builder(net.config(), NoTls);
    builder.dial(net.clone()).eof_proof(EofProof::Proof)
}

/// The error of this crate that a client was told.
#[track_caller]
pub(crate) fn told(error: tokio_postgres::Error) -> Error {
    Error::find(&error).unwrap_or_else(|| panic!("not told by us: {error:?}"))
}

/// The end that `run` tells of, or that the client was told in the same poll:
/// whoever was first, it is the same end.
#[track_caller]
pub(crate) fn end_of<T: Debug>(result: Result<Result<T, tokio_postgres::Error>, Error>) -> Error {
    match result {
        Err(error) => error,
        Ok(own) => told(own.expect_err("it should have ended")),
    }
}

/// The server serves one more query of this client, and nothing comes between.
pub(crate) async fn serves_on(client: &Client, backend: &mut Backend) {
    let (answer, ()) = tokio::join!(client.simple_query("SELECT 'next'"), async {
        backend.expect(Expect::query("SELECT 'next'")).await;
        backend.send(rows(1)).await;
    });
    assert_eq!(answer.expect("an innocent query").len(), 3);
}

/// A statement of this client's, and what the server answers.
pub(crate) async fn execute(
    client: &Client,
    backend: &mut Backend,
    sql: &str,
    answer: Message,
) -> Result<(), tokio_postgres::Error> {
    let (result, ()) = tokio::join!(client.batch_execute(sql), async {
        backend.expect(Expect::query(sql)).await;
        backend.send(answer).await;
    });
    result
}

/// The server opens a transaction for this client.
pub(crate) async fn begin(client: &Client, backend: &mut Backend) {
    let begun = execute(client, backend, "BEGIN", done("BEGIN", b'T')).await;
    begun.unwrap();
}

/// The server is told to roll back, by whomever, and does.
pub(crate) async fn rolls_back(backend: &mut Backend) {
    backend.expect(Expect::query("ROLLBACK")).await;
    backend.send(done("ROLLBACK", b'I')).await;
}

/// The client closes a statement that it has dropped.
pub(crate) async fn closes_statement(backend: &mut Backend) {
    backend.expect_all([Expect::close(), Expect::sync()]).await;
    backend
        .send([message::close_complete(), message::ready_for_query(b'I')])
        .await;
}

/// The server has this statement, is told to cancel it, and answers.
pub(crate) async fn is_made_to_cancel(
    net: &Net,
    backend: &mut Backend,
    sql: &str,
    answer: Message,
) {
    backend.expect(Expect::query(sql)).await;
    net.cancel().await.close();
    backend.send(answer).await;
}

/// A statement that its context ends after 200 ms, with the server at work on
/// it: when that began.
pub(crate) async fn ended_at_200(client: &Client, backend: &mut Backend) -> Instant {
    let (began, ctx) = (Instant::now(), deadline(200));
    let error = end_of(ctx.run(client.batch_execute(SLEEP)).await);
    assert!(error.is_deadline(), "{error}");
    assert_at(began, 200);
    backend.expect(Expect::query(SLEEP)).await;
    began
}

/// The session is checked in, and out again under this context.
pub(crate) async fn check_out(session: &Session, ctx: &Context) {
    session.check_in();
    session.check_out(Some(ctx)).await.unwrap();
}

/// Reads a stream that must not end well: how many came, and the error.
pub(crate) async fn read_to_the_error<T>(
    stream: impl Stream<Item = Result<T, tokio_postgres::Error>>,
) -> (usize, Error) {
    let mut stream = pin!(stream);
    let mut read = 0;
    loop {
        match stream.try_next().await {
            Ok(Some(_)) => read += 1,
            Ok(None) => panic!("ended work was told as a success"),
            Err(error) => return (read, told(error)),
        }
    }
}

/// The session is checked in, and out again: it is clean.
pub(crate) async fn is_clean(session: &Session) {
    session.check_in();
    session.check_out(None).await.expect("a clean session");
}

/// A task that answers every cancel with EOF at once, and counts them.
pub(crate) fn answer_cancels(net: &Net) -> Arc<AtomicU64> {
    let (net, count) = (net.clone(), Arc::new(AtomicU64::new(0)));
    let counted = count.clone();
    tokio::spawn(async move {
        loop {
            net.cancel().await.close();
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    count
}

/// A network on which every dial takes as long as it is told to.
#[derive(Clone)]
pub(crate) struct SlowDial {
    net: Net,
    milliseconds: Arc<AtomicU64>,
}

impl SlowDial {
    pub(crate) fn new(net: &Net) -> SlowDial {
        SlowDial {
            net: net.clone(),
            milliseconds: Arc::default(),
        }
    }

    pub(crate) fn takes(&self, milliseconds: u64) {
        self.milliseconds.store(milliseconds, Ordering::SeqCst);
    }
}

impl Dial for SlowDial {
    fn dial(&self, to: Address, options: SocketOptions) -> DialFuture {
        let time = ms(self.milliseconds.load(Ordering::SeqCst));
        let dial = self.net.dial(to, options);
        Box::pin(async move {
            if !time.is_zero() {
                sleep(time).await;
            }
            dial.await
        })
    }

    fn resolve(&self, name: String, port: u16) -> ResolveFuture {
        self.net.resolve(name, port)
    }
}
