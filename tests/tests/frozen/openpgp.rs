//! Real sealed documents and a real confirmation. They cannot be made twice the same, so they are only ever read.

use serde_json::{Value, json};
use waypost_openpgp::{
    Author, Certificate, Chain, Change, Compress, Limits, SecretKey, seal_bytes, seal_bytes_signed,
    verify_confirmation,
};
use waypost_protocol::confirmation::{Confirmation, Verdict};
use waypost_protocol::content::Label;
use waypost_protocol::document::Document;
use waypost_protocol::envelope::{self, Header};
use waypost_protocol::ids::GroupId;
use waypost_protocol::succession::{self, Statement};
use waypost_protocol::time::UnixTime;

use super::values::describe_confirmation;
use super::{counting, hex, list, text, unhex};

const NOW: UnixTime = UnixTime(1_795_236_000);

/// A document that the destination wrote and signed for itself, with the exact time in the line.
pub(crate) fn make_signed(keys: &Value) -> Value {
    let key = SecretKey::from_bytes(text(&keys["secret_key"]).as_bytes()).unwrap();
    let destination = key.certificate().fingerprint();
    let label = Label { collection: "news".into(), time: Some(UnixTime(1_795_235_999)), ..Label::default() };
    let content = b"vaccines come on Tuesday\n";
    let sealed =
        seal_bytes_signed(&label, content, &key, &[key.certificate()], Compress::Never, NOW).unwrap();
    let body = envelope::assemble(&Header::to(destination), &sealed).unwrap();
    let document = Document::new(GroupId(counting(0x60)), NOW.rounded_to_hour(), body).unwrap();
    json!({
        "protocol_version": 1,
        "about": "A document that the destination of v1-openpgp.json signed inside the seal, for itself.",
        "collection": label.collection,
        "time": label.time,
        "content": hex(content),
        "document": hex(&document.encode()),
        "id": hex(document.id().as_bytes()),
        "signed": NOW,
    })
}

pub(crate) fn make() -> Value {
    let key = SecretKey::generate("Waypost test vectors <nobody@example.org>", NOW).unwrap();
    let destination = key.certificate().fingerprint();
    let sealed = |label: Label, content: &[u8], compress| {
        let body = seal_bytes(&label, content, &[key.certificate()], compress, NOW).unwrap();
        let body = envelope::assemble(&Header::to(destination), &body).unwrap();
        Document::new(GroupId(counting(0x40)), label.time.unwrap_or_default().rounded_to_hour(), body)
            .unwrap()
    };
    let plain = Label { collection: "forms".into(), ..Label::default() };
    let full = Label {
        collection: "Fotos – März".into(),
        record: Some("household 17".into()),
        time: Some(UnixTime(1_795_235_999)),
        file_name: Some("Zählung/Blatt 1.txt".into()),
    };
    let inputs: [(Label, Vec<u8>); 3] =
        [(plain.clone(), Vec::new()), (plain, b"<form/>".to_vec()), (full, b"abcdefgh\n".repeat(200))];
    let documents: Vec<(Label, Vec<u8>, Document)> = inputs
        .into_iter()
        .map(|(label, content)| {
            let document = sealed(label.clone(), &content, Compress::WhenSmaller);
            (label, content, document)
        })
        .collect();
    let verdicts = documents.iter().map(|(_, _, document)| (document.id(), Verdict::Opened)).collect();
    let confirmation = key.sign(destination, verdicts, NOW).unwrap();
    let describe = |(label, content, document): &(Label, Vec<u8>, Document)| {
        json!({
            "collection": label.collection,
            "record": label.record,
            "time": label.time,
            "file_name": label.file_name.as_deref().map(hex),
            "content": hex(content),
            "document": hex(&document.encode()),
            "id": hex(document.id().as_bytes()),
        })
    };
    json!({
        "protocol_version": 1,
        "about": "A throw-away destination: its secret key, documents sealed to it, its confirmation of them.",
        "secret_key": key.to_armor().unwrap().as_str(),
        "certificate": hex(&key.certificate().to_bytes()),
        "documents": documents.iter().map(describe).collect::<Vec<_>>(),
        "confirmation": describe_confirmation(&confirmation),
    })
}

