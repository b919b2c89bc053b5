//! Vectors of remote logs: pages of every layout, heads, chains, the signing key.

use bytes::Bytes;
use serde_json::{Value, json};
use waypost_protocol::document::Document;
use waypost_protocol::ids::GroupId;
use waypost_protocol::time::UnixTime;
use waypost_remote_log::{Chain, Content, ContentHash, Described, Entry, Head, LogId, LogKey, Page, Signer};

use super::{counting, hex, list, text, unhex};

const IDENTITY: u8 = 0x20;

fn document(body: &'static [u8], group: u8) -> Document {
    Document::new(GroupId(counting(group)), UnixTime(3_600), Bytes::from_static(body)).unwrap()
}

fn entry(document: &Document, is_inline: bool) -> Entry {
    let bytes = Bytes::from(document.encode());
    let described = Described { id: document.id(), group: document.group(), size: bytes.len() as u64 };
    let content = if is_inline { Content::Inline(bytes) } else { Content::At(ContentHash::of(&bytes)) };
    Entry { described, content }
}

/// A log of three documents in two pages, then the same in one.
fn pages() -> Vec<Page> {
    let documents = [document(b"first", 0x40), document(b"second", 0x40), document(b"third", 0x60)];
    let [first, second, third] = &documents;
    let key = Signer::derive(&counting(IDENTITY)).unwrap().key();
    let oldest = Page { key, entries: vec![entry(first, false)], below: Chain::EMPTY, tail: None };
    let newest = Page {
        key,
        entries: vec![entry(second, false), entry(third, true)],
        below: oldest.chain(),
        tail: Some(oldest.encode().1),
    };
    let whole = Page {
        key,
        entries: documents.iter().map(|document| entry(document, true)).collect(),
        below: Chain::EMPTY,
        tail: None,
    };
    vec![oldest, newest, whole]
}

fn describe_page(page: &Page) -> Value {
    let (bytes, hash) = page.encode();
    let entry = |entry: &Entry| {
        let (content, remote_hash) = match &entry.content {
            Content::Inline(bytes) => (hex(bytes), Value::Null),
            Content::At(hash) => (String::new(), Value::from(hex(&hash.0))),
        };
        json!({
            "id": hex(entry.described.id.as_bytes()),
            "group_id": hex(entry.described.group.as_bytes()),
            "size": entry.described.size,
            "content": content,
            "remote_hash": remote_hash,
        })
    };
    json!({
        "oldest_first": page.entries.iter().map(entry).collect::<Vec<_>>(),
        "below": page.below.count,
        "chain_below": hex(&page.below.hash),
        "next_page": page.tail.map(|hash| hex(&hash.0)),
        "chain": hex(&page.chain().hash),
        "bytes": hex(&bytes),
        "hash": hex(&hash.0),
    })
}

fn head(sequence: u64, page: &Page, bookmark: &'static [u8]) -> Value {
    let signer = Signer::derive(&counting(IDENTITY)).unwrap();
    let (chain, root) = (page.chain(), page.encode().1);
    let log = LogId(counting(0x10));
    let bookmark = Bytes::from_static(bookmark);
    let head = Head { key: signer.key(), log, sequence, chain, root, bookmark };
    json!({
        "key": hex(&head.key.0),
        "log": hex(&head.log.0),
        "sequence": sequence,
        "count": chain.count,
        "chain": hex(&chain.hash),
        "root": hex(&root.0),
        "bookmark": hex(&head.bookmark),
        "bytes": hex(&signer.sign(&head)),
    })
}

pub(crate) fn make() -> Value {
    let pages = pages();
    json!({
        "about": "Bytes are lower-case hexadecimal text. docs/remote-log.md is the specification.",
        "identity": hex(&counting::<32>(IDENTITY)),
        "log_key": hex(&Signer::derive(&counting(IDENTITY)).unwrap().key().0),
        "pages": pages.iter().map(describe_page).collect::<Vec<_>>(),
        "heads": [head(1, &pages[0], b""), head(2, &pages[1], b"bookmark")],
    })
}

/// Reads the frozen bytes.
pub(crate) fn check(vectors: &Value) {
    for (vector, expected) in list(&vectors["pages"]).iter().zip(pages()) {
        let bytes = unhex(&vector["bytes"]);
        assert_eq!(ContentHash::of(&bytes).to_string(), text(&vector["hash"]));
        assert_eq!(Page::decode(bytes).unwrap(), expected);
    }
    for vector in list(&vectors["heads"]) {
        let key = LogKey::from_hex(text(&vector["key"])).unwrap();
        let head = Head::decode(&unhex(&vector["bytes"]), &key).unwrap();
        assert_eq!(
            (head.sequence, head.chain.count),
            (vector["sequence"].as_u64().unwrap(), vector["count"].as_u64().unwrap())
        );
        assert_eq!(head.root.to_string(), text(&vector["root"]));
    }
}
