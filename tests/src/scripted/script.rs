//! A session written down as steps.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::backend::Backend;
use super::cancel::{Cancel, CancelAnswer};
use super::frontend::Expect;
use super::message::Message;
use super::net::Net;

/// The steps of one session, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    steps: Vec<Step>,
}

/// A script that is being played. Dropping it stops the play, and closes what
/// it had open.
pub struct Serving {
    task: JoinHandle<Played>,
}

/// What is left when every step is done, still open.
pub struct Played {
    /// The session, unless the script has closed or reset it.
    pub backend: Option<Backend>,
    /// The cancels that were answered with [`CancelAnswer::Hold`].
    pub held: Vec<Cancel>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Authenticate { pid: i32, key: i32 },
    Expect(Expect),
    Send(Message),
    Stall(Duration),
    Silence(Duration),
    Cancel(CancelAnswer),
    WaitClose,
    Close,
    Reset,
}

impl Script {
    /// No steps yet.
    pub fn new() -> Script {
        Script::default()
    }

    /// See [`Backend::authenticate`]; cancels must name this process and key.
    pub fn authenticate(self, pid: i32, key: i32) -> Script {
        self.step(Step::Authenticate { pid, key })
    }

    /// Reads this message, and no other.
    pub fn expect(self, expected: Expect) -> Script {
        self.step(Step::Expect(expected))
    }

    /// Sends messages, or any bytes ([`raw`](super::message::raw)).
    pub fn send(self, messages: impl Into<Message>) -> Script {
        self.step(Step::Send(messages.into()))
    }

    /// Neither reads nor sends for this long.
    pub fn stall(self, time: Duration) -> Script {
        self.step(Step::Stall(time))
    }

    /// Makes sure that the client sends nothing for this long.
    pub fn silence(self, time: Duration) -> Script {
        self.step(Step::Silence(time))
    }

    /// Waits for a CancelRequest for this session, and answers it.
    pub fn cancel(self, answer: CancelAnswer) -> Script {
        self.step(Step::Cancel(answer))
    }

    /// Waits until the client closes.
    pub fn wait_close(self) -> Script {
        self.step(Step::WaitClose)
    }

    /// Closes the session.
    pub fn close(self) -> Script {
        self.step(Step::Close)
    }

    /// Resets the session.
    pub fn reset(self) -> Script {
        self.step(Step::Reset)
    }

    pub(super) fn play(self, net: Net) -> Serving {
        let task = tokio::spawn(async move {
            let mut stage = Stage {
                played: Played {
                    backend: Some(net.backend().await),
                    held: Vec::new(),
                },
                net,
                cancels_for: None,
            };
            for step in self.steps {
                stage.play(step).await;
            }
            stage.played
        });
        Serving { task }
    }

    fn step(mut self, step: Step) -> Script {
        self.steps.push(step);
        self
    }
}

impl Serving {
    /// Waits until every step is done, and returns what is still open.
    ///
    /// # Panics
    /// With the panic of the step that failed.
    pub async fn finish(mut self) -> Played {
        match (&mut self.task).await {
            Ok(played) => played,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A script in the middle of its play.
struct Stage {
    net: Net,
    played: Played,
    /// Process id and key, once the client has been given them.
    cancels_for: Option<(i32, i32)>,
}

impl Stage {
    async fn play(&mut self, step: Step) {
        match step {
            Step::Authenticate { pid, key } => {
                self.cancels_for = Some((pid, key));
                self.backend().authenticate(pid, key).await;
            }
            Step::Expect(expected) => drop(self.backend().expect(expected).await),
            Step::Send(messages) => self.backend().send(messages).await,
            Step::Stall(time) => tokio::time::sleep(time).await,
            Step::Silence(time) => self.backend().expect_silence(time).await,
            Step::Cancel(answer) => self.cancel(answer).await,
            Step::WaitClose => drop(self.backend().wait_close().await),
            Step::Close => drop(self.played.backend.take()),
            Step::Reset => self.played.backend.take().expect("an open session").reset(),
        }
    }

    async fn cancel(&mut self, answer: CancelAnswer) {
        let cancel = self.net.cancel().await;
        let (pid, key) = self.cancels_for.expect("authenticate comes before cancel");
        assert_eq!(
            (cancel.pid(), cancel.key()),
            (pid, &key.to_be_bytes()[..]),
            "a CancelRequest for another session"
        );
        match answer {
            CancelAnswer::Eof => cancel.close(),
            CancelAnswer::Hold => self.played.held.push(cancel),
            CancelAnswer::Reset => cancel.reset(),
        }
    }

    fn backend(&mut self) -> &mut Backend {
        self.played
            .backend
            .as_mut()
            .expect("a step after the session was closed")
    }
}
