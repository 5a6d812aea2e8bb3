//! What a client says to the session itself: done, and answered.

use std::sync::Arc;

use tokio::time::Instant;

use super::binding;
use crate::error::response_texts;
use crate::session::{Operation, Session, Shared};
use crate::wire::message;
use crate::wire::saying::Saying;

/// Does what the client has said to the session, and answers it. Gives back an
/// operation that nobody waits for any more.
pub(super) fn answer(shared: &Arc<Shared>, saying: Saying, now: Instant) -> Option<Operation> {
    let context = match saying {
        Saying::CheckOut(number) | Saying::Operation(number) => binding::find(number),
        Saying::Return => Some(None),
    };
    // Before the lock: to ask is to notice, and to notice is to tell the session.
    if let Some(Some(context)) = &context {
        context.is_ended();
    }
    let session = Session(Arc::clone(shared));
    let mut core = shared.lock();
    if core.machine.due_saying() != Some(saying) {
        return None;
    }
    let mut operation = None;
    let done = match (saying, context) {
        (Saying::Return, _) => Ok(None),
        (_, None) => Err(None),
        (Saying::CheckOut(number), Some(context)) => {
            session.begin_check_out(&mut core, context.as_ref(), now);
            Ok(Some(number))
        }
        (Saying::Operation(number), Some(context)) => {
            let context = context.unwrap_or_else(crate::Context::background);
            match session.begin_operation(&mut core, &context, now) {
                Ok(lease) => {
                    operation = Some((number, lease));
                    Ok(Some(number))
                }
                Err(error) => Err(Some(error)),
            }
        }
    };
    let status = core.machine.begin_answer();
    core.say(|up| {
        match done {
            Ok(None) => {}
            Ok(Some(number)) if operation.is_some() => message::command_complete(up, number),
            Ok(Some(number)) => message::bound(up, number),
            // Whoever asked for it is gone: an error would be the next one's.
            Err(None) if matches!(saying, Saying::Operation(_)) => {}
            Err(None) => message::error_response(up, message::INVALID_NAME, UNKNOWN, None),
            Err(Some(error)) => {
                let (text, detail) = response_texts(&error);
                message::error_response(up, message::QUERY_CANCELED, &text, Some(&detail));
            }
        }
        message::ready_for_query(up, status);
    });
    core.machine.answered(now);
    drop(core);
    let (number, lease) = operation?;
    binding::hand_over(number, session.operation_of(lease))
}

const UNKNOWN: &str = "pgdeadline: this binding is gone, or was made by another process";
