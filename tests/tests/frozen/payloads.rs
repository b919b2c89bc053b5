//! Vectors of payloads: each field alone and together, what version 1 skips, codes of refusals and goodbyes.

use bytes::Bytes;
use prost::Message as _;
use serde_json::{Value, json};
use waypost_protocol::document::Document;
use waypost_protocol::envelope::{self, Header};
use waypost_protocol::invite::CodeSecret;
use waypost_protocol::moving::{WifiNetwork, WifiOffer};
use waypost_protocol::mvds;
use waypost_protocol::refusal::{Goodbye, InLine, Reason};
use waypost_protocol::succession::Link;

use super::values::{TIME, V4, confirmations, group, id, successions, v6};
use super::{counting, hex, list, unhex};

/// A payload's fields as they are, for whoever decodes by hand.
fn describe(payload: &mvds::Payload) -> Value {
    let ids = |list: &[Bytes]| list.iter().map(|id| hex(id)).collect::<Vec<_>>();
    let message = |m: &mvds::Message| {
        let id = Document::from_message(m.clone()).map(|document| hex(document.id().as_bytes()));
        json!({ "group_id": hex(&m.group_id), "timestamp": m.timestamp, "body": hex(&m.body), "id": id.ok() })
    };
    let hello = |h: &mvds::Hello| {
        json!({
            "store_id": hex(&h.store_id), "serves": ids(&h.serves), "wants": ids(&h.wants),
            "max_document": h.max_document, "window": h.window, "name": h.name, "flags": h.flags,
            "advertising_key": hex(&h.advertising_key),
        })
    };
    let start = |s: &mvds::Start| {
        json!({
            "transfer": s.transfer, "id": hex(&s.id), "group_id": hex(&s.group_id), "timestamp": s.timestamp,
            "size": s.size, "destination": hex(&s.destination),
        })
    };
    let chunk =
        |c: &mvds::Chunk| json!({ "transfer": c.transfer, "offset": c.offset, "bytes": hex(&c.bytes) });
    let resume = |r: &mvds::Resume| json!({ "transfer": r.transfer, "committed": r.committed });
    let refusal = |r: &mvds::Refusal| json!({ "id": hex(&r.id), "reason": r.reason });
    let confirmation = |c: &mvds::Confirmation| {
        json!({
            "destination": hex(&c.destination), "signer": hex(&c.signer), "time": c.time, "ids": hex(&c.ids),
            "verdicts": hex(&c.verdicts), "signature": hex(&c.signature),
        })
    };
    let line = |c: &mvds::CollectionReport| {
        json!({
            "group_id": hex(&c.group_id), "stored": c.stored, "bytes": c.bytes, "already_held": c.already_held,
            "refused": c.refused, "conflicts": c.conflicts,
        })
    };
    let report = |r: &mvds::Report| json!({ "collections": r.collections.iter().map(line).collect::<Vec<_>>(), "confirmations": r.confirmations });
    let age = |a: &mvds::Age| json!({ "id": hex(&a.id), "seconds": a.seconds });
    let succession = |s: &mvds::Succession| {
        json!({
            "destination": hex(&s.destination), "certificate": hex(&s.certificate), "signer": hex(&s.signer),
            "time": s.time, "signature": hex(&s.signature),
        })
    };
    let mut fields = serde_json::Map::new();
    let mut put = |key: &str, value: Value| {
        if !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()) {
            fields.insert(key.to_owned(), value);
        }
    };
    put("acks", ids(&payload.acks).into());
    put("offers", ids(&payload.offers).into());
    put("requests", ids(&payload.requests).into());
    put("messages", payload.messages.iter().map(message).collect());
    put("hello", payload.hello.as_ref().map(hello).into());
    put("starts", payload.starts.iter().map(start).collect());
    put("chunks", payload.chunks.iter().map(chunk).collect());
    put("resumes", payload.resumes.iter().map(resume).collect());
    put("refusals", payload.refusals.iter().map(refusal).collect());
    put("confirmations", payload.confirmations.iter().map(confirmation).collect());
    put("successions", payload.successions.iter().map(succession).collect());
    put("queries", ids(&payload.queries).into());
    put("report", payload.report.as_ref().map(report).into());
    put("ages", payload.ages.iter().map(age).collect());
    put(
        "goodbye",
        payload
            .goodbye
            .as_ref()
            .map(|g| json!({ "reason": g.reason, "place": g.place, "again": g.again }))
            .into(),
    );
    let wifi = |w: &mvds::Wifi| {
        json!({
            "ssid": hex(&w.ssid), "passphrase": hex(&w.passphrase), "bssid": hex(&w.bssid), "frequency": w.frequency,
            "address": hex(&w.address), "port": w.port, "token": hex(&w.token), "valid": w.valid,
        })
    };
    put("waiting", payload.waiting.as_ref().map(|waiting| json!({ "bytes": waiting.bytes })).into());
    put("wifi", payload.wifi.as_ref().map(wifi).into());
    fields.into()
}

