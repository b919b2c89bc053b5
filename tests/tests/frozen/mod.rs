//! What makes vectors and what reads them.

pub(crate) mod handshakes;
pub(crate) mod openpgp;
mod payloads;
pub(crate) mod remote_log;
pub(crate) mod values;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use serde_json::Value;

pub(crate) fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// The bytes of a hexadecimal text in a vector.
pub(crate) fn unhex(value: &Value) -> Bytes {
    let text = value.as_str().unwrap_or_else(|| panic!("expected hexadecimal text, found {value}"));
    HEXLOWER.decode(text.as_bytes()).unwrap().into()
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("expected text, found {value}"))
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("expected a list, found {value}"))
}

/// Bytes that count up from `first`.
pub(crate) fn counting<const N: usize>(first: u8) -> [u8; N] {
    std::array::from_fn(|at| first.wrapping_add(at as u8))
}

/// Compares value by value, so that a difference is named by its place and not by two long texts.
pub(crate) fn same(place: &str, frozen: &Value, made: &Value) {
    match (frozen, made) {
        (Value::Object(frozen), Value::Object(made)) => {
            let keys = |map: &serde_json::Map<String, Value>| map.keys().cloned().collect::<Vec<_>>();
            assert_eq!(keys(frozen), keys(made), "{place}");
            frozen.iter().for_each(|(key, value)| same(&format!("{place}.{key}"), value, &made[key]));
        }
        (Value::Array(frozen), Value::Array(made)) => {
            assert_eq!(frozen.len(), made.len(), "{place}");
            let pairs = frozen.iter().zip(made).enumerate();
            pairs.for_each(|(at, (frozen, made))| same(&format!("{place}[{at}]"), frozen, made));
        }
        _ => assert_eq!(frozen, made, "{place}"),
    }
}
