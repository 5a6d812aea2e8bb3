//! One request: what a client sends up to and with a sync point.

use super::statement::Verb;

/// Which lease a request belongs to. The ledger only carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LeaseId(pub(crate) u32);

/// A request, from its first byte in the client's buffer to its last
/// ReadyForQuery.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Request {
    pub(crate) lease: LeaseId,
    pub(crate) kind: Kind,
    pub(crate) class: Class,
    pub(crate) verb: Verb,
    pub(crate) stage: Stage,
    /// The client has sent its sync point.
    pub(crate) synced: bool,
    /// Bytes of it that were scanned and are not written yet, COPY aside.
    pub(crate) unwritten: usize,
    /// Its lease has ended and nobody else's work is in flight: from the next
    /// message on nothing of it goes up, and the session answers the client in
    /// the server's place.
    pub(crate) ended: bool,
    /// The session has done so.
    pub(crate) answered: bool,
    /// An ErrorResponse to it has gone up.
    pub(crate) error_up: bool,
    /// The server sent an ErrorResponse.
    pub(crate) failed: bool,
    /// A DataRow or CopyData to it has gone up (rule 14).
    pub(crate) rows_up: bool,
    pub(crate) copy: CopyIn,
    pub(crate) tail: Tail,
    /// The session has ended its COPY by itself: what the client still sends
    /// for that COPY is dropped.
    pub(crate) copy_ended: bool,
    /// ReadyForQuery messages that came for it, and whether one went up.
    pub(crate) readies: u8,
    pub(crate) ready_up: bool,
    /// The server has gone into copy mode for it, in either direction.
    pub(crate) copied: bool,
    /// Its caller is gone: nothing of it goes up but its ReadyForQuery.
    pub(crate) unheard: bool,
    /// Its caller is about to be brought back by somebody else: what the
    /// session has to say waits until that is known, or has not happened.
    pub(crate) hushed: bool,
}

/// How a request is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Query or FunctionCall: its own sync point.
    Simple,
    /// Parse to Execute, up to a Sync.
    Extended,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// Too little of it has come: a Query whose text is not whole, a Close
    /// that may be the first of more.
    Undecided,
    /// The caller's work.
    Work,
    /// ROLLBACK, Close with its Sync, a lone Sync: never cancelled, never
    /// answered by the session (rule 3).
    CleanUp,
    /// Said to the session itself: never written.
    Said,
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// In the client's buffer; no byte is written.
    Queued,
    /// At least one byte is written and its last ReadyForQuery has not come.
    InFlight,
    /// The server has no more to say to it, mostly since it was never written
    /// (rule 6); the session will answer it in the client's order.
    Refused,
    /// Over; waits for those before it to be over too.
    Done,
}

/// A COPY FROM STDIN inside a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CopyIn {
    No,
    /// CopyInResponse has come: the server reads COPY data.
    Open,
    /// After that an ErrorResponse came. In the extended protocol nobody can
    /// tell whether the server read the first Sync before or after it.
    Failed,
}

/// The client's own end of a COPY: CopyDone or CopyFail, and in the extended
/// protocol a Sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Tail {
    /// Nothing of it was sent.
    No,
    /// In the client's buffer, or CopyDone or CopyFail is written.
    Begun,
    /// The first byte of its last message is written: nothing keeps the rest
    /// from following, and in the extended protocol one more ReadyForQuery may
    /// come.
    Written,
    /// It stood before the request's own Sync, which ends both.
    Inside,
}

impl Request {
    pub(crate) fn new(lease: LeaseId, kind: Kind, class: Class) -> Self {
        Request {
            lease,
            kind,
            class,
            verb: Verb::Other,
            stage: Stage::Queued,
            synced: false,
            unwritten: 0,
            ended: false,
            answered: false,
            error_up: false,
            failed: false,
            rows_up: false,
            copy: CopyIn::No,
            tail: Tail::No,
            copy_ended: false,
            readies: 0,
            ready_up: false,
            copied: false,
            unheard: false,
            hushed: false,
        }
    }

    pub(crate) fn in_flight(&self) -> bool {
        self.stage == Stage::InFlight
    }

    /// In flight, and the caller's work.
    pub(crate) fn works(&self) -> bool {
        self.in_flight() && self.class == Class::Work
    }

    /// Was any of it written, ever?
    pub(crate) fn was_sent(&self) -> bool {
        self.in_flight() || self.readies > 0
    }

    /// Does its client not count on a ReadyForQuery? sqlx 0.9 doesn't for a
    /// COPY that it has left.
    pub(crate) fn uncounted(&self) -> bool {
        self.unheard && self.copied && self.kind == Kind::Simple
    }

    /// Can't it be told whether its client counts on a ReadyForQuery? sqlx doesn't
    /// for a COPY of its own, and does for the same text sent as any other; only a
    /// client that ends a COPY FROM STDIN by itself shows which it is.
    pub(crate) fn may_be_miscounted(&self) -> bool {
        let copies = self.verb == Verb::Copy || self.copied;
        copies && self.kind == Kind::Simple && self.tail == Tail::No && !self.answered
    }

    /// The caller's, and neither refused nor over.
    pub(crate) fn is_open_work(&self) -> bool {
        !matches!(self.class, Class::CleanUp | Class::Said)
            && matches!(self.stage, Stage::Queued | Stage::InFlight)
    }

    /// Some of it is written and some is not: nothing may come between.
    pub(crate) fn half_written(&self) -> bool {
        self.in_flight() && (self.unwritten > 0 || !self.synced)
    }

    /// After an ErrorResponse in copy mode the messages don't tell how many
    /// ReadyForQuery are to come; a fence does.
    pub(crate) fn unsettled(&self) -> bool {
        self.kind == Kind::Extended && self.copy == CopyIn::Failed
    }

    /// The server waits for COPY data that nobody has ended.
    pub(crate) fn waits_for_copy(&self) -> bool {
        self.in_flight()
            && self.synced
            && self.copy == CopyIn::Open
            && self.tail == Tail::No
            && !self.copy_ended
    }

    /// Is it, for all that is known, a COPY FROM STDIN that is not over? What
    /// is written behind one could not be told from it if a fence is needed.
    pub(crate) fn copies_in(&self) -> bool {
        self.in_flight() && (self.copy != CopyIn::No || self.tail != Tail::No)
    }

    /// Does the next ReadyForQuery end it?
    pub(crate) fn last_ready(&self) -> bool {
        match self.copy {
            // The Sync that came with Execute was void: one for the tail's.
            CopyIn::Open => true,
            // The fence ends it.
            CopyIn::Failed => self.kind == Kind::Simple,
            // Failed before copy mode: one for each Sync that was written.
            CopyIn::No => self.readies.saturating_add(1) >= self.syncs(),
        }
    }

    /// Must the server's next messages be looked at one by one?
    pub(crate) fn wants_filter(&self) -> bool {
        match self.stage {
            Stage::InFlight => self.ended || self.unheard || self.copies_in(),
            Stage::Refused => true,
            Stage::Queued | Stage::Done => false,
        }
    }

    fn syncs(&self) -> u8 {
        match (self.kind, self.tail) {
            (Kind::Extended, Tail::Written) => 2,
            _ => 1,
        }
    }
}
