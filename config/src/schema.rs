//! The JSON Schema of the configuration, for editors and provisioning tools.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform as _};
use serde_json::Value;

use crate::config::Config;

/// The schema of a configuration file (draft 2020-12). `x-takes-effect` says of each key whether SIGHUP (`reload`) is
/// enough for a change or a `restart` is needed; `x-minimum` and `x-maximum` bound sizes and durations.
pub fn schema() -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Config>();
    schema.insert("title".to_owned(), "Waypost gateway".into());
    RecursiveTransform(tidy).transform(&mut schema);
    schema.to_value()
}

/// TOML has no null, so that an optional key is one that may be absent; and bounds of numbers have names of their own.
fn tidy(schema: &mut Schema) {
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(kinds)) = schema.get_mut("anyOf") {
        kinds.retain(|kind| kind.get("type").is_none_or(|kind| kind != "null"));
        if let [Value::Object(only)] = kinds.as_slice() {
            let only = only.clone();
            schema.remove("anyOf");
            only.into_iter().for_each(|(key, value)| {
                schema.insert(key, value);
            });
        }
    }
    for (key, standard) in [("x-minimum", "minimum"), ("x-maximum", "maximum")] {
        if schema.get(key).is_some_and(Value::is_number) {
            let bound = schema.remove(key).unwrap_or_default();
            schema.insert(standard.to_owned(), bound);
        }
    }
}
