//! With what fuzzing begins: the frozen bytes of each format, and what nodes really say.

use std::fs;

use prost::Message as _;
use serde_json::Value;
use tempfile::TempDir;
use waypost_bundle::{Bundle, Entry, FOLDER, Writer};
use waypost_config::annotated;
use waypost_protocol::api::{Answer, Failure, Info};
use waypost_protocol::confirmation::Confirmation;
use waypost_protocol::ids::{Fingerprint, MessageId, PeerKey};
use waypost_protocol::time::UnixTime;

use crate::bundle::INDEXES;
use crate::openpgp::{inside, sealed_in};
use crate::shelf::{DESTINATION, Shelf, Side, confirmation, document};
use crate::{frozen, hex, step};

const BOOT: [&str; 3] = [
    "name = \"Clinic\"\ncountry = \"UG\"\ntime_zone = \"Africa/Kampala\"\naccess = \"open\"\n[[network]]\nwifi = \"ClinicNet\"\n\
     password = \"the password\"\n[[network]]\nmobile = \"internet\"\npin = \"1234\"\ncost = \"metered\"\nbudget = \"50MB\"\n\
     [[destination]]\nname = \"health\"\nurl = \"https://example.org\"\n\
     fingerprint = \"0123456789ABCDEF0123456789ABCDEF01234567\"\ntoken = \"secret\"\n",
    "name = \"a\"\n[[network]]\nethernet = \"eth0\"\naddress = \"192.168.1.2/24\"\nrouter = \"192.168.1.1\"\ndns = [\"1.1.1.1\"]\n\
     [kiosk.\"10000000abcdef01\"]\nname = \"b\"\n[[kiosk.\"10000000abcdef01\".network]]\nwifi = \"x\"\npassword = \"(kept)\"\n\
     [kiosk.\"dca632010203\"]\nname = \"c\"\n[gateway.limits]\nmax_document = \"1MB\"\n",
    "ssh_keys = [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHexhexhexhexhexhexhexhexhexhexhexhexhexhexh a@b\"]\n",
];
const USER_DATA: &str = "#cloud-config\nhostname: a\nusers:\n- name: b\n  groups: [c]\n  ssh_authorized_keys: [d]\nruncmd: [[a, b]]\n\
                         timezone: UTC\n";
const NETWORK: &str = "network:\n  version: 2\n  ethernets:\n    eth0: {dhcp4: true, addresses: [192.168.1.2/24]}\n  wifis:\n    \
                       wlan0:\n      access-points:\n        x: {password: abcdefgh, hidden: yes}\n";

/// By the name of their target.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let mut seeds = Vec::new();
    values(&frozen(include_str!("../../../versions/v1.json")), &mut seeds);
    sessions(&frozen(include_str!("../../../versions/v1.json")), &mut seeds);
    openpgp(&mut seeds);
    logs(&frozen(include_str!("../../../versions/v1-remote-log.json")), &mut seeds);
    http(&mut seeds);
    bundles(&mut seeds);
    configuration(&mut seeds);
    seeds
}

type Seeds = Vec<(&'static str, Vec<u8>)>;

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().expect("a list")
}

fn text(value: &Value) -> Vec<u8> {
    value.as_str().expect("text").into()
}

fn values(v1: &Value, seeds: &mut Seeds) {
    let mut add = |target, bytes| seeds.push((target, bytes));
    let hexes = |key, field| list(v1, key).iter().map(move |one: &Value| hex(&one[field]));
    hexes("frame_0", "bytes")
        .chain(hexes("no_common_version", "bytes"))
        .for_each(|bytes| add("frame_0", bytes));
    hexes("envelopes", "body")
        .chain(hexes("documents", "canonical"))
        .for_each(|bytes| add("envelope", bytes));
    list(v1, "labels").iter().for_each(|label| add("envelope", hex(&label["line"])));
    for one in list(v1, "confirmations") {
        add("confirmation", hex(&one["wire"]));
        add("confirmation", text(&one["text"]));
    }
    for code in list(v1, "pairing_codes").iter().chain(list(v1, "destination_codes")) {
        add("qr", text(&code["text"]));
    }
    for (at, payload) in hexes("payloads", "bytes").enumerate() {
        // With something to send and to take, over both kinds of links.
        let traits = [0b0000_1100, 0b0001_1110, 0b0010_1101][at % 3];
        add("protobuf", [vec![traits], step(0, &payload), step(1, b"")].concat());
    }
    add("protobuf", conversation());
}

