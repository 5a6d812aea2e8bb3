//! Promptness in figures: many deadlines in a row, and how late everybody was.

use std::time::Duration;

use anyhow::Result;
use comfy_table::Table;

use crate::scenario::Stage;
use crate::stack::{Ending, Stack};
use crate::table::{span, table};
use crate::trial::{Next, Report, Server, Trial, backend};
use crate::watch;

/// What was measured over all rounds.
#[derive(Debug, Default)]
pub(crate) struct Promptness {
    caller: Vec<Duration>,
    ambient_caller: Vec<Duration>,
    server: Vec<Duration>,
    next: Vec<Duration>,
    rounds: usize,
    same_backend: usize,
    misses: Vec<String>,
}

/// Runs `rounds` deadlines of 100 ms under `run`, and as many of which only the
/// ambient context knows.
pub(crate) async fn measure(rounds: usize, stage: &Stage) -> Result<Promptness> {
    let mut figures = Promptness::default();
    for ending in [Ending::Deadline, Ending::AmbientDeadline] {
        let name = format!("promptness {ending:?}");
        let pool = Stack::Pgdeadline.pool(watch::named(&stage.config, &name))?;
        let trial = Trial {
            stack: Stack::Pgdeadline,
            ending,
            limit: LIMIT,
            statement: "SELECT pg_sleep(30)",
        };
        let mut current = backend(&pool).await?;
        for _ in 0..rounds {
            let report = trial
                .run(&pool, current, &stage.watch, async |_| ())
                .await?;
            figures.add(ending, current, &report);
            match report.next {
                Next::Served { backend, .. } => current = backend,
                // It has been noted; more rounds would only take longer to
                // say the same.
                Next::NotWithin(_) | Next::Failed(_) => break,
            }
        }
        stage.watch.terminate(&name).await?;
    }
    Ok(figures)
}

impl Promptness {
    /// What is less than pgdeadline promises to everybody, on any machine.
    pub(crate) fn misses(&self) -> Vec<String> {
        let mut misses = self.misses.clone();
        if self.same_backend < self.rounds {
            misses.push(format!(
                "only {} of {} queries were served by the same backend as before",
                self.same_backend, self.rounds
            ));
        }
        misses
    }

    /// The figures beside the marks that an idle machine should reach.
    pub(crate) fn table(&self) -> Table {
        let mut table = table(&["after the end", "p50", "p99", "mark on an idle machine"]);
        for (what, times, mark) in [
            ("caller back", &self.caller, "p50 2 ms, p99 5 ms"),
            (
                "caller back, deadline only ambient",
                &self.ambient_caller,
                "p50 5 ms",
            ),
            ("server stopped", &self.server, "p50 10 ms"),
            ("next query answered, from its asking", &self.next, "20 ms"),
        ] {
            table.add_row([
                what.to_owned(),
                percentile(times, 50),
                percentile(times, 99),
                mark.to_owned(),
            ]);
        }
        table.add_row([
            "same backend serves on".to_owned(),
            format!("{} of {}", self.same_backend, self.rounds),
            String::new(),
            "all".to_owned(),
        ]);
        table
    }

    fn add(&mut self, ending: Ending, backend_before: i32, report: &Report) {
        self.rounds += 1;
        match ending {
            Ending::AmbientDeadline => self.ambient_caller.push(report.caller),
            _ => self.caller.push(report.caller),
        }
        if let Server::After(after) = report.server {
            self.server.push(after);
        }
        if let Next::Served {
            waited, backend, ..
        } = report.next
        {
            self.next.push(waited);
            self.same_backend += usize::from(backend == backend_before);
        }
        self.misses.extend(report.misses());
    }
}

/// The nearest-rank percentile, or a dash where nothing was measured.
fn percentile(times: &[Duration], rank: usize) -> String {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let index = (sorted.len() * rank).div_ceil(100).saturating_sub(1);
    sorted.get(index).map_or("-".to_owned(), |time| span(*time))
}

const LIMIT: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::Outcome;

    fn report(millis: u64, backend: i32) -> Report {
        let time = Duration::from_millis(millis);
        Report {
            caller: time,
            outcome: Outcome::Ended("deadline".into()),
            server: Server::After(time * 2),
            next: Next::Served {
                after: time * 4,
                waited: time * 3,
                backend,
            },
        }
    }

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let times: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 50), "50 ms");
        assert_eq!(percentile(&times, 99), "99 ms");
        assert_eq!(percentile(&times[..1], 50), "100 ms");
        assert_eq!(percentile(&[], 50), "-");
    }

    #[test]
    fn every_figure_stands_in_its_row() {
        let mut figures = Promptness::default();
        figures.add(Ending::Deadline, 7, &report(10, 7));
        figures.add(Ending::AmbientDeadline, 7, &report(40, 7));
        let text = figures.table().force_no_tty().to_string();
        let line = |what: &str| {
            let line = text.lines().find(|line| line.contains(what));
            line.expect("a row")
                .split(['│', '┆'])
                .map(|cell| cell.trim().to_owned())
                .collect::<Vec<_>>()[2..4]
                .to_vec()
        };
        assert_eq!(line("caller back "), ["10 ms", "10 ms"], "{text}");
        assert_eq!(line("only ambient"), ["40 ms", "40 ms"], "{text}");
        assert_eq!(line("server stopped"), ["20 ms", "80 ms"], "{text}");
        assert_eq!(line("next query"), ["30 ms", "120 ms"], "{text}");
        assert_eq!(line("same backend"), ["2 of 2", ""], "{text}");
        assert!(figures.misses().is_empty());
    }

    #[test]
    fn another_backend_and_a_late_server_are_missed() {
        let mut figures = Promptness::default();
        figures.add(Ending::Deadline, 7, &report(10, 8));
        figures.add(Ending::Deadline, 8, &report(3_000, 8));
        let misses = figures.misses();
        assert_eq!(misses.len(), 2, "{misses:?}");
        assert!(
            misses[0].contains("server stopped only after"),
            "{misses:?}"
        );
        assert!(misses[1].contains("only 1 of 2"), "{misses:?}");
    }
}
