//! Where results go: lines for people or JSON on standard output, errors on standard error.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use serde::Serialize;

/// Says things the way that was asked for. A reader who has gone (`| head`) is no reason to fail.
#[derive(Clone, Copy)]
pub(crate) struct Out {
    pub(crate) json: bool,
}

impl Out {
    /// A line for people.
    pub(crate) fn say(&self, line: impl std::fmt::Display) {
        if !self.json {
            let _ = writeln!(io::stdout().lock(), "{line}");
        }
    }

    /// An object for programs, on one line.
    pub(crate) fn object(&self, value: &impl Serialize) {
        if self.json {
            match serde_json::to_string(value) {
                Ok(text) => {
                    let mut stdout = io::stdout().lock();
                    let _ = writeln!(stdout, "{text}");
                    let _ = stdout.flush();
                }
                Err(error) => self.error(&error.to_string()),
            }
        }
    }

    /// What went wrong; for programs on standard output as well.
    pub(crate) fn error(&self, message: &str) {
        self.object(&serde_json::json!({ "error": message }));
        let _ = writeln!(io::stderr().lock(), "waypost-phone: {message}");
    }

    /// Asks a person; `None` where there is no terminal to ask on.
    pub(crate) fn ask(&self, question: &str) -> io::Result<Option<bool>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() || !io::stderr().is_terminal() {
            return Ok(None);
        }
        let mut stderr = io::stderr().lock();
        write!(stderr, "{question} [y/N] ")?;
        stderr.flush()?;
        let mut answer = String::new();
        stdin.lock().read_line(&mut answer)?;
        Ok(Some(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")))
    }
}