/// What a phone says that has two documents, and when the gateway's store has caught up.
fn conversation() -> Vec<u8> {
    let mut phone = Side::new(true, Shelf::sending([document(1, 200), document(2, 17_000)]));
    let mut gateway = Side::new(false, Shelf::default());
    let (hello, answer) = (phone.engine.hello(), gateway.engine.hello());
    let mut said = [vec![0], step(0, &hello)].concat();
    gateway.hears_bytes(hello).expect("a hello");
    phone.hears_bytes(answer).expect("a hello");
    loop {
        let payloads = phone.speaks();
        if payloads.is_empty() {
            return said;
        }
        for payload in payloads {
            said.extend(step(0, &payload));
            gateway.hears_bytes(payload).expect("a payload");
        }
        gateway.speaks();
        gateway.commits();
        said.extend(step(1, b""));
        gateway.speaks().into_iter().for_each(|payload| phone.hears_bytes(payload).expect("a payload"));
        phone.commits();
    }
}

fn sessions(v1: &Value, seeds: &mut Seeds) {
    for (at, handshake) in list(v1, "handshakes").iter().enumerate() {
        let frames: Vec<_> = list(handshake, "frames").iter().map(|frame| hex(&frame["frame"])).collect();
        let framed = |frame: &Vec<u8>| step(0, frame)[1..].to_vec();
        let stream: Vec<u8> = frames.iter().flat_map(framed).collect();
        seeds.push(("frames", [vec![[1, 5, 255][at % 3]], stream].concat()));
        let raw = frames.iter().flat_map(|frame| step(4, frame)).collect();
        seeds.push(("handshake", [vec![0], raw].concat()));
    }
    let (to_gateway, to_phone) = (step(0, b""), step(1, b""));
    let whole = [&to_gateway, &to_gateway, &to_phone, &to_gateway, &to_phone].map(Vec::as_slice).concat();
    let sealed = [
        step(6, b"\x02hello"),
        step(7, b"\xffhello"),
        step(8, b""),
        step(0, b""),
        step(0, b""),
        step(1, b""),
    ];
    for pattern in 0..4 {
        seeds.push(("handshake", [&[pattern], whole.as_slice(), &sealed.concat()].concat()));
        seeds.push((
            "handshake",
            [&[pattern], to_gateway.as_slice(), &step(2, b"\0\x20\x01"), &to_phone].concat(),
        ));
    }
    seeds.push((
        "sealed_frames",
        [step(0, b"\0whole"), step(0, b"\0"), step(0, b"\x01two"), step(0, b"\0parts")].concat(),
    ));
    seeds.push(("sealed_frames", [step(0xff, b"\x01"), step(0xff, b"\0")].concat()));
    seeds.push(("sealed_frames", [step(0, b"\x02what"), step(0, b"")].concat()));
    let values = (0..40u8).flat_map(|number| step(3, &[number, 0x5a]));
    let end = [step(0, &[0xa8]), step(0, &[0x80]), step(1, &[40, 1])].concat();
    seeds.push(("fragments", values.chain(end).collect()));
}

fn openpgp(seeds: &mut Seeds) {
    let file = frozen(include_str!("../../../versions/v1-openpgp.json"));
    let signed = frozen(include_str!("../../../versions/v1-signed.json"));
    let chain = frozen(include_str!("../../../versions/v1-succession.json"));
    let sealed =
        list(&file, "documents").iter().chain([&signed]).map(|one| sealed_in(&hex(&one["document"])));
    // As `gpg --show-session-key` shows them.
    let session_keys: [u128; 4] = [
        0x4398_f514_ef41_d194_45e5_d8a2_1173_ac5f,
        0xe6a4_4f28_34a3_6b4a_fea7_fecc_e028_96d4,
        0xf1c8_e7e4_d108_5d42_bd4e_aeaf_006b_1531,
        0xdc11_213f_b754_1eaa_ad9c_d9e7_75ee_4080,
    ];
    for (sealed, key) in sealed.zip(session_keys) {
        seeds.push(("inside_seal", inside(&sealed, key)));
        seeds.push(("openpgp", sealed));
    }
    for certificate in [&file["certificate"], &chain["certificate"], &chain["successor_certificate"]] {
        seeds.push(("certificate", hex(certificate)));
    }
    seeds.push(("certificate", text(&file["secret_key"])));
    seeds.push(("signature", hex(&file["confirmation"]["signature"])));
    seeds.push(("signature", hex(&file["confirmation"]["wire"])));
    seeds.push(("signature", hex(&chain["successions"])));
    seeds.push(("confirmation", hex(&chain["successions"])));
}

fn logs(file: &Value, seeds: &mut Seeds) {
    let pages: Vec<_> = list(file, "pages").iter().map(|page| step(0, &hex(&page["bytes"]))).collect();
    let documents = list(file, "pages").iter().flat_map(|page| list(page, "oldest_first"));
    let contents =
        documents.filter(|one| one["content"].is_string()).flat_map(|one| step(2, &hex(&one["content"])));
    let contents: Vec<u8> = contents.collect();
    seeds.push(("log_pages", [contents, pages.concat(), step(4, &[1; 16])].concat()));
    for page in pages {
        seeds.push(("log_pages", [page, step(4, &[2; 16]), step(3, b""), step(4, &[2; 16])].concat()));
    }
    for head in list(file, "heads") {
        seeds.push(("log_pages", [step(1, &hex(&head["bytes"])), step(4, b"")].concat()));
    }
}

