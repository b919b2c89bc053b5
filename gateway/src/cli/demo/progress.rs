//! The demo's table: how many documents have come how far, while they do.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often a terminal's line is drawn, and how often a line is printed where there is none.
const ON_TERMINAL: Duration = Duration::from_millis(100);
const IN_A_FILE: Duration = Duration::from_secs(2);

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
    const ALL: [(Step, &'static str); 5] = [
        (Step::Sealed, "sealed"),
        (Step::AtKiosk, "at the kiosk"),
        (Step::Uploaded, "uploaded"),
        (Step::AtServer, "at the server"),
        (Step::Deleted, "deleted on the phone"),
    ];
}

/// Counts and shows them. With `json` everything goes to standard error, so that standard output is left to objects.
pub(super) struct Progress {
    total: usize,
    json: bool,
    terminal: bool,
    counts: [Cell<usize>; 5],
    seen: RefCell<BTreeSet<(u8, String)>>,
    drawn: Cell<Option<Instant>>,
}

impl Progress {
    pub(super) fn new(total: usize, json: bool) -> Self {
        let terminal = !json && std::io::stdout().is_terminal();
        let progress = Progress {
            total,
            json,
            terminal,
            counts: Default::default(),
            seen: RefCell::default(),
            drawn: Cell::new(None),
        };
        let headings: Vec<&str> = Step::ALL.iter().map(|(_, name)| *name).collect();
        progress.say(&headings.join(" → "));
        progress
    }

    pub(super) fn count(&self, step: Step) -> usize {
        self.counts[step as usize].get()
    }

    /// One more document has come so far; the same one counts once.
    pub(super) fn one(&self, step: Step, id: &str) {
        if self.seen.borrow_mut().insert((step as u8, id.to_owned())) {
            self.set(step, self.count(step) + 1);
        }
    }

    /// So many documents have come so far.
    pub(super) fn set(&self, step: Step, count: usize) {
        if self.counts[step as usize].replace(count) != count {
            self.draw(count == self.total);
        }
    }

    /// A line beside the table.
    pub(super) fn say(&self, text: &str) {
        self.clear();
        super::say(self.json, text);
    }

    /// Draws the last state.
    pub(super) fn end(&self) {
        self.draw(true);
        if self.terminal {
            self.print("\n");
        }
    }

    fn draw(&self, now: bool) {
        let every = if self.terminal { ON_TERMINAL } else { IN_A_FILE };
        if !now && self.drawn.get().is_some_and(|drawn| drawn.elapsed() < every) {
            return;
        }
        self.drawn.set(Some(Instant::now()));
        let cells: Vec<String> = Step::ALL
            .iter()
            .map(|(step, name)| format!("{name} {}/{}", self.count(*step), self.total))
            .collect();
        let line = cells.join("  ");
        match self.terminal {
            true => self.print(&format!("\r\x1b[2K{line}")),
            false => super::say(self.json, &line),
        }
    }

    fn clear(&self) {
        if self.terminal && self.drawn.get().is_some() {
            self.print("\r\x1b[2K");
        }
    }

    fn print(&self, text: &str) {
        let mut out = std::io::stdout();
        // A terminal that has gone needs no table.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}
