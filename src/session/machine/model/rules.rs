//! What must hold in a [`World`], each rule by its number: told by what client,
//! holders and server know, not by what the session believes.

use super::super::*;
use super::server::{State, Who};
use super::words::{self, Kind};
use super::world::{Cancel, Poll, World};

impl World {
    /// What must hold in every state.
    pub(super) fn look(&mut self) {
        self.note_who_is_to_be_told();
        if self.is_retired() {
            return;
        }
        self.rule_1_prompt();
        self.rule_2_bounded();
        if self.machine.is_clean() {
            self.rule_4_proven();
        }
        self.rule_5_persistent();
        self.rule_8_nothing_left_behind();
    }

    /// The end of ended work is told in the same step, in the client's order;
    /// not where others work, inside a message, or behind clean-up, which the
    /// server answers. What is unwritten is dropped by the next poll.
    fn rule_1_prompt(&mut self) {
        if self.is_shared() || !self.cut.is_empty() {
            return;
        }
        for index in 0..self.unanswered.len() {
            let number = usize::from(self.unanswered[index]);
            let waits = self.is_work(number) && self.is_over(number);
            let queued = !self.asked[number].written && self.is_buffered(number);
            if !waits || queued {
                return;
            }
            self.breach(
                "1 prompt",
                format!("{} has ended and waits", self.name(number)),
            );
        }
    }

    /// Whatever is left to do after an end has a timer that bounds it; what
    /// others do in between has theirs.
    fn rule_2_bounded(&mut self) {
        let work = |number: usize| self.is_work(number) && self.is_over(number);
        let ended = self.flying().any(work) || self.is_any_written();
        let left = self.client_gone && self.client_rests() && self.flying().next().is_none();
        let returned = self.check_out.is_none() && !self.machine.is_clean() && !left;
        let bounded = [Timer::Grace, Timer::Expiry]
            .iter()
            .any(|timer| self.machine.timers.get(*timer).is_some());
        let others = self.is_shared() && self.check_out.is_some();
        // What the client has left in its queue is taken by the next poll.
        let local = self.client_gone && (self.poll != Poll::No || self.wants_poll());
        if (ended || returned) && !bounded && !others && !local {
            self.breach("2 bounded", "a wait without a bound".into());
        }
    }

    pub(super) fn rule_2_retired_for_a_reason(&mut self, why: &Retired) {
        let well = match why {
            // Whether the grace was needed, the search tells.
            Retired::Grace => true,
            Retired::Stalled => self.plan.cuts,
            Retired::Unproven => self.broke_off,
            Retired::NoProof => !self.plan.eof_proves,
            Retired::CleanUp | Retired::OutOfStep | Retired::Protocol(_) => false,
        };
        if !well {
            self.breach("2 bounded", format!("retired for no reason: {why:?}"));
        }
    }

    /// A CancelRequest is about to be written.
    pub(super) fn rule_3_aimed(&mut self) {
        let targets = self.flying().filter(|number| self.is_guilty(*number));
        if targets.count() == 0 {
            self.breach("3 aimed", "a cancel without a target".into());
        }
        let clean_up = self.flying().find(|number| !self.is_work(*number));
        if let Some(number) = clean_up {
            let name = self.name(number);
            self.breach("3 aimed", format!("a cancel that may hit clean-up: {name}"));
        }
        if self.server.has(Who::Own) {
            self.breach("3 aimed", "a cancel that may hit the session's own".into());
        }
        let innocent = self
            .flying()
            .find(|number| self.is_work(*number) && !self.is_guilty(*number));
        if let Some(number) = innocent {
            let name = self.name(number);
            self.breach("7 no collateral", format!("a cancel that may hit {name}"));
        }
    }

    /// A signal finds somebody.
    pub(super) fn rule_3_signal(&mut self, who: Who) {
        let innocent = match who {
            Who::Request(number) => {
                (!self.is_guilty(usize::from(number))).then(|| self.name(usize::from(number)))
            }
            Who::Own => Some("the session's own clean-up".into()),
        };
        if let Some(name) = innocent {
            self.breach("3 aimed", format!("a signal finds {name}"));
        }
    }

