//! What a start-up finds out about its server, whoever asks the server: the
//! connector for a client of its own, the relay in a client's place.

use std::future::Future;

use tokio_postgres::config::TargetSessionAttrs;

use super::Connector;
use crate::session::Session;
use crate::settings::EofProof;

/// Asks a server whether it takes writes, as tokio-postgres and libpq do.
pub(crate) const SHOW_READ_ONLY: &str = "SHOW transaction_read_only";

/// Asks a server who serves the session.
pub(crate) const SHOW_PROCESS_ID: &str = "SELECT pg_backend_pid()";

/// What is wrong with a server that answered so to [`SHOW_READ_ONLY`].
pub(crate) fn wrong_kind(
    wanted: TargetSessionAttrs,
    read_only: Option<&str>,
) -> Option<&'static str> {
    match (wanted, read_only) {
        (TargetSessionAttrs::Any, _) => None,
        (TargetSessionAttrs::ReadWrite, Some("on")) => {
            Some("the server takes no writes, which target_session_attrs=read-write asks for")
        }
        (TargetSessionAttrs::ReadOnly, Some("off")) => Some(
            "the server takes writes, target_session_attrs=read-only asks for one that does not",
        ),
        (_, Some(_)) => None,
        (_, None) => Some("the server did not say whether it takes writes"),
    }
}

/// Finds out, once a server, whether the EOF of a cancel proves anything
/// (rule 4): the process id that start-up told is the backend's own, unless a
/// pooler stands in between.
///
/// `process_id` asks [`SHOW_PROCESS_ID`], and is polled only where the answer is
/// needed. It is `None` of a server that doesn't know the function: that is not
/// one whose cancels are known.
pub(crate) async fn prove_eof<E>(
    connector: &Connector,
    session: &Session,
    process_id: impl Future<Output = Result<Option<String>, E>>,
) -> Result<(), E> {
    let settings = connector.settings();
    let dials = settings.cancel_dials;
    let server = session.server().clone();
    let known = connector.gates().eof_proves(&server, dials);
    let proves = match (settings.eof_proof, known) {
        (EofProof::Proof, _) => true,
        (EofProof::NoProof, _) => false,
        (EofProof::Automatic, Some(known)) => known,
        (EofProof::Automatic, None) => {
            let told = session.process_id().to_string();
            let proves = process_id.await? == Some(told);
            connector.gates().set_eof_proves(&server, dials, proves);
            proves
        }
    };
    session.set_eof_proves(proves);
    Ok(())
}
