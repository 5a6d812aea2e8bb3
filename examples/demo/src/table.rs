//! The tables that the demo prints: at most 100 columns, coloured only where
//! they are read by a person.

use std::time::Duration;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, Color, ContentArrangement, Table};

use crate::scenario::{Played, Scenario};
use crate::stack::{Door, Outcome, Stack};
use crate::trial::{Next, Server};

/// When the caller, the server and the next user were free, side by side.
pub(crate) fn times(all: &[Played]) -> Table {
    let header = [
        "what ended it",
        "stack",
        "caller back",
        "server stopped",
        "next query served",
    ];
    let rows = all.iter().map(|played| Row {
        scenario: played.scenario,
        color: color(&[played]),
        cells: vec![
            stack(played.stack).to_owned(),
            span(played.report.caller),
            server(played.report.server),
            next(played),
        ],
    });
    side_by_side(&header, rows.collect())
}

/// What the errors said, side by side; once, where it was the same at both
/// doors.
pub(crate) fn words(all: &[Played]) -> Table {
    let mut rows = Vec::new();
    for scenario in Scenario::ALL {
        for stacks in [Stack::Bare, Stack::Pgdeadline].map(|stack| Door::ALL.map(stack)) {
            let here: Vec<_> = all
                .iter()
                .filter(|played| played.scenario == scenario && stacks.contains(&played.stack))
                .collect();
            for same in here.chunk_by(|one, other| told(one) == told(other)) {
                rows.push(Row {
                    scenario,
                    color: color(same),
                    cells: vec![who(same).to_owned(), told(same[0])],
                });
            }
        }
    }
    let header = ["what ended it", "stack", "what the caller was told"];
    side_by_side(&header, rows)
}

/// An empty table in the demo's style.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH)
        .set_header(header.to_vec());
    if std::env::var_os("NO_COLOR").is_some() {
        table.force_no_tty();
    }
    table
}

