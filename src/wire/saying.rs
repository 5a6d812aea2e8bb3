//! What a client says to the session itself.
//!
//! A client that opens its own sockets has no other way to name a context, nor
//! to say that it is done: so it says it in the stream, in the place where it
//! counts, and the session answers. Nothing of it reaches the server.

/// Something said to the session, in the place of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Saying {
    /// A Query of `pgdeadline check out N`: the check-out before it is over,
    /// and one under binding `N` begins.
    CheckOut(u64),
    /// A Query of `pgdeadline operation N`: an operation under binding `N`.
    Operation(u64),
    /// A Sync with nothing before it since the last sync point, as sqlx sends
    /// when a connection comes back to its pool: the check-out is over.
    Return,
}

impl Saying {
    /// Reads a Query's text.
    pub(crate) fn of(text: &[u8]) -> Option<Saying> {
        let text = std::str::from_utf8(text).ok()?;
        let words = text.strip_prefix(NAME)?.strip_prefix(' ')?;
        let (what, number) = words.rsplit_once(' ')?;
        let number = Number::parse(number)?;
        match what {
            CHECK_OUT => Some(Saying::CheckOut(number)),
            OPERATION => Some(Saying::Operation(number)),
            _ => None,
        }
    }

    /// The Query's text.
    pub(crate) fn text(self) -> String {
        let (what, number) = match self {
            Saying::CheckOut(number) => (CHECK_OUT, number),
            Saying::Operation(number) => (OPERATION, number),
            Saying::Return => return String::new(),
        };
        [NAME, " ", what, " ", Number::new(number).as_str()].concat()
    }
}

/// A number in sixteen hexadecimal digits: written and read with each check-out,
/// so without the machinery of `format!`.
pub(crate) struct Number([u8; 16]);

impl Number {
    pub(crate) fn new(number: u64) -> Number {
        let mut digits = [0; 16];
        for (n, digit) in digits.iter_mut().rev().enumerate() {
            *digit = b"0123456789abcdef"[(number >> (4 * n)) as usize & 15];
        }
        Number(digits)
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    fn parse(text: &str) -> Option<u64> {
        let digits = text.as_bytes();
        if digits.len() != 16 {
            return None;
        }
        digits.iter().try_fold(0, |number, digit| {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            Some(number << 4 | u64::from(value))
        })
    }
}

/// How long a lone Sync is, in bytes.
pub(crate) const LONE_SYNC: usize = 5;

const NAME: &str = "pgdeadline";
const CHECK_OUT: &str = "check out";
const OPERATION: &str = "operation";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::statement::LIMIT;

    #[test]
    fn what_is_written_is_read_and_short_enough_to_be_looked_at() {
        for saying in [
            Saying::CheckOut(0),
            Saying::CheckOut(u64::MAX),
            Saying::Operation(17),
        ] {
            let text = saying.text();
            assert!(text.len() <= LIMIT, "{text}");
            assert_eq!(Saying::of(text.as_bytes()), Some(saying));
        }
    }

    #[test]
    fn all_else_is_for_the_server() {
        for text in [
            "",
            "pgdeadline",
            "pgdeadline check out",
            "pgdeadline check out 1",
            "pgdeadline check out 000000000000000X",
            "pgdeadline check out 000000000000000A",
            "pgdeadline check out +000000000000001",
            "pgdeadline check out 00000000000000001",
            "pgdeadline check out 0000000000000001; DROP TABLE t",
            "pgdeadline check out 0000000000000001 ",
            "PGDEADLINE operation 0000000000000001",
            " pgdeadline operation 0000000000000001",
            "pgdeadline return 0000000000000001",
        ] {
            assert_eq!(Saying::of(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Saying::of(b"pgdeadline operation \xff"), None);
    }
}
