//! A bundle gives back what was put into it, and whatever happens to its files harms nothing but them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;
use waypost_bundle::{Bundle, BundleError, Damage, Entry, Kind, WriteError, Writer, Written};
use waypost_protocol::confirmation::{Confirmation, Statement, Verdict};
use waypost_protocol::document::Document;
use waypost_protocol::envelope::{self, Header};
use waypost_protocol::ids::{Fingerprint, GroupId, MessageId, PeerKey};
use waypost_protocol::time::UnixTime;

const DESTINATION: Fingerprint = Fingerprint::V4([7; 20]);
const US: Writer = Writer::Gateway(PeerKey([1; 32]));
const OTHERS: Writer = Writer::Destination(DESTINATION);

fn document(number: u64, size: usize) -> Document {
    let sealed: Vec<u8> = (0..size as u64).map(|at| (at * 31 + number * 7).to_le_bytes()[0]).collect();
    let body = envelope::assemble(&Header::to(DESTINATION), &sealed).unwrap();
    Document::new(GroupId([2; 32]), UnixTime(1_800_000_000 + number * 3_600), body).unwrap()
}

fn confirmation(ids: &[MessageId]) -> Confirmation {
    let verdicts = ids.iter().map(|id| (*id, Verdict::Opened)).collect();
    let statement = Statement::new(DESTINATION, DESTINATION, UnixTime(1_800_000_000), verdicts).unwrap();
    Confirmation::new(statement, Bytes::from_static(b"a signature")).unwrap()
}

fn put(bundle: &Bundle, document: &Document) -> Written {
    let body = document.body().clone();
    let read = |offset: u64, most: usize| -> Result<Bytes, Infallible> {
        let start = usize::try_from(offset).unwrap();
        Ok(body.slice(start..body.len().min(start + most)))
    };
    bundle.put_document(&document.description(), read).unwrap()
}

/// In memory where that is possible: nothing here is about the disk.
fn new_stick() -> TempDir {
    let mut builder = tempfile::Builder::new();
    builder.prefix("waypost-bundle-");
    builder.tempdir_in("/dev/shm").or_else(|_| builder.tempdir()).unwrap()
}

/// Three documents, one confirmation and an index that lists them.
fn filled(folder: &Path) -> Vec<Document> {
    let bundle = Bundle::create(folder).unwrap();
    let documents: Vec<Document> = [(1, 40), (2, 300), (3, 0)].map(|(n, size)| document(n, size)).to_vec();
    for document in &documents {
        assert_eq!(put(&bundle, document), Written::New);
        assert_eq!(put(&bundle, document), Written::AlreadyThere);
    }
    let confirmation = confirmation(&[MessageId([9; 32])]);
    assert_eq!(bundle.put_confirmation(&confirmation).unwrap(), Written::New);
    assert_eq!(bundle.put_confirmation(&confirmation).unwrap(), Written::AlreadyThere);
    index(&bundle, &US, &documents);
    bundle.flush().unwrap();
    documents
}

fn index(bundle: &Bundle, writer: &Writer, documents: &[Document]) {
    let mut sorted: Vec<_> = documents.iter().map(Document::description).collect();
    sorted.sort_by_key(|one| one.id);
    let mut index = bundle.index(writer).unwrap();
    for one in sorted {
        index.add(&Entry::Document { document: one.id, size: one.size, age: 60 }).unwrap();
    }
    index.finish().unwrap();
}

/// What a reader makes of a bundle.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    documents: BTreeSet<MessageId>,
    confirmations: BTreeSet<MessageId>,
    missing: BTreeSet<MessageId>,
    faults: BTreeMap<PathBuf, String>,
}

