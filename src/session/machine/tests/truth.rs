//! What must hold in a [`World`], whatever happens in it: the invariants of
//! rules 1, 3 to 7, 10, 13 and 14, told by what client and server know, not by
//! what the session believes.

use super::super::*;
use super::backend::{Who, name};
use super::world::{Cancel, World};
use crate::wire::framer::Framer;

/// What a request does to its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Other,
    Begin,
    Commit,
    /// ROLLBACK, also to a savepoint.
    Rollback,
    /// Close with its Sync.
    Tidy,
    /// Said to the session itself.
    Said,
}

/// The client's end of the stream.
#[derive(Default)]
pub(super) struct Heard {
    framer: Framer,
    /// How much of what waits to be taken up was listened to.
    listened: usize,
    /// How much has gone up in all, and where the current message began.
    pub(super) total: usize,
    began: usize,
    body: Vec<u8>,
    /// Who waits for the current message.
    pub(super) whose: Option<usize>,
    /// The client was last told that its transaction has failed, and nothing
    /// was written since that ends it.
    failed: bool,
}

impl Heard {
    /// Is a part of a message up?
    pub(super) fn is_cut(&self) -> bool {
        !self.framer.at_boundary()
    }

    /// Somebody else listens now, who was told nothing yet.
    pub(super) fn change_holder(&mut self) {
        self.failed = false;
    }

    /// The client has taken up all that waited.
    pub(super) fn taken(&mut self) {
        self.listened = 0;
    }
}

impl Verb {
    pub(super) fn of(text: &str) -> Self {
        match text {
            "BEGIN" => Verb::Begin,
            "COMMIT" => Verb::Commit,
            "ROLLBACK" | "ROLLBACK TO sp" => Verb::Rollback,
            "tidy" => Verb::Tidy,
            _ => Verb::Other,
        }
    }
}

impl World {
    // ---- who is what ----------------------------------------------------------

    pub(super) fn is_work(&self, number: usize) -> bool {
        !matches!(
            self.requests[number].verb,
            Verb::Rollback | Verb::Tidy | Verb::Said
        )
    }

    /// Seen by the session, and not over for the server or for its caller.
    pub(super) fn is_open_work(&self, number: usize) -> bool {
        let asked = &self.requests[number];
        let open = asked.answers == 0 || self.in_flight(number);
        self.is_work(number) && asked.counts_as.is_some() && open
    }

    pub(super) fn in_flight(&self, number: usize) -> bool {
        self.requests[number].written
            && (self.is_buffered(number) || self.backend.has(Who::Request(number)))
    }

    pub(super) fn has_ended(&self, holder: usize) -> bool {
        let state = &self.holders[holder];
        state.ended || !state.finished && state.parent.is_some_and(|parent| self.has_ended(parent))
    }

    /// Has it ended, as far as the session can know?
    pub(super) fn is_over_for_session(&self, number: usize) -> bool {
        let asked = &self.requests[number];
        let ended = match asked.until {
            Some(until) => self.now() >= until,
            None => asked.counts_as.is_some_and(|holder| self.has_ended(holder)),
        };
        let default = asked.until.is_none() && asked.default.is_some_and(|at| self.now() >= at);
        asked.cancelled || ended || default
    }

    /// May it be interrupted? Whose it is, its caller knows best.
    fn is_guilty(&self, number: usize) -> bool {
        let asked = &self.requests[number];
        let own = asked.until.is_none() && self.has_ended(asked.holder);
        self.is_work(number) && (own || self.is_over_for_session(number))
    }

    fn flying(&self) -> impl Iterator<Item = usize> {
        (self.oldest..self.requests.len()).filter(|number| self.in_flight(*number))
    }

    // ---- rules 3, 7, 10 and 14: attempts ----------------------------------------

