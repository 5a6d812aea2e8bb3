//! What every test of this binary stands on: a client of a relay's, and the
//! server's side of its session, on a network in memory.

use std::time::Duration;

use pgdeadline::relay::Binding;
use pgdeadline::{Connector, ConnectorBuilder, Context, EofProof, Error};
pub(crate) use pgdeadline_tests::paused::{assert_at, deadline, ms};
pub(crate) use pgdeadline_tests::scripted::answer::{canceled, done, first_rows, rows};
use pgdeadline_tests::scripted::{Backend, Expect, Net};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::NoTls;

use crate::client::Client;
use crate::say;

pub(crate) const PID: i32 = 42;
pub(crate) const KEY: i32 = 7;

/// A statement that a server never ends by itself.
pub(crate) const SLEEP: &str = "SELECT pg_sleep(30)";

/// One client and everything about it. Tests take it apart.
pub(crate) struct Stage {
    pub net: Net,
    pub client: Client,
    pub backend: Backend,
    pub relay: JoinHandle<Result<(), Error>>,
}

impl Stage {
    /// After start-up, with every setting at its default, but for the question
    /// whether EOF proves anything: it does.
    pub(crate) async fn new() -> Stage {
        Stage::with(|builder| builder).await
    }

    /// With settings of its own.
    pub(crate) async fn with(set: impl FnOnce(ConnectorBuilder) -> ConnectorBuilder) -> Stage {
        Stage::on(Net::new(), SOCKET, set).await
    }

    /// On a network of its own; the client's socket holds `capacity` bytes each
    /// way.
    pub(crate) async fn on(
        net: Net,
        capacity: usize,
        set: impl FnOnce(ConnectorBuilder) -> ConnectorBuilder,
    ) -> Stage {
        let connector = set(over(&net)).build().unwrap();
        Stage::open(net, &connector, capacity).await
    }

    /// One more client of a connector's.
    pub(crate) async fn open(net: Net, connector: &Connector, capacity: usize) -> Stage {
        let (mut client, relay) = relay(connector, capacity);
        let starts = async {
            client.says(say::start_up()).await;
            client.hears(WELCOME).await;
        };
        let ((), backend) = tokio::join!(starts, async {
            let mut backend = net.backend().await;
            backend.authenticate(PID, KEY).await;
            backend
        });
        Stage {
            net,
            client,
            backend,
            relay,
        }
    }

    /// Checks out, on a session that is clean.
    pub(crate) async fn check_out(&mut self, context: Option<&Context>) {
        let binding = Binding::check_out(context);
        self.client.says(say::query(&binding.statement())).await;
        is_bound(&mut self.client, &binding).await;
    }

    /// The connection goes back to its pool, and is taken.
    pub(crate) async fn give_back(&mut self) {
        self.client.says(say::sync()).await;
        let ready = self.client.hears_one("Z").await;
        assert_eq!(ready.status(), b'I');
    }

    /// The client asks and the server answers, and nothing comes between.
    pub(crate) async fn serves_on(&mut self) {
        serves_on(&mut self.client, &mut self.backend).await;
    }

    /// The client asks for this and the server has got it.
    pub(crate) async fn asks(&mut self, text: &str) {
        self.client.says(say::query(text)).await;
        self.backend.expect(Expect::query(text)).await;
    }

    /// The client is in a transaction.
    pub(crate) async fn begin(&mut self) {
        self.asks("BEGIN").await;
        self.backend.send(done("BEGIN", b'T')).await;
        self.client.hears("CZ").await;
    }

    /// The client says good-bye: everything ends in order, and nothing is left.
    pub(crate) async fn assert_ends_well(mut self) {
        self.serves_on().await;
        self.give_back().await;
        self.leave().assert_ends_well().await;
    }

    /// The client goes away.
    pub(crate) fn leave(self) -> Left {
        Left {
            net: self.net,
            backend: self.backend,
            relay: self.relay,
        }
    }
}

/// What there is once a client has left.
pub(crate) struct Left {
    pub net: Net,
    pub backend: Backend,
    pub relay: JoinHandle<Result<(), Error>>,
}

impl Left {
    /// The server is told good-bye: everything ends in order, and nothing is
    /// left.
    pub(crate) async fn assert_ends_well(mut self) {
        assert!(self.backend.wait_close().await, "with a Terminate");
        ended(self.relay).await.unwrap();
        self.net.assert_quiet().await;
    }
}

/// What a server says at start-up, as [`Backend::authenticate`] has it.
pub(crate) const WELCOME: &str = "RSSSSSSKZ";

/// A builder that dials the network and takes EOF for proof.
pub(crate) fn over(net: &Net) -> ConnectorBuilder {
    let builder = Connector::builder(net.config(), NoTls);
    builder.dial(net.clone()).eof_proof(EofProof::Proof)
}

/// A client of which nothing has been heard.
pub(crate) fn relay(
    connector: &Connector,
    capacity: usize,
) -> (Client, JoinHandle<Result<(), Error>>) {
    let (near, far) = tokio::io::duplex(capacity);
    (Client::new(near), tokio::spawn(connector.relay(far)))
}

/// A task that answers every cancel with EOF at once.
pub(crate) fn answer_cancels(net: &Net) {
    let net = net.clone();
    tokio::spawn(async move {
        loop {
            net.cancel().await.close();
        }
    });
}

/// The relay's task ends.
pub(crate) async fn ended(relay: JoinHandle<Result<(), Error>>) -> Result<(), Error> {
    let ended = timeout(Duration::from_secs(100), relay).await;
    ended.expect("the relay ends").expect("without a panic")
}

/// The binding's statement is answered well.
pub(crate) async fn is_bound(client: &mut Client, binding: &Binding) {
    if binding.statement().contains("operation") {
        let heard = client.hears("CZ").await;
        let expected = format!("SELECT {}", binding.expected_rows());
        assert_eq!(heard[0].command(), expected);
    } else {
        let heard = client.hears("EZ").await;
        assert_eq!(heard[0].field(b'C'), "00000");
        assert!(binding.is_answer(&heard[0].field(b'M')), "{heard:?}");
    }
}

pub(crate) async fn serves_on(client: &mut Client, backend: &mut Backend) {
    let asks = async {
        client.says(say::query("SELECT 'next'")).await;
        let heard = client.hears("TDCZ").await;
        assert_eq!(heard[3].status(), b'I');
    };
    tokio::join!(asks, async {
        backend.expect(Expect::query("SELECT 'next'")).await;
        backend.send(rows(1)).await;
    });
}

/// What a socket's buffers hold, about.
pub(crate) const SOCKET: usize = 64 * 1024;
