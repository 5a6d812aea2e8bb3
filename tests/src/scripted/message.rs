//! What a server sends, by the names of PostgreSQL's manual.

use bytes::{BufMut, Bytes, BytesMut};

/// The OID of `int4`.
pub const INT4: u32 = 23;
/// The OID of `text`, whose values look alike in text and binary format.
pub const TEXT: u32 = 25;

/// Some bytes for the client: one message, several in a row, or anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message(Bytes);

impl Message {
    /// The bytes as they go over the wire.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The first `length` bytes, for a server that stops in the middle.
    ///
    /// # Panics
    /// When it has fewer.
    pub fn first(&self, length: usize) -> Message {
        Message(self.0.slice(..length))
    }

    /// What [`Message::first`] leaves.
    ///
    /// # Panics
    /// When it has fewer.
    pub fn rest(&self, length: usize) -> Message {
        Message(self.0.slice(length..))
    }
}

impl<const N: usize> From<[Message; N]> for Message {
    fn from(messages: [Message; N]) -> Message {
        Vec::from(messages).into()
    }
}

impl From<Vec<Message>> for Message {
    fn from(messages: Vec<Message>) -> Message {
        let mut bytes = BytesMut::new();
        for message in messages {
            bytes.put(message.0);
        }
        Message(bytes.freeze())
    }
}

/// Bytes that need not be a message.
pub fn raw(bytes: impl Into<Bytes>) -> Message {
    Message(bytes.into())
}

/// AuthenticationOk.
pub fn authentication_ok() -> Message {
    message(b'R', |body| body.put_i32(0))
}

/// AuthenticationCleartextPassword.
pub fn authentication_cleartext_password() -> Message {
    message(b'R', |body| body.put_i32(3))
}

/// ParameterStatus.
pub fn parameter_status(name: &str, value: &str) -> Message {
    message(b'S', |body| {
        put_text(body, name);
        put_text(body, value);
    })
}

/// BackendKeyData, of protocol 3.0.
pub fn backend_key_data(pid: i32, key: i32) -> Message {
    message(b'K', |body| {
        body.put_i32(pid);
        body.put_i32(key);
    })
}

/// ReadyForQuery: `I` idle, `T` in a transaction, `E` in a failed one.
pub fn ready_for_query(status: u8) -> Message {
    message(b'Z', |body| body.put_u8(status))
}

/// RowDescription of columns by name and type OID.
pub fn row_description(columns: &[(&str, u32)]) -> Message {
    message(b'T', |body| {
        body.put_i16(columns.len() as i16);
        for (name, oid) in columns {
            put_text(body, name);
            body.put_u32(0); // no table
            body.put_i16(0); // no column of one
            body.put_u32(*oid);
            body.put_i16(if *oid == INT4 { 4 } else { -1 });
            body.put_i32(-1); // no type modifier
            body.put_i16(0); // text format
        }
    })
}

/// DataRow; `None` is NULL.
pub fn data_row(values: &[Option<&[u8]>]) -> Message {
    message(b'D', |body| {
        body.put_i16(values.len() as i16);
        for value in values {
            match value {
                Some(value) => {
                    body.put_i32(value.len() as i32);
                    body.put_slice(value);
                }
                None => body.put_i32(-1),
            }
        }
    })
}

/// `count` DataRows of one `text` column that counts from 0.
pub fn rows(count: usize) -> Message {
    let row = |number: usize| data_row(&[Some(number.to_string().as_bytes())]);
    (0..count).map(row).collect::<Vec<_>>().into()
}

/// CommandComplete.
pub fn command_complete(tag: &str) -> Message {
    message(b'C', |body| put_text(body, tag))
}

/// EmptyQueryResponse.
pub fn empty_query_response() -> Message {
    message(b'I', |_| ())
}

/// ErrorResponse of severity ERROR.
pub fn error(code: &str, text: &str) -> Message {
    fields(b'E', "ERROR", code, text)
}

/// ErrorResponse of severity FATAL, after which a server closes.
pub fn fatal(code: &str, text: &str) -> Message {
    fields(b'E', "FATAL", code, text)
}

/// NoticeResponse.
pub fn notice(text: &str) -> Message {
    fields(b'N', "NOTICE", "00000", text)
}

/// NotificationResponse.
pub fn notification(pid: i32, channel: &str, payload: &str) -> Message {
    message(b'A', |body| {
        body.put_i32(pid);
        put_text(body, channel);
        put_text(body, payload);
    })
}

/// ParseComplete.
pub fn parse_complete() -> Message {
    message(b'1', |_| ())
}

/// BindComplete.
pub fn bind_complete() -> Message {
    message(b'2', |_| ())
}

/// CloseComplete.
pub fn close_complete() -> Message {
    message(b'3', |_| ())
}

/// ParameterDescription.
pub fn parameter_description(oids: &[u32]) -> Message {
    message(b't', |body| {
        body.put_i16(oids.len() as i16);
        oids.iter().for_each(|oid| body.put_u32(*oid));
    })
}

/// NoData.
pub fn no_data() -> Message {
    message(b'n', |_| ())
}

/// PortalSuspended.
pub fn portal_suspended() -> Message {
    message(b's', |_| ())
}

/// CopyInResponse, text format, one column.
pub fn copy_in_response() -> Message {
    message(b'G', put_copy_format)
}

/// CopyOutResponse, text format, one column.
pub fn copy_out_response() -> Message {
    message(b'H', put_copy_format)
}

/// CopyData.
pub fn copy_data(data: &[u8]) -> Message {
    message(b'd', |body| body.put_slice(data))
}

/// CopyDone.
pub fn copy_done() -> Message {
    message(b'c', |_| ())
}

fn message(tag: u8, fill: impl FnOnce(&mut BytesMut)) -> Message {
    let mut body = BytesMut::new();
    fill(&mut body);
    let mut bytes = BytesMut::with_capacity(body.len() + 5);
    bytes.put_u8(tag);
    bytes.put_u32(body.len() as u32 + 4);
    bytes.put(body);
    Message(bytes.freeze())
}

fn fields(tag: u8, severity: &str, code: &str, text: &str) -> Message {
    message(tag, |body| {
        for (field, value) in [
            (b'S', severity),
            (b'V', severity),
            (b'C', code),
            (b'M', text),
        ] {
            body.put_u8(field);
            put_text(body, value);
        }
        body.put_u8(0);
    })
}

fn put_text(body: &mut BytesMut, text: &str) {
    body.put_slice(text.as_bytes());
    body.put_u8(0);
}

fn put_copy_format(body: &mut BytesMut) {
    body.put_u8(0); // text
    body.put_i16(1); // one column,
    body.put_i16(0); // in text too
}
