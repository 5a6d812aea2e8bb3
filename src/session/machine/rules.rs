//! The rules that a model checker switches off, one at a time, to see that it
//! would notice. In production all of them hold, and nothing is asked.

use super::Machine;

/// Each is named for what is done where it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Rule {
    /// 1: the session answers for ended work.
    AnswerEnded,
    /// 2: the grace is started.
    StartGrace,
    /// 2: an open transaction of a check-out that is over is rolled back.
    RollBack,
    /// 2: a copy that the server waits for is ended.
    EndCopies,
    /// 3: it is asked again, right before the bytes, whether a cancel is aimed.
    AimAgain,
    /// 3: a drain holds what is new.
    HoldWhileDraining,
    /// 3, 4: a drain is not over before the attempt is.
    AwaitEof,
    /// 3: clean-up is not cancelled.
    SpareCleanUp,
    /// 3: clean-up is written alone.
    WriteCleanUpAlone,
    /// 3: the session's own ROLLBACK waits for the attempt.
    OwnAwaitsEof,
    /// 4: a broken-off attempt is no proof.
    HeedBreakOff,
    /// 4: an EOF that proves nothing is no proof.
    HeedProxy,
    /// 4: a check-out begins when the last one's messages are taken up,
    AwaitTakingUp,
    /// ... its transaction is over,
    AwaitIdle,
    /// ... and nothing is in flight.
    AwaitAnswers,
    /// 5: a cancel is sent again.
    Resend,
    /// 6: what is unwritten at the end is refused.
    RefuseQueued,
    /// 6: a check-out begins after a poll.
    AwaitPoll,
    /// 6: that poll began after the release.
    AwaitWholePoll,
    /// 6: a transaction told as failed fails on the server too.
    FailTransaction,
    /// 7: nothing is cancelled while others work.
    SpareOthers,
    /// 8: work in flight would be left.
    TellWorkLeft,
    /// 10: attempts do not overlap.
    OneAttempt,
    /// 13: a told end is an error.
    TellError,
    /// 14: what is in flight when a context finishes runs on.
    LetFinishedRun,
    /// 14: that has a bound.
    BoundFinished,
    /// 14: abandoned work is cancelled.
    CancelAbandoned,
    /// 14: abandoned work that has sent rows runs on.
    LetRowsRun,
}

impl Machine {
    /// Is this rule switched off?
    #[cfg(test)]
    pub(super) fn without(&self, rule: Rule) -> bool {
        self.off == Some(rule)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "the same call in tests and outside")]
    pub(super) const fn without(&self, _: Rule) -> bool {
        false
    }

    /// Does this rule hold?
    pub(super) fn with(&self, rule: Rule) -> bool {
        !self.without(rule)
    }
}