fn read(folder: &Path) -> Seen {
    let bundle = Bundle::open(folder).unwrap();
    let mut seen = Seen::default();
    let (mut listing, faults) = bundle.listing();
    let mut all = faults;
    for found in bundle.walk(Kind::Documents) {
        let place = match found {
            Ok(place) => place,
            Err(fault) => {
                all.push(fault);
                continue;
            }
        };
        listing.of_document(&place.id, |listed| {
            seen.missing.insert(listed.id);
        });
        match bundle.document(&place).and_then(|mut file| file.verify()) {
            Ok(()) => assert!(seen.documents.insert(place.id)),
            Err(damage) => all.push(place.fault(damage)),
        }
    }
    while let Some(listed) = listing.next_document(None) {
        seen.missing.insert(listed.id);
    }
    for found in bundle.walk(Kind::Confirmations) {
        match found {
            Ok(place) => match bundle.confirmation(&place) {
                Ok(_) => assert!(seen.confirmations.insert(place.id)),
                Err(damage) => all.push(place.fault(damage)),
            },
            Err(fault) => all.push(fault),
        }
    }
    for fault in all {
        seen.faults.insert(fault.path.clone(), fault.damage.to_string());
    }
    seen
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn whole() -> (TempDir, Vec<Document>, Seen) {
    let stick = new_stick();
    let documents = filled(stick.path());
    let seen = read(stick.path());
    assert_eq!(seen.documents, documents.iter().map(Document::id).collect());
    assert_eq!((seen.confirmations.len(), seen.missing.len(), &seen.faults), (1, 0, &BTreeMap::new()));
    (stick, documents, seen)
}

/// Damage to one file may cost that file and what is said of it, nothing else.
fn harms_only(path: &Path, root: &Path, before: &Seen, what: &str) {
    let seen = read(root.parent().unwrap());
    let relative = path.strip_prefix(root).unwrap();
    let id: Option<MessageId> =
        relative.file_name().and_then(|name| name.to_str()?.split('.').next()?.parse().ok());
    let lost = |before: &BTreeSet<MessageId>, after: &BTreeSet<MessageId>| -> BTreeSet<MessageId> {
        assert!(after.is_subset(before), "{what}: nothing new may appear");
        before.difference(after).copied().collect()
    };
    for (before, after) in
        [(&before.documents, &seen.documents), (&before.confirmations, &seen.confirmations)]
    {
        let lost = lost(before, after);
        assert!(lost.iter().all(|lost| Some(*lost) == id), "{what}: {lost:?}");
    }
    assert!(seen.faults.len() <= 1, "{what}: {:?}", seen.faults);
}

#[test]
fn a_bundle_that_was_cut_anywhere_harms_nothing_but_the_file_that_was_cut() {
    let (stick, documents, before) = whole();
    let root = stick.path().join("waypost");
    let mut cuts = 0;
    for path in files(&root).into_iter().filter(|path| !path.ends_with("README.txt")) {
        let bytes = fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            harms_only(&path, &root, &before, &format!("{} cut at {length}", path.display()));
            cuts += 1;
        }
        fs::remove_file(&path).unwrap();
        harms_only(&path, &root, &before, &format!("{} removed", path.display()));
        fs::write(&path, &bytes).unwrap();
    }
    assert!(cuts > 1_000, "{cuts}");
    assert_eq!(read(stick.path()), before);

    // What is damaged is named with what is wrong, and mended by whoever still has it.
    let victim = root.join(Kind::Documents.path(&documents[1].id()));
    fs::write(&victim, &fs::read(&victim).unwrap()[..100]).unwrap();
    let seen = read(stick.path());
    let why = &seen.faults[&Kind::Documents.path(&documents[1].id())];
    assert!(why.starts_with("has 100 bytes, should have"), "{why}");
    assert_eq!(put(&Bundle::open(stick.path()).unwrap(), &documents[1]), Written::Mended);
    assert_eq!(read(stick.path()), before);
}

#[test]
fn a_bit_that_has_flipped_anywhere_is_found() {
    let (stick, _, before) = whole();
    let root = stick.path().join("waypost");
    for path in files(&root).into_iter().filter(|path| !path.ends_with("README.txt")) {
        let bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(&path, &flipped).unwrap();
            let what = format!("{} flipped at {at}", path.display());
            harms_only(&path, &root, &before, &what);
            assert_ne!(read(stick.path()), before, "{what}: unnoticed");
        }
        fs::write(&path, &bytes).unwrap();
    }
}

