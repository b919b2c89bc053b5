//! `[gateway]` of the boot file: further keys of gateway.toml, passed on after the gateway's own code has read them.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::Config;
use crate::diff::Change;
use crate::problem::Severity;
use crate::reader::Reader;
use crate::setting::Setting;

/// Keys that the boot file has at its top: where they belong, and the key there.
const ELSEWHERE: [(&str, &str); 3] =
    [("name", "`name`"), ("backhaul", "[[network]]"), ("destination", "[[destination]]")];

/// Tables of gateway.toml with keys that the gateway takes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GatewayKeys(pub toml::Table);

impl GatewayKeys {
    /// Takes the value of one key of a section, unless it is wrong as a whole. Of a list the gateway takes what is right.
    fn take(
        &mut self,
        section: &Spanned<impl AsRef<str>>,
        key: &Spanned<impl AsRef<str>>,
        value: &Spanned<DeValue<'_>>,
        reader: &mut Reader<'_>,
    ) {
        let (name, before) = (section.get_ref().as_ref(), reader.errors());
        let mut keys = DeTable::new();
        keys.insert(Spanned::new(key.span(), key.get_ref().as_ref().into()), value.clone());
        let mut alone = DeTable::new();
        let table = Spanned::new(value.span(), DeValue::Table(keys));
        alone.insert(Spanned::new(section.span(), name.into()), table);
        Config::default().update(&Spanned::new(value.span(), DeValue::Table(alone)), reader);
        if reader.errors() > before && !value.get_ref().is_array() {
            return;
        }
        let Some(plain) = plain(value.get_ref()) else {
            return reader.error(value.span(), || "cannot be passed on to the gateway".to_owned());
        };
        let entry = self.0.entry(name).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        if let Some(entry) = entry.as_table_mut() {
            entry.insert(key.get_ref().as_ref().to_owned(), plain);
        }
    }
}

impl Setting for GatewayKeys {
    fn update(&mut self, value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) {
        let Some(table) = reader.table(value) else { return };
        for (section, value) in table.iter() {
            let name = section.get_ref().as_ref();
            let home = ELSEWHERE.iter().find(|(key, _)| *key == name);
            if let Some((_, home)) = home {
                reader.error(section.span(), || {
                    format!("`{name}` has its place at the top of this file, as {home}; move it there")
                });
                continue;
            }
            let Some(keys) = value.get_ref().as_table() else {
                // Says what is wrong with it.
                let mut alone = DeTable::new();
                alone.insert(section.clone(), value.clone());
                Config::default().update(&Spanned::new(value.span(), DeValue::Table(alone)), reader);
                continue;
            };
            for (key, value) in keys.iter() {
                if (name, key.get_ref().as_ref()) == ("access", "mode") {
                    reader.error(key.span(), || {
                        "`access.mode` has its place at the top of this file, as `access`; move it there"
                            .to_owned()
                    });
                    continue;
                }
                self.take(section, key, value, reader);
            }
        }
    }

    fn diff(&self, new: &Self, key: &str, needs_restart: bool, changes: &mut Vec<Change>) {
        if self != new {
            changes.push(Change { key: key.to_owned(), needs_restart });
        }
    }
}

impl serde::Serialize for GatewayKeys {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// The value without its places; absent for numbers that no program can hold.
fn plain(value: &DeValue<'_>) -> Option<toml::Value> {
    Some(match value {
        DeValue::String(text) => toml::Value::String(text.to_string()),
        DeValue::Integer(number) => {
            toml::Value::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok()?)
        }
        DeValue::Float(number) => toml::Value::Float(number.as_str().parse().ok()?),
        DeValue::Boolean(value) => toml::Value::Boolean(*value),
        DeValue::Datetime(time) => toml::Value::Datetime(*time),
        DeValue::Array(values) => {
            toml::Value::Array(values.iter().map(|value| plain(value.get_ref())).collect::<Option<_>>()?)
        }
        DeValue::Table(table) => {
            let pairs =
                table.iter().map(|(key, value)| Some((key.get_ref().to_string(), plain(value.get_ref())?)));
            toml::Value::Table(pairs.collect::<Option<_>>()?)
        }
    })
}

/// What the gateway says of a drop-in file, as far as it is more than a remark on what goes without saying here.
pub(super) fn is_worth_telling(severity: Severity, key: Option<&str>) -> bool {
    severity > Severity::Warning || key != Some("store.key_file")
}
