//! The messages that a session sends of its own accord, in either direction.
//!
//! Named as in [PostgreSQL's manual](https://www.postgresql.org/docs/current/protocol-message-formats.html).

use super::saying::Number;

/// To the server: a Query of `ROLLBACK`.
pub(crate) const ROLLBACK: &[u8] = b"Q\0\0\0\x0dROLLBACK\0";
/// To the server: an empty Query, whose EmptyQueryResponse ends all doubt.
pub(crate) const EMPTY_QUERY: &[u8] = b"Q\0\0\0\x05\0";
/// To the server: CopyFail, with the reason that its error will show.
pub(crate) const COPY_FAIL: &[u8] = b"f\0\0\0\x16the context ended\0";
/// To the server: Terminate.
pub(crate) const TERMINATE: &[u8] = b"X\0\0\0\x04";
/// To the server: Sync.
pub(crate) const SYNC: &[u8] = b"S\0\0\0\x04";

/// To the client, in answer to an SSLRequest or GSSENCRequest: no.
pub(crate) const NO_ENCRYPTION: u8 = b'N';

/// SQLSTATE of a client that names what nobody knows.
pub(crate) const INVALID_NAME: &str = "42602";
/// SQLSTATE of a server that can't be reached.
pub(crate) const UNREACHABLE: &str = "08001";
/// SQLSTATE of a connection that is lost.
pub(crate) const CONNECTION_LOST: &str = "08006";
/// SQLSTATE of a server that does not take connections now: come again.
pub(crate) const COME_AGAIN: &str = "57P03";
/// SQLSTATE of work that was cancelled.
pub(crate) const QUERY_CANCELED: &str = "57014";

/// To the client: ErrorResponse, severity ERROR.
pub(crate) fn error_response(out: &mut Vec<u8>, code: &str, message: &str, detail: Option<&str>) {
    error_of(out, "ERROR", code, message, detail);
}

/// To the client: ErrorResponse, severity FATAL: its connection is closed.
pub(crate) fn fatal_response(out: &mut Vec<u8>, code: &str, message: &str) {
    error_of(out, "FATAL", code, message, None);
}

/// To the client: CommandComplete of a SELECT that gave so many rows.
pub(crate) fn command_complete(out: &mut Vec<u8>, rows: u64) {
    let start = begin(out, b'C');
    out.extend_from_slice(format!("SELECT {rows}").as_bytes());
    out.push(0);
    end(out, start);
}

/// To the client: ErrorResponse of SQLSTATE 00000, *successful completion*, which
/// says that the binding of this number is in force.
pub(crate) fn bound(out: &mut Vec<u8>, number: u64) {
    let start = begin(out, b'E');
    out.extend_from_slice(b"SERROR\0VERROR\0C00000\0M");
    out.extend_from_slice(BOUND.as_bytes());
    out.extend_from_slice(Number::new(number).as_str().as_bytes());
    out.extend_from_slice(b"\0\0");
    end(out, start);
}

/// What its message begins with; the number follows.
pub(crate) const BOUND: &str = "pgdeadline: bound ";

/// To the server: a Query.
pub(crate) fn query(out: &mut Vec<u8>, text: &str) {
    let start = begin(out, b'Q');
    out.extend(text.bytes().filter(|byte| *byte != 0));
    out.push(0);
    end(out, start);
}

fn error_of(out: &mut Vec<u8>, severity: &str, code: &str, message: &str, detail: Option<&str>) {
    let start = begin(out, b'E');
    for (field, text) in [
        (b'S', severity),
        (b'V', severity),
        (b'C', code),
        (b'M', message),
    ] {
        put_field(out, field, text);
    }
    if let Some(detail) = detail {
        put_field(out, b'D', detail);
    }
    out.push(0);
    end(out, start);
}

/// To the client: ReadyForQuery with a transaction status.
pub(crate) fn ready_for_query(out: &mut Vec<u8>, status: u8) {
    out.extend_from_slice(&[b'Z', 0, 0, 0, 5, status]);
}

/// To the client: BackendKeyData, where the server sends none.
pub(crate) fn backend_key_data(out: &mut Vec<u8>, process_id: i32, key: &[u8]) {
    let start = begin(out, b'K');
    out.extend_from_slice(&process_id.to_be_bytes());
    out.extend_from_slice(key);
    end(out, start);
}

/// To the server, as all that a connection says: CancelRequest. The key has
/// four bytes in protocol 3.0 and up to 256 in 3.2.
pub(crate) fn cancel_request(process_id: i32, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(12 + key.len());
    let length = u32::try_from(12 + key.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&CANCEL_CODE.to_be_bytes());
    out.extend_from_slice(&process_id.to_be_bytes());
    out.extend_from_slice(key);
    out
}

fn begin(out: &mut Vec<u8>, tag: u8) -> usize {
    out.push(tag);
    out.extend_from_slice(&[0; 4]);
    out.len() - 4
}

fn end(out: &mut [u8], start: usize) {
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn put_field(out: &mut Vec<u8>, field: u8, text: &str) {
    out.push(field);
    // A NUL would end the field; what follows it would be read as another.
    out.extend(text.bytes().filter(|byte| *byte != 0));
    out.push(0);
}

/// `1234 << 16 | 5678`, by which a server tells a CancelRequest.
const CANCEL_CODE: u32 = 80_877_102;

#[cfg(test)]
mod tests {
    use super::super::framer::Framer;
    use super::*;

    #[test]
    fn constants_are_whole_messages() {
        for bytes in [ROLLBACK, EMPTY_QUERY, COPY_FAIL, SYNC, TERMINATE] {
            let (mut framer, mut input) = (Framer::default(), bytes);
            let piece = framer.next(&mut input).unwrap().unwrap();
            assert!(
                piece.ends && input.is_empty(),
                "{:?}",
                bytes.escape_ascii().to_string()
            );
        }
    }

    #[test]
    fn an_error_response_has_its_fields_in_the_servers_order() {
        let mut out = Vec::new();
        error_response(&mut out, QUERY_CANCELED, "mess\0age", Some("detail"));
        let text = out.escape_ascii().to_string();
        assert!(
            text.contains("C57014\\x00Mmessage\\x00Ddetail\\x00\\x00"),
            "{text}"
        );
    }

    #[test]
    fn a_cancel_request_holds_a_key_of_any_length() {
        let bytes = cancel_request(7, &[9; 32]);
        assert_eq!(bytes.len(), 44);
        assert_eq!(bytes[..8], [0, 0, 0, 44, 0x04, 0xd2, 0x16, 0x2e]);
    }
}
