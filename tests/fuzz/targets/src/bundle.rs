//! Files on a stick.

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use tempfile::TempDir;
use waypost_bundle::{Bundle, FOLDER, Kind};
use waypost_protocol::document::Document;
use waypost_protocol::ids::MessageId;

use crate::steps;

/// A gateway's index, and a destination's.
pub(crate) const INDEXES: [&str; 2] = [
    "gateway-0707070707070707070707070707070707070707070707070707070707070707.jsonl",
    "destination-0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d.jsonl",
];

thread_local! {
    static STICK: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

/// A file for each step: what it is by the step's first byte, which for documents and confirmations also says whether its
/// name is the right one.
pub fn bundle(data: &[u8]) -> bool {
    STICK.with_borrow_mut(|stick| {
        let stick = stick.get_or_insert_with(|| TempDir::new().expect("a folder"));
        let root = stick.path().join(FOLDER);
        let _ = fs::remove_dir_all(&root);
        fs::create_dir(&root).expect("a folder");
        write(&root, data);
        read(stick.path())
    })
}

fn write(root: &Path, data: &[u8]) {
    let put = |path: &Path, bytes: &[u8]| {
        let at = root.join(path);
        fs::create_dir_all(at.parent().expect("a folder")).expect("a folder");
        fs::write(at, bytes).expect("a file");
    };
    let mut last = MessageId([0; 32]);
    for (what, bytes) in steps(data) {
        let kind = if what & 1 == 0 { Kind::Documents } else { Kind::Confirmations };
        match what % 8 {
            // Whose name is right.
            0 => {
                last = Document::decode(Bytes::copy_from_slice(bytes)).map_or(last, |document| document.id());
                put(&kind.path(&last), bytes);
            }
            // The name is in front.
            1 | 2 => {
                let Some((id, rest)) = bytes.split_at_checked(32) else { continue };
                last = MessageId::from_slice(id).expect("32 bytes");
                put(&kind.path(&last), rest);
            }
            3 => {
                put(&Kind::Confirmations.path(&last).with_extension("txt.sig"), bytes);
            }
            4 | 5 => put(&Path::new("index").join(INDEXES[usize::from(what & 1)]), bytes),
            6 => put(Path::new("documents/00/stranger"), bytes),
            _ => put(Path::new("index/stranger.jsonl"), bytes),
        }
    }
}

fn read(stick: &Path) -> bool {
    let bundle = Bundle::open(stick).expect("a bundle");
    let mut found = false;
    let (mut listing, faults) = bundle.listing();
    faults.iter().for_each(|fault| assert!(!fault.to_string().is_empty()));
    let mut before = None;
    while let Some(listed) = listing.next_document(None) {
        assert!(before.replace(listed.id) < Some(listed.id), "the list is not in order");
        assert!(!listed.by.is_empty());
        found = true;
    }
    for place in bundle.walk(Kind::Documents).flatten() {
        let bytes = fs::read(stick.join(FOLDER).join(place.path())).expect("a file");
        let Ok(mut file) = bundle.document(&place) else { continue };
        let decoded = Document::decode(Bytes::copy_from_slice(&bytes));
        let is_whole = file.verify().is_ok();
        assert_eq!(is_whole, decoded.as_ref().is_ok_and(|document| document.id() == place.id));
        if let (true, Ok(document)) = (is_whole, decoded) {
            assert_eq!(*file.description(), document.description());
            let body = file.body(0, bytes.len()).expect("it was read before");
            assert_eq!(body, *document.body());
            found = true;
        }
    }
    for place in bundle.walk(Kind::Confirmations).flatten() {
        if let Ok(kept) = bundle.confirmation(&place) {
            assert_eq!(kept.confirmation.id(), place.id);
            found = true;
        }
    }
    found
}
