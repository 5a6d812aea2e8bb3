//! Promptness in figures: many deadlines in a row, and how late everybody was.

use std::time::Duration;

use anyhow::Result;
use comfy_table::Table;

use crate::scenario::Stage;
use crate::stack::{Door, Ending, Stack};
use crate::table::{span, table};
use crate::trial::{Next, Report, Server, Trial};
use crate::watch;

/// What was measured over all rounds at one door.
#[derive(Debug)]
pub(crate) struct Promptness {
    door: Door,
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
pub(crate) async fn measure(door: Door, rounds: usize, stage: &Stage) -> Result<Promptness> {
    let stack = Stack::Pgdeadline(door);
    let mut figures = Promptness::of(door);
    for ending in [Ending::Deadline, Ending::AmbientDeadline] {
        let name = format!("promptness {ending:?}");
        let pool = stack.pool(watch::named(&stage.config, &name))?;
        let trial = Trial {
            stack,
            ending,
            limit: LIMIT,
            statement: "SELECT pg_sleep(30)",
        };
        let mut current = pool.backend().await?;
        for _ in 0..rounds {
            let report = trial
                .run(&pool, current, &stage.watch, async |_| ())
                .await?;
            figures.add(ending, current, &report);
            match report.next {
                Next::Served { backend, .. } => current = backend,
                // It has been noted; more rounds would only take longer to
                // say the same.
                Next::NotWithin(_) | Next::PoolTimedOut(_) | Next::Failed(_) => break,
            }
        }
        stage.watch.terminate(&name).await?;
    }
    Ok(figures)
}

/// The figures of all doors beside the marks that an idle machine should reach.
pub(crate) fn figures(doors: &[Promptness]) -> Table {
    let names: Vec<_> = doors
        .iter()
        .map(|figures| format!("{} p50", figures.door.name()))
        .collect();
    let mut header = vec!["after the end"];
    header.extend(names.iter().flat_map(|name| [name.as_str(), "p99"]));
    header.push("mark, idle machine");
    let mut table = table(&header);
    for (what, times, mark) in ROWS {
        let mut row = vec![what.to_owned()];
        for figures in doors {
            row.extend([50, 99].map(|rank| percentile(times(figures), rank)));
        }
        row.push(mark.to_owned());
        table.add_row(row);
    }
    let mut row = vec!["same backend serves on".to_owned()];
    for figures in doors {
        row.push(format!("{} of {}", figures.same_backend, figures.rounds));
        row.push(String::new());
    }
    row.push("all".to_owned());
    table.add_row(row);
    table
}

impl Promptness {
    fn of(door: Door) -> Promptness {
        Promptness {
            door,
            caller: Vec::new(),
            ambient_caller: Vec::new(),
            server: Vec::new(),
            next: Vec::new(),
            rounds: 0,
            same_backend: 0,
            misses: Vec::new(),
        }
    }

    /// What is less than pgdeadline promises to everybody, on any machine.
    pub(crate) fn misses(&self) -> Vec<String> {
        let mut misses = self.misses.clone();
        if self.same_backend < self.rounds {
            misses.push(format!(
                "only {} of {} queries were served by the same backend as before",
                self.same_backend, self.rounds
            ));
        }
        let stack = Stack::Pgdeadline(self.door).name();
        misses
            .iter()
            .map(|miss| format!("{stack}: {miss}"))
            .collect()
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

/// What is measured, where it is kept, and the mark to reach.
type Row = (&'static str, fn(&Promptness) -> &[Duration], &'static str);

const ROWS: [Row; 4] = [
    ("caller back", |all| &all.caller, "p50 2 ms, p99 5 ms"),
    (
        "caller back, only ambient",
        |all| &all.ambient_caller,
        "p50 5 ms",
    ),
    ("server stopped", |all| &all.server, "p50 10 ms"),
    ("next query, from its asking", |all| &all.next, "20 ms"),
];

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
    fn every_figure_stands_in_its_row_and_at_its_door() {
        let mut deadpool = Promptness::of(Door::Deadpool);
        deadpool.add(Ending::Deadline, 7, &report(10, 7));
        deadpool.add(Ending::AmbientDeadline, 7, &report(40, 7));
        let mut sqlx = Promptness::of(Door::Sqlx);
        sqlx.add(Ending::Deadline, 8, &report(50, 8));
        let text = figures(&[deadpool, sqlx]).force_no_tty().to_string();
        let line = |what: &str| {
            let line = text.lines().find(|line| line.contains(what));
            line.expect("a row")
                .split(['│', '┆'])
                .map(|cell| cell.trim().to_owned())
                .collect::<Vec<_>>()[2..6]
                .join("|")
        };
        assert!(text.contains("deadpool p50 ┆ p99    ┆ sqlx p50"), "{text}");
        assert_eq!(line("caller back "), "10 ms|10 ms|50 ms|50 ms", "{text}");
        assert_eq!(line("only ambient"), "40 ms|40 ms|-|-", "{text}");
        assert_eq!(line("server stopped"), "20 ms|80 ms|100 ms|100 ms");
        assert_eq!(line("next query"), "30 ms|120 ms|150 ms|150 ms");
        assert_eq!(line("same backend"), "2 of 2||1 of 1|", "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100));
    }

    #[test]
    fn another_backend_and_a_late_server_are_missed() {
        let mut figures = Promptness::of(Door::Sqlx);
        figures.add(Ending::Deadline, 7, &report(10, 7));
        assert_eq!(figures.misses(), Vec::<String>::new());
        figures.add(Ending::Deadline, 7, &report(10, 8));
        figures.add(Ending::Deadline, 8, &report(3_000, 8));
        let misses = figures.misses();
        assert_eq!(misses.len(), 2, "{misses:?}");
        assert!(
            misses[0].contains("sqlx + pgdeadline: the server stopped only after"),
            "{misses:?}"
        );
        assert!(misses[1].contains("only 2 of 3"), "{misses:?}");
    }
}
