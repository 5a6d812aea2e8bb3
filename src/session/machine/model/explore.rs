//! The bounds within which all is looked at.

use super::super::Instant;
use super::plan::{PLAIN, Plan};
use super::search::{Order, search};
use super::words::Kind;

#[test]
fn every_state_within_small_bounds_keeps_the_rules() {
    let now = Instant::now();
    let mut failed = false;
    for plan in PLANS {
        let began = std::time::Instant::now();
        let report = search(plan, None, SMALL, Order::Depth, now);
        println!("{report} in {:?}", began.elapsed());
        failed |= report.counterexample.is_some();
    }
    assert!(!failed);
}

pub(super) static PLANS: &[Plan] = &[
    Plan {
        name: "one request, faults",
        menu: &[Kind::Endless, Kind::Query],
        refused: true,
        breaks: true,
        errors: true,
        ..PLAIN
    },
    Plan {
        name: "two requests, asked late",
        menu: &[Kind::Endless, Kind::Query],
        requests: 2,
        late: true,
        finishes: true,
        ..PLAIN
    },
    Plan {
        name: "a transaction",
        menu: &[Kind::Begin, Kind::Execute, Kind::Commit],
        requests: 3,
        script: true,
        drops: &[Kind::Rollback],
        ..PLAIN
    },
    Plan {
        name: "a transaction left open",
        menu: &[Kind::Begin],
        drops: &[Kind::Rollback],
        ..PLAIN
    },
    Plan {
        name: "a copy left open",
        menu: &[Kind::Copy],
        ..PLAIN
    },
    Plan {
        name: "an operation in a transaction",
        menu: &[Kind::Begin, Kind::Execute, Kind::Commit],
        requests: 3,
        script: true,
        operations: 1,
        check_outs: 1,
        ..PLAIN
    },
    Plan {
        name: "cancelled on demand",
        menu: &[Kind::Query, Kind::Endless],
        requests: 2,
        cancels: 1,
        ..PLAIN
    },
    Plan {
        name: "clean-up",
        menu: &[Kind::Execute, Kind::Rollback, Kind::Tidy],
        requests: 2,
        drops: &[Kind::Tidy],
        late: true,
        ..PLAIN
    },
    Plan {
        name: "rows, finished and abandoned",
        menu: &[Kind::Rows, Kind::Execute],
        requests: 2,
        finishes: true,
        cuts: true,
        ..PLAIN
    },
    Plan {
        name: "a deadline",
        menu: &[Kind::Rows, Kind::Endless],
        requests: 1,
        deadline: true,
        finishes: true,
        ..PLAIN
    },
    Plan {
        name: "a copy",
        menu: &[Kind::Copy],
        data: 1,
        errors: true,
        ..PLAIN
    },
    Plan {
        name: "a copy and more",
        menu: &[Kind::Copy, Kind::Query],
        requests: 2,
        errors: true,
        ..PLAIN
    },
    Plan {
        name: "an operation",
        menu: &[Kind::Endless, Kind::Query],
        requests: 2,
        operations: 1,
        ..PLAIN
    },
    Plan {
        name: "two operations in a transaction",
        menu: &[Kind::Begin, Kind::Execute],
        requests: 3,
        operations: 2,
        ..PLAIN
    },
    Plan {
        name: "a child context beside its check-out",
        menu: &[Kind::Endless, Kind::Query],
        requests: 2,
        child: true,
        ..PLAIN
    },
    Plan {
        name: "a proxy that closes early, known",
        menu: &[Kind::Endless, Kind::Query],
        proxy: true,
        eof_proves: false,
        ..PLAIN
    },
    Plan {
        name: "the client is dropped",
        menu: &[Kind::Endless, Kind::Rows],
        requests: 2,
        client_goes: true,
        ..PLAIN
    },
];

const SMALL: usize = 4_000_000;
