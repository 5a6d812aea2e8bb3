//! All states that a world can reach, each looked at once.
//!
//! A small search of our own and not one of the well-kept checkers: rule 2 is
//! about the whole graph (no cycle; every path ends well; a good end stays
//! reachable), for which its edges have to be kept, and stateright's
//! `eventually` is, as its documentation says, not sound where paths join.
//! A state is known by 64 bits of its canonical form: among ten million, two
//! are taken for one with a chance of 1 in 300,000.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use super::super::*;
use super::plan::Plan;
use super::server::Move;
use super::steps::{Cut, Step};
use super::words::Kind;
use super::world::{Breach, World};

/// How a search came out.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) plan: &'static str,
    pub(super) states: usize,
    pub(super) steps: usize,
    /// All that the plan's bounds allow.
    pub(super) whole: bool,
    pub(super) counterexample: Option<Counterexample>,
}

#[derive(Clone, Debug)]
pub(super) struct Counterexample {
    pub(super) breach: Breach,
    pub(super) trace: Vec<Step>,
}

/// Shortest traces first, or little memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Breadth,
    Depth,
}

/// Looks at no more than `limit` states.
pub(super) fn search(
    plan: &'static Plan,
    off: Option<Rule>,
    limit: usize,
    order: Order,
    now: Instant,
) -> Report {
    let mut graph = Graph::default();
    let mut waiting = VecDeque::new();
    let mut first = World::new(plan, now, off);
    if plan.begun {
        for step in BEGUN {
            first = first.after(*step).expect("a transaction begins");
        }
    }
    graph.add(&first, None);
    waiting.push_back((0, first));
    let (mut steps, mut targets) = (Vec::new(), Vec::new());
    let mut counterexample = None;
    while let Some((from, world)) = match order {
        Order::Breadth => waiting.pop_front(),
        Order::Depth => waiting.pop_back(),
    } {
        if graph.ways.len() >= limit {
            graph.whole = false;
            break;
        }
        world.steps(&mut steps);
        targets.clear();
        for step in &steps {
            match world.after(*step) {
                Ok(next) => {
                    let (to, new) = graph.add(&next, Some((from, *step)));
                    targets.push(to);
                    if new {
                        waiting.push_back((to, next));
                    }
                }
                Err(breach) => {
                    let mut trace = graph.trace(from);
                    trace.push(*step);
                    graph.whole = false;
                    counterexample = Some(Counterexample { breach, trace });
                    break;
                }
            }
        }
        if counterexample.is_some() {
            break;
        }
        if steps.is_empty() && graph.ends[from as usize] == End::No {
            let how = "nothing can happen, and it is neither clean nor retired".into();
            counterexample = Some(graph.counterexample(from, how));
            break;
        }
        graph.leads(from, &targets);
    }
    if counterexample.is_none() {
        counterexample = graph.rule_2_bounded();
    }
    Report {
        plan: plan.name,
        states: graph.ways.len(),
        steps: graph.edges.len(),
        whole: graph.whole,
        counterexample,
    }
}

/// The states that were found, and where each leads.
struct Graph {
    known: HashMap<u64, u32, BuildHasherDefault<Plain>>,
    /// How each was found first.
    ways: Vec<Option<(u32, Step)>>,
    ends: Vec<End>,
    /// Where in `edges` those of a state are.
    leads: Vec<(usize, u32)>,
    edges: Vec<u32>,
    whole: bool,
}

impl Default for Graph {
    fn default() -> Self {
        Graph {
            known: HashMap::default(),
            ways: Vec::new(),
            ends: Vec::new(),
            leads: Vec::new(),
            edges: Vec::new(),
            whole: true,
        }
    }
}

impl Graph {
    fn add(&mut self, world: &World, way: Option<(u32, Step)>) -> (u32, bool) {
        let mut hasher = Fingerprint::default();
        world.hash(&mut hasher);
        let number = u32::try_from(self.ways.len()).expect("fewer states");
        match *self.known.entry(hasher.finish()).or_insert(number) {
            known if known == number => {
                self.ways.push(way);
                self.ends.push(world.end_of_it());
                self.leads.push((UNKNOWN, 0));
                (number, true)
            }
            known => (known, false),
        }
    }

    fn leads(&mut self, from: u32, to: &[u32]) {
        let count = u32::try_from(to.len()).expect("few steps");
        self.leads[from as usize] = (self.edges.len(), count);
        self.edges.extend_from_slice(to);
    }

    fn targets(&self, from: usize) -> Option<&[u32]> {
        let (at, count) = self.leads[from];
        (at != UNKNOWN).then(|| &self.edges[at..at + count as usize])
    }

    fn trace(&self, mut at: u32) -> Vec<Step> {
        let mut trace = Vec::new();
        while let Some((from, step)) = self.ways[at as usize] {
            trace.push(step);
            at = from;
        }
        trace.reverse();
        trace
    }