pub(crate) fn check(frozen: &Value) {
    let key = SecretKey::from_bytes(text(&frozen["secret_key"]).as_bytes()).unwrap();
    let certificate = Certificate::from_bytes(&unhex(&frozen["certificate"])).unwrap();
    assert_eq!(certificate, key.certificate());
    for vector in list(&frozen["documents"]) {
        let document = Document::decode(unhex(&vector["document"])).unwrap();
        assert_eq!(hex(document.id().as_bytes()), text(&vector["id"]));
        let (header, at) = envelope::parse(document.body()).unwrap();
        assert_eq!(header, Header::to(certificate.fingerprint()));
        let mut content = Vec::new();
        let limits = Limits { max_content: 1 << 20 };
        let label = key.open(&document.body()[at..], &mut content, limits).unwrap();
        assert_eq!(hex(&content), text(&vector["content"]));
        assert_eq!(label.collection, text(&vector["collection"]));
        assert_eq!(label.record.as_deref(), vector["record"].as_str());
        assert_eq!(label.time.map(|time| time.0), vector["time"].as_u64());
        assert_eq!(label.file_name.as_deref().map(hex).as_deref(), vector["file_name"].as_str());
    }
    let confirmation = Confirmation::decode(&unhex(&frozen["confirmation"]["wire"])).unwrap();
    assert_eq!(describe_confirmation(&confirmation), frozen["confirmation"]);
    verify_confirmation(&confirmation, std::slice::from_ref(&certificate), NOW).unwrap();
    let mut altered = confirmation.to_wire();
    altered.verdicts = vec![2; altered.verdicts.len()].into();
    let altered = Confirmation::from_wire(&altered).unwrap();
    assert!(verify_confirmation(&altered, &[certificate], NOW).is_err());
}

pub(crate) fn check_signed(keys: &Value, vector: &Value) {
    let key = SecretKey::from_bytes(text(&keys["secret_key"]).as_bytes()).unwrap();
    let certificate = key.certificate();
    let document = Document::decode(unhex(&vector["document"])).unwrap();
    assert_eq!(hex(document.id().as_bytes()), text(&vector["id"]));
    let (_, at) = envelope::parse(document.body()).unwrap();
    for (authors, expected) in [
        (vec![certificate.clone()], Author::Signed { certificate: certificate.fingerprint(), time: NOW }),
        (vec![], Author::Unknown),
    ] {
        let mut content = Vec::new();
        let limits = Limits { max_content: 1 << 20 };
        let opened = key.open_signed(&document.body()[at..], &mut content, limits, &authors).unwrap();
        assert_eq!((opened.author, hex(&content).as_str()), (expected, text(&vector["content"])));
        assert_eq!(opened.label.time.map(|time| time.0), vector["time"].as_u64());
    }
}

/// A destination that has got a successor.
pub(crate) fn make_succession() -> Value {
    let [old, new] = ["first", "successor"].map(|name| SecretKey::generate(name, NOW).unwrap());
    let destination = old.certificate().fingerprint();
    let link = old.vouch(destination, &new.certificate(), NOW).unwrap();
    let word = link.word.clone().unwrap();
    let successor = new.certificate().fingerprint();
    let statement = Statement { destination, signer: word.signer, successor, time: word.time };
    let mut links = Chain::new(old.certificate()).links();
    links.push(link);
    json!({
        "protocol_version": 1,
        "about": "A destination's first certificate, its successor, and the first one's word for it.",
        "destination": destination,
        "signer": word.signer,
        "successor": successor,
        "time": word.time,
        "certificate": hex(&old.certificate().to_bytes()),
        "successor_certificate": hex(&new.certificate().to_bytes()),
        "text": statement.text(),
        "signature": hex(&word.signature),
        "successions": hex(&succession::encode(&links)),
    })
}

pub(crate) fn check_succession(vector: &Value) {
    let first = Certificate::from_bytes(&unhex(&vector["certificate"])).unwrap();
    let successor = Certificate::from_bytes(&unhex(&vector["successor_certificate"])).unwrap();
    let links = succession::decode(&unhex(&vector["successions"])).unwrap();
    assert_eq!(hex(&succession::encode(&links)), text(&vector["successions"]));
    let word = links[1].word.clone().unwrap();
    assert_eq!(hex(&word.signature), text(&vector["signature"]));
    let destination = first.fingerprint();
    let (signer, time) = (word.signer, word.time);
    let statement = Statement { destination, signer, successor: successor.fingerprint(), time };
    assert_eq!(statement.text(), text(&vector["text"]));
    let mut chain = Chain::new(first);
    let absorbed = chain.absorb(&links, NOW);
    let change = Change::Succeeded { successor: successor.fingerprint(), by: destination };
    assert_eq!((absorbed.changes, absorbed.faults), (vec![change], vec![]));
}
