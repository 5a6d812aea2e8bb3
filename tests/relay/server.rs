//! A server that plays by itself: what a statement does its text says.

use std::time::Duration;

use pgdeadline_tests::scripted::{Backend, Frontend, Message, Net, message};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::stage::done;

/// Plays one session until its end, and answers the cancels on `net`.
pub(crate) fn play(net: Net, backend: Backend) -> JoinHandle<()> {
    let server = Server {
        net,
        backend,
        transaction: b'I',
        text: String::new(),
    };
    tokio::spawn(server.play())
}

struct Server {
    net: Net,
    backend: Backend,
    transaction: u8,
    /// Of the statement that was prepared last.
    text: String,
}

impl Server {
    async fn play(mut self) {
        loop {
            let message = tokio::select! {
                message = self.backend.next_or_end() => message,
                // It finds nothing to do.
                cancel = self.net.cancel() => {
                    cancel.close();
                    continue;
                }
            };
            let well = match message {
                None | Some(Frontend::Terminate) => return,
                Some(Frontend::Query { query }) => self.run(&query, true).await,
                Some(Frontend::Parse { query, .. }) => {
                    self.text = query;
                    self.say(message::parse_complete()).await
                }
                Some(Frontend::Describe { .. }) => {
                    let none = [message::parameter_description(&[]), message::no_data()];
                    self.say(none).await
                }
                Some(Frontend::Bind { .. }) => self.say(message::bind_complete()).await,
                Some(Frontend::Execute { .. }) => {
                    let text = self.text.clone();
                    self.run(&text, false).await
                }
                Some(Frontend::Close { .. }) => self.say(message::close_complete()).await,
                Some(Frontend::Sync) => self.say(message::ready_for_query(self.transaction)).await,
                // Of a COPY that is over.
                Some(
                    Frontend::CopyData { .. } | Frontend::CopyDone | Frontend::CopyFail { .. },
                ) => true,
                Some(other) => panic!("no client of ours says {other}"),
            };
            if !well {
                return;
            }
        }
    }

    async fn say(&mut self, messages: impl Into<Message>) -> bool {
        self.backend.try_send(messages).await.is_ok()
    }

    /// What becomes of a statement: `verb [milliseconds [rows]]`.
    async fn run(&mut self, text: &str, simple: bool) -> bool {
        let mut words = text.split(' ');
        let verb = match words.next() {
            Some("COPY") if text.ends_with("STDIN") => "copy_in",
            Some("COPY") => "copy_out",
            verb => verb.unwrap_or_default(),
        };
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
        let pause = Duration::from_millis(number().unwrap_or(0));
        let count = number().unwrap_or(0);
        if self.transaction == b'E' && verb != "ROLLBACK" {
            return self.fail("25P02", simple).await;
        }
        if !pause.is_zero() && self.is_cancelled(pause).await {
            return self.fail("57014", simple).await;
        }
        match verb {
            "BEGIN" => self.transaction = b'T',
            "ROLLBACK" | "COMMIT" => self.transaction = b'I',
            "fail" => return self.fail("22012", simple).await,
            "copy_in" => return self.copy_in(simple).await,
            "copy_out" => {
                self.say(message::copy_out_response()).await;
            }
            _ => {}
        }
        for _ in 0..count {
            let row = match verb {
                "copy_out" => message::copy_data(b"a row\n"),
                _ => message::rows(1),
            };
            self.say(row).await;
            if self.is_cancelled(pause).await {
                return self.fail("57014", simple).await;
            }
        }
        if verb == "copy_out" {
            self.say(message::copy_done()).await;
        }
        self.end(simple).await
    }

    async fn copy_in(&mut self, simple: bool) -> bool {
        self.say(message::copy_in_response()).await;
        loop {
            match self.backend.next_or_end().await {
                Some(Frontend::CopyData { .. } | Frontend::Sync) => {}
                Some(Frontend::CopyDone) => return self.end(simple).await,
                Some(Frontend::CopyFail { .. }) => return self.fail("57014", simple).await,
                None => return false,
                Some(other) => panic!("the protocol is lost over {other}"),
            }
        }
    }

    async fn end(&mut self, simple: bool) -> bool {
        match simple {
            true => self.say(done("DONE", self.transaction)).await,
            false => self.say(message::command_complete("DONE")).await,
        }
    }

    async fn fail(&mut self, code: &str, simple: bool) -> bool {
        if self.transaction == b'T' {
            self.transaction = b'E';
        }
        if simple {
            let failed = [
                message::error(code, "failed"),
                message::ready_for_query(self.transaction),
            ];
            return self.say(failed).await;
        }
        self.say(message::error(code, "failed")).await;
        loop {
            match self.backend.next_or_end().await {
                None => return false,
                Some(Frontend::Sync) => {
                    return self.say(message::ready_for_query(self.transaction)).await;
                }
                Some(_) => {}
            }
        }
    }

    /// Does a cancel come within this time?
    async fn is_cancelled(&self, time: Duration) -> bool {
        tokio::select! {
            cancel = self.net.cancel() => {
                cancel.close();
                true
            }
            () = sleep(time) => false,
        }
    }
}
