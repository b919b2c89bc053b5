//! Vectors of everything that is a function of its input: ids, envelopes, confirmations, payloads, codes, labels.

use bytes::Bytes;
use prost::Message as _;
use serde_json::{Value, json};
use waypost_protocol::collection::{CollectionKey, confirmations_group};
use waypost_protocol::confirmation::{Confirmation, Rejection, Statement, Verdict};
use waypost_protocol::content::Label;
use waypost_protocol::document::Document;
use waypost_protocol::envelope::{self, Header};
use waypost_protocol::ids::{CodeId, Fingerprint, GroupId, MessageId, PeerKey, RecordTag};
use waypost_protocol::invite::{CodeSecret, Destination, Pairing};
use waypost_protocol::mvds;
use waypost_protocol::refusal::{Goodbye, Reason};
use waypost_protocol::session::{
    Opening, Pattern, Versions, encode_no_common_version, parse_no_common_version,
};
use waypost_protocol::time::UnixTime;

use super::{counting, hex, list, text, unhex};

const V4: Fingerprint = Fingerprint::V4([
    0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01,
    0x23, 0x45, 0x67,
]);
const TIME: UnixTime = UnixTime(1_795_233_600);

fn v6() -> Fingerprint {
    Fingerprint::V6(counting(0x60))
}

fn group() -> GroupId {
    GroupId(counting(0x40))
}

fn id(first: u8) -> MessageId {
    MessageId(counting(first))
}

pub(crate) fn make() -> Value {
    json!({
        "protocol_version": 1,
        "about": "Bytes are lower-case hexadecimal text. docs/protocol.md is the specification.",
        "documents": documents(),
        "documents_refused": documents_refused(),
        "collections": collections(),
        "envelopes": envelopes(),
        "envelopes_refused": envelopes_refused(),
        "confirmations": confirmations().iter().map(describe_confirmation).collect::<Vec<_>>(),
        "verdicts": verdict_codes(),
        "payloads": payloads(),
        "payloads_with_unknown_fields": unknown_fields(),
        "refusals": reasons(),
        "goodbyes": goodbyes(),
        "frame_0": openings(),
        "frame_0_refused": openings_refused(),
        "no_common_version": no_common_versions(),
        "pairing_codes": pairings(),
        "destination_codes": destinations(),
        "labels": labels(),
    })
}

fn no_common_versions() -> Vec<Value> {
    let one = |highest| {
        let bytes = encode_no_common_version(Versions { lowest: 1, highest });
        json!({ "lowest": 1, "highest": highest, "bytes": hex(&bytes) })
    };
    vec![one(1), one(3)]
}

fn verdict_codes() -> Vec<Value> {
    verdicts().map(|verdict| json!({ "code": verdict.code(), "words": verdict.words() })).into()
}

fn document_vector(document: &Document) -> Value {
    json!({
        "group_id": hex(document.group().as_bytes()),
        "timestamp": document.timestamp().0,
        "body": hex(document.body()),
        "id": hex(document.id().as_bytes()),
        "canonical": hex(&document.encode()),
    })
}

fn documents() -> Vec<Value> {
    let long: Vec<u8> = (0..300u32).map(|at| at.to_le_bytes()[0]).collect();
    let bodies: [(u64, &[u8]); 4] =
        [(0, b""), (1_795_233_600, b"hello"), (3_600, &long), ((1 << 40) - 1, b"the last second")];
    let document = |(time, body): (u64, &[u8])| {
        document_vector(&Document::new(group(), UnixTime(time), Bytes::copy_from_slice(body)).unwrap())
    };
    bodies.into_iter().map(document).collect()
}

fn documents_refused() -> Vec<Value> {
    let good = Document::new(group(), TIME, Bytes::from_static(b"hello")).unwrap();
    let with = |change: fn(&mut mvds::Message)| {
        let mut message = good.to_message();
        change(&mut message);
        message.encode_to_vec()
    };
    let metadata = || Some(mvds::Metadata { parents: vec![], ephemeral: true });
    vec![
        json!({ "why": "group id of 31 bytes", "bytes": hex(&with(|m| m.group_id = vec![1; 31].into())) }),
        json!({ "why": "timestamp of 2^40", "bytes": hex(&with(|m| m.timestamp = 1 << 40)) }),
        json!({ "why": "negative timestamp", "bytes": hex(&with(|m| m.timestamp = -1)) }),
        json!({ "why": "metadata is not canonical", "bytes": hex(&mvds::Message { metadata: metadata(), ..good.to_message() }.encode_to_vec()) }),
        json!({ "why": "cut", "bytes": hex(&good.encode()[..40]) }),
    ]
}

