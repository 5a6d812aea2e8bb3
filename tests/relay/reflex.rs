//! A server that answers within the write: nothing may wait for a wake-up that
//! has been and gone.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use pgdeadline::Connector;
use pgdeadline::dial::{Address, Dial, DialFuture, ResolveFuture, Socket, SocketOptions};
use pgdeadline::relay::Binding;
use pgdeadline_tests::scripted::{Message, Net, message};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_postgres::NoTls;

use crate::client::Client;
use crate::say;
use crate::stage::*;

/// The client's end of a connection to such a server.
struct Reflex {
    heard: Vec<u8>,
    says: Says,
    starts: bool,
}

/// What it says, and who waits for more.
#[derive(Clone, Default)]
struct Says(Arc<Mutex<(VecDeque<u8>, Option<Waker>)>>);

impl Says {
    fn say(&self, messages: impl Into<Message>) {
        let mut says = self.0.lock().unwrap();
        says.0.extend(messages.into().bytes());
        if let Some(waker) = says.1.take() {
            waker.wake();
        }
    }
}

impl Reflex {
    fn say(&mut self, messages: impl Into<Message>) {
        self.says.say(messages);
    }

    fn answer(&mut self) {
        if self.starts {
            self.starts = false;
            self.heard.clear();
            return self.say([
                message::authentication_ok(),
                message::backend_key_data(PID, KEY),
                message::ready_for_query(b'I'),
            ]);
        }
        while let Some(length) = self.heard.get(1..5) {
            let length = 1 + u32::from_be_bytes(length.try_into().unwrap()) as usize;
            if self.heard.len() < length {
                return;
            }
            let said: Vec<u8> = self.heard.drain(..length).collect();
            match &said[5..] {
                b"BEGIN\0" => self.say(done("BEGIN", b'T')),
                b"rows\0" => self.say(first_rows(1)),
                _ if said[0] == b'Q' => self.say(done("ROLLBACK", b'I')),
                _ => {}
            }
        }
    }
}

impl AsyncRead for Reflex {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut says = self.says.0.lock().unwrap();
        if says.0.is_empty() {
            says.1 = Some(cx.waker().clone());
            return Poll::Pending;
        }
        while buf.remaining() > 0
            && let Some(byte) = says.0.pop_front()
        {
            buf.put_slice(&[byte]);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Reflex {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.heard.extend_from_slice(bytes);
        self.answer();
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[derive(Clone)]
struct ToReflex {
    net: Net,
    says: Says,
}

impl Dial for ToReflex {
    fn dial(&self, _: Address, _: SocketOptions) -> DialFuture {
        Box::pin(std::future::ready(Ok(Socket::new(Reflex {
            heard: Vec::new(),
            says: self.says.clone(),
            starts: true,
        }))))
    }

    fn resolve(&self, name: String, port: u16) -> ResolveFuture {
        self.net.resolve(name, port)
    }
}

#[tokio::test(start_paused = true)]
async fn a_return_inside_a_transaction_is_answered() {
    let (net, says) = (Net::new(), Says::default());
    let to = ToReflex {
        net: net.clone(),
        says: says.clone(),
    };
    let connector = Connector::builder(net.config(), NoTls)
        .dial(to)
        .eof_proof(pgdeadline::EofProof::Proof)
        .build()
        .unwrap();
    let (mut client, relay) = relay(&connector, SOCKET);
    client.says(say::start_up()).await;
    client.hears("RKZ").await;
    for _ in 0..3 {
        client.says(say::query("BEGIN")).await;
        client.hears("CZ").await;
        client.says(say::sync()).await;
        assert_eq!(client.hears_one("Z").await.status(), b'I');
        check_out(&mut client).await;
    }
    // Behind work that runs on, the session's own is written by the driver.
    client.says(say::query("BEGIN")).await;
    client.hears("CZ").await;
    client.says(say::query("rows")).await;
    client.hears("TD").await;
    client.says(say::sync()).await;
    client.hears_nothing(ms(100)).await;
    let began = Instant::now();
    says.say(done("SELECT 1", b'T'));
    assert_eq!(client.hears("ZZ").await[1].status(), b'I');
    assert_at(began, 0);
    check_out(&mut client).await;
    client.says(say::query("BEGIN")).await;
    client.hears("CZ").await;
    drop(client);
    ended(relay).await.unwrap();
}

/// The next holder, under no context.
async fn check_out(client: &mut Client) {
    let binding = Binding::check_out(None);
    client.says(say::query(&binding.statement())).await;
    is_bound(client, &binding).await;
}