    /// A CancelRequest is about to be written.
    #[track_caller]
    pub(super) fn assert_aimed(&self) {
        assert!(
            self.flying().any(|number| self.is_guilty(number)),
            "a cancel without a target"
        );
        for number in self.flying() {
            assert!(
                self.is_guilty(number),
                "a cancel that may hit {number}: {:?}",
                self.requests[number]
            );
        }
        assert!(
            !self.backend.has(Who::Own),
            "a cancel that may hit the session's own clean-up"
        );
        assert!(!self.is_any_written(), "two attempts at once");
    }

    #[track_caller]
    pub(super) fn assert_no_attempt(&self) {
        assert!(
            !self.is_any_written(),
            "a dial while another attempt is not over"
        );
    }

    fn is_any_written(&self) -> bool {
        self.attempts
            .iter()
            .any(|(_, cancel)| matches!(cancel, Cancel::Written(_)))
    }

    #[track_caller]
    pub(super) fn assert_may_be_hit(&self, who: Who) {
        match who {
            Who::Request(number) => {
                let asked = &self.requests[number];
                assert!(
                    self.is_guilty(number),
                    "a signal interrupts {number}: {asked:?}"
                );
            }
            Who::Own | Who::Nobody => panic!("a signal interrupts the session's own clean-up"),
        }
    }

    // ---- rules 3, 4 and 6: writing ----------------------------------------------

    /// The first byte of a request was written.
    #[track_caller]
    pub(super) fn assert_may_be_written(&mut self, number: usize) {
        let others: Vec<usize> = self.flying().filter(|other| *other != number).collect();
        assert!(
            !self.is_any_written(),
            "{number} is written before every attempt is over"
        );
        assert_eq!(
            self.late_signals, 0,
            "{number} is written although signals are on their way"
        );
        assert!(
            !self.backend.has(Who::Own),
            "{number} is written behind the session's own"
        );
        let ended = |other: &usize| self.is_work(*other) && self.is_over_for_session(*other);
        let shared = others
            .iter()
            .any(|other| self.is_work(*other) && !ended(other));
        let held = others.iter().any(ended) && !shared;
        assert!(!held, "{number} is written while ended work is in flight");
        if self.is_work(number) {
            assert!(
                !self.is_over_for_session(number),
                "{number} is written although it has ended"
            );
        } else {
            assert_eq!(others, [], "clean-up {number} is not written alone");
        }
        let asked = &mut self.requests[number];
        asked.must_fail = self.heard.failed;
        if matches!(asked.verb, Verb::Rollback | Verb::Commit) {
            self.heard.failed = false;
        }
    }

    #[track_caller]
    pub(super) fn assert_own_may_be_written(&self) {
        assert!(
            !self.is_any_written(),
            "clean-up before every attempt is over"
        );
        assert_eq!(
            self.late_signals, 0,
            "clean-up although signals are on their way"
        );
        assert!(
            !self.backend.has(Who::Own),
            "two of the session's own at once"
        );
        // A fence stands behind its COPY, which has failed.
        let other = self.flying().find(|number| !self.requests[*number].copies);
        assert_eq!(other, None, "clean-up while something is in flight");
    }

    /// What the server has done since this was asked last.
    #[track_caller]
    pub(super) fn assert_done_well(&mut self) {
        for (number, kept) in std::mem::take(&mut self.backend.done) {
            let asked = &self.requests[number];
            let stored = match asked.verb {
                Verb::Commit => kept,
                Verb::Rollback | Verb::Tidy | Verb::Said => false,
                Verb::Other | Verb::Begin => true,
            };
            assert!(
                !(asked.must_fail && stored),
                "{number} is stored in a transaction told as failed"
            );
        }
    }

    // ---- rules 1, 4, 6 and 13: what the client hears ------------------------------

    /// From here on nothing but an error will do for work that has ended and
    /// that the session can answer: nobody else's is in flight.
    pub(super) fn note_who_is_to_be_told(&mut self) {
        if self.unanswered.is_empty() {
            return;
        }
        let shared = self
            .flying()
            .any(|number| self.is_work(number) && !self.is_over_for_session(number));
        if shared {
            return;
        }
        for index in 0..self.unanswered.len() {
            let number = self.unanswered[index];
            if self.is_work(number) && self.is_over_for_session(number) {
                self.requests[number]
                    .told_from
                    .get_or_insert(self.heard.total);
            }
        }
    }