fn phone_hello() -> mvds::Hello {
    mvds::Hello {
        store_id: Bytes::copy_from_slice(&counting::<16>(0x20)),
        window: 65_536,
        ..Default::default()
    }
}

fn sample_payloads() -> Vec<(&'static str, mvds::Payload)> {
    let bytes_of = |first| Bytes::copy_from_slice(id(first).as_bytes());
    let group_bytes = || Bytes::copy_from_slice(group().as_bytes());
    let small =
        Document::new(group(), TIME, envelope::assemble(&Header::to(V4), b"sealed").unwrap()).unwrap();
    let ids = || vec![bytes_of(1), bytes_of(2)];
    let empty = mvds::Payload::default;
    let hello = mvds::Hello {
        store_id: Bytes::copy_from_slice(&counting::<16>(0x10)),
        serves: vec![Bytes::copy_from_slice(V4.as_bytes()), Bytes::copy_from_slice(v6().as_bytes())],
        wants: vec![group_bytes()],
        max_document: 1 << 30,
        window: 262_144,
        name: "Kiosk am Markt".into(),
        flags: 3,
        ..Default::default()
    };
    let to_known = mvds::Hello { advertising_key: counting::<16>(0x30).to_vec().into(), ..phone_hello() };
    let start = mvds::Start {
        transfer: 1,
        id: bytes_of(5),
        group_id: group_bytes(),
        timestamp: TIME.0 as i64,
        size: 5_000_000,
        destination: Bytes::copy_from_slice(V4.as_bytes()),
    };
    let chunk = mvds::Chunk { transfer: 1, offset: 65_536, bytes: Bytes::from_static(b"chunk") };
    let line = mvds::CollectionReport {
        group_id: group_bytes(),
        stored: 3,
        bytes: 3_072,
        already_held: 2,
        refused: 1,
        conflicts: 0,
    };
    let others = mvds::CollectionReport { already_held: 7, ..Default::default() };
    vec![
        ("nothing", empty()),
        ("acks", mvds::Payload { acks: ids(), ..empty() }),
        ("offers", mvds::Payload { offers: ids(), ..empty() }),
        ("requests", mvds::Payload { requests: ids(), ..empty() }),
        ("a message", mvds::Payload { messages: vec![small.to_message()], ..empty() }),
        (
            "a message with metadata, which is no part of its id",
            mvds::Payload {
                messages: vec![mvds::Message {
                    metadata: Some(mvds::Metadata { parents: ids(), ephemeral: true }),
                    ..small.to_message()
                }],
                ..empty()
            },
        ),
        ("hello of a gateway", mvds::Payload { hello: Some(hello), ..empty() }),
        ("hello of a phone", mvds::Payload { hello: Some(phone_hello()), ..empty() }),
        ("hello to a peer that is known", mvds::Payload { hello: Some(to_known), ..empty() }),
        ("a start", mvds::Payload { starts: vec![start], ..empty() }),
        ("a chunk", mvds::Payload { chunks: vec![chunk.clone()], ..empty() }),
        ("a first chunk", mvds::Payload { chunks: vec![mvds::Chunk { offset: 0, ..chunk }], ..empty() }),
        (
            "resumes",
            mvds::Payload {
                resumes: [0, 65_536].map(|committed| mvds::Resume { transfer: 1, committed }).into(),
                ..empty()
            },
        ),
        (
            "a refusal",
            mvds::Payload { refusals: vec![mvds::Refusal { id: bytes_of(1), reason: 4 }], ..empty() },
        ),
        ("a confirmation", mvds::Payload { confirmations: vec![confirmations()[1].to_wire()], ..empty() }),
        (
            "successions",
            mvds::Payload { successions: successions().iter().map(Link::to_wire).collect(), ..empty() },
        ),
        ("queries", mvds::Payload { queries: ids(), ..empty() }),
        (
            "a report",
            mvds::Payload {
                report: Some(mvds::Report { collections: vec![line, others], confirmations: 2 }),
                ..empty()
            },
        ),
        ("a report of nothing", mvds::Payload { report: Some(mvds::Report::default()), ..empty() }),
        (
            "a message and its age",
            mvds::Payload {
                messages: vec![small.to_message()],
                ages: vec![mvds::Age { id: Bytes::copy_from_slice(small.id().as_bytes()), seconds: 90 }],
                ..empty()
            },
        ),
        ("goodbye", mvds::Payload { goodbye: Some(Goodbye::Busy(None).to_wire()), ..empty() }),
        (
            "goodbye, third in line",
            mvds::Payload {
                goodbye: Some(Goodbye::Busy(Some(InLine { place: 3, again: 20 })).to_wire()),
                ..empty()
            },
        ),
        (
            "goodbye, no place in line",
            mvds::Payload {
                goodbye: Some(Goodbye::Busy(Some(InLine { place: 0, again: 300 })).to_wire()),
                ..empty()
            },
        ),
        ("waiting", mvds::Payload { waiting: Some(mvds::Waiting { bytes: 20_000_000 }), ..empty() }),
        ("an offer of Wi-Fi", mvds::Payload { wifi: Some(wifi_offer().to_wire()), ..empty() }),
        (
            "several",
            mvds::Payload {
                acks: vec![bytes_of(1)],
                offers: vec![bytes_of(2)],
                requests: vec![bytes_of(3)],
                messages: vec![small.to_message()],
                ..empty()
            },
        ),
    ]
}