/// A span of time as a person would say it.
pub(crate) fn span(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1e3;
    match millis {
        ..9.95 => format!("{millis:.1} ms"),
        ..999.5 => format!("{millis:.0} ms"),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

/// Text in lines as wide as the tables.
pub(crate) fn wrapped(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH.into() => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

/// What stands behind a scenario's title.
struct Row {
    scenario: Scenario,
    color: Option<Color>,
    cells: Vec<String>,
}

/// The scenario's title stands at its first row only.
fn side_by_side(header: &[&str], rows: Vec<Row>) -> Table {
    let mut table = table(header);
    let mut above = None;
    for row in rows {
        let title = match above.replace(row.scenario) {
            Some(scenario) if scenario == row.scenario => "",
            _ => row.scenario.title(),
        };
        let cells = row.cells.into_iter().map(|text| match row.color {
            Some(color) => Cell::new(text).fg(color),
            None => Cell::new(text),
        });
        table.add_row(std::iter::once(Cell::new(title)).chain(cells));
    }
    table
}

/// Green where pgdeadline kept its word, red where it missed.
fn color(same: &[&Played]) -> Option<Color> {
    if same
        .iter()
        .any(|played| matches!(played.stack, Stack::Bare(_)))
    {
        return None;
    }
    match same.iter().all(|played| played.misses().is_empty()) {
        true => Some(Color::Green),
        false => Some(Color::Red),
    }
}

/// Who was told the same.
fn who(same: &[&Played]) -> &'static str {
    match (same, same[0].stack) {
        ([one], _) => one.stack.name(),
        (_, Stack::Bare(_)) => "both bare",
        (_, Stack::Pgdeadline(_)) => "both + pgdeadline",
    }
}

/// A stack beside the one above it, which is the same pool as it comes.
fn stack(stack: Stack) -> &'static str {
    match stack {
        Stack::Bare(door) => door.name(),
        Stack::Pgdeadline(_) => "+ pgdeadline",
    }
}

fn server(server: Server) -> String {
    match server {
        Server::After(after) => span(after),
        Server::NotWithin(patience) => format!("not in {}", span(patience)),
        Server::NotReached => "not reached".to_owned(),
    }
}

fn next(played: &Played) -> String {
    match &played.report.next {
        Next::Served { after, .. } if played.kept_backend() => {
            format!("{}, same backend", span(*after))
        }
        Next::Served { after, .. } => format!("{}, new backend", span(*after)),
        Next::NotWithin(patience) => format!("not in {}", span(*patience)),
        Next::PoolTimedOut(after) => format!("PoolTimedOut at {}", span(*after)),
        Next::Failed(words) => format!("failed: {words}"),
    }
}

fn told(played: &Played) -> String {
    let told = match &played.report.outcome {
        Outcome::Ended(words) => words,
        Outcome::Gone => "nothing: nobody is left to be told",
        Outcome::Finished => "that all is well",
        Outcome::Failed(words) => words,
    };
    match played.stored {
        true => format!("{told}\n(and the UPDATE was stored after all)"),
        false => told.to_owned(),
    }
}

const WIDTH: u16 = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::Report;

    fn played(scenario: Scenario, stack: Stack) -> Played {
        let late = matches!(stack, Stack::Bare(_));
        let patience = Duration::from_secs(4);
        Played {
            scenario,
            stack,
            backend: Some(7),
            report: Report {
                caller: Duration::from_micros(1_430),
                outcome: Outcome::Ended("a deadline passed ".repeat(8)),
                server: if late {
                    Server::NotWithin(patience)
                } else {
                    Server::After(Duration::from_millis(23))
                },
                next: match stack {
                    Stack::Bare(Door::Deadpool) => Next::NotWithin(patience),
                    Stack::Bare(Door::Sqlx) => Next::PoolTimedOut(patience),
                    Stack::Pgdeadline(_) => Next::Served {
                        after: Duration::from_millis(61),
                        waited: Duration::from_millis(60),
                        backend: 7,
                    },
                },
            },
            stored: late,
        }
    }

    fn all() -> Vec<Played> {
        Scenario::ALL
            .into_iter()
            .flat_map(|scenario| Stack::ALL.map(|stack| played(scenario, stack)))
            .collect()
    }

    /// As it is printed into a file, whatever the tests print into.
    fn plain(mut table: Table) -> String {
        table.force_no_tty().to_string()
    }

    #[test]
    fn a_span_has_two_figures_or_so() {
        for (micros, text) in [
            (0, "0.0 ms"),
            (1_430, "1.4 ms"),
            (9_960, "10 ms"),
            (61_400, "61 ms"),
            (999_400, "999 ms"),
            (999_600, "1.0 s"),
            (4_000_000, "4.0 s"),
        ] {
            assert_eq!(span(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn wrapped_text_keeps_its_words_and_the_width() {
        let text = "word ".repeat(100);
        let wrapped = wrapped(&text);
        assert!(wrapped.lines().all(|line| line.len() <= 100), "{wrapped}");
        assert_eq!(wrapped.lines().next().map(str::len), Some(99));
        assert_eq!(wrapped.split_whitespace().count(), 100);
    }

    #[test]
    fn both_tables_fit_a_hundred_columns_and_every_time_its_line() {
        let times = plain(times(&all()));
        // Four lines of frame and header, and one for each row.
        assert_eq!(times.lines().count(), 4 + 24, "{times}");
        let words = plain(words(&all()));
        for line in times.lines().chain(words.lines()) {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }

    #[test]
    fn a_row_says_who_was_free_when() {
        let text = plain(times(&all()));
        for (cells, rows) in [
            (
                "┆ deadpool     ┆ 1.4 ms      ┆ not in 4.0 s   ┆ not in 4.0 s",
                6,
            ),
            (
                "┆ sqlx         ┆ 1.4 ms      ┆ not in 4.0 s   ┆ PoolTimedOut at 4.0 s",
                6,
            ),
            (
                "┆ + pgdeadline ┆ 1.4 ms      ┆ 23 ms          ┆ 61 ms, same backend",
                12,
            ),
        ] {
            assert_eq!(text.matches(cells).count(), rows, "{text}");
        }
        for scenario in Scenario::ALL {
            assert_eq!(text.matches(scenario.title()).count(), 1, "{text}");
        }
    }

    #[test]
    fn a_stored_update_is_told() {
        let text = plain(words(&all()));
        assert_eq!(text.matches("stored after all").count(), 6, "{text}");
    }

    #[test]
    fn what_both_doors_told_stands_there_once() {
        let mut all = all();
        let text = plain(words(&all));
        assert_eq!(text.matches("┆ both bare ").count(), 6, "{text}");
        assert_eq!(text.matches("┆ both + pgdeadline ").count(), 6, "{text}");

        let [first, ..] = &mut all[..] else { panic!() };
        first.stored = false;
        let text = plain(words(&all));
        for (who, rows) in [("bare deadpool", 1), ("bare sqlx", 1), ("both bare", 5)] {
            assert_eq!(text.matches(&format!("┆ {who} ")).count(), rows, "{text}");
        }
    }
}
