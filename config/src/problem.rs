//! What is wrong with a configuration: where, how bad, and what to do.

use std::fmt;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

/// Problems that are kept; a file with more is not read better by naming them all.
pub const MAX_PROBLEMS: usize = 100;

/// How bad a [`Problem`] is, ascending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration holds as it is written, but probably not what was meant.
    Warning,
    /// The named entry is left out, or what held before it stays; everything else holds.
    Error,
    /// The gateway must not start with this, and a running one keeps what it has: a file cannot be read at all, or
    /// a key is wrong whose default cannot stand in for what was meant.
    Fatal,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Warning => "warning",
            Severity::Error => "error",
            Severity::Fatal => "fatal",
        })
    }
}

/// A place in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Origin {
    /// The file, as it was named to [`crate::load`].
    #[serde(serialize_with = "lossy")]
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

fn lossy<S: Serializer>(path: &std::path::Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&printable(&path.to_string_lossy()))
}

/// `FILE:LINE:COLUMN`, safe to print to a terminal.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", printable(&self.file.to_string_lossy()), self.line, self.column)
    }
}

/// One thing that is wrong. Its texts are safe to print to a terminal, whatever the file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Where it is; absent for what concerns no place, as a key that is nowhere set.
    pub origin: Option<Origin>,
    /// The key, for example `limits.sessions`; absent where a file is no TOML.
    pub key: Option<String>,
    /// What is wrong, what was expected, what was found, and what to do.
    pub message: String,
}

impl Problem {
    /// A problem; control characters of `message` and `key` are escaped.
    pub fn new(severity: Severity, origin: Option<Origin>, key: Option<&str>, message: &str) -> Self {
        Problem { severity, origin, key: key.map(printable), message: printable(message) }
    }
}

/// `FILE:LINE:COLUMN: SEVERITY: KEY: MESSAGE`, as compilers write it and editors read it.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        write!(f, "{}: ", self.severity)?;
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// A bounded list of problems that never loses the worst.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    kept: Vec<Problem>,
    fatal: usize,
    left_off: usize,
}

impl Problems {
    /// Whether a problem of this severity would be kept; spares the work of describing one that is not.
    pub(crate) fn wants(&self, severity: Severity) -> bool {
        self.kept.len() < MAX_PROBLEMS || (severity == Severity::Fatal && self.fatal == 0)
    }

    pub(crate) fn push(&mut self, severity: Severity, problem: impl FnOnce() -> Problem) {
        if !self.wants(severity) {
            self.left_off += 1;
            return;
        }
        self.fatal += usize::from(severity == Severity::Fatal);
        self.kept.push(problem());
    }

    /// The problems in the order in which they were found, and a line on how many more there are.
    pub(crate) fn into_vec(mut self) -> Vec<Problem> {
        if self.left_off > 0 {
            let message = format!("and {} more; mend these first", self.left_off);
            self.kept.push(Problem::new(Severity::Error, None, None, &message));
        }
        self.kept
    }
}

/// `text` with everything escaped that moves a cursor, changes colours or direction, or cannot be seen.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_printable(c) { out.push(c) } else { out.extend(c.escape_default()) }
    }
    out
}

/// False for control characters and for invisible ones that reorder or hide text; joiners, which scripts need, are kept.
pub(crate) fn is_printable(c: char) -> bool {
    let hides = matches!(c,
        '\u{61c}' | '\u{200b}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    !c.is_control() && !hides
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(printable("a\u{1b}[31mb\u{202e}\n"), "a\\u{1b}[31mb\\u{202e}\\n");
        assert_eq!(printable("क्षेत्र été \"x\" \\"), "क्षेत्र été \"x\" \\");
        let origin = Origin { file: PathBuf::from("a\u{7}.toml"), line: 3, column: 9 };
        let problem = Problem::new(Severity::Error, Some(origin), Some("x\u{1b}"), "bad\u{9b}");
        assert_eq!(problem.to_string(), "a\\u{7}.toml:3:9: error: x\\u{1b}: bad\\u{9b}");
    }

    #[test]
    fn a_fatal_problem_is_kept_however_many_came_before() {
        let mut problems = Problems::default();
        for severity in [Severity::Error; 150].into_iter().chain([Severity::Fatal; 2]) {
            problems.push(severity, || Problem::new(severity, None, None, "x"));
        }
        let list = problems.into_vec();
        assert_eq!(list.len(), MAX_PROBLEMS + 2);
        assert_eq!(list.iter().filter(|problem| problem.severity == Severity::Fatal).count(), 1);
        assert!(list.last().unwrap().message.starts_with("and 51 more"));
    }
}
