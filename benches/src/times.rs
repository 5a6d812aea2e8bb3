//! Ratios of times: the stacks take turns.

use anyhow::Result;
use tokio_postgres::Config;

use crate::cases::{Bench, Case, runtime};
use crate::stacks::Stack;

/// One stack's figures in one case.
pub(crate) struct Timed {
    pub(crate) case: Case,
    pub(crate) stack: Stack,
    /// Microseconds an operation, median.
    pub(crate) micros: f64,
    /// To the bare stack of the same round: lower quartile, median, upper
    /// quartile.
    pub(crate) ratio: [f64; 3],
}

pub(crate) fn measure(config: &Config, rounds: usize) -> Result<Vec<Timed>> {
    let mut all = Vec::new();
    for case in Case::ALL {
        for stacks in [&Stack::DEADPOOL[..], &Stack::SQLX[..]] {
            eprintln!("... {} on {} and others", case.title(), stacks[0].title());
            let rounds = if case == Case::Rows {
                rounds.div_ceil(4)
            } else {
                rounds
            };
            all.extend(runtime(case, false)?.block_on(compare(case, stacks, config, rounds))?);
        }
    }
    Ok(all)
}

async fn compare(
    case: Case,
    stacks: &[Stack],
    config: &Config,
    rounds: usize,
) -> Result<Vec<Timed>> {
    let mut benches = Vec::new();
    for stack in stacks {
        benches.push(Bench::new(case, *stack, config).await?);
    }
    let mut took = vec![Vec::new(); stacks.len()];
    for round in 0..rounds {
        // Each goes first at times.
        for turn in 0..stacks.len() {
            let which = (round + turn) % stacks.len();
            let time = benches[which].batch(case.batch()).await?;
            took[which].push(time.as_secs_f64() * 1e6 / case.batch() as f64);
        }
    }
    let bare = took[0].clone();
    let timed = stacks.iter().zip(took).map(|(stack, took)| Timed {
        case,
        stack: *stack,
        ratio: quartiles(
            took.iter()
                .zip(&bare)
                .map(|(took, bare)| took / bare)
                .collect(),
        ),
        micros: quartiles(took)[1],
    });
    Ok(timed.collect())
}

fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
}
