//! The machine under random event sequences.
//!
//! A run is a seed: `PGDEADLINE_SEED=n` replays one, `PGDEADLINE_RUNS=n` makes
//! more than the usual number of them.

use std::time::Duration;

use super::super::*;
use super::world::World;

#[test]
fn random_event_sequences_keep_the_rules() {
    if let Some(seed) = number("PGDEADLINE_SEED") {
        return run(seed);
    }
    let runs = number("PGDEADLINE_RUNS").unwrap_or(RUNS);
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    let tally = std::thread::scope(|scope| {
        let shares: Vec<_> = (0..threads)
            .map(|first| scope.spawn(move || share(first, threads, runs)))
            .collect();
        let tallies = shares
            .into_iter()
            .map(|share| share.join().expect("a run that keeps the rules"));
        tallies.reduce(Tally::and).unwrap_or_default()
    });
    println!("{tally:?}");
    tally.assert_means_something(runs);
}

/// One thread's share of the runs `1..=runs`.
fn share(first: usize, threads: usize, runs: u64) -> Tally {
    let mut tally = Tally::default();
    let seeds = (1..=runs).skip(first).step_by(threads);
    seeds.for_each(|seed| tally.add(&explore(seed)));
    tally
}

fn run(seed: u64) {
    println!("{:?}", explore(seed));
}

pub(super) fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// How a run came out.
#[derive(Debug)]
struct Ending {
    retired: Option<Retired>,
    cancels: u32,
    requests: usize,
}

/// What all runs did, to know that they did something.
#[derive(Debug, Default)]
struct Tally {
    clean: u64,
    retired: u64,
    cancelled: u64,
    cancelled_and_clean: u64,
    requests: usize,
}

impl Tally {
    fn add(&mut self, ending: &Ending) {
        let clean = ending.retired.is_none();
        let cancelled = ending.cancels > 0;
        self.clean += u64::from(clean);
        self.retired += u64::from(!clean);
        self.cancelled += u64::from(cancelled);
        self.cancelled_and_clean += u64::from(cancelled && clean);
        self.requests += ending.requests;
    }

    fn and(self, other: Tally) -> Tally {
        Tally {
            clean: self.clean + other.clean,
            retired: self.retired + other.retired,
            cancelled: self.cancelled + other.cancelled,
            cancelled_and_clean: self.cancelled_and_clean + other.cancelled_and_clean,
            requests: self.requests + other.requests,
        }
    }

    /// Runs in which nothing happens prove nothing.
    fn assert_means_something(&self, runs: u64) {
        assert!(self.cancelled > runs / 5, "{self:?}");
        assert!(self.cancelled_and_clean > self.cancelled / 2, "{self:?}");
    }
}

fn explore(seed: u64) -> Ending {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        if world.is_retired() {
            break;
        }
        act(&mut world);
        world.assert_done_well();
    }
    come_to_rest(&mut world);
    Ending {
        retired: world.pair.machine.retired.clone(),
        cancels: world.pair.machine.attempts,
        requests: world.requests.len(),
    }
}

/// One thing happens.
fn act(world: &mut World) {
    let what = world.random.below(100);
    match what {
        0..15 => world.ask(),
        15..33 => {
            let limit = cut(world, 60);
            world.poll(limit);
        }
        33..45 => {
            let len = cut(world, 40);
            world.backend.arrive(len);
        }
        45..61 => {
            world.backend.step(&mut world.random);
        }
        61..73 => {
            let len = cut(world, 40);
            world.deliver_up(len);
        }
        73..82 if !world.attempts.is_empty() => {
            let which = world.random.below(world.attempts.len());
            world.step_attempt(which);
        }
        73..76 => world.begin_operation(),
        76..78 => world.leave_operation(),
        78..82 => world.use_sink(),
        82..86 => end_somebody(world),
        86 => finish_somebody(world),
        87..89 => world.drop_sink(),
        89..92 => check_out_or_in(world),
        92 => world.hold_up(),
        93 if world.random.chance(20) => world.cancel_on_demand(),
        93 => world.backend.notice(),
        94 if world.late_signals > 0 => {
            world.late_signals -= 1;
            world.signal();
        }
        94 => world.drive(),
        _ => {
            let most = if world.random.chance(5) { 700 } else { 30 };
            let time = u64::try_from(world.random.below(most)).unwrap();
            world.pass(Duration::from_millis(time));
        }
    }
}

