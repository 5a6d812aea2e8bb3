//! Is it PostgreSQL? A look at the first five bytes that the server sends.
//!
//! Every server message begins with a letter and a length. Taken on trust, the
//! "HTTP/" of a web server is a message of 1.4 gigabytes, for which a client
//! waits until its deadline; and nothing says why. The bounds are libpq's.

use std::io;

/// What has been seen of the first message's header.
#[derive(Debug, Default)]
pub(super) struct Greeting {
    header: [u8; 5],
    seen: usize,
}

impl Greeting {
    /// Whether nothing more is to be checked.
    pub(super) fn is_over(&self) -> bool {
        self.seen == self.header.len()
    }

    /// Looks at bytes as they arrive, in any portions.
    ///
    /// # Errors
    /// Not a PostgreSQL server, or one that could not start a backend.
    pub(super) fn look(&mut self, bytes: &[u8]) -> io::Result<()> {
        let place = self.header.iter_mut().skip(self.seen);
        self.seen += place.zip(bytes).map(|(to, from)| *to = *from).count();
        if self.seen == 0 {
            return Ok(());
        }
        let [tag, length @ ..] = self.header;
        if !EXPECTED_FIRST.contains(&tag) {
            return Err(self.not_postgres());
        }
        if !self.is_over() {
            return Ok(());
        }
        match u32::from_be_bytes(length) {
            4..=MAX_LENGTH => Ok(()),
            // The postmaster, when it can't fork, sends a bare text after the
            // letter, in every version.
            _ if tag == b'E' => Err(invalid(
                "the server could not start a process for this connection (its own log \
                 says why)"
                    .into(),
            )),
            _ => Err(self.not_postgres()),
        }
    }

    fn not_postgres(&self) -> io::Error {
        let seen = self.header.get(..self.seen).unwrap_or_default();
        invalid(format!(
            "this is not a PostgreSQL server: its answer begins with \"{}\"; check \
             host and port",
            seen.escape_ascii()
        ))
    }
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Authentication, ErrorResponse, NoticeResponse, NegotiateProtocolVersion.
const EXPECTED_FIRST: [u8; 4] = [b'R', b'E', b'N', b'v'];

/// libpq's bound of an error during start-up, the longest of the four.
const MAX_LENGTH: u32 = 30_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at the bytes in every split in two, and one by one.
    fn look(bytes: &[u8]) -> Result<(), String> {
        let mut results = Vec::new();
        for split in 0..=bytes.len() {
            let mut greeting = Greeting::default();
            let (first, second) = bytes.split_at(split);
            results.push(greeting.look(first).and_then(|()| greeting.look(second)));
        }
        let mut greeting = Greeting::default();
        results.push(bytes.chunks(1).try_for_each(|byte| greeting.look(byte)));
        let mut texts = results.into_iter().map(|r| r.map_err(|e| e.to_string()));
        let first = texts.next().unwrap();
        // How much of a wrong answer is quoted depends on how it came.
        assert!(texts.all(|other| other.is_ok() == first.is_ok()));
        first
    }

    #[test]
    fn what_postgres_says_first_passes() {
        for bytes in [
            &b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I"[..],
            b"R\0\0\0\x17\0\0\0\nSCRAM-SHA-256\0\0",
            b"E\0\0\0\x50SFATAL\0",
            b"N\0\0\0\x10",
            b"v\0\0\0\x0c",
            b"R\0\0",
            b"",
        ] {
            look(bytes).unwrap();
        }
    }

    #[test]
    fn what_it_never_says_is_refused_and_quoted() {
        for (bytes, text) in [
            (
                &b"HTTP/1.1 400 Bad Request\r\n"[..],
                "begins with \"HTTP/\"",
            ),
            (b"SSH-2.0-OpenSSH", "begins with \"SSH-2\""),
            (b"R\0\0\0\x03", "not a PostgreSQL server"),
            (b"R\xff\xff\xff\xff", "\\xff"),
            (b"\0\0\0\0\0", "not a PostgreSQL server"),
            (b"Ecould not fork new process", "could not start a process"),
        ] {
            let error = look(bytes).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }
}