    fn counterexample(&self, at: u32, how: String) -> Counterexample {
        let rule = "2 bounded";
        Counterexample {
            breach: Breach { rule, how },
            trace: self.trace(at),
        }
    }

    /// Nothing goes round for ever, so every path ends; and from every state the
    /// session can become clean, or be retired for another reason than its grace.
    fn rule_2_bounded(&self) -> Option<Counterexample> {
        let states = self.ways.len();
        let mut comers = vec![0_u32; states];
        self.edges.iter().for_each(|to| comers[*to as usize] += 1);
        let mut free: Vec<usize> = (0..states).filter(|at| comers[*at] == 0).collect();
        let mut order = Vec::with_capacity(states);
        while let Some(at) = free.pop() {
            order.push(at);
            for to in self.targets(at).unwrap_or_default() {
                comers[*to as usize] -= 1;
                if comers[*to as usize] == 0 {
                    free.push(*to as usize);
                }
            }
        }
        let cycle = (0..states).find(|at| comers[*at] > 0);
        if let Some(at) = cycle {
            let at = u32::try_from(at).expect("fewer states");
            return Some(self.counterexample(at, "from here it can go round for ever".into()));
        }
        // To run out of time is an end, and none to rely on.
        let mut ends_well: Vec<bool> = self.ends.iter().map(|end| *end == End::Good).collect();
        for at in order.into_iter().rev() {
            let well = match self.targets(at) {
                Some(targets) => targets.iter().any(|to| ends_well[*to as usize]),
                // Nobody has looked.
                None => true,
            };
            ends_well[at] |= well;
        }
        let bad = |at: &usize| !ends_well[*at] && self.ends[*at] == End::No;
        let at = (0..states).find(bad)?;
        let at = u32::try_from(at).expect("fewer states");
        let how = "only the grace can end this";
        Some(self.counterexample(at, how.into()))
    }
}

impl World {
    /// Clean, retired for another reason than that the time was over, or about
    /// to be closed behind a client that is gone.
    fn end_of_it(&self) -> End {
        let gone = self.client_gone && self.client_rests() && self.flying().next().is_none();
        match &self.machine.retired {
            Some(Retired::Grace) => End::OutOfTime,
            Some(_) => End::Good,
            None if self.check_out.is_none() && (self.machine.is_clean() || gone) => End::Good,
            None => End::No,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = if self.whole { "all" } else { "the first" };
        let Report {
            plan,
            states,
            steps,
            ..
        } = self;
        write!(f, "{plan}: {all} {states} states, {steps} steps")?;
        match &self.counterexample {
            Some(found) => write!(f, "\n{found}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Breach { rule, how } = &self.breach;
        writeln!(f, "  {rule}: {how}")?;
        for step in &self.trace {
            writeln!(f, "    {step}")?;
        }
        Ok(())
    }
}

/// Does a path end here, and how?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    No,
    Good,
    /// Retired since the grace was over.
    OutOfTime,
}

/// From a check-out to its open transaction.
const BEGUN: &[Step] = &[
    Step::Asks(Kind::Begin),
    Step::PollBegins,
    Step::Writes(Cut::Whole),
    Step::PollEnds,
    Step::Server(Move::Read),
    Step::Server(Move::Complete),
    Step::Receives(Cut::Whole),
    Step::Receives(Cut::Whole),
    Step::TakesUp,
];

/// Not looked at.
const UNKNOWN: usize = usize::MAX;

/// What is hashed is a hash.
#[derive(Default)]
struct Plain(u64);

impl Hasher for Plain {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a key is a number");
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// 64 bits of all that is written: words are mixed in by a multiplication of
/// double width (as wyhash and its kin do).
struct Fingerprint {
    state: u64,
    words: u64,
}

impl Default for Fingerprint {
    fn default() -> Self {
        Fingerprint {
            state: 0x9e37_79b9_7f4a_7c15,
            words: 0,
        }
    }
}

impl Fingerprint {
    fn mix(&mut self, word: u64) {
        self.words = self.words.wrapping_add(0xa076_1d64_78bd_642f);
        self.state = fold(self.state ^ word, self.words | 1).rotate_left(23) ^ word;
    }
}

fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    (wide as u64) ^ ((wide >> 64) as u64)
}

impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        fold(
            self.state ^ 0xe703_7ed1_a0b4_28db,
            0x8ebc_6af0_9c88_c6e3 ^ self.words,
        )
    }

    fn write(&mut self, bytes: &[u8]) {
        for word in bytes.chunks(8) {
            let mut padded = [0; 8];
            padded[..word.len()].copy_from_slice(word);
            self.mix(u64::from_le_bytes(padded));
        }
        self.mix(bytes.len() as u64);
    }

    fn write_u8(&mut self, n: u8) {
        self.mix(n.into());
    }

    fn write_u32(&mut self, n: u32) {
        self.mix(n.into());
    }

    fn write_u64(&mut self, n: u64) {
        self.mix(n);
    }

    fn write_usize(&mut self, n: usize) {
        self.mix(n as u64);
    }
}
