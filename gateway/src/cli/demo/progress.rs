//! The demo's table: how many documents, and bytes of them, have come how far, while they do.

use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::output;

/// How often a line is printed where there is no terminal.
const EVERY: Duration = Duration::from_secs(1);
/// How often a terminal is drawn, in a second.
const HERTZ: u8 = 10;

/// A step of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Sealed,
    AtKiosk,
    Uploaded,
    AtServer,
    Deleted,
}

impl Step {
    /// All of them, in order, with what people call them.
    pub(super) const ALL: [(Step, &'static str); 5] = [
        (Step::Sealed, "sealed"),
        (Step::AtKiosk, "at the kiosk"),
        (Step::Uploaded, "uploaded"),
        (Step::AtServer, "at the server"),
        (Step::Deleted, "deleted on the phone"),
    ];
}

/// Documents, and bytes of the files that they were made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) documents: usize,
    pub(super) bytes: u64,
}

/// Shows how far they have come: a table on a terminal, lines elsewhere. With `json` it goes to standard error, so that
/// standard output is left to objects.
pub(super) struct Progress {
    json: bool,
    table: Option<(MultiProgress, Vec<ProgressBar>)>,
    state: Mutex<State>,
}

struct State {
    total: Count,
    counts: [Count; 5],
    printed: Option<(Instant, String)>,
}

impl Progress {
    /// A table of so many documents in all.
    pub(super) fn new(total: Count, json: bool) -> Self {
        let (is_terminal, target) = match json {
            true => (std::io::stderr().is_terminal(), ProgressDrawTarget::stderr_with_hz(HERTZ)),
            false => (std::io::stdout().is_terminal(), ProgressDrawTarget::stdout_with_hz(HERTZ)),
        };
        let table = is_terminal.then(|| {
            let multi = MultiProgress::with_draw_target(target);
            let style = ProgressStyle::with_template("{prefix:20} {bar:30} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = |(_, name): &(Step, &'static str)| {
                multi.add(ProgressBar::new(1).with_style(style.clone()).with_prefix(*name))
            };
            let bars = Step::ALL.iter().map(bar).collect();
            (multi, bars)
        });
        let state = Mutex::new(State { total, counts: Default::default(), printed: None });
        let progress = Progress { json, table, state };
        progress.show(&mut progress.state(), false);
        progress
    }

    /// So many are to go the way: fewer than were found, where some could not be read.
    pub(super) fn expect(&self, total: Count) {
        let mut state = self.state();
        state.total = total;
        self.show(&mut state, false);
    }

    /// So many have come so far.
    pub(super) fn set(&self, step: Step, count: Count) {
        let mut state = self.state();
        if std::mem::replace(&mut state.counts[step as usize], count) != count {
            self.show(&mut state, false);
        }
    }

    /// A line above the table.
    pub(super) fn say(&self, text: &str) {
        let say = || match self.json {
            true => output::note(text),
            false => output::line(text),
        };
        match &self.table {
            Some((table, _)) => table.suspend(say),
            None => say(),
        }
    }

    /// Shows the last state, which stays.
    pub(super) fn end(&self) {
        self.show(&mut self.state(), true);
        if let Some((_, bars)) = &self.table {
            bars.iter().for_each(ProgressBar::abandon);
            if self.json {
                // The table leaves its last line open, and the object is to stand on one of its own.
                output::note("");
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, state: &mut State, is_last: bool) {
        let State { total, counts, .. } = *state;
        if let Some((_, bars)) = &self.table {
            for (bar, count) in bars.iter().zip(counts) {
                // Empty files have no bytes that a bar could show.
                let (done, all) = match total.bytes {
                    0 => (count.documents as u64, total.documents as u64),
                    _ => (count.bytes, total.bytes),
                };
                bar.set_length(all.max(1));
                bar.set_position(done);
                let (done, all) = (output::bytes(count.bytes), output::bytes(total.bytes));
                bar.set_message(format!("{}/{} ({done} of {all})", count.documents, total.documents));
            }
            return;
        }
        let due = state.printed.as_ref().is_none_or(|(at, _)| at.elapsed() >= EVERY);
        let nothing_yet = counts == [Count::default(); 5];
        if !(due || is_last) || nothing_yet {
            return;
        }
        let cells: Vec<String> = Step::ALL
            .iter()
            .zip(counts)
            .map(|((_, name), Count { documents, bytes })| {
                format!("{name} {documents}/{} {}", total.documents, output::bytes(bytes))
            })
            .collect();
        let line = cells.join("  ");
        if state.printed.as_ref().is_none_or(|(_, printed)| *printed != line) {
            self.say(&line);
            state.printed = Some((Instant::now(), line));
        }
    }
}
