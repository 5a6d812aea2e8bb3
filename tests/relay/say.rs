//! What a client may say, by the names of PostgreSQL's manual.

/// SSLRequest.
pub(crate) fn ssl_request() -> Vec<u8> {
    untagged(80_877_103, b"")
}

/// GSSENCRequest.
pub(crate) fn gss_request() -> Vec<u8> {
    untagged(80_877_104, b"")
}

/// CancelRequest.
pub(crate) fn cancel_request() -> Vec<u8> {
    untagged(80_877_102, b"\0\0\0\x2a\0\0\0\x07")
}

/// StartupMessage.
pub(crate) fn start_up() -> Vec<u8> {
    untagged(
        3 << 16,
        b"user\0me\0database\0mine\0application_name\0test\0\0",
    )
}

/// A packet without a tag.
pub(crate) fn untagged(code: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 8).unwrap();
    [&length.to_be_bytes(), &code.to_be_bytes(), body].concat()
}

/// PasswordMessage.
pub(crate) fn password(password: &str) -> Vec<u8> {
    message(b'p', &[password.as_bytes(), b"\0"].concat())
}

/// Query.
pub(crate) fn query(text: &str) -> Vec<u8> {
    message(b'Q', &[text.as_bytes(), b"\0"].concat())
}

/// Parse, Describe, Sync, as sqlx prepares.
pub(crate) fn prepare(text: &str) -> Vec<u8> {
    let parse = [b"s\0", text.as_bytes(), b"\0\0\0"].concat();
    [message(b'P', &parse), message(b'D', b"Ss\0"), sync()].concat()
}

/// Bind, Execute, Close of the portal, Sync, as sqlx executes.
pub(crate) fn execute() -> Vec<u8> {
    [
        message(b'B', b"\0s\0\0\0\0\0\0\0"),
        message(b'E', b"\0\0\0\0\0"),
        message(b'C', b"P\0"),
        sync(),
    ]
    .concat()
}

/// Close of a statement and Sync, as sqlx makes room in its cache.
pub(crate) fn close() -> Vec<u8> {
    [message(b'C', b"Ss\0"), sync()].concat()
}

/// Sync.
pub(crate) fn sync() -> Vec<u8> {
    message(b'S', b"")
}

/// CopyData.
pub(crate) fn copy_data(data: &[u8]) -> Vec<u8> {
    message(b'd', data)
}

/// CopyDone.
pub(crate) fn copy_done() -> Vec<u8> {
    message(b'c', b"")
}

/// CopyFail.
pub(crate) fn copy_fail() -> Vec<u8> {
    message(b'f', b"PgCopyIn dropped\0")
}

/// Terminate.
pub(crate) fn terminate() -> Vec<u8> {
    message(b'X', b"")
}

/// A message with a tag.
pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag], &length.to_be_bytes()[..], body].concat()
}
