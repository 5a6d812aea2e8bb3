//! Bare deadpool and sqlx beside the same pools through pgdeadline, on a real
//! PostgreSQL.
//!
//! 1. Whatever ends the demo (its own end, an error, a panic, SIGINT or
//!    SIGTERM), what it started and what it made is gone afterwards: the work
//!    is a task of its own, and the tidying comes after that task, whatever
//!    became of it.
//! 2. It exits with 1 when pgdeadline missed: a caller or a server later than
//!    5 s, another backend where the old one's connection was sound, a late
//!    or stored statement, an end told as success; at whichever door.

mod args;
mod blackhole;
mod promptness;
mod race;
mod scenario;
mod stack;
mod table;
mod trace;
mod trial;
mod verdict;
mod watch;

use std::convert::identity;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;
use tokio_postgres::Config;

use crate::args::{Args, Command};
use crate::promptness::Promptness;
use crate::scenario::{Scenario, Stage};
use crate::stack::{ACQUIRE_TIMEOUT, Door, Stack};
use crate::trace::CancelsSent;
use crate::watch::Watch;
use pgdeadline_demo::postgres::{self, Postgres};

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    match demo(args).await {
        Ok(Finish::Kept) => ExitCode::SUCCESS,
        Ok(Finish::Missed) => ExitCode::FAILURE,
        Ok(Finish::Signal(number)) => ExitCode::from(128 + number),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

enum Finish {
    /// pgdeadline kept its word.
    Kept,
    Missed,
    Signal(u8),
}

async fn demo(args: Args) -> Result<Finish> {
    // Before anything is started that would have to be stopped.
    let mut signals = Signals::new()?;
    let sent = trace::listen(args.verbose);
    let postgres = tokio::select! {
        found = Postgres::find(args.named_server(), args.docker) => found?,
        number = signals.next() => return Ok(Finish::Signal(number)),
    };
    println!("{postgres}");
    let config = postgres.config().clone();
    let mut work = tokio::spawn(run(args, config.clone(), sent));
    let finish = tokio::select! {
        done = &mut work => done.context("the demo broke off").and_then(identity),
        number = signals.next() => {
            eprintln!("Stopping.");
            work.abort();
            Ok(Finish::Signal(number))
        }
    };
    if postgres.is_borrowed()
        && let Ok(Err(error)) = timeout(TIDY_BOUND, tidy(&config)).await
    {
        eprintln!("warning: the server could not be tidied up: {error:#}");
    }
    finish
}

async fn run(args: Args, config: Config, sent: CancelsSent) -> Result<Finish> {
    let stage = set(config).await?;
    let misses = match args.command {
        Some(Command::Race { rounds, door }) => race(door, rounds, &stage, &sent).await?,
        None => side_by_side(args.rounds, &stage).await?,
    };
    if misses.is_empty() {
        return Ok(Finish::Kept);
    }
    println!("\npgdeadline MISSED:");
    for miss in misses {
        println!("  - {miss}");
    }
    Ok(Finish::Missed)
}

async fn side_by_side(rounds: usize, stage: &Stage) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for scenario in Scenario::ALL {
        eprintln!("... {}, on each stack", scenario.title());
        for stack in Stack::ALL {
            all.push(scenario.play(stack, stage).await?);
        }
    }
    let intro = format!(
        "Each stack has a pool of one connection, and each query is ended after {}. Times count \
         from that end. Bare sqlx has an acquire_timeout of {}, in place of its default of 30 s.",
        table::span(scenario::LIMIT),
        table::span(ACQUIRE_TIMEOUT),
    );
    println!("\n{}\n", table::wrapped(&intro));
    println!("{}\n\n{}\n", table::times(&all), table::words(&all));
    for door in Door::ALL {
        println!("{}\n", table::wrapped(&verdict::verdict(door, &all)));
    }
    let ours = all
        .iter()
        .filter(|played| matches!(played.stack, Stack::Pgdeadline(_)));
    let mut misses: Vec<String> = ours
        .flat_map(|played| {
            let (title, stack) = (played.scenario.title(), played.stack.name());
            let misses = played.misses().into_iter();
            misses.map(move |miss| format!("{title}, {stack}: {miss}"))
        })
        .collect();
    if rounds > 0 {
        let mut measured = Vec::new();
        for door in Door::ALL {
            eprintln!(
                "... {rounds} deadlines of 100 ms on {}, held by `run`, and as many that are only \
                 ambient",
                Stack::Pgdeadline(door).name()
            );
            measured.push(promptness::measure(door, rounds, stage).await?);
        }
        println!("\n{}", promptness::figures(&measured));
        misses.extend(measured.iter().flat_map(Promptness::misses));
    }
    Ok(misses)
}

async fn race(
    door: Option<Door>,
    rounds: usize,
    stage: &Stage,
    sent: &CancelsSent,
) -> Result<Vec<String>> {
    let mut misses = Vec::new();
    for door in Door::ALL
        .into_iter()
        .filter(|each| door.is_none_or(|one| one == *each))
    {
        let stack = Stack::Pgdeadline(door).name();
        let tally = race::run(door, rounds, stage, sent).await?;
        println!("\n{stack}:\n{}", tally.table());
        let missed = tally.misses().into_iter();
        misses.extend(missed.map(|miss| format!("{stack}: {miss}")));
    }
    Ok(misses)
}

async fn set(config: Config) -> Result<Stage> {
    let watch = Watch::connect(&config).await?;
    let table = table_name();
    watch
        .execute(&format!(
            "CREATE TABLE {table} (n integer NOT NULL); INSERT INTO {table} VALUES (0)"
        ))
        .await
        .context("the demo's own table can't be made")?;
    Ok(Stage {
        config,
        watch,
        table,
    })
}

/// Leaves nothing in a server that is somebody else's.
async fn tidy(config: &Config) -> Result<()> {
    let watch = Watch::connect(config).await?;
    watch.terminate("").await?;
    let table = table_name();
    watch
        .execute(&format!("DROP TABLE IF EXISTS {table}"))
        .await
}

fn table_name() -> String {
    format!("pgdeadline_demo_{}", std::process::id())
}

/// The signals that ask for an end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// The number of the next one.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
        }
    }
}

/// Tidying is three small statements.
const TIDY_BOUND: Duration = Duration::from_secs(10);
