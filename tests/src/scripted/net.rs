//! A network in memory, with one server on it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use pgdeadline::dial::Address;

use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_postgres::Config;
use tokio_rustls::TlsAcceptor;

use super::accept::{Accepted, accept};
use super::backend::Backend;
use super::bounded;
use super::cancel::Cancel;
use super::io::{NetStream, ServerIo, pair};
use super::script::{Script, Serving};
use crate::eventually;
use crate::server::Certificates;

/// A network with one scripted server. Clones are the same network.
#[derive(Clone)]
pub struct Net {
    shared: Arc<Shared>,
}

/// What becomes of a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialOutcome {
    /// A connection, told from its first message.
    Accept,
    /// A connection that the server accepts and reads nothing from: it goes to
    /// [`Net::unread_connection`].
    Unread,
    /// Refused at once.
    Refuse,
    /// A black hole: neither accepted nor refused.
    BlackHole,
}

pub(super) struct Shared {
    /// Connections are read on the test's own runtime, also those that are
    /// dialled from another.
    runtime: Handle,
    capacity: usize,
    tls: Option<TlsAcceptor>,
    dials: Mutex<Dials>,
    sessions: Queue<Backend>,
    cancels: Queue<Cancel>,
    unread: Queue<Backend>,
}

#[derive(Default)]
pub(super) struct Dials {
    /// Outcomes of the next dials, before the usual one.
    next: VecDeque<DialOutcome>,
    usual: Option<DialOutcome>,
    count: usize,
    /// What the trait `Dial` alone knows of: addresses.
    pub(super) dialled: Vec<Address>,
    pub(super) at: HashMap<Address, DialOutcome>,
    pub(super) names: HashMap<String, Vec<IpAddr>>,
    /// Connections whose first message is being read.
    reading: usize,
}

struct Queue<T> {
    sender: UnboundedSender<T>,
    receiver: tokio::sync::Mutex<UnboundedReceiver<T>>,
}