fn wifi_offer() -> WifiOffer {
    let network = WifiNetwork {
        ssid: b"DIRECT-ab-Kiosk am Markt".to_vec(),
        passphrase: "abcdefgh2345".to_owned().into(),
        bssid: Some([0x02, 0, 0, 0, 0xab, 0]),
        frequency: 5_180,
        address: "fe80::abcd".parse().unwrap(),
        port: 4_180,
    };
    WifiOffer { network, token: CodeSecret::new(counting::<16>(0x40)), valid: 60 }
}

pub(super) fn make() -> Vec<Value> {
    let one = |(name, payload): &(&str, mvds::Payload)| json!({ "name": name, "bytes": hex(&payload.encode_to_vec()), "fields": describe(payload) });
    sample_payloads().iter().map(one).collect()
}

/// Fields that version 1 skips: those of other nodes, and what is reserved.
pub(super) fn unknown_fields() -> Vec<Value> {
    let known = mvds::Payload { acks: vec![Bytes::copy_from_slice(id(1).as_bytes())], ..Default::default() };
    let with = |tag: u32| {
        let mut bytes = Vec::new();
        prost::encoding::encode_key(tag, prost::encoding::WireType::LengthDelimited, &mut bytes);
        prost::encoding::encode_varint(4, &mut bytes);
        bytes.extend([1, 2, 3, 4]);
        bytes.extend(known.encode_to_vec());
        json!({ "field": tag, "bytes": hex(&bytes), "fields": describe(&known) })
    };
    [1, 5005, 5110, 9_999].map(with).into()
}

pub(super) fn reasons() -> Vec<Value> {
    let reason = |code| {
        let reason = Reason::from_code(code);
        json!({ "code": code, "name": reason, "temporary": reason.is_temporary() })
    };
    (1..=12).map(reason).collect()
}

pub(super) fn goodbyes() -> Vec<Value> {
    let names = ["not-paired", "revoked", "bad-code", "busy", "stopping", "protocol-error", "idle", "moved"];
    let named = (1..).zip(names);
    named.map(|(code, name)| json!({ "code": Goodbye::from_code(code).code(), "name": name })).collect()
}

/// The other direction: what is in the file is understood.
pub(super) fn check(frozen: &Value) {
    for vector in list(&frozen["payloads"]).iter().chain(list(&frozen["payloads_with_unknown_fields"])) {
        let payload = mvds::Payload::decode(unhex(&vector["bytes"])).unwrap();
        assert_eq!(describe(&payload), vector["fields"]);
        if let Some(goodbye) = payload.goodbye {
            assert_eq!(Goodbye::from_wire(&goodbye).to_wire(), goodbye);
        }
        if let Some(wifi) = payload.wifi {
            assert_eq!(WifiOffer::from_wire(&wifi).unwrap().to_wire(), wifi);
        }
    }
}
