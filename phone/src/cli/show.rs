//! How things that several commands show look.

use crate::{DeleteOn, Destination, Gateway, Role};
use serde_json::{Value, json};
use waypost_protocol::ids::{Fingerprint, MessageId};

/// A fingerprint in groups of four, to be compared by eye.
pub(crate) fn grouped(fingerprint: &Fingerprint) -> String {
    let digits: Vec<char> = fingerprint.to_string().chars().collect();
    digits.chunks(4).map(|group| group.iter().collect::<String>()).collect::<Vec<_>>().join(" ")
}

/// The beginning of an id, as long as people type it.
pub(crate) fn short(id: &MessageId) -> String {
    id.to_string().chars().take(12).collect()
}

/// A destination in one line of JSON. Its token and keys are not in it.
pub(crate) fn destination_object(destination: &Destination) -> Value {
    json!({
        "fingerprint": destination.fingerprint(), "name": destination.name(), "url": destination.url,
        "collections": destination.collections, "may_deliver": destination.token.is_some(),
        "delete_on": match destination.delete_on { DeleteOn::Opened => "opened", DeleteOn::Held => "held" },
        "readers": destination.readers.iter().map(|reader| json!({
            "fingerprint": reader.certificate.fingerprint(), "collections": reader.collections,
        })).collect::<Vec<_>>(),
    })
}

/// A kiosk or phone in one line.
pub(crate) fn gateway(gateway: &Gateway) -> String {
    let kind = match gateway.role {
        Role::Kiosk => "kiosk",
        Role::Phone => "phone",
    };
    let seen = gateway.last_seen.map_or_else(|| "not met yet".to_owned(), |at| format!("met {at}"));
    let paired = if gateway.is_paired() { "" } else { ", pairing at the next sync" };
    let at = gateway.addresses.first().map(|address| format!(" at {address}")).unwrap_or_default();
    let key: String = gateway.key.to_string().chars().take(12).collect();
    format!("{kind} {} ({key}){at}, {seen}{paired}", gateway.label())
}

/// A kiosk or phone in JSON. Its code is not in it.
pub(crate) fn gateway_object(gateway: &Gateway) -> Value {
    json!({
        "key": gateway.key, "name": gateway.name, "role": gateway.role, "addresses": gateway.addresses,
        "paired": gateway.is_paired(), "last_seen": gateway.last_seen.map(|at| at.to_string()),
    })
}
