//! Each rule switched off in turn: the search has to notice.

use super::super::{Instant, Rule};
use super::explore::PLANS;
use super::search::{Order, search};

#[test]
fn each_rule_that_is_switched_off_is_noticed() {
    let now = Instant::now();
    let mut wrong = Vec::new();
    for (off, name, broken) in MUTATIONS {
        let plan = PLANS.iter().find(|plan| plan.name == *name);
        let plan = plan.expect("a plan of this name");
        let report = search(plan, Some(*off), LIMIT, Order::Breadth, now);
        println!("without {off:?}: {report}");
        match report.counterexample {
            Some(found) if found.breach.rule == *broken => {}
            other => wrong.push((off, other.map(|found| found.breach))),
        }
    }
    assert!(wrong.is_empty(), "not noticed, or not as that: {wrong:?}");
}

/// The rule that is switched off, the plan in which it matters, and the
/// invariant that is found broken first.
const MUTATIONS: &[(Rule, &str, &str)] = &[
    (Rule::AnswerEnded, "one request, faults", "1 prompt"),
    (Rule::StartGrace, "one request, faults", "2 bounded"),
    (Rule::RollBack, "a transaction left open", "2 bounded"),
    (Rule::EndCopies, "a copy left open", "2 bounded"),
    (Rule::AimAgain, "a copy left open", "3 aimed"),
    (
        Rule::HoldWhileDraining,
        "two requests, asked late",
        "3 aimed",
    ),
    (Rule::AwaitEof, "one request, faults", "2 bounded"),
    (Rule::SpareCleanUp, "clean-up", "3 aimed"),
    (Rule::WriteCleanUpAlone, "clean-up", "3 aimed"),
    (Rule::OwnAwaitsEof, "a transaction left open", "3 aimed"),
    (Rule::HeedBreakOff, "one request, faults", "4 proven"),
    (
        Rule::HeedProxy,
        "a proxy that closes early, known",
        "4 proven",
    ),
    (Rule::AwaitTakingUp, "one request, faults", "4 proven"),
    (Rule::AwaitIdle, "a transaction left open", "4 proven"),
    (Rule::AwaitAnswers, "a deadline", "4 proven"),
    (Rule::Resend, "one request, faults", "5 persistent"),
    (
        Rule::RefuseQueued,
        "one request, faults",
        "6 nothing queued is missed",
    ),
    (Rule::AwaitPoll, "one request, faults", "4 proven"),
    (Rule::AwaitWholePoll, "two requests, asked late", "4 proven"),
    (
        Rule::FailTransaction,
        "an operation in a transaction",
        "6 nothing queued is missed",
    ),
    (
        Rule::SpareOthers,
        "two requests, asked late",
        "7 no collateral",
    ),
    (
        Rule::TellWorkLeft,
        "one request, faults",
        "8 nothing left behind",
    ),
    (Rule::OneAttempt, "one request, faults", "10 no storm"),
    (
        Rule::TellError,
        "two requests, asked late",
        "13 never a success",
    ),
    (
        Rule::LetFinishedRun,
        "two requests, asked late",
        "8 nothing left behind",
    ),
    (Rule::BoundFinished, "a deadline", "2 bounded"),
    (
        Rule::CancelAbandoned,
        "one request, faults",
        "6 nothing queued is missed",
    ),
    (
        Rule::LetRowsRun,
        "rows, finished and abandoned",
        "8 nothing left behind",
    ),
];

const LIMIT: usize = 150_000;