impl Net {
    /// A network whose connections hold 64 KiB each way.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new() -> Net {
        Net::build(DEFAULT_CAPACITY, None)
    }

    /// One whose connections hold no more than this each way, for writers that
    /// are to be held up.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn with_capacity(bytes: usize) -> Net {
        Net::build(bytes, None)
    }

    /// One whose server speaks TLS, direct or asked for by an SSLRequest.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn with_tls(certificates: &Certificates) -> Net {
        let acceptor = TlsAcceptor::from(Arc::new(certificates.server_config()));
        Net::build(DEFAULT_CAPACITY, Some(acceptor))
    }

    fn build(capacity: usize, tls: Option<TlsAcceptor>) -> Net {
        let shared = Shared {
            runtime: Handle::current(),
            capacity,
            tls,
            dials: Mutex::default(),
            sessions: Queue::new(),
            cancels: Queue::new(),
            unread: Queue::new(),
        };
        Net {
            shared: Arc::new(shared),
        }
    }

    /// A configuration that fits this server: any host does.
    pub fn config(&self) -> Config {
        let mut config = Config::new();
        config
            .host("scripted.test")
            .user("postgres")
            .dbname("postgres");
        config
    }

    /// Dials the server.
    ///
    /// # Errors
    /// `ConnectionRefused`, if that was to happen.
    ///
    /// # Cancel safety
    /// A dial that is dropped has no effect, but counts.
    pub async fn connect(&self) -> io::Result<NetStream> {
        let outcome = self.shared.next_outcome(None);
        self.meet(outcome).await
    }

    /// A dial, once it is known what becomes of it.
    pub(super) async fn meet(&self, outcome: DialOutcome) -> io::Result<NetStream> {
        match outcome {
            DialOutcome::Refuse => Err(io::ErrorKind::ConnectionRefused.into()),
            DialOutcome::BlackHole => std::future::pending().await,
            DialOutcome::Accept => {
                let (client, server) = pair(self.shared.capacity);
                self.shared.take_in(server);
                Ok(client)
            }
            DialOutcome::Unread => {
                let (client, server) = pair(self.shared.capacity);
                self.shared
                    .unread
                    .push(Backend::new(server, Default::default()));
                Ok(client)
            }
        }
    }

    /// What becomes of the next dials; those after them are as usual.
    pub fn next_dials(&self, outcomes: impl IntoIterator<Item = DialOutcome>) {
        self.shared.dials().next.extend(outcomes);
    }

    /// What becomes of all dials from now on that [`Net::next_dials`] says
    /// nothing about; at first, `Accept`.
    pub fn all_dials(&self, outcome: DialOutcome) {
        self.shared.dials().usual = Some(outcome);
    }

    /// How often the server was dialled, with whatever outcome.
    pub fn dials(&self) -> usize {
        self.shared.dials().count
    }

    /// The next connection that began with a StartupMessage.
    ///
    /// # Panics
    /// When none comes.
    pub async fn backend(&self) -> Backend {
        bounded("a session", self.shared.sessions.pop()).await
    }

    /// The next CancelRequest.
    ///
    /// # Panics
    /// When none comes.
    pub async fn cancel(&self) -> Cancel {
        bounded("a CancelRequest", self.shared.cancels.pop()).await
    }

    /// A CancelRequest that is there already.
    pub fn try_cancel(&self) -> Option<Cancel> {
        self.shared.cancels.try_pop()
    }

    /// The next connection of a dial whose outcome is
    /// [`DialOutcome::Unread`].
    ///
    /// # Panics
    /// When none comes.
    pub async fn unread_connection(&self) -> Backend {
        bounded("a connection", self.shared.unread.pop()).await
    }

    /// Plays a script with the next session, in a task.
    pub fn serve(&self, script: Script) -> Serving {
        script.play(self.clone())
    }

    /// Makes sure that nothing came which nobody has taken: no session, no
    /// cancel, no half of a first message. A test ends with it.
    ///
    /// # Panics
    /// When something did.
    pub async fn assert_quiet(&self) {
        let patience = std::time::Duration::from_secs(20);
        eventually(patience, "every first message is whole", async || {
            (self.shared.dials().reading == 0).then_some(())
        })
        .await;
        let cancel = self.try_cancel().map(|cancel| cancel.pid());
        assert!(
            cancel.is_none(),
            "a CancelRequest for {cancel:?} that nobody expected"
        );
        let session = self.shared.sessions.try_pop().is_some();
        assert!(!session, "a session that nobody expected");
        let unread = self.shared.unread.try_pop().is_some();
        assert!(!unread, "a connection that nobody expected");
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Default for Net {
    fn default() -> Net {
        Net::new()
    }
}

impl Shared {
    pub(super) fn dials(&self) -> MutexGuard<'_, Dials> {
        self.dials.lock().expect("no panic inside")
    }

    pub(super) fn next_outcome(&self, to: Option<Address>) -> DialOutcome {
        let mut dials = self.dials();
        dials.count += 1;
        let fixed = to.as_ref().and_then(|to| dials.at.get(to)).copied();
        dials.dialled.extend(to);
        let usual = dials.usual.unwrap_or(DialOutcome::Accept);
        fixed.unwrap_or_else(|| dials.next.pop_front().unwrap_or(usual))
    }

    /// Reads a connection's first message and puts it in its queue.
    pub(super) fn take_in(self: &Arc<Self>, io: ServerIo) {
        self.dials().reading += 1;
        let shared = Arc::clone(self);
        self.runtime.spawn(async move {
            let accepted = accept(io, shared.tls.clone()).await;
            match accepted {
                Accepted::Session(backend) => shared.sessions.push(backend),
                Accepted::Cancel(cancel) => shared.cancels.push(cancel),
                Accepted::Nothing => {}
            }
            shared.dials().reading -= 1;
        });
    }

    pub(super) fn put_aside(&self, io: ServerIo) {
        self.unread.push(Backend::new(io, Default::default()));
    }
}

impl<T> Queue<T> {
    fn new() -> Queue<T> {
        let (sender, receiver) = unbounded_channel();
        Queue {
            sender,
            receiver: tokio::sync::Mutex::new(receiver),
        }
    }

    fn push(&self, item: T) {
        // The receiver is beside the sender: it is there.
        let _ = self.sender.send(item);
    }

    async fn pop(&self) -> T {
        let item = self.receiver.lock().await.recv().await;
        item.expect("the sender is beside the receiver")
    }

    fn try_pop(&self) -> Option<T> {
        self.receiver.try_lock().ok()?.try_recv().ok()
    }
}

/// What a socket's buffers hold, about.
const DEFAULT_CAPACITY: usize = 64 * 1024;
