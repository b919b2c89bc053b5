//! What lies in a phone's folder: nothing that can be read, but the keys where there is no passphrase.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE, HEXUPPER};
use waypost_openpgp::{Compress, SecretKey, seal_bytes_signed};
use waypost_protocol::confirmation::Verdict;
use waypost_protocol::content::Label;
use waypost_protocol::document::Document;
use waypost_protocol::envelope::{self, Header};
use waypost_protocol::ids::{GroupId, MessageId};
use waypost_store::{Change, NewDocument};

use crate::kiosk::{Kiosk, Manners};
use crate::kit::*;

const COLLECTION: &str = "planted-collection";
const TOKEN: &str = "planted-token-7t6h5g";
const PASSPHRASE: &str = "planted passphrase of ten words or more";
/// What is decrypted: larger than a pipe holds, and the same text over and over.
const PUBLISHED: &str = "planted content that the destination published; ";
const REPEATED: usize = 10_000;

/// A value that must not be found, by its name.
type Planted = (&'static str, Vec<u8>);

/// A value as it is, as digits, and within base64 wherever it begins.
fn forms(value: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![value.to_vec(), HEXLOWER.encode(value).into(), HEXUPPER.encode(value).into()];
    for (shift, uncertain) in [(0, 0), (1, 2), (2, 3)] {
        let bytes = [&[0; 2][..shift], value].concat();
        for encoding in [BASE64_NOPAD, BASE64URL_NOPAD] {
            let text = encoding.encode(&bytes).into_bytes();
            let end = text.len() - usize::from(bytes.len() % 3 != 0);
            forms.push(text[uncertain..end].to_vec());
        }
    }
    forms
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window[0] == needle[0] && window == needle)
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => files(&entry.path(), found),
            false => found.push(entry.path()),
        }
    }
}

/// Each planted value that a file of the folder has, in its content or its name, with the file's name.
fn found(home: &Path, planted: &[Planted]) -> BTreeSet<(&'static str, String)> {
    let mut all = Vec::new();
    files(home, &mut all);
    assert!(all.iter().any(|path| path.ends_with("data.mdb")), "{all:?}");
    let mut found = BTreeSet::new();
    for path in all {
        let name = path.strip_prefix(home).unwrap().to_str().unwrap().to_owned();
        let content = [std::fs::read(&path).unwrap(), name.clone().into_bytes()].concat();
        for (what, value) in planted {
            if forms(value).iter().any(|form| holds(&content, form)) {
                found.insert((*what, name.clone()));
            }
        }
    }
    found
}

fn key(path: &Path) -> Vec<u8> {
    HEXLOWER_PERMISSIVE.decode(std::fs::read(path).unwrap().trim_ascii()).unwrap()
}

/// A phone that has met a kiosk, and all that it should keep to itself.
struct Scene {
    cli: Cli,
    destination: SecretKey,
    kiosk: Kiosk,
    published: MessageId,
    planted: Vec<Planted>,
}

impl Scene {
    fn set() -> Self {
        let (destination, reader) = (destination("Planted Clinic"), destination("planted reader"));
        let cli = Cli::new();
        cli.expect(0, &["init", "--name", "planted label"]);
        let keys = ["identity.key", "store.key"].map(|name| key(&cli.home().join(name)));
        cli.add_destination(&destination);
        let url = "https://planted.example";
        let set = ["destination", "set", "Planted Clinic", "--collection", COLLECTION, "--token", TOKEN];
        cli.expect(0, &[&set[..], &["--url", url]].concat());
        let armor = reader.to_armor().unwrap();
        let path = cli.write("reader.asc", armor.as_bytes());
        cli.expect(0, &["reader", "import", path.to_str().unwrap()]);
        let subscribed = cli.json(0, &["subscribe", COLLECTION]).last();
        let group: GroupId = subscribed["subscribed"]["group"].as_str().unwrap().parse().unwrap();
        let kiosk = Kiosk::start(Manners { hands_out: vec![group], ..Manners::serving(&destination) });
        let published = publish(&kiosk, group, &destination, &reader);
        cli.pair(&kiosk.pairing());
        let line = armor.lines().filter(|line| line.len() == 64).nth(2).unwrap();
        let bytes = BASE64_NOPAD.decode(line.as_bytes()).unwrap();
        let text = |text: &str| text.as_bytes().to_vec();
        let [identity, store] = keys;
        let planted = vec![
            ("identity", identity),
            ("store's key", store),
            ("passphrase", text(PASSPHRASE)),
            ("label", text("planted label")),
            ("destination's name", text("Planted Clinic")),
            ("destination", key_of(&destination)),
            ("collection", text(COLLECTION)),
            ("group", group.0.to_vec()),
            ("token", text(TOKEN)),
            ("url", text(url)),
            ("reader's name", text("planted reader")),
            ("reader's key", bytes),
            ("reader's key in letters", text(line)),
            ("kiosk's name", text("Test kiosk")),
            ("kiosk", kiosk.key().0.to_vec()),
            ("kiosk's address", text(&kiosk.address)),
            ("code", vec![9; 16]),
            ("published", published.0.to_vec()),
            ("published content", text(PUBLISHED)),
            ("published file", text("planted-news.txt")),
            ("content", text("planted form, filled in")),
            ("record", text("planted-record")),
            ("file", text("planted-form")),
        ];
        Scene { cli, destination, kiosk, published, planted }
    }

