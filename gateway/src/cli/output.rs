//! The one place where the command line writes: text for people, JSON for programs.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "writing to the terminal is what this module is for"
)]

use std::io::{self, Write};

use serde::Serialize;
use waypost_config::printable;

/// A line for people.
pub(super) fn line(text: &str) {
    // A reader that has gone, such as `head`, is no error.
    let _ = writeln!(io::stdout(), "{text}");
}

/// A JSON object on a line of its own.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(&serde_json::to_string(value)?);
    Ok(())
}

/// What went wrong, with what lies beneath, and free of control characters.
pub(super) fn error(error: &anyhow::Error, json: bool) {
    let text = words(error);
    match json {
        true => line(&serde_json::json!({ "error": text }).to_string()),
        false => eprintln!("waypost: {text}"),
    }
}

/// The causes, each once: many say themselves what lies beneath.
pub(super) fn words(error: &anyhow::Error) -> String {
    let mut words: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = printable(&cause.to_string());
        if words.last().is_none_or(|last| !last.contains(&text)) {
            words.push(text);
        }
    }
    words.join(": ")
}

/// A note for people beside the output proper.
pub(super) fn note(text: &str) {
    eprintln!("{text}");
}

/// Bytes in a form that people read: 1,536 → "1.5 KiB".
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut scaled = count;
    let mut rest = 0;
    while scaled >= 1024 && unit + 1 < UNITS.len() {
        rest = scaled % 1024;
        scaled /= 1024;
        unit += 1;
    }
    match unit {
        0 => format!("{count} B"),
        _ => format!("{scaled}.{} {}", rest * 10 / 1024, UNITS[unit]),
    }
}

/// Seconds in a form that people read: "2 h 5 min".
pub(super) fn seconds(count: u64) -> String {
    match count {
        0..60 => format!("{count} s"),
        60..3_600 => format!("{} min {} s", count / 60, count % 60),
        3_600..86_400 => format!("{} h {} min", count / 3_600, count / 60 % 60),
        _ => format!("{} d {} h", count / 86_400, count / 3_600 % 24),
    }
}

/// A table: columns as wide as their widest cell, headings first.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>]) {
    let widths: Vec<usize> = (0..headings.len())
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([headings[column].chars().count()]).max().unwrap_or(0)
        })
        .collect();
    let format = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    line(&format(&mut headings.iter().copied()));
    for row in rows {
        line(&format(&mut row.iter().map(String::as_str)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_named_once() {
        let io = || std::io::Error::other("no such thing");
        let keyed = waypost_node::KeyFileError::Io { path: "key".into(), source: io() };
        let error = anyhow::Error::new(keyed).context("the store cannot be opened");
        assert_eq!(words(&error), "the store cannot be opened: key file key: no such thing");
    }

    #[test]
    fn sizes_and_times_read_well() {
        assert_eq!(
            [bytes(0), bytes(1_023), bytes(1_536), bytes(5 << 30)],
            ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]
        );
        assert_eq!([seconds(59), seconds(61), seconds(7_500)], ["59 s", "1 min 1 s", "2 h 5 min"]);
    }
}
