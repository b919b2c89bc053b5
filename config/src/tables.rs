//! Lists of tables, `[[NAME]]`: each file adds to those before; a wrong entry is left out and named.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diff::Change;
use crate::problem::{Origin, Problem, Severity};
use crate::reader::{Reader, cut};
use crate::setting::{Setting, Shape};
use crate::value::Name;

/// A valid table of a list.
pub(crate) trait Entry: Sized {
    /// Its keys as they are read.
    type Draft: Setting + Default;
    /// The list's key.
    const KEY: &'static str;
    /// At most so many.
    const MOST: usize;

    /// Unique in the list.
    fn name(&self) -> &Name;
    /// Where it was configured.
    fn origin(&self) -> Option<&Origin>;
    /// The entry, unless something is wrong; that is noted.
    fn finish(
        draft: Self::Draft,
        table: &DeTable<'_>,
        header: Range<usize>,
        reader: &mut Reader<'_>,
    ) -> Option<Self>;
    /// Its keys whose values differ in `other`.
    fn changed(&self, other: &Self) -> Vec<&'static str>;
}

/// Makes a list of an [`Entry`] a setting. That lists of all of them were, as lists of leaves are, would overlap with those.
macro_rules! tables_of {
    ($entry:ty) => {
        impl crate::setting::Setting for Vec<$entry> {
            fn update(
                &mut self,
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                reader: &mut crate::reader::Reader<'_>,
            ) {
                crate::tables::update(self, value, reader);
            }

            fn diff(
                &self,
                new: &Self,
                key: &str,
                needs_restart: bool,
                changes: &mut Vec<crate::diff::Change>,
            ) {
                crate::tables::diff(self, new, key, needs_restart, changes);
            }

            fn shape() -> crate::setting::Shape {
                crate::tables::shape::<$entry>()
            }
        }
    };
}
pub(crate) use tables_of;

/// Notes keys that are needed and missing, each with a line that could be added.
pub(crate) fn need(
    keys: &[(&str, &str)],
    table: &DeTable<'_>,
    header: &Range<usize>,
    reader: &mut Reader<'_>,
) {
    for (key, example) in keys.iter().filter(|(key, _)| !table.contains_key(*key)) {
        reader.error(header.clone(), || format!("`{key}` is missing; add a line such as {example}"));
    }
}

/// Something that is wrong with an entry, at the place where it was configured. `key` is one of its keys.
pub(crate) fn problem<T: Entry>(entry: &T, severity: Severity, key: &str, message: &str) -> Problem {
    let key = format!("{}.{}.{key}", T::KEY, entry.name());
    Problem::new(severity, entry.origin().cloned(), Some(&key), message)
}

/// How a list of such entries is documented.
pub(crate) fn shape<T: Entry>() -> Shape {
    match T::Draft::shape() {
        Shape::Table(table) => Shape::Tables(table),
        other => other,
    }
}

/// Adds the entries of a file.
pub(crate) fn update<T: Entry>(list: &mut Vec<T>, value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) {
    let Some(array) = value.get_ref().as_array() else {
        let hint = format!("write [[{}]] with two brackets on each side", T::KEY);
        return reader.mismatch(value, "a list of tables", &hint);
    };
    for (read, element) in array.iter().enumerate() {
        // Wrong ones count too, so that a file full of them costs bounded time.
        if list.len().max(read) >= T::MOST {
            return reader.error(element.span(), || {
                format!("more than {} {}s; this one and those after it are left out", T::MOST, T::KEY)
            });
        }
        if let Some(entry) = read_one(element, list, reader) {
            list.push(entry);
        }
    }
}

/// Notes entries that came or went, and keys of those that stayed.
pub(crate) fn diff<T: Entry>(
    old: &[T],
    new: &[T],
    key: &str,
    needs_restart: bool,
    changes: &mut Vec<Change>,
) {
    let mut note = |key: String| changes.push(Change { key, needs_restart });
    for before in old {
        match new.iter().find(|after| after.name() == before.name()) {
            Some(after) => {
                before.changed(after).iter().for_each(|part| note(format!("{key}.{}.{part}", before.name())));
            }
            None => note(format!("{key}.{}", before.name())),
        }
    }
    for added in new.iter().filter(|after| !old.iter().any(|before| before.name() == after.name())) {
        note(format!("{key}.{}", added.name()));
    }
}

/// One entry, or none and a line that says so.
fn read_one<T: Entry>(element: &Spanned<DeValue<'_>>, known: &[T], reader: &mut Reader<'_>) -> Option<T> {
    let before = reader.errors();
    let mut draft = T::Draft::default();
    draft.update(element, reader);
    let table = element.get_ref().as_table()?;
    let entry = T::finish(draft, table, element.span(), reader);
    let twin = entry.as_ref().and_then(|new| known.iter().find(|old| old.name() == new.name()));
    if let Some(twin) = twin {
        let place = table.get_key_value("name").map_or(element.span(), |(key, _)| key.span());
        reader.error(place, || match twin.origin() {
            Some(origin) => format!("another {} has this name, at {origin}; choose another one", T::KEY),
            None => format!("another {} has this name; choose another one", T::KEY),
        });
    }
    if reader.errors() == before {
        return entry;
    }
    let name = table.get("name").and_then(|name| name.get_ref().as_str());
    reader.error(element.span(), || match name {
        Some(name) => format!("{} \"{}\" is left out until its errors are mended", T::KEY, cut(name)),
        None => format!("this {} is left out until its errors are mended", T::KEY),
    });
    None
}
