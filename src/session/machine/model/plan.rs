//! The bounds of one search: who may do what, and how often.

use super::words::Kind;

#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) name: &'static str,
    /// What the first check-out may ask for, and how many requests of it.
    pub(super) menu: &'static [Kind],
    pub(super) requests: u8,
    /// The search begins inside a transaction, for which one of them was needed.
    pub(super) begun: bool,
    /// It asks for them one after the other, and for nothing else.
    pub(super) script: bool,
    /// The same for those that follow, and how many there are in all.
    pub(super) next: &'static [Kind],
    pub(super) next_requests: u8,
    pub(super) check_outs: u8,
    /// What a drop queues when a check-out is given back.
    pub(super) drops: &'static [Kind],
    /// The first context has a deadline.
    pub(super) deadline: bool,
    /// How many operations take the place of the first check-out.
    pub(super) operations: u8,
    /// A child context may ask, told by its wake.
    pub(super) child: bool,
    /// A holder may ask after its context has ended.
    pub(super) late: bool,
    /// A context may be cancelled, may finish.
    pub(super) ends: bool,
    pub(super) finishes: bool,
    /// The server may fail a request by itself.
    pub(super) errors: bool,
    /// Dials may be refused, attempts may break off after their bytes.
    pub(super) refused: bool,
    pub(super) breaks: bool,
    /// A proxy may close before the server has signalled; is that known?
    pub(super) proxy: bool,
    pub(super) eof_proves: bool,
    /// Writes and reads may be cut.
    pub(super) cuts: bool,
    /// So many signals may find the server before it has read their target, or
    /// noticed the signal before.
    pub(super) lost: u8,
    /// CopyData messages of one COPY.
    pub(super) data: u8,
    /// Somebody may ask for what is in flight to be cancelled, so often.
    pub(super) cancels: u8,
    /// The client may be dropped.
    pub(super) client_goes: bool,
}

/// One check-out whose context ends, and one that follows.
pub(super) const PLAIN: Plan = Plan {
    name: "",
    menu: &[Kind::Endless],
    requests: 1,
    begun: false,
    script: false,
    next: &[Kind::Query],
    next_requests: 1,
    check_outs: 2,
    drops: &[],
    deadline: false,
    operations: 0,
    child: false,
    late: false,
    ends: true,
    finishes: false,
    errors: false,
    refused: false,
    breaks: false,
    proxy: false,
    eof_proves: true,
    cuts: false,
    lost: 4,
    data: 0,
    cancels: 0,
    client_goes: false,
};
