//! One cancel attempt: from the dial to the EOF of its socket.
//!
//! 1. It goes to the address that the session is connected to, over TLS where
//!    the session is (rule 9).
//! 2. It asks the machine right before its first byte whether it is still
//!    wanted (rule 3), and from then on it is over at EOF only (rule 4).
//! 3. It takes a place at the server's gate (rule 10) and is bounded by the
//!    session's grace (rule 2).

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, trace};

use super::gate::Gates;
use super::machine::Outcome;
use super::shared::Shared;
use crate::connect::{Connector, Peer, Transport};
use crate::error::Error;
use crate::wire::message;

/// Whom a cancel is for: all that is needed when the session itself is gone.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) connector: Connector,
    pub(crate) peer: Arc<Peer>,
    pub(crate) process_id: i32,
    pub(crate) key: Vec<u8>,
}

/// Makes one attempt for a session and reports it to its machine.
pub(crate) async fn attempt(shared: Arc<Shared>, target: Target, number: u32, until: Instant) {
    let again = shared.lock().machine.has_tried();
    let wanted = || {
        shared
            .lock()
            .machine
            .handle_attempt_connected(number, Instant::now())
    };
    let process_id = target.process_id;
    let written = || match again {
        true => debug!(target: "pgdeadline", process_id, attempt = number, "cancel resent"),
        false => debug!(target: "pgdeadline", process_id, attempt = number, "cancel sent"),
    };
    let outcome = send(
        &target,
        until,
        target.connector.gates(),
        number,
        wanted,
        written,
    )
    .await;
    shared.attempt_over(number, outcome);
}

/// Makes one attempt for a session that is gone (rule 8): nothing can be hit
/// by it but what the session left behind. `written` is called once it is on
/// its way, and dropped where it comes to nothing.
/// Its place is at `gates`, or at the connector's.
pub(crate) async fn farewell(
    target: Target,
    until: Instant,
    gates: Option<&Gates>,
    written: impl FnOnce(),
) {
    let process_id = target.process_id;
    let written = || {
        debug!(target: "pgdeadline", process_id, "cancel sent for a session that is gone");
        written();
    };
    let gates = gates.unwrap_or(target.connector.gates());
    send(&target, until, gates, 0, || true, written).await;
}

/// # Cancel safety
/// Dropped after its bytes were written, the signal may still arrive: only the
/// runtime's own end may drop it.
async fn send(
    target: &Target,
    until: Instant,
    gates: &Gates,
    number: u32,
    wanted: impl FnOnce() -> bool,
    written: impl FnOnce(),
) -> Outcome {
    let process_id = target.process_id;
    let (stream, _place) = match timeout_at(until, connect(target, gates, until)).await {
        Ok(Ok(connected)) => connected,
        Ok(Err(error)) => {
            debug!(target: "pgdeadline", process_id, attempt = number, %error, "cancel not sent");
            return Outcome::NotWritten;
        }
        Err(_) => {
            debug!(target: "pgdeadline", process_id, attempt = number, "cancel not sent: no connection within the grace");
            return Outcome::NotWritten;
        }
    };
    if !wanted() {
        trace!(target: "pgdeadline", process_id, attempt = number, "cancel given up: its work is over");
        return Outcome::NotWritten;
    }
    match timeout_at(until, converse(stream, target, written)).await {
        Ok(Ok(())) => {
            debug!(target: "pgdeadline", process_id, attempt = number, "cancel EOF");
            Outcome::Eof
        }
        Ok(Err(error)) => {
            debug!(target: "pgdeadline", process_id, attempt = number, %error, "cancel broke off");
            Outcome::BrokenOff
        }
        Err(_) => {
            debug!(target: "pgdeadline", process_id, attempt = number, "cancel broke off: no EOF within the grace");
            Outcome::BrokenOff
        }
    }
}

/// A connection to the session's own server, and the place at its gate that is
/// kept until the attempt is over.
async fn connect(
    target: &Target,
    gates: &Gates,
    until: Instant,
) -> Result<(Transport, Option<OwnedSemaphorePermit>), Error> {
    let Target {
        connector, peer, ..
    } = target;
    let dials = connector.settings().cancel_dials;
    let place = gates.enter(peer.address(), dials).await;
    let transport = connector.redial(peer, until).await?;
    Ok((transport, place))
}

/// Writes the request and waits for the other side to close. What closes
/// without a TLS farewell has closed all the same.
async fn converse(
    mut stream: Transport,
    target: &Target,
    written: impl FnOnce(),
) -> io::Result<()> {
    stream
        .write_all(&message::cancel_request(target.process_id, &target.key))
        .await?;
    stream.flush().await?;
    written();
    let mut rest = [0; 64];
    loop {
        match stream.read(&mut rest).await {
            Ok(0) => return Ok(()),
            // A server has nothing to say here; what it says means nothing.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
