//! Each rule switched off in turn: the search has to notice.

use super::super::{Instant, Rule};
use super::explore::PLANS;
use super::search::{Order, search};

#[test]
fn each_rule_that_is_switched_off_is_noticed() {
    let now = Instant::now();
    let mut missed = Vec::new();
    for rule in ALL {
        let found = PLANS.iter().find_map(|plan| {
            let report = search(plan, Some(*rule), LIMIT, Order::Breadth, now);
            report.counterexample.is_some().then_some(report)
        });
        match found {
            Some(report) => println!("without {rule:?}: {report}"),
            None => missed.push(rule),
        }
    }
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}

const ALL: &[Rule] = &[
    Rule::AnswerEnded,
    Rule::StartGrace,
    Rule::RollBack,
    Rule::EndCopies,
    Rule::AimAgain,
    Rule::HoldWhileDraining,
    Rule::AwaitEof,
    Rule::SpareCleanUp,
    Rule::WriteCleanUpAlone,
    Rule::OwnAwaitsEof,
    Rule::HeedBreakOff,
    Rule::HeedProxy,
    Rule::AwaitTakingUp,
    Rule::AwaitIdle,
    Rule::AwaitAnswers,
    Rule::Resend,
    Rule::RefuseQueued,
    Rule::AwaitPoll,
    Rule::AwaitWholePoll,
    Rule::FailTransaction,
    Rule::SpareOthers,
    Rule::TellWorkLeft,
    Rule::OneAttempt,
    Rule::TellError,
    Rule::LetFinishedRun,
    Rule::BoundFinished,
    Rule::CancelAbandoned,
    Rule::LetRowsRun,
];

const LIMIT: usize = 50_000;
