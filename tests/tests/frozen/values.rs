//! Vectors of everything that is a function of its input: ids, envelopes, confirmations, payloads, codes, labels.

use bytes::Bytes;
use prost::Message as _;
use serde_json::{Value, json};
use waypost_protocol::advertising::{Advertisement, AdvertisingKey, Identifier};
use waypost_protocol::collection::{CollectionKey, confirmations_group, successions_group};
use waypost_protocol::confirmation::{Confirmation, Rejection, Statement, Verdict};
use waypost_protocol::content::Label;
use waypost_protocol::document::Document;
use waypost_protocol::envelope::{self, Header};
use waypost_protocol::ids::{CodeId, Fingerprint, GroupId, MessageId, PeerKey, RecordTag};
use waypost_protocol::invite::{CodeSecret, Destination, Pairing};
use waypost_protocol::mvds;
use waypost_protocol::session::{
    Opening, Pattern, Versions, encode_no_common_version, parse_no_common_version,
};
use waypost_protocol::succession::{Link, Word};
use waypost_protocol::time::UnixTime;

use super::{counting, hex, list, payloads, text, unhex};

pub(super) const V4: Fingerprint = Fingerprint::V4([
    0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01,
    0x23, 0x45, 0x67,
]);
pub(super) const TIME: UnixTime = UnixTime(1_795_233_600);

pub(super) fn v6() -> Fingerprint {
    Fingerprint::V6(counting(0x60))
}

pub(super) fn group() -> GroupId {
    GroupId(counting(0x40))
}

pub(super) fn id(first: u8) -> MessageId {
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
        "successions": successions().iter().map(describe_succession).collect::<Vec<_>>(),
        "verdicts": verdict_codes(),
        "payloads": payloads::make(),
        "payloads_with_unknown_fields": payloads::unknown_fields(),
        "refusals": payloads::reasons(),
        "goodbyes": payloads::goodbyes(),
        "frame_0": openings(),
        "frame_0_refused": openings_refused(),
        "no_common_version": no_common_versions(),
        "pairing_codes": pairings(),
        "destination_codes": destinations(),
        "labels": labels(),
        "advertisements": advertisements(),
        "advertisements_refused": advertisements_refused(),
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
            "successions_group": hex(successions_group(&destination).as_bytes()),
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

pub(super) fn confirmations() -> Vec<Confirmation> {
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

/// A newer state, a word of the first certificate, a word of another one.
pub(super) fn successions() -> Vec<Link> {
    let link = |destination, signer: Option<(Fingerprint, u64)>| Link {
        destination,
        certificate: Bytes::from_static(b"(certificate)"),
        word: signer.map(|(signer, time)| Word {
            signer,
            time: UnixTime(time),
            signature: Bytes::from_static(b"(detached signature)"),
        }),
    };
    vec![
        link(V4, None),
        link(V4, Some((V4, 1_795_236_001))),
        link(v6(), Some((Fingerprint::V6(counting(0xc0)), 951_782_399))),
    ]
}

fn describe_succession(link: &Link) -> Value {
    let word = link.word.as_ref();
    json!({
        "destination": link.destination,
        "certificate": hex(&link.certificate),
        "signer": word.map(|word| word.signer),
        "time": word.map(|word| word.time.0),
        "signature": word.map(|word| hex(&word.signature)),
        "wire": hex(&link.to_wire().encode_to_vec()),
        "group_id": hex(successions_group(&link.destination).as_bytes()),
        "id": hex(link.id().as_bytes()),
    })
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
            "successors": destination.successors,
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
        successors: vec![],
        collection_key: CollectionKey::new(counting(0x80)),
        collections: vec![],
        token: None,
    };
    let full = Destination {
        url: Some("https://example.org:8443/way post".into()),
        fingerprint: v6(),
        certificate: Some(vec![0xfe, 0xff, 0x00]),
        successors: vec![Fingerprint::V6(counting(0xc0)), V4],
        collection_key: CollectionKey::new(counting(0x00)),
        collections: vec!["forms".into(), "Fotos & Töne".into()],
        token: Some("secret+token/=".to_owned().into()),
    };
    vec![one(least), one(full)]
}

fn advertisements() -> Vec<Value> {
    let one = |private: [u8; 32], random: [u8; 3], flags: [bool; 4]| {
        let key = AdvertisingKey::of_private(&private);
        let identifier = Identifier::from_random(&key, random);
        let [has_backhaul, offers_wifi, has_room, is_gateway] = flags;
        let made = Advertisement { has_backhaul, offers_wifi, has_room, is_gateway, identifier };
        json!({
            "static_private_key": hex(&private),
            "advertising_key": hex(key.expose()),
            "random": hex(&random),
            "backhaul": has_backhaul,
            "wifi": offers_wifi,
            "room": has_room,
            "gateway": is_gateway,
            "identifier": hex(identifier.as_bytes()),
            "bytes": hex(&made.encode()),
        })
    };
    vec![
        one(counting(0x71), [0, 1, 2], [true, false, true, true]),
        one(counting(0x71), [0xff, 0xfe, 0xfd], [false, true, false, true]),
        one(counting(0x11), [0, 1, 2], [false; 4]),
    ]
}

fn advertisements_refused() -> Vec<Value> {
    let cases: [(&str, &[u8]); 4] = [
        ("5 bytes", &[0x1d, 0, 1, 2, 3]),
        ("7 bytes", &[0x1d, 0, 1, 2, 3, 4, 5]),
        ("version 0", &[0x0d, 0, 1, 2, 3, 4]),
        ("version 2", &[0x2d, 0, 1, 2, 3, 4]),
    ];
    cases.map(|(why, bytes)| json!({ "why": why, "bytes": hex(bytes) })).into()
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
    for vector in list(&frozen["successions"]) {
        let wire = mvds::Succession::decode(unhex(&vector["wire"])).unwrap();
        assert_eq!(&describe_succession(&Link::from_wire(&wire).unwrap()), vector);
    }
    payloads::check(frozen);
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
    for vector in list(&frozen["advertisements"]) {
        let found = Advertisement::parse(&unhex(&vector["bytes"])).unwrap();
        assert!(
            found.identifier.is_of(&AdvertisingKey::from_slice(&unhex(&vector["advertising_key"])).unwrap())
        );
        let flags = [found.has_backhaul, found.offers_wifi, found.has_room, found.is_gateway];
        assert_eq!(json!(flags), json!(["backhaul", "wifi", "room", "gateway"].map(|flag| &vector[flag])));
    }
    for vector in list(&frozen["advertisements_refused"]) {
        assert!(Advertisement::parse(&unhex(&vector["bytes"])).is_err(), "{}", vector["why"]);
    }
}
