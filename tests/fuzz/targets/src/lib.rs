//! A function for each parser of what strangers write: any bytes go in, and what must hold of the outcome is asserted.
//!
//! `tests/fuzz` runs them under libFuzzer, `tests/corpus.rs` here over the inputs that are kept. docs/fuzzing.md.

mod bundle;
mod config;
mod documents;
mod engine;
mod frames;
mod http;
mod limit;
mod openpgp;
mod qr;
mod remote_log;
mod seeds;
mod session;
#[path = "../../../../protocol/tests/shelf/mod.rs"]
mod shelf;

pub use bundle::bundle;
pub use config::{boot, config};
pub use documents::{confirmation, envelope};
pub use engine::protobuf;
pub use frames::{fragments, frames};
pub use http::http;
pub use limit::Limited;
pub use openpgp::{certificate, inside_seal, openpgp, signature};
pub use qr::qr;
pub use remote_log::log_pages;
pub use seeds::{every_key, seeds};
pub use session::{frame_0, handshake, sealed_frames};

/// Takes any bytes; whether anything in them was accepted. Panics where something does not hold that must.
pub type Target = fn(&[u8]) -> bool;

/// All of them, by the names of their folders in `tests/fuzz/corpus`.
pub const TARGETS: &[(&str, Target)] = &[
    ("frames", frames),
    ("fragments", fragments),
    ("frame_0", frame_0),
    ("handshake", handshake),
    ("sealed_frames", sealed_frames),
    ("protobuf", protobuf),
    ("envelope", envelope),
    ("confirmation", confirmation),
    ("openpgp", openpgp),
    ("inside_seal", inside_seal),
    ("certificate", certificate),
    ("signature", signature),
    ("qr", qr),
    ("config", config),
    ("boot", boot),
    ("http", http),
    ("bundle", bundle),
    ("log_pages", log_pages),
];

/// An input as steps: a byte that says what is done, a big-endian u16 of length, and so many bytes; fewer at the end.
pub(crate) fn steps(mut data: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (&what, rest) = data.split_first()?;
        let (length, rest) = match rest {
            [high, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
            _ => (0, &[][..]),
        };
        let (bytes, after) = rest.split_at(length.min(rest.len()));
        data = after;
        Some((what, bytes))
    })
}

/// One of [`steps`].
pub(crate) fn step(what: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a step has a u16 of bytes");
    [&[what][..], &length.to_be_bytes(), bytes].concat()
}

/// A file of `tests/versions`.
pub(crate) fn frozen(text: &str) -> serde_json::Value {
    serde_json::from_str(text).expect("the frozen files are JSON")
}

/// Bytes in a frozen file.
pub(crate) fn hex(value: &serde_json::Value) -> Vec<u8> {
    let text = value.as_str().expect("hexadecimal text");
    data_encoding::HEXLOWER.decode(text.as_bytes()).expect("hexadecimal text")
}