fn collections() -> Vec<Value> {
    let one = |destination: Fingerprint, key: CollectionKey, name: &str, record: &str| {
        json!({
            "destination": destination,
            "collection_key": hex(key.expose()),
            "name": name,
            "group_id": hex(key.group(&destination, name).as_bytes()),
            "record_key": record,
            "record_tag": hex(key.record_tag(record).as_bytes()),
            "well_known_key": hex(CollectionKey::well_known(&destination).expose()),
            "confirmations_group": hex(confirmations_group(&destination).as_bytes()),
        })
    };
    vec![
        one(V4, CollectionKey::new(counting(0x80)), "forms", "household 17"),
        one(v6(), CollectionKey::new(counting(0x00)), "Fotos – März", ""),
        one(V4, CollectionKey::well_known(&V4), "forms", "ключ"),
    ]
}

fn full_header() -> Header {
    Header {
        destination: v6(),
        record: Some(RecordTag(counting(0xa0))),
        revision: 300,
        replaces: vec![id(1)],
        parents: vec![id(2), id(3)],
        ephemeral: true,
        lifetime: 86_400,
        priority: 9,
    }
}

fn header_vector(header: &Header) -> Value {
    json!({
        "destination": header.destination,
        "record": header.record.map(|tag| hex(tag.as_bytes())).unwrap_or_default(),
        "revision": header.revision,
        "replaces": header.replaces.iter().map(|id| hex(id.as_bytes())).collect::<Vec<_>>(),
        "parents": header.parents.iter().map(|id| hex(id.as_bytes())).collect::<Vec<_>>(),
        "ephemeral": header.ephemeral,
        "lifetime": header.lifetime,
        "priority": header.priority,
    })
}

fn envelopes() -> Vec<Value> {
    [Header::to(V4), full_header()].iter().map(envelope_vector).collect()
}

fn envelope_vector(header: &Header) -> Value {
    let sealed = b"(sealed OpenPGP message)";
    let body = envelope::assemble(header, sealed).unwrap();
    json!({ "header": header_vector(header), "sealed": hex(sealed), "body": hex(&body) })
}

fn envelopes_refused() -> Vec<Value> {
    let good = envelope::assemble(&Header::to(V4), b"sealed").unwrap();
    let with = |at: usize, byte: u8| {
        let mut body = good.to_vec();
        body[at] = byte;
        body
    };
    let header = |bytes: &[u8]| {
        let mut body = b"WP\x01".to_vec();
        body.extend(u16::try_from(bytes.len()).unwrap().to_be_bytes());
        body.extend(bytes);
        body
    };
    let field = |key: u8, bytes: &[u8]| {
        let mut out = vec![key << 3 | 2, u8::try_from(bytes.len()).unwrap()];
        out.extend(bytes);
        out
    };
    let destination = field(1, V4.as_bytes());
    let joined = |more: &[u8]| header(&[destination.as_slice(), more].concat());
    let parents = |count: usize| (0..count).flat_map(|at| field(5, &[at as u8; 32])).collect::<Vec<u8>>();
    [
        ("no magic bytes", with(0, b'X')),
        ("format 2", with(2, 2)),
        ("header longer than 3072 bytes", with(3, 0x0d)),
        ("ends within the header", good[..12].to_vec()),
        ("ends within the fixed part", b"WP\x01\0".to_vec()),
        ("header is no protobuf", header(&[0xff; 8])),
        ("no destination", header(&[])),
        ("destination of 21 bytes", header(&field(1, &[7; 21]))),
        ("record tag of 15 bytes", joined(&field(2, &[7; 15]))),
        ("parent of 31 bytes", joined(&field(5, &[7; 31]))),
        ("65 parents", joined(&parents(65))),
        ("17 replaced revisions", joined(&(0..17).flat_map(|at| field(4, &[at; 32])).collect::<Vec<u8>>())),
        ("priority 10", joined(&[8 << 3, 10])),
    ]
    .map(|(why, body)| json!({ "why": why, "body": hex(&body) }))
    .into()
}

fn verdicts() -> [Verdict; 6] {
    [
        Verdict::Opened,
        Verdict::Held,
        Verdict::Rejected(Rejection::UnknownCollection),
        Verdict::Rejected(Rejection::CannotOpen),
        Verdict::Rejected(Rejection::TooLarge),
        Verdict::Rejected(Rejection::AuthorRevoked),
    ]
}

fn confirmations() -> Vec<Confirmation> {
    let all = verdicts().into_iter().zip([0x90, 0x10, 0x50, 0x30, 0x70, 0xf0]);
    let all: Vec<_> = all.map(|(verdict, first)| (id(first), verdict)).collect();
    let signature = Bytes::from_static(b"(detached signature)");
    let confirm = |destination, signer, time, verdicts| {
        Confirmation::new(Statement::new(destination, signer, time, verdicts).unwrap(), signature.clone())
            .unwrap()
    };
    let many = (0..=255u8).map(|at| (MessageId([at; 32]), Verdict::Opened)).collect();
    vec![
        confirm(V4, V4, UnixTime(1_795_236_000), vec![(id(1), Verdict::Opened)]),
        confirm(V4, Fingerprint::V4(counting(0xb0)), UnixTime(1_795_236_001), all.clone()),
        confirm(v6(), Fingerprint::V6(counting(0xc0)), UnixTime(951_782_399), all),
        confirm(V4, V4, UnixTime(0), many),
    ]
}

