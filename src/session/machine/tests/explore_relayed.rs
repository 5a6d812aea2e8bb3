//! The machine behind a relay, under random event sequences.
//!
//! A run is a seed, as in [`explore`](super::explore).

use std::time::Duration;

use super::super::*;
use super::explore::{cut, let_all_move_by, number};
use super::world::World;

#[test]
fn random_event_sequences_keep_the_rules_behind_a_relay() {
    if let Some(seed) = number("PGDEADLINE_RELAYED_SEED") {
        println!("{:?}", explore(seed));
        return;
    }
    let runs = number("PGDEADLINE_RUNS").unwrap_or(RUNS);
    let (mut clean, mut cancelled, mut back, mut lost) = (0, 0, 0, 0);
    for seed in 1..=runs {
        let ending = explore(seed);
        clean += u64::from(ending.retired.is_none());
        cancelled += u64::from(ending.cancels > 0);
        back += ending.came_back;
        lost += u64::from(ending.lost);
    }
    let tally = format!("{clean} clean, {cancelled} cancelled, {back} came back, {lost} lost");
    println!("{tally}");
    // Runs in which nothing happens prove nothing.
    assert!(clean > runs / 2 && cancelled > runs / 5, "{tally}");
    assert!(
        back > usize::try_from(runs).unwrap() && lost < runs / 4,
        "{tally}"
    );
}

/// How a run came out.
#[derive(Debug)]
struct Ending {
    retired: Option<Retired>,
    cancels: u32,
    came_back: usize,
    lost: bool,
}

fn explore(seed: u64) -> Ending {
    let mut world = World::relayed(seed);
    world.take_unheld();
    for _ in 0..STEPS {
        if world.is_retired() || world.is_lost() {
            break;
        }
        act(&mut world);
        world.assert_done_well();
    }
    come_to_rest(&mut world);
    let client = world.relayed.as_ref().expect("a relay's client");
    Ending {
        retired: world.pair.machine.retired.clone(),
        cancels: world.pair.machine.attempts,
        came_back: client.came_back,
        lost: client.lost,
    }
}

/// One thing happens.
fn act(world: &mut World) {
    world.bring_back(Duration::ZERO);
    let what = world.random.below(100);
    match what {
        0..22 => world.use_client(),
        22..40 => {
            let limit = cut(world, 60);
            world.poll_relayed(limit);
        }
        40..50 => {
            let len = cut(world, 40);
            world.backend.arrive(len);
        }
        50..66 => {
            world.backend.step(&mut world.random);
        }
        66..76 => {
            let len = cut(world, 40);
            world.read_client(usize::MAX);
            world.deliver_up(len);
        }
        76..84 if !world.attempts.is_empty() => {
            let which = world.random.below(world.attempts.len());
            world.step_attempt(which);
        }
        76..84 => world.use_client(),
        84..88 => world.end_one(),
        88 => world.hold_up(),
        89 => world.backend.notice(),
        90 if world.late_signals > 0 => {
            world.late_signals -= 1;
            world.signal();
        }
        90..92 => {
            world.read_client(usize::MAX);
            world.drive();
        }
        _ => {
            let most = if world.random.chance(5) { 700 } else { 30 };
            let time = Duration::from_millis(u64::try_from(world.random.below(most)).unwrap());
            world.pass_relayed(time);
        }
    }
}

/// Nothing is delayed any more. The client comes back, and the session serves the
/// next one; or it leaves, and the session has nothing more to do.
fn come_to_rest(world: &mut World) {
    world.held_up = false;
    world.faults = false;
    if world.is_retired() {
        return;
    }
    if !world.is_lost() && world.random.chance(70) {
        world.return_now();
    } else if !world.leave() {
        return;
    }
    let had_begun = world.pair.machine.timers.get(Timer::Grace).is_some();
    for _ in 0..LIMIT {
        if let Some(why) = world.pair.machine.retired.clone() {
            let called_for = match why {
                Retired::Grace | Retired::Stalled => had_begun,
                _ => true,
            };
            assert!(called_for, "retired without a need: {why:?}");
            return;
        }
        // It may be lost, and leave, on its way back.
        if world.is_lost() && !world.has_left() && !world.leave() {
            return;
        }
        if let_all_move(world) || world.is_retired() {
            continue;
        }
        if world.has_left() && world.pair.machine.may_leave() {
            return world.assert_left_well();
        }
        if !world.has_left() && world.is_back() {
            return use_again(world);
        }
        let due = world.pair.machine.poll_timeout();
        let due = due.expect("no way to become clean");
        world.pass_relayed(due - world.now().min(due));
    }
    panic!("does not come to rest");
}

/// Does all that can be done without time passing. Was there anything?
fn let_all_move(world: &mut World) -> bool {
    let_all_move_by(world, |world| world.poll_relayed(usize::MAX))
}

/// The next holder gets what it asks for.
fn use_again(world: &mut World) {
    for (number, answered) in world.requests.iter().enumerate() {
        assert_eq!(answered.answers, 1, "{number} is not answered once");
    }
    let number = world.take_again();
    for _ in 0..4 {
        let_all_move(world);
    }
    assert!(world.is_served(number), "{:?}", world.requests[number]);
    assert_eq!(world.pair.machine.retired, None);
}

/// A few seconds of them, unoptimized.
const RUNS: u64 = 10_000;
const STEPS: usize = 90;
/// More rounds than any run needs to come to rest.
const LIMIT: usize = 2_000;