    /// The first byte of a request is written.
    pub(super) fn rule_3_nothing_new_is_written(&mut self, number: usize) {
        let name = self.name(number);
        let others: Vec<usize> = self.flying().filter(|other| *other != number).collect();
        let ended = |other: &usize| self.is_work(*other) && self.is_over(*other);
        let shared = others
            .iter()
            .any(|other| self.is_work(*other) && !self.is_over(*other));
        let broken = if self.is_any_written() || self.late_signals > 0 {
            "before every attempt is over"
        } else if self.server.has(Who::Own) {
            "behind the session's own"
        } else if others.iter().any(ended) && !shared {
            "while ended work is in flight"
        } else if !self.is_work(number) && !others.is_empty() {
            "and is clean-up, but not alone"
        } else {
            return;
        };
        self.breach("3 aimed", format!("{name} is written {broken}"));
    }

    pub(super) fn rule_3_own_is_written_alone(&mut self) {
        // A fence stands behind its COPY, which has failed.
        let other = |number: &usize| self.asked[*number].kind != Kind::Copy;
        let broken = if self.is_any_written() || self.late_signals > 0 {
            "before every attempt is over"
        } else if self.server.has(Who::Own) {
            "twice at once"
        } else if self.flying().any(|number| other(&number)) {
            "while something is in flight"
        } else {
            return;
        };
        self.breach("3 aimed", format!("the session's own is written {broken}"));
    }

    /// The next check-out may have the session.
    pub(super) fn rule_4_proven(&mut self) {
        let work = self.flying().find(|number| self.is_work(*number));
        let broken = if !self.client_rests() {
            "the client holds something back"
        } else if self.up || !self.cut.is_empty() {
            "not all was taken up"
        } else if self.server.transaction != b'I' {
            "a transaction is open"
        } else if self.is_any_written() || self.late_signals > 0 {
            "a signal may come"
        } else if self.server.has(Who::Own) || work.is_some() {
            "something is in flight"
        } else {
            return;
        };
        self.breach("4 proven", format!("called clean, but {broken}"));
    }

    /// Ended work that runs is being cancelled, or will be.
    fn rule_5_persistent(&mut self) {
        let State::Running { who, .. } = self.server.state else {
            return;
        };
        let Who::Request(number) = who else { return };
        let all = self
            .flying()
            .all(|other| self.is_work(other) && self.is_over(other));
        let spent = self.broke_off || self.cancelled_by_proxy && !self.plan.eof_proves;
        let number = usize::from(number);
        if !all || !self.asked[number].kind.works() || spent {
            return;
        }
        let scheduled = self.machine.timers.get(Timer::Resend).is_some();
        if !scheduled && self.attempts.is_empty() {
            let rule = match self.asked[number].cancelled {
                true => "14 asked for",
                false => "5 persistent",
            };
            self.breach(rule, format!("nobody will cancel {}", self.name(number)));
        }
    }

    /// What the session sees belongs to whoever asked.
    pub(super) fn rule_6_counts_as_its_own(&mut self, number: u8) {
        let asked = &self.asked[usize::from(number)];
        let parent = self.holder(asked.holder).parent;
        let above = parent.is_some() && asked.counts_as == parent;
        // An operation borrows the client: whoever had asked has let go.
        let below =
            asked.counts_as.map(|below| self.holder(below).parent) == Some(Some(asked.holder));
        let own = asked.counts_as == Some(asked.holder) || above || below;
        if !own {
            let name = self.name(usize::from(number));
            self.breach(
                "6 nothing queued is missed",
                format!("{name} counts as another's"),
            );
        }
    }

    /// What was unwritten when its lease ended is never written.
    pub(super) fn rule_6_ended_is_not_written(&mut self, number: usize) {
        if self.is_work(number) && self.is_over(number) {
            let how = format!("{} has ended and is written", self.name(number));
            self.breach("6 nothing queued is missed", how);
        }
    }

    /// The server has executed a request: work that was told as ended, and what
    /// its holder sends after it, does not commit.
    pub(super) fn rule_6_told_as_ended_does_not_commit(&mut self, number: usize, kept: bool) {
        let asked = &self.asked[number];
        if asked.must_fail && kept && self.is_work(number) {
            let how = format!(
                "{} stays, in a transaction told as failed",
                self.name(number)
            );
            self.breach("6 nothing queued is missed", how);
        }
    }

    /// Dropping the session now would leave just what nobody wants.
    fn rule_8_nothing_left_behind(&mut self) {
        let runs_on = |number: usize| {
            let until = self.asked[number].until;
            until.is_some() && !self.is_over(number)
        };
        let work = || self.flying().filter(|number| self.is_work(*number));
        let unwanted = work().any(|number| !runs_on(number));
        // Where nothing is in flight, a cancel for nothing does no harm.
        let wanted = !unwanted && work().next().is_some();
        let leaves = self.machine.leaves_work();
        if unwanted && !leaves || wanted && leaves {
            let how = format!("unwanted work is in flight: {unwanted}, the session says {leaves}");
            self.breach("8 nothing left behind", how);
        }
    }