/// A length that often cuts a message, and often does not.
pub(super) fn cut(world: &mut World, most: usize) -> usize {
    if world.random.chance(50) {
        usize::MAX
    } else {
        1 + world.random.below(most)
    }
}

fn end_somebody(world: &mut World) {
    let live = living(world);
    if !live.is_empty() {
        let which = live[world.random.below(live.len())];
        world.end(which);
    }
}

fn finish_somebody(world: &mut World) {
    let live = living(world);
    if !live.is_empty() {
        let which = live[world.random.below(live.len())];
        // An operation in the check-out's place finishes as it leaves.
        if Some(which) != world.operation {
            world.finish(which);
        }
    }
}

fn living(world: &World) -> Vec<usize> {
    let held = [world.check_out, world.operation];
    let is_live = |holder: &usize| {
        let state = &world.holders[*holder];
        let within = state.parent.is_some() && held.contains(&state.parent);
        !world.has_ended(*holder) && !state.finished && (within || held.contains(&Some(*holder)))
    };
    (0..world.holders.len()).filter(is_live).collect()
}

fn check_out_or_in(world: &mut World) {
    if world.check_out.is_some() {
        world.release();
    } else {
        let ended = world.random.chance(10);
        world.begin_check_out(ended);
    }
}

/// Everybody lets go, nothing is delayed any more: the session has to become
/// clean by itself, without its grace.
fn come_to_rest(world: &mut World) {
    world.held_up = false;
    world.faults = false;
    world.release();
    if world.is_retired() {
        return;
    }
    // What was held up for long before may run into its bound now.
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
        if let_all_move(world) || world.is_retired() {
            continue;
        }
        if world.pair.machine.is_clean() {
            return use_again(world);
        }
        let due = world.pair.machine.poll_timeout();
        let due = due.expect("no way to become clean");
        world.pass(due - world.now().min(due));
    }
    panic!("does not come to rest");
}

/// Does all that can be done without time passing. Was there anything?
fn let_all_move(world: &mut World) -> bool {
    let_all_move_by(world, |world| world.poll(usize::MAX))
}

/// Does all that can be done without time passing, where the client's task
/// is polled so. Was there anything?
pub(super) fn let_all_move_by(world: &mut World, poll: impl FnOnce(&mut World)) -> bool {
    let left = |world: &World| {
        (
            world.backend.on_the_way(),
            world.backend.said(),
            world.attempts.len(),
            world.unanswered.len(),
        )
    };
    let before = left(world);
    poll(world);
    world.drive();
    let mut moved = before != left(world);
    world.backend.arrive(usize::MAX);
    while world.backend.step(&mut world.random) {
        world.assert_done_well();
        moved = true;
    }
    while !world.attempts.is_empty() {
        world.step_attempt(0);
        world.backend.step(&mut world.random);
        moved = true;
    }
    while world.late_signals > 0 {
        world.late_signals -= 1;
        world.signal();
    }
    moved |= world.backend.said() > 0;
    world.deliver_up(usize::MAX);
    moved
}

/// The next check-out gets what it asks for.
fn use_again(world: &mut World) {
    for answered in &world.requests {
        assert_eq!(answered.answers, 1, "not answered once: {answered:?}");
    }
    assert!(world.begin_check_out(false));
    let number = world.requests.len();
    world.ask_text("work");
    for _ in 0..4 {
        let_all_move(world);
    }
    let asked = &world.requests[number];
    assert!(asked.answers == 1 && !asked.error_up, "{asked:?}");
    assert_eq!(world.pair.machine.retired, None);
}

/// A few seconds of them, unoptimized.
const RUNS: u64 = 20_000;
const STEPS: usize = 70;
/// More rounds than any run needs to come to rest.
const LIMIT: usize = 2_000;
