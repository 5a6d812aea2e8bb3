//! The tables that are printed.

use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;

use crate::instructions::Counted;
use crate::memory::Weighed;
use crate::stacks::Stack;
use crate::times::Timed;

pub(crate) fn instructions(all: &[Counted]) {
    let mut table = table(&["case", "stack", "instructions", "to bare"]);
    for counted in all {
        let bare = all
            .iter()
            .find(|other| other.case == counted.case && other.stack == bare_of(counted.stack));
        let bare = bare.map_or(counted.instructions, |bare| bare.instructions);
        table.add_row([
            counted.case.title().to_owned(),
            counted.stack.title().to_owned(),
            counted.instructions.to_string(),
            format!("{:.2}", counted.instructions as f64 / bare as f64),
        ]);
    }
    println!("Client instructions an operation, on a runtime of one thread\n\n{table}\n");
}

pub(crate) fn times(all: &[Timed]) {
    let mut table = table(&["case", "stack", "us", "to bare", "quartiles"]);
    for timed in all {
        let [low, middle, high] = timed.ratio;
        table.add_row([
            timed.case.title().to_owned(),
            timed.stack.title().to_owned(),
            format!("{:.1}", timed.micros),
            format!("{middle:.2}"),
            format!("{low:.2} to {high:.2}"),
        ]);
    }
    println!("Time an operation, the stacks taking turns\n\n{table}\n");
}

pub(crate) fn memory(all: &[Weighed]) {
    let mut table = table(&["stack", "idle, KiB", "in the middle of a result, KiB"]);
    for weighed in all {
        table.add_row([
            weighed.stack.title().to_owned(),
            weighed.idle.to_string(),
            weighed.streaming.to_string(),
        ]);
    }
    println!("Memory a connection, the client's own included\n\n{table}\n");
}

fn bare_of(stack: Stack) -> Stack {
    match Stack::DEADPOOL.contains(&stack) {
        true => Stack::Deadpool,
        false => Stack::Sqlx,
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(header.to_vec());
    table
}
