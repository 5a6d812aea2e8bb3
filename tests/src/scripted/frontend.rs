//! What a client sends: decoded, and described for [`Expect`].

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

/// A message of the client, by its name in PostgreSQL's manual.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the manual's")]
pub enum Frontend {
    Query {
        query: String,
    },
    Parse {
        statement: String,
        query: String,
    },
    Bind {
        portal: String,
        statement: String,
    },
    /// `target` is `S` (statement) or `P` (portal).
    Describe {
        target: char,
        name: String,
    },
    Execute {
        portal: String,
        max_rows: i32,
    },
    /// `target` is `S` (statement) or `P` (portal).
    Close {
        target: char,
        name: String,
    },
    Sync,
    Flush,
    FunctionCall,
    CopyData {
        data: Bytes,
    },
    CopyDone,
    CopyFail {
        message: String,
    },
    /// PasswordMessage, SASLInitialResponse or SASLResponse: the same letter.
    Password {
        data: Bytes,
    },
    Terminate,
}

/// What a step expects: a kind of message and, if said, its text.
#[derive(Clone, PartialEq, Eq)]
pub struct Expect {
    name: &'static str,
    text: Option<String>,
}

impl Frontend {
    /// Takes a whole message off the front; `None`: it is not whole yet.
    ///
    /// # Panics
    /// On a message that no client may send.
    pub(super) fn take(buffer: &mut BytesMut) -> Option<Frontend> {
        let (head, _) = buffer.split_first_chunk::<5>()?;
        let tag = head[0];
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        assert!(
            length >= 4,
            "a message {:?} of length {length}",
            tag as char
        );
        if buffer.len() <= length {
            return None;
        }
        let mut body = buffer.split_to(1 + length).freeze();
        body.advance(5);
        Some(Frontend::decode(tag, body))
    }

    fn decode(tag: u8, mut body: Bytes) -> Frontend {
        match tag {
            b'Q' => Frontend::Query {
                query: text(&mut body),
            },
            b'P' => Frontend::Parse {
                statement: text(&mut body),
                query: text(&mut body),
            },
            b'B' => Frontend::Bind {
                portal: text(&mut body),
                statement: text(&mut body),
            },
            b'D' => Frontend::Describe {
                target: body.get_u8() as char,
                name: text(&mut body),
            },
            b'E' => Frontend::Execute {
                portal: text(&mut body),
                max_rows: body.get_i32(),
            },
            b'C' => Frontend::Close {
                target: body.get_u8() as char,
                name: text(&mut body),
            },
            b'S' => Frontend::Sync,
            b'H' => Frontend::Flush,
            b'F' => Frontend::FunctionCall,
            b'd' => Frontend::CopyData { data: body },
            b'c' => Frontend::CopyDone,
            b'f' => Frontend::CopyFail {
                message: text(&mut body),
            },
            b'p' => Frontend::Password { data: body },
            b'X' => Frontend::Terminate,
            _ => panic!("no client sends a message {:?}", tag as char),
        }
    }

    /// The name in PostgreSQL's manual.
    pub fn name(&self) -> &'static str {
        match self {
            Frontend::Query { .. } => "Query",
            Frontend::Parse { .. } => "Parse",
            Frontend::Bind { .. } => "Bind",
            Frontend::Describe { .. } => "Describe",
            Frontend::Execute { .. } => "Execute",
            Frontend::Close { .. } => "Close",
            Frontend::Sync => "Sync",
            Frontend::Flush => "Flush",
            Frontend::FunctionCall => "FunctionCall",
            Frontend::CopyData { .. } => "CopyData",
            Frontend::CopyDone => "CopyDone",
            Frontend::CopyFail { .. } => "CopyFail",
            Frontend::Password { .. } => "Password",
            Frontend::Terminate => "Terminate",
        }
    }

    /// The text that [`Expect`] compares: a Query's or Parse's SQL, a
    /// CopyFail's message.
    pub fn text(&self) -> Option<&str> {
        match self {
            Frontend::Query { query } | Frontend::Parse { query, .. } => Some(query),
            Frontend::CopyFail { message } => Some(message),
            _ => None,
        }
    }
}

impl Expect {
    /// A Query with this SQL.
    pub fn query(sql: impl Into<String>) -> Expect {
        Expect::with_text("Query", sql)
    }

    /// A Parse with this SQL.
    pub fn parse(sql: impl Into<String>) -> Expect {
        Expect::with_text("Parse", sql)
    }

    /// A Bind.
    pub fn bind() -> Expect {
        Expect::named("Bind")
    }

    /// A Describe.
    pub fn describe() -> Expect {
        Expect::named("Describe")
    }

    /// An Execute.
    pub fn execute() -> Expect {
        Expect::named("Execute")
    }

    /// A Close.
    pub fn close() -> Expect {
        Expect::named("Close")
    }

    /// A Sync.
    pub fn sync() -> Expect {
        Expect::named("Sync")
    }

    /// A Flush.
    pub fn flush() -> Expect {
        Expect::named("Flush")
    }

    /// A CopyData.
    pub fn copy_data() -> Expect {
        Expect::named("CopyData")
    }

    /// A CopyDone.
    pub fn copy_done() -> Expect {
        Expect::named("CopyDone")
    }

    /// A CopyFail, whatever its message.
    pub fn copy_fail() -> Expect {
        Expect::named("CopyFail")
    }

    /// A PasswordMessage or one of SASL's answers.
    pub fn password() -> Expect {
        Expect::named("Password")
    }

    /// A Terminate.
    pub fn terminate() -> Expect {
        Expect::named("Terminate")
    }

    /// Whether this is what was expected.
    pub fn matches(&self, message: &Frontend) -> bool {
        let text = self.text.as_deref();
        self.name == message.name() && (text.is_none() || text == message.text())
    }

    fn named(name: &'static str) -> Expect {
        Expect { name, text: None }
    }

    fn with_text(name: &'static str, text: impl Into<String>) -> Expect {
        Expect {
            name,
            text: Some(text.into()),
        }
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f, self.name(), self.text())
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f, self.name, self.text.as_deref())
    }
}

impl fmt::Debug for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn describe(f: &mut fmt::Formatter<'_>, name: &str, text: Option<&str>) -> fmt::Result {
    match text {
        Some(text) => write!(f, "{name} {text:?}"),
        None => f.write_str(name),
    }
}

/// A string that ends with a zero byte.
fn text(body: &mut Bytes) -> String {
    let end = body.iter().position(|byte| *byte == 0);
    let word = body.split_to(end.expect("a string's end"));
    body.advance(1);
    String::from_utf8_lossy(&word).into_owned()
}
