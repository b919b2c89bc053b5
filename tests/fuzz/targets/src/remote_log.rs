//! Remote logs: pages, heads, and a reader before a place that says anything.

use std::io::Read;
use std::sync::LazyLock;

use bytes::Bytes;
use waypost_protocol::document::Document;
use waypost_remote_log::head::MAX_BOOKMARK;
use waypost_remote_log::memory::InMemory;
use waypost_remote_log::page::{MAX_ENTRIES, MAX_PAGE};
use waypost_remote_log::reader::Memory;
use waypost_remote_log::{
    Chain, ContentHash, Described, Head, LogId, Page, Progress, Reader, Shelf, ShelfError, Signer,
};

use crate::steps;

/// Of `tests/versions/v1-remote-log.json`.
static SIGNER: LazyLock<Signer> = LazyLock::new(|| {
    let identity = std::array::from_fn(|at| 0x20 + u8::try_from(at).expect("32 places"));
    Signer::derive(&identity).expect("any 32 bytes are a key")
});
/// More steps than any round over so few pages has.
const MAX_STEPS: usize = 20_000;

/// A page (step 0), a head as it stands (1), other content (2), a restart of the reader (3). A step 4 reads a round, from the
/// newest page on, or with more bytes from there on; its first 16 bytes name the log.
pub fn log_pages(data: &[u8]) -> bool {
    let key = SIGNER.key();
    let (mut place, mut newest, mut sequence) = (InMemory::default(), None, 0);
    let mut reader = Reader::new(key, Memory::default());
    let mut shelf = Taken::default();
    let mut accepted = false;
    for (what, bytes) in steps(data) {
        match what % 5 {
            0 => {
                let page = Page::decode(Bytes::copy_from_slice(bytes)).ok();
                if let Some(page) = &page {
                    check_page(page, bytes);
                    accepted = true;
                }
                let hash = ContentHash::of(bytes);
                place.content.insert(hash, Bytes::copy_from_slice(bytes));
                newest = Some((hash, page.map_or(Chain { count: 1, hash: [1; 32] }, |page| page.chain())));
            }
            1 => {
                if let Ok(head) = Head::decode(bytes, &key) {
                    assert!(head.bookmark.len() <= MAX_BOOKMARK);
                    assert_eq!(Head::decode(&SIGNER.sign(&head), &key), Ok(head));
                }
                place.names.insert(key, Bytes::copy_from_slice(bytes));
            }
            2 => {
                place.content.insert(ContentHash::of(bytes), Bytes::copy_from_slice(bytes));
            }
            3 => {
                let memory = Memory::decode(&reader.memory().encode()).expect("what was remembered");
                assert_eq!(memory, *reader.memory());
                reader = Reader::new(key, memory);
            }
            _ => {
                let (log, rest) =
                    bytes.split_first_chunk::<16>().map_or(([0; 16], bytes), |(log, rest)| (*log, rest));
                if let Some((root, chain)) = newest {
                    sequence += 1;
                    let root = ContentHash::from_slice(rest).unwrap_or(root);
                    let bookmark = Bytes::new();
                    let head = Head { key, log: LogId(log), sequence, chain, root, bookmark };
                    place.names.insert(key, SIGNER.sign(&head));
                }
                round(&mut reader, &mut place, &mut shelf);
            }
        }
    }
    accepted
}

fn check_page(page: &Page, bytes: &[u8]) {
    assert!((1..=MAX_ENTRIES).contains(&page.entries.len()) && bytes.len() <= MAX_PAGE);
    let (encoded, hash) = page.encode();
    assert_eq!(ContentHash::of(&encoded), hash);
    // Fields that nobody knows and groups in another order are passed over; then the bytes are others.
    assert_eq!(Page::decode(encoded).as_ref(), Ok(page));
    assert_eq!(page.chain().count, page.below.count + page.entries.len() as u64);
    assert_eq!(page.chain_at(page.chain().count), Some(page.chain()));
}

fn round(reader: &mut Reader, place: &mut InMemory, shelf: &mut Taken) {
    reader.begin();
    for _ in 0..MAX_STEPS {
        let before = place.costs.round_trips;
        let step = reader.step(place, shelf);
        assert!(place.costs.round_trips <= before + 2, "a step of more than two questions");
        match step {
            Ok(Progress::Head(None) | Progress::Done) | Err(_) => return,
            Ok(_) => {}
        }
    }
    panic!("a round without end");
}

/// Takes what is what it is called.
#[derive(Default)]
struct Taken(Vec<Document>);

impl Shelf for Taken {
    fn wants(&mut self, described: &Described) -> Result<Option<u64>, String> {
        Ok((!self.0.iter().any(|document| document.id() == described.id)).then_some(0))
    }

    fn take(&mut self, described: &Described, offset: u64, content: &mut dyn Read) -> Result<(), ShelfError> {
        assert_eq!(offset, 0);
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).map_err(ShelfError::Line)?;
        assert!(bytes.len() as u64 <= described.size.saturating_add(1), "more than the page says");
        match Document::decode(bytes.into()) {
            Ok(document) if document.id() == described.id => self.0.push(document),
            _ if described.size.is_multiple_of(2) => {
                return Err(ShelfError::Refused("not what it is called".into()));
            }
            _ => return Err(ShelfError::Later("not what it is called".into())),
        }
        Ok(())
    }
}