pub(crate) fn describe_confirmation(confirmation: &Confirmation) -> Value {
    let statement = &confirmation.statement;
    let verdict = |(id, verdict): &(MessageId, Verdict)| json!([hex(id.as_bytes()), verdict.code()]);
    json!({
        "destination": statement.destination(),
        "signer": statement.signer(),
        "time": statement.time().0,
        "verdicts": statement.verdicts().iter().map(verdict).collect::<Vec<_>>(),
        "signature": hex(confirmation.signature()),
        "text": statement.text(),
        "wire": hex(&confirmation.encode()),
        "group_id": hex(confirmations_group(&statement.destination()).as_bytes()),
        "id": hex(confirmation.id().as_bytes()),
    })
}

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
    put("queries", ids(&payload.queries).into());
    put("report", payload.report.as_ref().map(report).into());
    put("ages", payload.ages.iter().map(age).collect());
    put("goodbye", payload.goodbye.as_ref().map(|g| json!({ "reason": g.reason })).into());
    fields.into()
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
    };
    let phone = mvds::Hello {
        store_id: Bytes::copy_from_slice(&counting::<16>(0x20)),
        window: 65_536,
        ..Default::default()
    };
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
        ("hello of a phone", mvds::Payload { hello: Some(phone), ..empty() }),
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
        ("goodbye", mvds::Payload { goodbye: Some(mvds::Goodbye { reason: 4 }), ..empty() }),
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

fn payloads() -> Vec<Value> {
    let one = |(name, payload): &(&str, mvds::Payload)| json!({ "name": name, "bytes": hex(&payload.encode_to_vec()), "fields": describe(payload) });
    sample_payloads().iter().map(one).collect()
}

