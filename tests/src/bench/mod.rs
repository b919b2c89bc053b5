//! The figures of design §8 that a machine without radios can measure, and how they are run and printed.
//!
//! Both sides of a ratio are measured in the same run, alternating; times are medians of [`maths::RUNS`].

mod backhaul;
mod batches;
mod contacts;
mod daemon;
mod destination;
mod ingest;
pub mod maths;
pub mod memory;
mod remote_log;
pub mod row;
mod sealing;
mod sessions;
mod uploads;
pub mod workload;

use std::cell::RefCell;
use std::io::Write;
use std::path::{Path, PathBuf};

use row::{Measured, Row, Target};
use tempfile::TempDir;

/// What a measurement gives, or in words why there is none.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A figure and how it is measured.
pub struct Figure {
    /// Its name in design §8.
    pub name: &'static str,
    unit: &'static str,
    target: Target,
    measure: fn(&Bench) -> Outcome<Measured>,
}

const fn figure(
    name: &'static str,
    unit: &'static str,
    target: Target,
    measure: fn(&Bench) -> Outcome<Measured>,
) -> Figure {
    Figure { name, unit, target, measure }
}

/// All figures, in the order in which they run.
pub const FIGURES: [Figure; 15] = [
    figure("seal_overhead_bytes", "bytes", Target::AtMost(160.0), sealing::seal_overhead),
    figure("link_overhead_forms", "ratio", Target::AtMost(1.20), contacts::forms),
    figure("link_overhead_photos", "ratio", Target::AtMost(1.01), contacts::photos),
    figure("contacts_to_confirmation", "contacts", Target::AtMost(1.0), contacts::contacts_to_confirmation),
    figure("ingest_vs_heed", "ratio", Target::AtLeast(0.8), ingest::ingest_vs_heed),
    figure("session_vs_snow", "ratio", Target::AtLeast(0.8), sessions::session_vs_snow),
    figure("upload_round_trips", "round trips", Target::AtMost(10.0), uploads::round_trips),
    figure("upload_vs_curl", "ratio", Target::AtLeast(0.95), uploads::upload_vs_curl),
    figure("backhaul_first_byte_s", "s", Target::AtMost(3.0), backhaul::first_byte),
    figure("batches_vs_fixed", "ratio", Target::AtLeast(0.95), batches::batches),
    figure("remote_log_catch_up", "ratio", Target::AtMost(4.0), remote_log::catch_up),
    figure("remote_log_far_s", "s", Target::AtMost(30.0), remote_log::far),
    figure("rss_idle_mib", "MiB", Target::AtMost(20.0), daemon::rss_idle),
    figure("idle_wakeups_per_s", "wake-ups/s", Target::AtMost(1.0), daemon::idle_wakeups),
    figure("rss_100_sessions_mib", "MiB", Target::AtMost(64.0), daemon::rss_100_sessions),
];

/// A run of the figures, and what several of them share.
pub struct Bench {
    place: PathBuf,
    idle: RefCell<Option<daemon::Idle>>,
}

impl Bench {
    /// Works in folders beside the running program: that is a disk, where a temporary folder may be memory.
    pub fn new() -> Outcome<Self> {
        let program = std::env::current_exe()?;
        let place = program.parent().ok_or("the program has no folder")?.to_owned();
        Ok(Bench { place, idle: RefCell::new(None) })
    }

    /// Where its folders are made.
    fn place(&self) -> &Path {
        &self.place
    }

    /// A new folder, gone when dropped.
    fn folder(&self, purpose: &str) -> std::io::Result<TempDir> {
        tempfile::Builder::new().prefix(&format!("bench-{purpose}-")).tempdir_in(&self.place)
    }

    /// Measures one figure.
    pub fn measure(&self, figure: &Figure) -> Row {
        let Figure { name, unit, target, measure } = *figure;
        Row { figure: name, unit, target, measured: measure(self) }
    }
}

/// Measures the figures of these names, or all; each one's line goes to `lines` as soon as it is known.
pub fn run(names: &[String], mut lines: impl Write, mut progress: impl FnMut(&str)) -> Outcome<Vec<Row>> {
    if let Some(unknown) = names.iter().find(|name| !FIGURES.iter().any(|figure| figure.name == **name)) {
        let known: Vec<&str> = FIGURES.iter().map(|figure| figure.name).collect();
        return Err(format!("there is no figure {unknown}; there are {}", known.join(", ")).into());
    }
    let bench = Bench::new()?;
    let mut rows = Vec::new();
    for figure in &FIGURES {
        if names.is_empty() || names.iter().any(|name| name == figure.name) {
            progress(figure.name);
            let row = bench.measure(figure);
            writeln!(lines, "{}", row.json())?;
            lines.flush()?;
            rows.push(row);
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_figure_is_named_with_those_that_there_are() {
        let error = run(&["speed".into()], std::io::sink(), |_| ()).unwrap_err().to_string();
        assert!(error.contains("no figure speed") && error.contains("session_vs_snow"), "{error}");
    }

    #[test]
    fn what_is_asked_for_is_measured_and_printed_a_line_each() {
        let mut lines = Vec::new();
        let rows = run(&["seal_overhead_bytes".into()], &mut lines, |_| ()).unwrap();
        assert_eq!(rows.len(), 1);
        let lines = String::from_utf8(lines).unwrap();
        assert!(lines.starts_with('{') && lines.ends_with("}\n") && lines.lines().count() == 1, "{lines}");
    }
}
