//! `waypost-bench [FIGURE…]`: measures the figures of `docs/performance.md`, all or those that are named.
//!
//! One JSON object a line on standard output, progress and a table for people on standard error. A figure that misses
//! its target says so and is no error; what cannot be measured is a line with `error`.

#![allow(clippy::print_stderr, reason = "a program for people")]

use std::process::ExitCode;

use waypost_tests::bench::{row, run};

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    match run(&names, std::io::stdout(), |figure| eprintln!("measuring {figure} …")) {
        Ok(rows) => {
            let missed = rows.iter().filter(|row| !row.holds()).count();
            eprintln!("\n{}\n{} figures, {missed} missed", row::table(&rows), rows.len());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("waypost-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