#[test]
fn what_does_not_belong_there_is_named_and_nothing_outside_is_read() {
    let (stick, documents, before) = whole();
    let root = stick.path().join("waypost");
    let outside = stick.path().join("outside.mvds");
    let other = document(50, 10);
    fs::write(&outside, other.encode()).unwrap();
    let at = |id: &MessageId| root.join(Kind::Documents.path(id));
    let shelf = |id: &MessageId| at(id).parent().unwrap().to_owned();
    // A link to a document, a folder, a pipe and a device in the place of one.
    for (number, make) in [
        (51, &(|path: &Path| std::os::unix::fs::symlink(&outside, path).unwrap()) as &dyn Fn(&Path)),
        (52, &|path| fs::create_dir(path).unwrap()),
        (53, &|path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap()),
        (54, &|path| std::os::unix::fs::symlink("/dev/zero", path).unwrap()),
    ] {
        let id = document(number, 10).id();
        fs::create_dir_all(shelf(&id)).unwrap();
        make(&at(&id));
        let seen = read(stick.path());
        assert_eq!(seen.faults[&Kind::Documents.path(&id)], "not a plain file");
        assert_eq!(seen.documents, before.documents);
        let _ = fs::remove_file(at(&id)).or_else(|_| fs::remove_dir(at(&id)));
    }
    // Names that are no ids, ids in upper case, in the wrong folder, folders that are none.
    let id = documents[0].id();
    let bytes = fs::read(at(&id)).unwrap();
    let wrong = [
        shelf(&id).join("..mvds"),
        shelf(&id).join(format!("{}.mvds", id.to_string().to_uppercase())),
        shelf(&id).join(format!("{id}.mvds.exe")),
        shelf(&id).join(format!("{}.mvds", other.id())),
        root.join("documents/xyz"),
        root.join("index/gateway-zz.jsonl"),
        root.join("index/..jsonl"),
        root.join("confirmations/note"),
    ];
    wrong.iter().for_each(|path| fs::write(path, &bytes).unwrap());
    let seen = read(stick.path());
    assert_eq!((&seen.documents, &seen.confirmations), (&before.documents, &before.confirmations));
    // Those that begin with a dot are of other systems, and no news.
    let is_dotted = |path: &&PathBuf| path.file_name().unwrap().to_string_lossy().starts_with('.');
    let named = wrong.iter().filter(|path| !is_dotted(path)).count();
    assert_eq!(seen.faults.len(), named, "{:?}", seen.faults);
    assert!(seen.faults.values().all(|why| why == "does not belong here"), "{:?}", seen.faults);
    wrong.iter().for_each(|path| fs::remove_file(path).unwrap());

    // The folders themselves as links: not followed, for reading or for writing.
    let aside = stick.path().join("aside");
    fs::rename(root.join("documents"), &aside).unwrap();
    std::os::unix::fs::symlink(&aside, root.join("documents")).unwrap();
    let seen = read(stick.path());
    assert_eq!(seen.documents, BTreeSet::new());
    assert_eq!(seen.faults[Path::new("documents")], "not a plain file");
    let bundle = Bundle::open(stick.path()).unwrap();
    let read_all = |_, _| -> Result<Bytes, Infallible> { Ok(other.body().clone()) };
    assert!(matches!(bundle.put_document(&other.description(), read_all), Err(WriteError::Bundle(_))));
    assert!(!aside.join(Kind::Documents.path(&other.id()).strip_prefix("documents").unwrap()).exists());
    drop(bundle);
    fs::remove_file(root.join("documents")).unwrap();
    fs::rename(&root, stick.path().join("real")).unwrap();
    std::os::unix::fs::symlink(stick.path().join("real"), &root).unwrap();
    assert!(matches!(Bundle::open(stick.path()), Err(BundleError::Folder { .. })));
    assert!(matches!(Bundle::create(stick.path()), Err(BundleError::Folder { .. })));
}