    /// The session dials.
    pub(super) fn rule_10_no_storm(&mut self) {
        if self.is_any_written() {
            self.breach("10 no storm", "a dial while an attempt is not over".into());
        }
    }

    /// A whole message has come to the client.
    pub(super) fn hear_message(&mut self, tag: u8, body: &[u8], begun: bool) {
        let Some(&front) = self.unanswered.front() else {
            let what = char::from(tag);
            return self.breach("4 proven", format!("{what:?} goes up, and nobody waits"));
        };
        let number = usize::from(front);
        let late = self.asked[number].to_be_told && !begun;
        let name = matches!(tag, b'D' | b'C' | b'E').then(|| words::named(tag, body));
        if let Some(Some(other)) = name
            && other != front
        {
            let how = format!("{} hears what is for {other}", self.name(number));
            return self.breach("4 proven", how);
        }
        match tag {
            b'D' => self.asked[number].rows_up = true,
            b'C' => self.rule_13_never_a_success(number, late, "CommandComplete"),
            b'E' => self.asked[number].error_up = true,
            b'Z' => {
                let alone = late && !self.asked[number].error_up;
                self.rule_13_never_a_success(number, alone, "ReadyForQuery alone");
                self.asked[number].answered = true;
                self.told_failed = body == b"E";
                self.unanswered.pop_front();
            }
            _ => {}
        }
    }

    fn rule_13_never_a_success(&mut self, number: usize, broken: bool, what: &str) {
        if broken {
            let how = format!("{} has ended and hears {what}", self.name(number));
            self.breach("13 never a success", how);
        }
    }

    // ---- who is what -----------------------------------------------------------

    /// From here on nothing but an error will do for ended work.
    fn note_who_is_to_be_told(&mut self) {
        if self.unanswered.is_empty() || self.is_shared() {
            return;
        }
        for index in 0..self.unanswered.len() {
            let number = usize::from(self.unanswered[index]);
            if self.is_work(number) && self.is_over(number) {
                self.asked[number].to_be_told = true;
            }
        }
    }

    pub(super) fn note_written(&mut self, number: usize) {
        self.asked[number].must_fail = self.told_failed;
        if matches!(self.asked[number].kind, Kind::Rollback | Kind::Commit) {
            self.told_failed = false;
        }
    }

    fn name(&self, number: usize) -> String {
        let asked = &self.asked[number];
        format!("{:?} ({number}) of holder {}", asked.kind, asked.holder)
    }

    pub(super) fn is_work(&self, number: usize) -> bool {
        self.asked[number].kind.works()
    }

    /// Not over for the server or for its caller.
    pub(super) fn is_open_work(&self, number: usize) -> bool {
        let open = !self.asked[number].answered || self.in_flight(number);
        self.is_work(number) && open
    }

    pub(super) fn in_flight(&self, number: usize) -> bool {
        let who = Who::Request(u8::try_from(number).expect("few requests"));
        let buffered = |segment: &super::world::Segment| {
            usize::from(segment.whose) == number && self.asked[number].kind != Kind::Copy
        };
        let rest = self.segments.iter().any(buffered);
        self.asked[number].written && (rest || self.server.has(who))
    }

    /// Has it ended, as far as the session can know?
    pub(super) fn is_over(&self, number: usize) -> bool {
        let asked = &self.asked[number];
        let ended = match asked.until {
            Some(until) => self.now >= until,
            None => asked.counts_as.is_some_and(|holder| self.has_ended(holder)),
        };
        asked.cancelled || ended
    }

    /// May it be interrupted? Whose it is, its caller knows best.
    fn is_guilty(&self, number: usize) -> bool {
        let asked = &self.asked[number];
        let own = asked.until.is_none() && self.has_ended(asked.holder);
        self.is_work(number) && (own || self.is_over(number))
    }

    pub(super) fn flying(&self) -> impl Iterator<Item = usize> {
        (0..self.asked.len()).filter(|number| self.in_flight(*number))
    }

    /// Is somebody's work in flight that has not ended?
    fn is_shared(&self) -> bool {
        self.flying()
            .any(|number| self.is_work(number) && !self.is_over(number))
    }

    pub(super) fn is_any_written(&self) -> bool {
        self.attempts
            .iter()
            .any(|(_, cancel)| matches!(cancel, Cancel::Written(_)))
    }
}
