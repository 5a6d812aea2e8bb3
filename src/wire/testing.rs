//! The messages of both sides, small and well formed, for tests.
//!
//! Named as in [PostgreSQL's manual](https://www.postgresql.org/docs/current/protocol-message-formats.html).

/// A message with a tag.
pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    out.extend_from_slice(body);
    out
}

/// Whole messages, by tag and body.
pub(crate) fn split(mut bytes: &[u8]) -> Vec<(char, Vec<u8>)> {
    let mut out = Vec::new();
    while let Some((tag, body, rest)) = first(bytes) {
        out.push((tag, body.to_vec()));
        bytes = rest;
    }
    assert!(bytes.is_empty(), "cut off: {}", bytes.escape_ascii());
    out
}

/// The first whole message, and what is behind it.
pub(crate) fn first(bytes: &[u8]) -> Option<(char, &[u8], &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<5>()?;
    let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
    let body = usize::try_from(length).unwrap() - 4;
    (rest.len() >= body).then(|| (char::from(header[0]), &rest[..body], &rest[body..]))
}

/// The tags of whole messages.
pub(crate) fn tags(bytes: &[u8]) -> String {
    split(bytes).into_iter().map(|(tag, _)| tag).collect()
}

/// What a client says.
pub(crate) mod client {
    use super::message;

    pub(crate) fn start_up() -> Vec<u8> {
        let body = b"\0\x03\0\0user\0tester\0\0";
        let length = u32::try_from(body.len() + 4).unwrap();
        [&length.to_be_bytes()[..], body].concat()
    }

    pub(crate) fn ssl_request() -> Vec<u8> {
        [8_u32.to_be_bytes(), 80_877_103_u32.to_be_bytes()].concat()
    }

    pub(crate) fn password() -> Vec<u8> {
        message(b'p', b"secret\0")
    }

    pub(crate) fn query(text: &str) -> Vec<u8> {
        message(b'Q', &[text.as_bytes(), b"\0"].concat())
    }

    pub(crate) fn parse(text: &str) -> Vec<u8> {
        message(b'P', &[b"\0", text.as_bytes(), b"\0\0\0"].concat())
    }

    pub(crate) fn describe() -> Vec<u8> {
        message(b'D', b"S\0")
    }

    /// Bind and Execute of the statement of this name.
    pub(crate) fn bind_execute(statement: &str) -> Vec<u8> {
        let bind = [b"\0", statement.as_bytes(), b"\0\0\0\0\0\0\0"].concat();
        [message(b'B', &bind), message(b'E', b"\0\0\0\0\0")].concat()
    }

    pub(crate) fn close() -> Vec<u8> {
        message(b'C', b"Ss1\0")
    }

    pub(crate) fn flush() -> Vec<u8> {
        message(b'H', b"")
    }

    pub(crate) fn sync() -> Vec<u8> {
        message(b'S', b"")
    }

    /// Parse to Sync, as tokio-postgres prepares.
    pub(crate) fn prepare(text: &str) -> Vec<u8> {
        [parse(text), describe(), sync()].concat()
    }

    /// Bind to Sync, as tokio-postgres executes.
    pub(crate) fn execute(statement: &str) -> Vec<u8> {
        [bind_execute(statement), sync()].concat()
    }

    pub(crate) fn copy_data(data: &[u8]) -> Vec<u8> {
        message(b'd', data)
    }

    /// CopyDone and, as tokio-postgres has it, a Sync.
    pub(crate) fn copy_done() -> Vec<u8> {
        [message(b'c', b""), sync()].concat()
    }

    /// The same for CopyFail.
    pub(crate) fn copy_fail() -> Vec<u8> {
        [message(b'f', b"\0"), sync()].concat()
    }

    pub(crate) fn terminate() -> Vec<u8> {
        message(b'X', b"")
    }
}

/// What a server says.
pub(crate) mod server {
    use super::message;

    pub(crate) fn authentication_ok() -> Vec<u8> {
        message(b'R', &[0; 4])
    }

    pub(crate) fn authentication_cleartext() -> Vec<u8> {
        message(b'R', &[0, 0, 0, 3])
    }

    pub(crate) fn parameter_status(name: &str, value: &str) -> Vec<u8> {
        let fields = [name.as_bytes(), b"\0", value.as_bytes(), b"\0"];
        message(b'S', &fields.concat())
    }

    pub(crate) fn backend_key_data(process_id: i32, key: &[u8]) -> Vec<u8> {
        message(b'K', &[&process_id.to_be_bytes()[..], key].concat())
    }

    pub(crate) fn ready(status: u8) -> Vec<u8> {
        message(b'Z', &[status])
    }

    /// All that a server says at start-up.
    pub(crate) fn welcome() -> Vec<u8> {
        [
            authentication_ok(),
            parameter_status("server_version", "17.2 (Debian 17.2-1)"),
            backend_key_data(4711, b"key!"),
            ready(b'I'),
        ]
        .concat()
    }

    pub(crate) fn error(severity: &str, text: &str) -> Vec<u8> {
        let body = format!("S{severity}\0V{severity}\0C57014\0M{text}\0\0");
        message(b'E', body.as_bytes())
    }

    pub(crate) fn notice(text: &str) -> Vec<u8> {
        let body = format!("SNOTICE\0VNOTICE\0C00000\0M{text}\0\0");
        message(b'N', body.as_bytes())
    }

    pub(crate) fn notification() -> Vec<u8> {
        message(b'A', b"\0\0\0\x07channel\0payload\0")
    }

    pub(crate) fn parse_complete() -> Vec<u8> {
        message(b'1', b"")
    }

    pub(crate) fn bind_complete() -> Vec<u8> {
        message(b'2', b"")
    }

    pub(crate) fn close_complete() -> Vec<u8> {
        message(b'3', b"")
    }

    pub(crate) fn parameter_description() -> Vec<u8> {
        message(b't', b"\0\0")
    }

    pub(crate) fn row_description() -> Vec<u8> {
        message(b'T', b"\0\0")
    }

    pub(crate) fn data_row(text: &str) -> Vec<u8> {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        message(b'D', &[b"\0\x01", &length[..], text.as_bytes()].concat())
    }

    pub(crate) fn command_complete(tag: &str) -> Vec<u8> {
        message(b'C', &[tag.as_bytes(), b"\0"].concat())
    }

    pub(crate) fn empty_query_response() -> Vec<u8> {
        message(b'I', b"")
    }

    pub(crate) fn copy_in_response() -> Vec<u8> {
        message(b'G', b"\0\0\0")
    }

    pub(crate) fn copy_out_response() -> Vec<u8> {
        message(b'H', b"\0\0\0")
    }

    pub(crate) fn copy_data(data: &[u8]) -> Vec<u8> {
        message(b'd', data)
    }

    pub(crate) fn copy_done() -> Vec<u8> {
        message(b'c', b"")
    }
}