    /// Listens to what went up since the last time.
    #[track_caller]
    pub(super) fn listen(&mut self) {
        let fresh = self.pair.up[self.heard.listened..].to_vec();
        self.heard.listened = self.pair.up.len();
        if self.relayed.as_ref().is_some_and(|client| client.gone) {
            return;
        }
        let mut rest = &fresh[..];
        while let Some(piece) = self
            .heard
            .framer
            .next(&mut rest)
            .expect("well-formed messages")
        {
            if piece.begins {
                self.heard.began = self.heard.total;
                self.heard.body.clear();
                self.heard.whose = self.unanswered.front().copied();
                if matches!(piece.tag, b'D' | b'd') {
                    let whose = self.heard.whose.expect("a row for somebody");
                    self.requests[whose].rows_up = true;
                }
            }
            self.heard.total += piece.raw.len();
            self.heard.body.extend_from_slice(piece.body);
            if piece.ends {
                self.hear(piece.tag);
            }
        }
    }

    #[track_caller]
    fn hear(&mut self, tag: u8) {
        if matches!(tag, b'N' | b'A' | b'S') {
            return;
        }
        let body = String::from_utf8_lossy(&self.heard.body).into_owned();
        let Some(number) = self.heard.whose else {
            panic!("{:?} goes up although nobody waits", char::from(tag));
        };
        let began = self.heard.began;
        let asked = &mut self.requests[number];
        let late = asked.told_from.is_some_and(|from| began > from);
        let unheard = asked.unheard.is_some_and(|from| began >= from);
        assert!(
            !unheard || tag == b'Z',
            "the caller of {number} is gone, and hears {body:?}"
        );
        match tag {
            b'D' | b'C' | b'd' => {
                let whose = name(Who::Request(number));
                assert!(body.contains(&whose), "{number} hears {body:?}");
                assert!(
                    tag != b'C' || !late,
                    "{number} has ended and hears of a success"
                );
            }
            b'E' => {
                let whose = name(Who::Request(number));
                assert!(
                    body.contains("told") || body.contains(&whose),
                    "{number} hears {body:?}"
                );
                asked.error_up = true;
            }
            b'Z' => {
                asked.answers += 1;
                assert!(
                    !late || asked.error_up || unheard,
                    "{number} has ended and hears ReadyForQuery alone"
                );
                self.heard.failed = self.heard.body == b"E";
                let front = self.unanswered.pop_front();
                assert_eq!(front, Some(number), "answered out of order");
            }
            _ => {}
        }
        if self.relayed.is_some() {
            self.take_in(number, tag, &body);
        }
    }

    // ---- rule 4: the next check-out ------------------------------------------------

    #[track_caller]
    pub(super) fn assert_clean(&self) {
        assert!(self.client_rests(), "the client holds something back");
        assert!(self.pair.up.is_empty(), "not all was taken up");
        assert_eq!(self.backend.transaction, b'I', "a transaction is open");
        assert!(
            !self.is_any_written() && self.late_signals == 0,
            "a signal is on its way"
        );
        assert!(
            !self.backend.has(Who::Own),
            "the session's own is in flight"
        );
        if let Some(work) = self.flying().find(|number| self.is_work(*number)) {
            panic!("{work} is in flight: {:?}", self.requests[work]);
        }
    }

    // ---- rule 2 ---------------------------------------------------------------------

    #[track_caller]
    pub(super) fn assert_may_retire(&self, why: &Retired) {
        match why {
            // Whether that was called for, the end of a run tells.
            Retired::Grace | Retired::Stalled => {}
            Retired::Unproven => assert!(self.broke_off, "retired without a fault"),
            Retired::NoProof => assert!(self.proxy, "retired without a proxy"),
            Retired::OutOfStep => assert!(self.may_be_miscounted(), "retired in step"),
            Retired::CleanUp | Retired::Protocol(_) => {
                panic!("retired: {why:?}")
            }
        }
    }
}
