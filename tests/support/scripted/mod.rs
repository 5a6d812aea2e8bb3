//! The scripted server and its network.

mod backend;
mod net;
mod script;

use futures_util::FutureExt;
use pgdeadline_tests::scripted::Net;
use tokio_postgres::{Client, NoTls};

const PID: i32 = 42;
const KEY: i32 = 7;

/// A StartupMessage without parameters.
const START_UP: &[u8] = &[0, 0, 0, 9, 0, 3, 0, 0, 0];

/// A stock client on the network, its connection driven by a task.
async fn connect(net: &Net) -> Client {
    let stream = net.connect().await.unwrap();
    let (client, connection) = net.config().connect_raw(stream, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// What a task's panic said.
async fn panic_of<T>(task: impl Future<Output = T>) -> String {
    let outcome = std::panic::AssertUnwindSafe(task).catch_unwind().await;
    match outcome {
        Ok(_) => panic!("that should have panicked"),
        Err(panic) => match panic.downcast::<String>() {
            Ok(formatted) => *formatted,
            Err(panic) => (*panic.downcast::<&str>().expect("a panic with a text")).to_owned(),
        },
    }
}
