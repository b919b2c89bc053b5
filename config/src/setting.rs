//! What a key, a section and a list of sections have in common, and the macro that declares sections.

use std::path::Path;

use serde_json::Value;
use toml::Spanned;
use toml::de::DeValue;

use crate::diff::Change;
use crate::reader::Reader;
use crate::value::Leaf;

/// Something that stands behind a key and that files change one after the other.
pub(crate) trait Setting: PartialEq {
    /// Takes over what a file says; what cannot be read is noted and changes nothing.
    fn update(&mut self, value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>);

    /// Notes which keys differ in `new`.
    fn diff(&self, new: &Self, key: &str, needs_restart: bool, changes: &mut Vec<Change>) {
        if self != new {
            changes.push(Change { key: key.to_owned(), needs_restart });
        }
    }

    /// Takes over what of `new` needs no restart.
    fn take_up(&mut self, new: &Self, needs_restart: bool)
    where
        Self: Clone,
    {
        if !needs_restart {
            self.clone_from(new);
        }
    }

    /// What stands under the key.
    fn shape() -> Shape {
        Shape::Value
    }
}

/// What stands under a key.
pub(crate) enum Shape {
    /// One value.
    Value,
    /// A table.
    Table(Table),
    /// A list of tables.
    Tables(Table),
}

/// The keys of a table.
pub(crate) struct Table {
    /// What it is for, line by line.
    pub(crate) docs: &'static [&'static str],
    /// Its keys.
    pub(crate) fields: Vec<Field>,
}

/// A key: everything that its documentation says.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) docs: &'static [&'static str],
    /// The default; null where the key is absent by default.
    pub(crate) default: Value,
    /// Whether a change takes effect only after a restart.
    pub(crate) needs_restart: bool,
    /// Whether no default can stand in for a wrong value.
    pub(crate) vital: bool,
    /// Lowest and highest value.
    pub(crate) range: Option<(String, String)>,
    /// TOML text that shows how a key that is absent by default is written.
    pub(crate) example: Option<&'static str>,
    pub(crate) shape: Shape,
}

impl Field {
    /// Whether it, or a key under it, is vital.
    pub(crate) fn is_vital(&self) -> bool {
        match &self.shape {
            Shape::Table(table) => table.fields.iter().any(Field::is_vital),
            _ => self.vital,
        }
    }
}

impl<T: Leaf> Setting for T {
    fn update(&mut self, value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) {
        if let Some(new) = read_leaf(value, reader) {
            *self = new;
        }
    }
}

impl<T: Leaf> Setting for Option<T> {
    fn update(&mut self, value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) {
        if let Some(new) = read_leaf(value, reader) {
            *self = Some(new);
        }
    }
}

/// A list is replaced as a whole; entries that cannot be read are left out of it.
impl<T: Leaf> Setting for Vec<T> {
    fn update(&mut self, value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) {
        match value.get_ref().as_array() {
            Some(array) => *self = array.iter().filter_map(|value| read_leaf(value, reader)).collect(),
            None => reader.mismatch(value, format!("a list, each entry {}", T::EXPECTED), "put it in [ ]"),
        }
    }
}

pub(crate) fn read_leaf<T: Leaf>(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<T> {
    let folder: &Path = reader.source().folder();
    let wrong = |hint: String| match T::SECRET {
        true => reader.error(value.span(), || format!("expected {}", T::EXPECTED)),
        false => reader.mismatch(value, T::EXPECTED, &hint),
    };
    T::read(value.get_ref(), folder).map_err(wrong).ok()
}

/// Declares a table of the configuration once: the struct, its defaults, how it is read, compared and documented.
///
/// Each key is `[MARK] key: Type = default`, where `MARK` is `reload` (SIGHUP is enough) or `restart`, with `, vital`
/// where no default can stand in for a wrong value, and nothing for a table; then perhaps its bounds, and an example
/// in TOML for a key that is absent by default.
macro_rules! section {
    (
        $(#[doc = $doc:literal])*
        $(#[schemars($($schema:tt)*)])*
        $vis:vis struct $name:ident {
            $(
                $(#[doc = $key_doc:literal])*
                $(#[schemars($($key_schema:tt)*)])*
                [$($mark:ident $(, $vital:ident)?)?] $key:ident: $type:ty = $default:expr
                $(, within $low:expr, $high:expr)?
                $(, example $example:literal)?;
            )*
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, schemars::JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        $(#[schemars($($schema)*)])*
        $vis struct $name {
            $(
                $(#[doc = $key_doc])*
                $(#[schemars($($key_schema)*)])*
                $(#[schemars(extend("x-takes-effect" = stringify!($mark)))])?
                $(#[schemars(extend("x-minimum" = $low, "x-maximum" = $high))])?
                pub $key: $type,
            )*
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $($key: $default,)* }
            }
        }

        impl $name {
            /// Its keys, in the order in which they are documented.
            pub(crate) fn fields() -> Vec<crate::setting::Field> {
                let defaults = Self::default();
                vec![$(
                    crate::setting::Field {
                        name: stringify!($key),
                        docs: &[$($key_doc),*],
                        default: serde_json::to_value(&defaults.$key).unwrap_or_default(),
                        needs_restart: [$(stringify!($mark))?].contains(&"restart"),
                        vital: [$($(stringify!($vital))?)?].contains(&"vital"),
                        range: [$(($low.to_string(), $high.to_string()))?].into_iter().next(),
                        example: [$($example)?].into_iter().next(),
                        shape: <$type as crate::setting::Setting>::shape(),
                    },
                )*]
            }
        }

        impl crate::setting::Setting for $name {
            fn update(
                &mut self,
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                reader: &mut crate::reader::Reader<'_>,
            ) {
                let Some(table) = reader.table(value) else { return };
                let fields = Self::fields();
                for (key, value) in table.iter() {
                    let Some(field) = fields.iter().find(|field| field.name == key.get_ref().as_ref()) else {
                        reader.unknown(key, &fields);
                        continue;
                    };
                    reader.enter(field, key.span(), |reader| match field.name {
                        $(stringify!($key) => {
                            #[allow(unused_mut, reason = "keys without bounds are updated in place")]
                            let mut new = self.$key.clone();
                            new.update(value, reader);
                            $(if !reader.within(&new, &$low, &$high, value.span()) { return; })?
                            self.$key = new;
                        })*
                        _ => {}
                    });
                }
            }

            fn diff(&self, new: &Self, key: &str, _: bool, changes: &mut Vec<crate::diff::Change>) {
                $({
                    let separator = if key.is_empty() { "" } else { "." };
                    let key = format!("{key}{separator}{}", stringify!($key));
                    let needs_restart = [$(stringify!($mark))?].contains(&"restart");
                    crate::setting::Setting::diff(&self.$key, &new.$key, &key, needs_restart, changes);
                })*
            }

            fn take_up(&mut self, new: &Self, _: bool) {
                $({
                    let needs_restart = [$(stringify!($mark))?].contains(&"restart");
                    crate::setting::Setting::take_up(&mut self.$key, &new.$key, needs_restart);
                })*
            }

            fn shape() -> crate::setting::Shape {
                crate::setting::Shape::Table(crate::setting::Table { docs: &[$($doc),*], fields: Self::fields() })
            }
        }
    };
}
pub(crate) use section;
