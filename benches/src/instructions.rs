//! Instructions of the client, by callgrind.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::cases::Case;
use crate::stacks::Stack;

/// One stack's instructions an operation.
pub(crate) struct Counted {
    pub(crate) case: Case,
    pub(crate) stack: Stack,
    pub(crate) instructions: u64,
}

pub(crate) fn measure(config: &Config) -> Result<Vec<Counted>> {
    let mut all = Vec::new();
    for case in [Case::Sequential, Case::Transaction] {
        for stack in Stack::DEADPOOL.into_iter().chain(Stack::SQLX) {
            eprintln!("... instructions of {} on {}", case.title(), stack.title());
            let short = count(case, stack, SHORT, config)?;
            let long = count(case, stack, LONG, config)?;
            let instructions = long.saturating_sub(short) / (LONG - SHORT) as u64;
            all.push(Counted {
                case,
                stack,
                instructions,
            });
        }
    }
    Ok(all)
}

fn count(case: Case, stack: Stack, operations: usize, config: &Config) -> Result<u64> {
    let out = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args([
            "--url",
            &url(config)?,
            "once",
            &format!("{case:?}"),
            &stack.name(),
        ])
        .arg(operations.to_string())
        .output()
        .context("valgrind can't be run: install it (Debian: apt-get install valgrind)")?;
    let text = String::from_utf8_lossy(&out.stderr);
    if !out.status.success() {
        bail!("valgrind failed: {text}");
    }
    let collected = text
        .lines()
        .find_map(|line| line.split("Collected : ").nth(1));
    let number = collected.and_then(|number| number.trim().parse().ok());
    number.with_context(|| format!("valgrind did not say how many instructions: {text}"))
}

fn url(config: &Config) -> Result<String> {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        Some(Host::Unix(directory)) => directory.display().to_string(),
        None => bail!("the server has no host"),
    };
    let mut url = format!(
        "host='{host}' port={} user='{}' dbname='{}'",
        config.get_ports().first().unwrap_or(&5432),
        config.get_user().unwrap_or("postgres"),
        config.get_dbname().unwrap_or("postgres"),
    );
    if let Some(password) = config.get_password() {
        url += &format!(" password='{}'", std::str::from_utf8(password)?);
    }
    Ok(url)
}

const SHORT: usize = 100;
const LONG: usize = 1_100;
