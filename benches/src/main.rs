//! What a deadline costs: each door beside the bare stack.
//!
//! 1. Times are ratios within one run: the stacks take turns, batch by batch, so
//!    that whatever else the machine does falls on all of them. A ratio is the
//!    median of the rounds' own ratios; beside it stand its quartiles.
//! 2. Instructions are counted by callgrind, as the difference of a long and a
//!    short run of this same program on a runtime of one thread: the start and
//!    the connects cancel out. They repeat where times don't.
//! 3. Memory is what a hundred connections more take, as the system counts it.

mod cases;
mod instructions;
mod memory;
mod report;
mod stacks;
mod times;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use pgdeadline_demo::postgres::Postgres;

use crate::cases::Case;
use crate::stacks::Stack;

/// What pgdeadline costs, next to the bare stacks in the same run.
///
/// With no option it finds or starts a PostgreSQL by itself, as `cargo demo` does.
#[derive(Debug, Parser)]
#[command(name = "cargo bench-all", bin_name = "cargo bench-all")]
struct Args {
    /// A server to use, without TLS
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true)]
    url: Option<String>,

    /// How many rounds of each case
    #[arg(long, default_value_t = 41, global = true)]
    rounds: usize,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ratios of times only
    Times,
    /// Instructions only (needs valgrind)
    Instructions,
    /// Memory of a connection only
    Memory,
    /// One case on one stack, so often: what the others measure
    #[command(hide = true)]
    Once {
        case: Case,
        stack: Stack,
        count: usize,
    },
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    if let Some(Command::Once { case, stack, count }) = args.command {
        let url = args.url.unwrap_or_default();
        return cases::once(case, stack, count, &url.parse()?);
    }
    let postgres = runtime.block_on(Postgres::find(args.url.as_deref(), false))?;
    println!("{postgres}\n");
    let config = postgres.config();
    let all = args.command.is_none();
    if all || matches!(args.command, Some(Command::Instructions)) {
        report::instructions(&instructions::measure(config)?);
    }
    if all || matches!(args.command, Some(Command::Times)) {
        report::times(&times::measure(config, args.rounds)?);
    }
    if all || matches!(args.command, Some(Command::Memory)) {
        report::memory(&memory::measure(config)?);
    }
    Ok(())
}
