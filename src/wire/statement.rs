//! The few statements whose text decides what may happen to them.
//!
//! Only a Query message that holds nothing else counts: `ROLLBACK; DROP …` is
//! ordinary work.

use super::saying::Saying;

/// What a Query's text says, as far as the session cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Verb {
    /// Anything else.
    Other,
    /// `COMMIT` or `END`: once in flight its outcome is in doubt.
    Commit,
    /// `ROLLBACK` or `ABORT` of the whole transaction.
    Rollback,
    /// `ROLLBACK TO` a savepoint.
    RollbackTo,
    /// Gives a lock of the session's or a subscription back:
    /// `SELECT pg_advisory_unlock(…)`, `UNLISTEN`. A client queues it when a
    /// guard drops; refused, the next user of the connection would inherit it.
    GiveBack,
    /// `COPY`, whatever follows.
    Copy,
    /// Meant for the session, where it listens; work for the server elsewhere.
    Said(Saying),
}

impl Verb {
    /// Does a text begin with COPY, as far as its first bytes tell?
    pub(crate) fn begins_copy(text: &[u8]) -> bool {
        Words(text).next().is_some_and(|word| is(word, "COPY"))
    }

    /// Reads a statement's text. A text longer than [`LIMIT`] is never one of
    /// ours.
    pub(crate) fn of(text: &[u8]) -> Verb {
        if let Some(saying) = Saying::of(text) {
            return Verb::Said(saying);
        }
        let mut words = Words(text);
        let Some(first) = words.next() else {
            return Verb::Other;
        };
        let verb = if is(first, "COMMIT") || is(first, "END") {
            Verb::Commit
        } else if is(first, "ROLLBACK") || is(first, "ABORT") {
            Verb::Rollback
        } else if is(first, "COPY") {
            return Verb::Copy;
        } else if is(first, "UNLISTEN") {
            return words.give_back(1, |name| name != b";");
        } else if is(first, "SELECT") {
            return words.give_back(2, is_unlock);
        } else {
            return Verb::Other;
        };
        let mut next = words.next();
        if next.is_some_and(|word| is(word, "WORK") || is(word, "TRANSACTION")) {
            next = words.next();
        }
        match next {
            None => verb,
            Some(b";") => words.all_semicolons(verb),
            Some(to) if verb == Verb::Rollback && is(to, "TO") => {
                let mut name = words.next();
                if name.is_some_and(|word| is(word, "SAVEPOINT")) {
                    name = words.next();
                }
                match (name, words.next()) {
                    (Some(name), None) if name != b";" => Verb::RollbackTo,
                    (Some(name), Some(b";")) if name != b";" => {
                        words.all_semicolons(Verb::RollbackTo)
                    }
                    _ => Verb::Other,
                }
            }
            // AND CHAIN, PREPARED, a second statement, a comment: work.
            Some(_) => Verb::Other,
        }
    }
}

/// No text of ours is longer: the keywords, a quoted identifier of 63 bytes
/// (each byte may be a doubled quote), spaces.
pub(crate) const LIMIT: usize = 192;

/// Words and semicolons; a quoted identifier is one word.
struct Words<'a>(&'a [u8]);

/// A call of `pg_advisory_unlock` or one of its kind, with nothing but numbers.
fn is_unlock(call: &[u8]) -> bool {
    let names = [
        "pg_advisory_unlock_shared",
        "pg_advisory_unlock_all",
        "pg_advisory_unlock",
    ];
    let arguments = names.iter().find_map(|name| {
        let (start, rest) = call.split_at_checked(name.len())?;
        is(start, name).then_some(rest)
    });
    let numbers = arguments.and_then(|rest| rest.strip_prefix(b"(")?.strip_suffix(b")"));
    numbers.is_some_and(|numbers| {
        let number = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'-' | b',' | b' ');
        numbers.iter().all(number)
    })
}

impl<'a> Words<'a> {
    /// Is the rest one phrase, of at most so many words, that fits?
    fn give_back(self, words: usize, fits: impl Fn(&[u8]) -> bool) -> Verb {
        let phrase = self.0.trim_ascii();
        let phrase = phrase.strip_suffix(b";").unwrap_or(phrase).trim_ascii_end();
        let count = Words(phrase).take(words + 1).count();
        match (1..=words).contains(&count) && fits(phrase) {
            true => Verb::GiveBack,
            false => Verb::Other,
        }
    }

    fn all_semicolons(self, verb: Verb) -> Verb {
        let rest = self.0;
        if rest
            .iter()
            .all(|byte| byte.is_ascii_whitespace() || *byte == b';')
        {
            verb
        } else {
            Verb::Other
        }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let text = self.0.trim_ascii_start();
        let end = match text.first()? {
            b';' => 1,
            b'"' => {
                // A doubled quote closes one word and opens the next; for the
                // question "one identifier or more?" that errs towards work.
                1 + text[1..]
                    .iter()
                    .position(|byte| *byte == b'"')
                    .map_or(text.len() - 1, |i| i + 1)
            }
            _ => text
                .iter()
                .position(|byte| byte.is_ascii_whitespace() || *byte == b';')
                .unwrap_or(text.len()),
        };
        self.0 = &text[end..];
        Some(&text[..end])
    }
}

fn is(word: &[u8], keyword: &str) -> bool {
    word.eq_ignore_ascii_case(keyword.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_their_verbs() {
        for (text, verb) in [
            ("copy t to stdout", Verb::Copy),
            ("UNLISTEN *", Verb::GiveBack),
            ("unlisten \"a b\";", Verb::GiveBack),
            ("UNLISTEN", Verb::Other),
            ("UNLISTEN a; DROP TABLE t", Verb::Other),
            ("SELECT pg_advisory_unlock(-7)", Verb::GiveBack),
            ("select pg_advisory_unlock(1, 2);", Verb::GiveBack),
            ("SELECT pg_advisory_unlock_all()", Verb::GiveBack),
            ("SELECT pg_advisory_unlock(1), 2", Verb::Other),
            ("SELECT pg_advisory_unlock(f(1))", Verb::Other),
            ("SELECT pg_advisory_unlock(1) FROM t", Verb::Other),
            ("SELECT pg_advisory_lock(1)", Verb::Other),
            (
                "pgdeadline operation 0000000000000007",
                Verb::Said(Saying::Operation(7)),
            ),
            ("ROLLBACK", Verb::Rollback),
            (" rollback ; ", Verb::Rollback),
            ("Abort transaction", Verb::Rollback),
            ("ROLLBACK TO sp_1", Verb::RollbackTo),
            ("rollback work to savepoint \"a b\";", Verb::RollbackTo),
            ("COMMIT", Verb::Commit),
            ("end;", Verb::Commit),
            ("commit work", Verb::Commit),
            ("ROLLBACK; DROP TABLE t", Verb::Other),
            ("ROLLBACK TO a; SELECT 1", Verb::Other),
            ("ROLLBACK TO", Verb::Other),
            ("ROLLBACK TO ;", Verb::Other),
            ("ROLLBACK AND CHAIN", Verb::Other),
            ("ROLLBACK PREPARED 'x'", Verb::Other),
            ("COMMIT PREPARED 'x'", Verb::Other),
            ("COMMIT -- not sure what follows", Verb::Other),
            ("COMMITTED", Verb::Other),
            ("SELECT 1", Verb::Other),
            ("", Verb::Other),
            (";", Verb::Other),
        ] {
            assert_eq!(Verb::of(text.as_bytes()), verb, "{text:?}");
        }
    }
}
