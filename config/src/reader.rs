//! Reads parsed TOML into settings, one key at a time, noting every problem and going on.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::nearest::nearest;
use crate::problem::{Origin, Problem, Problems, Severity, printable};
use crate::setting::{Field, Shape};
use crate::source::Source;

/// The key of the list of destinations.
const DESTINATION: &str = "destination";

/// Where reading stands: a file, a key in it, and what was found so far.
pub(crate) struct Reader<'a> {
    source: &'a Source,
    key: String,
    vital: bool,
    root: &'a [Field],
    problems: &'a mut Problems,
    origins: &'a mut BTreeMap<String, Origin>,
    errors: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(
        source: &'a Source,
        root: &'a [Field],
        problems: &'a mut Problems,
        origins: &'a mut BTreeMap<String, Origin>,
    ) -> Self {
        Reader { source, key: String::new(), vital: false, root, problems, origins, errors: 0 }
    }

    /// The file that is read.
    pub(crate) fn source(&self) -> &'a Source {
        self.source
    }

    /// How many errors were found so far.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    /// Goes back to an earlier count: what was found since then concerns only a part that was left out.
    pub(crate) fn forgive_errors(&mut self, earlier: usize) {
        self.errors = earlier;
    }

    /// Reads one key of the present table, and remembers where it is set.
    pub(crate) fn enter(&mut self, field: &Field, span: Range<usize>, read: impl FnOnce(&mut Self)) {
        let (length, vital) = (self.key.len(), self.vital);
        self.key = self.path(field.name);
        self.vital = field.is_vital();
        let origin = self.source.origin(span.start);
        self.origins.insert(self.key.clone(), origin);
        read(self);
        self.key.truncate(length);
        self.vital = vital;
    }

    /// Notes an error at a place. It is fatal where the key is one that no default can stand in for.
    pub(crate) fn error(&mut self, span: Range<usize>, message: impl FnOnce() -> String) {
        let severity = if self.vital { Severity::Fatal } else { Severity::Error };
        self.push(severity, span, message);
    }

    /// Notes something that holds as written but was probably not meant.
    pub(crate) fn warn(&mut self, span: Range<usize>, message: impl FnOnce() -> String) {
        self.push(Severity::Warning, span, message);
    }

    /// Notes that a value is another one than expected; `hint` may be empty.
    pub(crate) fn mismatch(&mut self, value: &Spanned<DeValue<'_>>, expected: impl Display, hint: &str) {
        self.error(value.span(), || {
            let separator = if hint.is_empty() { "" } else { "; " };
            format!("expected {expected}, found {}{separator}{hint}", describe(value.get_ref()))
        });
    }

    /// The value as a table, or an error.
    pub(crate) fn table<'v, 'i>(&mut self, value: &'v Spanned<DeValue<'i>>) -> Option<&'v DeTable<'i>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.mismatch(value, format!("a table, written as a line [{}]", self.key), "");
        }
        table
    }

    /// Whether a value that was read is within its bounds; notes an error where it is not.
    pub(crate) fn within<T: PartialOrd + Display>(
        &mut self,
        value: &T,
        low: &T,
        high: &T,
        span: Range<usize>,
    ) -> bool {
        let is_within = low <= value && value <= high;
        if !is_within {
            self.error(span, || format!("expected {low} to {high}, found {value}"));
        }
        is_within
    }

    /// Notes an unknown key of a table with these fields, and what was probably meant.
    pub(crate) fn unknown(&mut self, key: &Spanned<impl AsRef<str>>, fields: &[Field]) {
        let word = key.get_ref().as_ref();
        let near = nearest(word, fields.iter().map(|field| field.name));
        // Passing over a misspelt key must not be milder than a mistake in its value.
        let vital = self.vital;
        let home = if near.is_none() { Home::of(word, self.root) } else { None };
        self.vital = match (&near, &home) {
            (Some(near), _) => fields.iter().any(|field| field.name == *near && field.is_vital()),
            // A wrong destination is left out, so that nothing in it can be worse than that.
            (None, Some(home)) => home.vital && self.key != DESTINATION,
            (None, None) => false,
        };
        self.error(key.span(), || {
            let unknown = format!("unknown key `{}`", cut(word));
            if let Some(near) = near {
                return format!("{unknown}, did you mean `{near}`?");
            }
            if let Some(home) = home {
                return format!("{unknown} here, it belongs {}", home.place);
            }
            let names: Vec<_> = fields.iter().map(|field| field.name).collect();
            format!("{unknown}; known here: {}", names.join(", "))
        });
        self.vital = vital;
    }

    fn path(&self, name: &str) -> String {
        if self.key.is_empty() { name.to_owned() } else { format!("{}.{name}", self.key) }
    }

    fn push(&mut self, severity: Severity, span: Range<usize>, message: impl FnOnce() -> String) {
        self.errors += usize::from(severity >= Severity::Error);
        let (source, key) = (self.source, &self.key);
        self.problems.push(severity, || {
            let key = (!key.is_empty()).then_some(key.as_str());
            Problem::new(severity, Some(source.origin(span.start)), key, &message())
        });
    }
}

/// Where a key is known that is unknown where it stands.
struct Home {
    place: String,
    vital: bool,
}

impl Home {
    fn of(word: &str, root: &[Field]) -> Option<Self> {
        if let Some(field) = root.iter().find(|field| field.name == word) {
            let place = "at the top of the file, before the first [table]".to_owned();
            return Some(Home { place, vital: field.is_vital() });
        }
        root.iter().find_map(|section| {
            let (table, place) = match &section.shape {
                Shape::Table(table) => (table, format!("to [{}]", section.name)),
                Shape::Tables(table) => (table, format!("to [[{}]]", section.name)),
                Shape::Value => return None,
            };
            let field = table.fields.iter().find(|field| field.name == word)?;
            Some(Home { place, vital: field.vital })
        })
    }
}

/// A value in a message: its kind, and itself as far as it is short.
pub(crate) fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text \"{}\"", cut(text)),
        DeValue::Integer(integer) => format!("the number {}", cut(&integer.to_string())),
        DeValue::Float(float) => format!("the number {}", cut(float.as_str())),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(time) => format!("the time {time}"),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// The first 60 characters, escaped.
pub(crate) fn cut(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    printable(&short)
}