/// Fields that version 1 skips: those of other nodes, and what is reserved.
fn unknown_fields() -> Vec<Value> {
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

fn reasons() -> Vec<Value> {
    let reason = |code| {
        let reason = Reason::from_code(code);
        json!({ "code": code, "name": reason, "temporary": reason.is_temporary() })
    };
    (1..=12).map(reason).collect()
}

fn goodbyes() -> Vec<Value> {
    (1..=7).map(|code| json!({ "code": code, "name": Goodbye::from_code(code) })).collect()
}

fn openings() -> Vec<Value> {
    let one = |lowest, highest, pattern: Pattern, name: &str| {
        let versions = Versions { lowest, highest };
        let code = match pattern {
            Pattern::Code(id) => hex(id.as_bytes()),
            _ => String::new(),
        };
        let bytes = Opening { versions, pattern }.encode();
        json!({ "lowest": lowest, "highest": highest, "pattern": name, "code_id": code, "bytes": hex(&bytes) })
    };
    vec![
        one(1, 1, Pattern::Known, "IK"),
        one(1, 1, Pattern::Code(CodeId(counting(0xe0))), "IKpsk2"),
        one(1, 1, Pattern::Open, "XX"),
        one(1, 3, Pattern::Known, "IK"),
    ]
}

fn openings_refused() -> Vec<Value> {
    let cases: [(&str, &[u8]); 6] = [
        ("empty", b""),
        ("other magic bytes", b"HTTP\x01\x01\x01"),
        ("no pattern", b"WPST\x01\x01"),
        ("bytes after the pattern", b"WPST\x01\x01\x01\0"),
        ("code id of 7 bytes", b"WPST\x01\x01\x021234567"),
        ("unknown pattern", b"WPST\x01\x01\x04"),
    ];
    cases.map(|(why, bytes)| json!({ "why": why, "bytes": hex(bytes) })).into()
}

fn pairings() -> Vec<Value> {
    let one = |name: &str, addresses: &[&str]| {
        let secret = CodeSecret::new(counting(0xd0));
        let addresses: Vec<String> = addresses.iter().map(|one| (*one).to_owned()).collect();
        let pairing = Pairing {
            gateway: PeerKey(counting(0x08)),
            secret: secret.clone(),
            name: name.into(),
            addresses,
        };
        json!({
            "gateway": hex(pairing.gateway.as_bytes()),
            "secret": hex(secret.expose()),
            "name": name,
            "addresses": pairing.addresses,
            "text": pairing.to_text(),
            "code_id": hex(secret.id().as_bytes()),
            "psk": hex(secret.psk().as_slice()),
        })
    };
    vec![
        one("", &[]),
        one("Clinic & Märkte 1+1=2", &["192.168.4.1:4180", "[fe80::1]:4180", "kiosk.local:4180"]),
    ]
}

fn destinations() -> Vec<Value> {
    let one = |destination: Destination| {
        json!({
            "url": destination.url,
            "fingerprint": destination.fingerprint,
            "certificate": destination.certificate.as_deref().map(hex),
            "collection_key": hex(destination.collection_key.expose()),
            "collections": destination.collections,
            "token": destination.token.as_ref().map(|token| token.as_str()),
            "text": destination.to_text(),
        })
    };
    let least = Destination {
        url: None,
        fingerprint: V4,
        certificate: None,
        collection_key: CollectionKey::new(counting(0x80)),
        collections: vec![],
        token: None,
    };
    let full = Destination {
        url: Some("https://example.org:8443/way post".into()),
        fingerprint: v6(),
        certificate: Some(vec![0xfe, 0xff, 0x00]),
        collection_key: CollectionKey::new(counting(0x00)),
        collections: vec!["forms".into(), "Fotos & Töne".into()],
        token: Some("secret+token/=".to_owned().into()),
    };
    vec![one(least), one(full)]
}

fn labels() -> Vec<Value> {
    let one = |label: Label| {
        json!({
            "collection": label.collection,
            "record": label.record,
            "time": label.time,
            "file_name": label.file_name.as_deref().map(hex),
            "line": hex(&label.encode().unwrap()),
        })
    };
    vec![
        one(Label { collection: "forms".into(), ..Default::default() }),
        one(Label {
            collection: "Fotos – März".into(),
            record: Some("a=b&c".into()),
            time: Some(UnixTime(1_795_236_000)),
            file_name: Some(b"folder/a b\n\xff.jpg".to_vec()),
        }),
    ]
}

/// The other direction: what is in the file is understood.
pub(crate) fn check(frozen: &Value) {
    for vector in list(&frozen["documents"]) {
        let document = Document::decode(unhex(&vector["canonical"])).unwrap();
        assert_eq!(&document_vector(&document), vector);
    }
    for vector in list(&frozen["documents_refused"]) {
        assert!(Document::decode(unhex(&vector["bytes"])).is_err(), "{}", vector["why"]);
    }
    for vector in list(&frozen["envelopes"]) {
        let body = unhex(&vector["body"]);
        let (header, at) = envelope::parse(&body).unwrap();
        assert_eq!(header_vector(&header), vector["header"]);
        assert_eq!(body[at..], unhex(&vector["sealed"])[..]);
    }
    for vector in list(&frozen["envelopes_refused"]) {
        assert!(envelope::parse(&unhex(&vector["body"])).is_err(), "{}", vector["why"]);
    }
    for vector in list(&frozen["confirmations"]) {
        let confirmation = Confirmation::decode(&unhex(&vector["wire"])).unwrap();
        assert_eq!(&describe_confirmation(&confirmation), vector);
    }
    for vector in list(&frozen["payloads"]).iter().chain(list(&frozen["payloads_with_unknown_fields"])) {
        let payload = mvds::Payload::decode(unhex(&vector["bytes"])).unwrap();
        assert_eq!(describe(&payload), vector["fields"]);
    }
    for vector in list(&frozen["frame_0"]) {
        let (versions, opening) = Opening::parse(&unhex(&vector["bytes"])).unwrap();
        assert_eq!(hex(&opening.unwrap().encode()), vector["bytes"]);
        assert_eq!((versions.lowest, versions.highest), (1, vector["highest"].as_u64().unwrap() as u8));
    }
    for vector in list(&frozen["frame_0_refused"]) {
        let parsed = Opening::parse(&unhex(&vector["bytes"])).and_then(|(_, opening)| opening);
        assert!(parsed.is_err(), "{}", vector["why"]);
    }
    for vector in list(&frozen["no_common_version"]) {
        let versions = parse_no_common_version(&unhex(&vector["bytes"])).unwrap();
        assert_eq!(u64::from(versions.highest), vector["highest"].as_u64().unwrap());
    }
    for vector in list(&frozen["pairing_codes"]) {
        let pairing = Pairing::parse(text(&vector["text"])).unwrap();
        assert_eq!(pairing.to_text(), text(&vector["text"]));
        assert_eq!(pairing.name, text(&vector["name"]));
    }
    for vector in list(&frozen["destination_codes"]) {
        let destination = Destination::parse(text(&vector["text"])).unwrap();
        assert_eq!(destination.to_text(), text(&vector["text"]));
    }
    for vector in list(&frozen["labels"]) {
        let (label, at) = Label::parse(&unhex(&vector["line"])).unwrap();
        assert_eq!(
            (label.encode().unwrap(), at),
            (unhex(&vector["line"]).to_vec(), unhex(&vector["line"]).len())
        );
    }
}