fn http(seeds: &mut Seeds) {
    let mut add = |what: u8, count: u8, bytes: &[u8]| seeds.push(("http", [&[what, count], bytes].concat()));
    let failure = Failure { index: 1, id: vec![1; 32].into(), code: 3, detail: "disk\u{1b}[31m".into() };
    let confirmations = vec![confirmation(&[&document(1, 50)]).to_wire()];
    let answer = Answer { confirmations, failures: vec![failure], held: vec![0xc0].into(), cursor: 7 };
    add(0, 2, &answer.encode_to_vec());
    let info = Info {
        versions: vec![1],
        fingerprint: DESTINATION,
        name: "Clinic".into(),
        max_document: 1 << 30,
        max_batch_documents: 256,
        max_batch_bytes: 1 << 24,
        resumable: true,
        log: Some(PeerKey([7; 32])),
        chain: "a".into(),
        time: UnixTime(1_795_236_000),
    };
    add(1, 0, &serde_json::to_vec(&info).expect("JSON"));
    add(2, 0, br#"{"type":"urn:x","title":"Not known","status":401,"detail":"give the token"}"#);
    add(2, 0, b"come back\x1b[2J later\n");
    add(3, 0, b"HTTP/1.1 302 Found\r\nLocation: http://login.hotel/?x=1\r\n\r\n");
    add(3, 0, b"HTTP/1.1 511 Network Authentication Required\r\nContent-Length: 0\r\n\r\n");
    add(4, 6, b"\0\0\0\0\0\0\0\x01a\0\0\0\x02bc\0\0\0\0\0\0\0\x09");
}

fn bundles(seeds: &mut Seeds) {
    let v1 = frozen(include_str!("../../../versions/v1.json"));
    let file = frozen(include_str!("../../../versions/v1-openpgp.json"));
    let canonical = list(&v1, "documents").iter().map(|one| hex(&one["canonical"]));
    let documents = canonical.chain(list(&file, "documents").iter().map(|one| hex(&one["document"])));
    let documents: Vec<u8> = documents.flat_map(|document| step(0, &document)).collect();
    let wire = Confirmation::decode(&hex(&file["confirmation"]["wire"])).expect("a confirmation");
    let words = [wire.id().as_bytes(), wire.statement.text().as_bytes()].concat();
    let confirmations = [step(1, &words), step(3, wire.signature())].concat();
    let [gateway, destination] = indexes();
    seeds.push(("bundle", documents.clone()));
    seeds.push(("bundle", confirmations.clone()));
    seeds.push(("bundle", [step(4, &gateway), step(5, &destination)].concat()));
    seeds.push((
        "bundle",
        [documents, confirmations, step(4, &gateway), step(6, b"x"), step(7, b"x")].concat(),
    ));
}

fn indexes() -> [Vec<u8>; 2] {
    let stick = TempDir::new().expect("a folder");
    let bundle = Bundle::create(stick.path()).expect("a bundle");
    let writers = [Writer::Gateway(PeerKey([7; 32])), Writer::Destination(Fingerprint::V4([0x0d; 20]))];
    for writer in &writers {
        let mut index = bundle.index(writer).expect("an index");
        for number in [1, 5] {
            let entry = Entry::Document { document: MessageId([number; 32]), size: 1_290, age: 86_400 };
            index.add(&entry).expect("an entry");
        }
        index.add(&Entry::Confirmation { confirmation: MessageId([9; 32]) }).expect("an entry");
        index.finish().expect("an index");
    }
    INDEXES.map(|name| fs::read(stick.path().join(FOLDER).join("index").join(name)).expect("an index"))
}

/// The annotated configuration with each key set to its example, which is another with each key that there is more.
pub fn every_key() -> String {
    let annotated = annotated();
    let keys = annotated.lines().filter_map(|line| match line.strip_prefix('#') {
        Some(comment) if comment.is_empty() || comment.starts_with(' ') => None,
        Some(key) => Some(key),
        None => Some(line),
    });
    let everything: Vec<_> = keys.filter(|line| !line.is_empty()).collect();
    everything.join("\n")
}

fn configuration(seeds: &mut Seeds) {
    seeds.push((
        "config",
        b"name = \"a\"\n[lan]\nlisten = [\"0.0.0.0:7\"]\n[limits]\nmax_document = \"1MB\"\n".to_vec(),
    ));
    BOOT.iter().for_each(|text| seeds.push(("boot", step(0, text.as_bytes()))));
    seeds.push(("boot", [step(0, b""), step(1, USER_DATA.as_bytes()), step(2, NETWORK.as_bytes())].concat()));
}