#[test]
fn an_index_that_is_huge_out_of_order_or_not_an_index_is_not_used() {
    let (stick, documents, before) = whole();
    let path = stick.path().join(format!("waypost/index/{US}.jsonl"));
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let swapped = [lines[0], lines[2], lines[1], lines[3], lines[4]].join("\n") + "\n";
    let newer = text.replacen("\"bundle\":1", "\"bundle\":2", 1);
    let long = format!("{}{}\n", text, "x".repeat(100_000));
    let line = format!("{{\"bundle\":1,\"writer\":\"{}\"}}\n", "y".repeat(1 << 20));
    for (wrong, why) in [
        (swapped, "damaged at line 3"),
        (newer, "newer program (version 2)"),
        (long, "damaged at line"),
        (line, "damaged at line 1"),
        (text.clone() + &text, "damaged at line"),
        (String::new(), "damaged at line 1"),
        (text.replace(&US.to_string(), &OTHERS.to_string()), "damaged at line 1"),
    ] {
        fs::write(&path, wrong).unwrap();
        let seen = read(stick.path());
        assert_eq!(seen.documents, before.documents, "the files count all the same");
        let found = seen.faults.values().next().unwrap();
        assert!(found.contains(why), "{found}, expected {why}");
    }
    // Two gibibytes of nothing cost no time and no room.
    fs::File::create(&path).unwrap().set_len(2 << 30).unwrap();
    assert!(read(stick.path()).faults.values().next().unwrap().contains("at most"));
    // A document that another index lists, too, has the higher of the two ages; one that is not there is missing.
    fs::write(&path, text).unwrap();
    let bundle = Bundle::open(stick.path()).unwrap();
    index(&bundle, &OTHERS, &documents[..1]);
    let (mut listing, faults) = bundle.listing();
    assert_eq!((listing.writers().count(), faults.len()), (2, 0));
    let listed = listing.of_document(&documents[0].id(), drop).unwrap();
    assert_eq!((listed.by.len(), listed.age), (2, 60));
    drop(bundle);
    fs::remove_file(stick.path().join("waypost").join(Kind::Documents.path(&documents[2].id()))).unwrap();
    assert_eq!(read(stick.path()).missing, [documents[2].id()].into());
}

#[test]
fn a_source_that_has_other_bytes_writes_nothing() {
    let stick = new_stick();
    let bundle = Bundle::create(stick.path()).unwrap();
    let (one, other) = (document(1, 400), document(2, 400));
    let wrong = |offset: u64, _| -> Result<Bytes, Infallible> {
        Ok(other.body().slice(usize::try_from(offset).unwrap()..))
    };
    assert!(matches!(bundle.put_document(&one.description(), wrong), Err(WriteError::Damaged)));
    let short = |_, _| -> Result<Bytes, Infallible> { Ok(Bytes::new()) };
    assert!(matches!(bundle.put_document(&one.description(), short), Err(WriteError::Damaged)));
    let failing = |_, _| -> Result<Bytes, &str> { Err("no") };
    assert!(matches!(bundle.put_document(&one.description(), failing), Err(WriteError::Source("no"))));
    assert_eq!(files(stick.path()), [stick.path().join("waypost/README.txt")]);
}

#[test]
fn a_bundle_is_used_by_one_program_at_a_time_and_made_only_where_there_is_a_folder() {
    let stick = new_stick();
    assert!(matches!(Bundle::open(stick.path()), Err(BundleError::None(_))));
    assert!(matches!(Bundle::create(&stick.path().join("not mounted")), Err(BundleError::Folder { .. })));
    let first = Bundle::create(stick.path()).unwrap();
    assert!(matches!(Bundle::open(stick.path()), Err(BundleError::InUse(_))));
    drop(first);
    let bundle = Bundle::open(stick.path()).unwrap();
    // What was being written when the stick was pulled is no news, and goes with the next export.
    let part = stick.path().join("waypost/documents/ab");
    fs::create_dir_all(&part).unwrap();
    fs::write(part.join(format!("{}.mvds.part", "ab".repeat(32))), b"half").unwrap();
    assert_eq!(bundle.walk(Kind::Documents).count(), 0);
    bundle.remove_parts().unwrap();
    assert_eq!(fs::read_dir(&part).unwrap().count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Any bytes in any of the files.
    #[test]
    fn any_bytes_in_any_file_are_read_without_harm(
        bytes in prop::collection::vec(any::<u8>(), 0..600), which in any::<prop::sample::Index>()
    ) {
        let (stick, _, before) = whole();
        let root = stick.path().join("waypost");
        let all: Vec<_> = files(&root).into_iter().filter(|path| !path.ends_with("README.txt")).collect();
        let path = &all[which.index(all.len())];
        fs::write(path, &bytes).unwrap();
        harms_only(path, &root, &before, "any bytes");
    }
}

/// `Damage` in words, for the report.
#[test]
fn damage_says_what_is_wrong() {
    let text = Damage::Hash(MessageId([1; 32])).to_string();
    assert!(text.contains(&"01".repeat(32)) && text.contains("damaged"), "{text}");
}
