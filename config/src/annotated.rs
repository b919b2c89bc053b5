//! The annotated default configuration, `config/gateway.toml`, made from the types and what they say of themselves.

use std::fmt::Write as _;

use serde_json::Value;

use crate::config::Config;
use crate::setting::{Field, Shape};

const OPENING: &str = "\
# Configuration of a Waypost gateway. Every key is here with its default, behind a # sign: remove that to change it.
#
# Files gateway.d/*.toml beside this one are read after it, by name. They change single keys; a list of values is
# replaced as a whole; [[destination]] tables are added. Relative paths start from the folder of the file that has them.
# `waypost check` names every mistake. A wrong value is left out and the default holds, unless the key says otherwise.
# After a change: `systemctl reload waypost` (SIGHUP) where a key says so, else a restart.
#
# Sizes: \"64KiB\" (KiB, MiB, GiB, TiB: powers of 1024), \"2GB\" (KB, MB, GB, TB: powers of 1000), or a number of bytes.
# Durations: \"500ms\", \"90s\", \"15m\", \"6h\", \"30d\", \"1h 30m\"; always with a unit.
";

/// The text of the annotated default configuration. Read as a configuration, it changes nothing.
pub fn annotated() -> String {
    let mut text = OPENING.to_owned();
    let fields = Config::fields();
    fields
        .iter()
        .filter(|field| matches!(field.shape, Shape::Value))
        .for_each(|field| push_key(field, Some(effect(field)), &mut text));
    for field in &fields {
        let (header, table) = match &field.shape {
            Shape::Value => continue,
            Shape::Table(table) => (format!("[{}]", field.name), table),
            // Without its needed keys a table of this list would be an error, so that its header is commented out too.
            Shape::Tables(table) => (format!("#[[{}]]", field.name), table),
        };
        text.push('\n');
        push_docs(table.docs, &mut text);
        text.push_str(&header);
        text.push('\n');
        table.fields.iter().for_each(|field| push_key(field, Some(effect(field)), &mut text));
    }
    text
}

fn effect(field: &Field) -> &'static str {
    if field.needs_restart { "Takes effect after a restart." } else { "Takes effect on SIGHUP." }
}

/// What a key is for, its bounds, when a change of it takes effect if that is to be said, and the key with its default.
pub(crate) fn push_key(field: &Field, effect: Option<&str>, text: &mut String) {
    text.push('\n');
    push_docs(field.docs, text);
    let mut facts = Vec::new();
    let is_needed = field.docs.last().is_some_and(|line| line.ends_with(" Needed."));
    if field.default.is_null() && !is_needed && effect.is_some() {
        facts.push("Absent by default.".to_owned());
    }
    if let Some((low, high)) = &field.range {
        facts.push(format!("From {low} to {high}."));
    }
    facts.extend(effect.map(str::to_owned));
    if field.vital && effect.is_some() {
        facts.push("A mistake here keeps the gateway from starting.".to_owned());
    }
    // Writing to a text cannot fail.
    if !facts.is_empty() {
        let _ = writeln!(text, "# {}", facts.join(" "));
    }
    let value = match (&field.default, field.example) {
        (Value::Null, Some(example)) => example.to_owned(),
        (default, _) => default.to_string(),
    };
    let _ = writeln!(text, "#{} = {value}", field.name);
}

pub(crate) fn push_docs(docs: &[&str], text: &mut String) {
    for line in docs {
        let _ = writeln!(text, "#{line}");
    }
}
