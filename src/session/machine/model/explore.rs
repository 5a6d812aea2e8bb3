//! The bounds within which all is looked at.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::Instant;
use super::plan::{PLAIN, Plan};
use super::search::{Order, search};
use super::words::Kind;

#[test]
fn every_state_within_small_bounds_keeps_the_rules() {
    explore(SMALL, Order::Breadth);
}

/// `PGDEADLINE_STATES=n` looks at no more than so many of each plan.
#[test]
#[ignore = "takes minutes, and is meant for --release"]
fn every_state_within_large_bounds_keeps_the_rules() {
    let limit = std::env::var("PGDEADLINE_STATES").ok();
    let limit = limit.and_then(|limit| limit.parse().ok()).unwrap_or(LARGE);
    explore(limit, Order::Depth);
}

/// Looks at no more than `limit` states of each plan, on two threads.
fn explore(limit: usize, order: Order) {
    let now = Instant::now();
    let next = AtomicUsize::new(0);
    let work = || {
        let (mut states, mut well) = (0, true);
        while let Some(plan) = PLANS.get(next.fetch_add(1, Ordering::Relaxed)) {
            let report = search(plan, None, limit, order, now);
            println!("{report}");
            states += report.states;
            well &= report.counterexample.is_none();
        }
        (states, well)
    };
    let (one, two) = std::thread::scope(|scope| {
        let other = scope.spawn(work);
        (work(), other.join().expect("a search comes to its end"))
    });
    println!("{} states in all", one.0 + two.0);
    assert!(one.1 && two.1, "a rule is broken: see above");
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
        check_outs: 1,
        ..PLAIN
    },
    Plan {
        name: "a copy left open",
        menu: &[Kind::Copy],
        check_outs: 1,
        lost: 1,
        ..PLAIN
    },
    Plan {
        name: "an operation in a transaction",
        menu: &[Kind::Begin, Kind::Execute, Kind::Commit],
        requests: 3,
        begun: true,
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
        menu: &[Kind::Execute],
        requests: 3,
        begun: true,
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

/// Of each plan; about a minute in all, unoptimized.
const SMALL: usize = 120_000;
const LARGE: usize = 6_000_000;