    /// Adds, hands over, has confirmed, opens and deletes.
    fn live(&mut self, round: &str) {
        let ids = ["confirmed", "deleted", "waiting"].map(|fate| {
            let name = format!("planted-form-{round}-{fate}");
            let path = self.cli.write(&name, &b"planted form, filled in".repeat(500));
            let add = ["add", path.to_str().unwrap(), "--record", &format!("planted-record-{name}")];
            let id = self.cli.json(0, &add).events("added")[0]["id"].as_str().unwrap().parse();
            let id: MessageId = id.unwrap();
            self.planted.push(("document", id.0.to_vec()));
            id
        });
        self.cli.expect(0, &["sync"]);
        self.kiosk.confirm(&self.destination, &ids[..1], Verdict::Opened);
        self.cli.expect(0, &["sync"]);
        let opened = self.cli.expect(0, &["open", &self.published.to_string()]);
        assert!(opened.stdout == PUBLISHED.repeat(REPEATED) && opened.stderr.contains("signed by"));
        self.cli.expect(0, &["delete", &ids[1].to_string()]);
        let states = self.cli.states();
        assert!(states.iter().any(|(name, state, _)| name.contains(round) && state != "ready"), "{states:?}");
        self.cli.expect(0, &["status"]);
    }

    fn found(&self) -> BTreeSet<(&'static str, String)> {
        found(&self.cli.home(), &self.planted)
    }
}

fn key_of(destination: &SecretKey) -> Vec<u8> {
    HEXLOWER_PERMISSIVE.decode(destination.certificate().fingerprint().to_string().as_bytes()).unwrap()
}

/// A document of the destination's own, which the kiosk hands out.
fn publish(kiosk: &Kiosk, group: GroupId, destination: &SecretKey, reader: &SecretKey) -> MessageId {
    let label = Label {
        collection: COLLECTION.into(),
        record: None,
        time: Some(MADE),
        file_name: Some(b"planted-news.txt".to_vec()),
    };
    let content = PUBLISHED.repeat(REPEATED);
    let readers = [reader.certificate()];
    let sealed =
        seal_bytes_signed(&label, content.as_bytes(), destination, &readers, Compress::Never, MADE).unwrap();
    let header = Header::to(destination.certificate().fingerprint());
    let document = Document::new(group, MADE, envelope::assemble(&header, &sealed).unwrap()).unwrap();
    let id = document.id();
    let new = NewDocument { document, header, age: 0, depositor: None, draft: false, note: None };
    kiosk.store().apply_one(Change::Document(Box::new(new))).unwrap();
    id
}

#[test]
fn nothing_planted_can_be_found_in_the_phones_folder() {
    let mut scene = Scene::set();
    scene.live("before");
    // The search finds each value in each form, and so what it does not find is not there.
    let control = scene.cli.home().join("control");
    for form in 0..forms(PASSPHRASE.as_bytes()).len() {
        let content: Vec<Vec<u8>> =
            scene.planted.iter().map(|(_, value)| forms(value).remove(form)).collect();
        std::fs::write(&control, content.join(&b" and "[..])).unwrap();
        let found = scene.found();
        for (what, _) in &scene.planted {
            assert!(found.contains(&(*what, "control".into())), "{what} in form {form}: {found:?}");
        }
    }
    std::fs::remove_file(&control).unwrap();
    let keys = [("identity", "identity.key"), ("store's key", "store.key")];
    let keys = BTreeSet::from(keys.map(|(what, name)| (what, name.to_owned())));
    assert_eq!(scene.found(), keys, "without a passphrase the keys are beside the store, and nothing else");
    scene.cli.passphrase = Some(scene.cli.write("passphrase", format!("{PASSPHRASE}\n").as_bytes()));
    scene.cli.expect(0, &["passphrase", "set"]);
    assert_eq!(scene.found(), BTreeSet::new());
    scene.live("after");
    assert_eq!(scene.found(), BTreeSet::new());
    scene.cli.expect(0, &["passphrase", "remove"]);
    assert_eq!(scene.found(), keys);
}

#[test]
fn what_is_opened_is_on_no_disk_while_it_is_shown() {
    let scene = Scene::set();
    scene.cli.expect(0, &["sync"]);
    let mut open = scene.cli.command();
    let open = open.args(["open", &scene.published.to_string()]).stdout(Stdio::piped());
    let mut open = open.stderr(Stdio::piped()).spawn().unwrap();
    // A pipe holds less than that: the program is in the middle.
    let mut stdout = open.stdout.take().unwrap();
    let mut first = [0; PUBLISHED.len()];
    stdout.read_exact(&mut first).unwrap();
    assert_eq!(first, PUBLISHED.as_bytes());
    let mut searched = 0;
    for entry in std::fs::read_dir(format!("/proc/{}/fd", open.id())).unwrap() {
        let path = entry.unwrap().path();
        if std::fs::metadata(&path).is_ok_and(|file| file.is_file()) {
            searched += 1;
            let held = holds(&std::fs::read(&path).unwrap(), PUBLISHED.as_bytes());
            assert!(!held, "{:?}", std::fs::read_link(&path));
        }
    }
    assert!(searched > 0, "the store at least is open");
    assert_eq!(found(&scene.cli.home(), &[("content", PUBLISHED.into())]), BTreeSet::new());
    // Who reads no further has had enough.
    drop(stdout);
    assert!(open.wait().unwrap().success());
}
