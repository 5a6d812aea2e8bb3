//! Whose the requests are that come out of a poll of the connection (rule 7).
//!
//! tokio-postgres does not say who queued a request; [`waker`](super::waker)
//! notes who woke the connection. This matches the two. It is pure: a poll's
//! note and number of requests in, a verdict out.
//!
//! 1. The request queue's waker is used once a registration, and registered by
//!    each poll that leaves nothing unwritten. So of the requests out of one
//!    poll only the first can have woken; all others are nobody's. So `run` and
//!    `scope` begin with a turn for the connection, if their thread has queued
//!    something before ([`waker`](super::waker)): then theirs comes alone.
//! 2. The queue is filled before it wakes. On several threads a poll can take
//!    a request out before its caller has woken: then the wake is still to
//!    come, and the verdict waits for it.
//! 3. A reader that holds the connection up wakes it too, once. So where one
//!    did, one wake more is needed to know.
//! 4. Whatever leaves a doubt is nobody's: it counts as the check-out's, and
//!    no operation's end will cancel it.

use crate::context::Context;

use super::waker::Note;

/// What is known between two polls.
#[derive(Default)]
pub(crate) struct Attribution {
    /// The last poll registered the queue's waker.
    registered: bool,
    /// The last poll was held up by a reader.
    held_up: bool,
    awaiting: Option<Awaiting>,
}

/// A request that came out before its wake.
struct Awaiting {
    request: u64,
    note: Note,
    held_up: bool,
}

/// What a poll did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Polled {
    /// The number of the first request that came out, if one did.
    pub(crate) first: Option<u64>,
    /// Nothing was left unwritten.
    pub(crate) flushed: bool,
    /// The client asked for more to read, and was told to wait.
    pub(crate) asked: bool,
}

impl Attribution {
    /// Before a poll: whose the first request out of it will be, where that is
    /// beyond doubt.
    pub(crate) fn certain<'n>(&self, note: &'n Note) -> Option<&'n Context> {
        if !self.registered || self.awaiting.is_some() {
            return None;
        }
        sure(note, self.held_up)
    }

    /// After a poll that began with `note`: a request of an earlier poll, or
    /// of this one, of which it is known only now whose it is.
    pub(crate) fn polled(&mut self, note: Note, polled: Polled) -> Option<(u64, Context)> {
        let (registered, held_up) = (self.registered, self.held_up);
        self.registered = polled.flushed;
        self.held_up = !polled.asked;
        match (self.awaiting.take(), polled.first) {
            // Which of the two has woken can't be told (4).
            (Some(_), Some(_)) => None,
            (Some(mut awaiting), None) => {
                awaiting.note = awaiting.note.and(note);
                self.decide(awaiting)
            }
            (None, Some(_)) if !registered || sure(&note, held_up).is_some() => None,
            (None, Some(request)) => self.decide(Awaiting {
                request,
                note,
                held_up,
            }),
            (None, None) => None,
        }
    }

    fn decide(&mut self, awaiting: Awaiting) -> Option<(u64, Context)> {
        if let Some(context) = sure(&awaiting.note, awaiting.held_up) {
            return Some((awaiting.request, context.clone()));
        }
        let undecided = match &awaiting.note {
            Note::Quiet => true,
            Note::One {
                wakes,
                who: Some(_),
            } => *wakes <= u32::from(awaiting.held_up),
            Note::One { who: None, .. } | Note::Several => false,
        };
        if undecided {
            self.awaiting = Some(awaiting);
        }
        None
    }
}

/// All wakes were one context's, and one of them must have been the queue's.
fn sure(note: &Note, held_up: bool) -> Option<&Context> {
    match note {
        Note::One {
            wakes,
            who: Some(context),
        } if *wakes > u32::from(held_up) => Some(context),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: Polled = Polled {
        first: None,
        flushed: true,
        asked: true,
    };
    const OUT: Polled = Polled {
        first: Some(7),
        ..REST
    };

    fn rested() -> Attribution {
        let mut attribution = Attribution::default();
        attribution.polled(Note::Quiet, REST);
        attribution
    }

    fn woken(wakes: u32, context: &Context) -> Note {
        Note::One {
            wakes,
            who: Some(context.clone()),
        }
    }

    fn found(found: Option<(u64, Context)>, context: &Context) -> bool {
        found.is_some_and(|(request, who)| request == 7 && who.id() == context.id())
    }

    #[test]
    fn a_request_after_one_wake_is_its_wakers() {
        let context = Context::background();
        let note = woken(1, &context);
        assert!(rested().certain(&note).is_some());
        assert!(
            rested().polled(note, OUT).is_none(),
            "known before the poll"
        );
    }

    #[test]
    fn a_request_that_came_before_its_wake_waits_for_it() {
        let context = Context::background();
        let mut attribution = rested();
        assert!(attribution.polled(Note::Quiet, OUT).is_none());
        assert!(
            attribution.certain(&woken(1, &context)).is_none(),
            "the wake is the earlier request's"
        );
        assert!(found(
            attribution.polled(woken(1, &context), REST),
            &context
        ));
    }

    #[test]
    fn two_requests_and_one_wake_between_them_are_nobodys() {
        let context = Context::background();
        let mut attribution = rested();
        attribution.polled(Note::Quiet, OUT);
        assert!(attribution.polled(woken(1, &context), OUT).is_none());
        assert!(
            attribution.polled(woken(1, &context), REST).is_none(),
            "a wake too late for either"
        );
    }

    #[test]
    fn where_a_reader_held_the_connection_up_one_wake_is_not_enough() {
        let (reader, caller) = (Context::background(), Context::background());
        let held_up = || {
            let mut attribution = Attribution::default();
            attribution.polled(
                Note::Quiet,
                Polled {
                    asked: false,
                    ..REST
                },
            );
            attribution
        };
        assert!(held_up().certain(&woken(1, &reader)).is_none());
        assert!(held_up().certain(&woken(2, &caller)).is_some());
        let mut attribution = held_up();
        assert!(attribution.polled(woken(1, &reader), OUT).is_none());
        assert!(
            attribution.polled(woken(1, &caller), REST).is_none(),
            "the reader's or the caller's"
        );
        let mut attribution = held_up();
        assert!(attribution.polled(woken(1, &caller), OUT).is_none());
        assert!(found(attribution.polled(woken(1, &caller), REST), &caller));
    }

    #[test]
    fn a_request_that_had_nothing_to_wake_is_nobodys() {
        let context = Context::background();
        let mut attribution = Attribution::default();
        attribution.polled(
            Note::Quiet,
            Polled {
                flushed: false,
                ..REST
            },
        );
        assert!(attribution.certain(&woken(1, &context)).is_none());
        assert!(attribution.polled(Note::Quiet, OUT).is_none());
        assert!(
            attribution.polled(woken(1, &context), REST).is_none(),
            "no wake was owed"
        );
    }

    #[test]
    fn a_wake_from_outside_any_context_decides_too() {
        let mut attribution = rested();
        attribution.polled(Note::Quiet, OUT);
        attribution.polled(
            Note::One {
                wakes: 1,
                who: None,
            },
            REST,
        );
        let context = Context::background();
        assert!(
            attribution.certain(&woken(1, &context)).is_some(),
            "nothing is awaited any more"
        );
    }
}
