//! Bytes from anywhere.

use bytes::Bytes;
use proptest::prelude::*;
use waypost_remote_log::page::{MAX_PAGE, PageError};
use waypost_remote_log::reader::Memory;
use waypost_remote_log::{Chain, Content, ContentHash, Entry, Head, LogKey, Page};

use crate::kit::*;

fn page(count: u64) -> Page {
    let entry = |document: waypost_protocol::document::Document| Entry {
        described: described(&document),
        content: Content::At(ContentHash::of(&document.encode())),
    };
    let entries = documents(0, count, 50).into_iter().map(entry).collect();
    let below = Chain { count: 9, hash: [3; 32] };
    Page { key: LogKey([6; 32]), entries, below, tail: Some(ContentHash([4; 32])) }
}

proptest! {
    #[test]
    fn any_bytes_are_a_page_a_head_a_memory_or_an_error(bytes: Vec<u8>) {
        let _ = Page::decode(Bytes::from(bytes.clone()));
        let _ = Head::decode(&bytes, &LogKey([1; 32]));
        let _ = Memory::decode(&bytes);
    }

    #[test]
    fn a_page_with_any_byte_changed_is_an_error_or_another_page(at: prop::sample::Index, by in 1u8..) {
        let (bytes, hash) = page(5).encode();
        let mut bytes = bytes.to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= by;
        prop_assert_ne!(ContentHash::of(&bytes), hash);
        if let Ok(other) = Page::decode(bytes.into()) {
            prop_assert_eq!(Page::decode(other.encode().0), Ok(other));
        }
    }
}

#[test]
fn a_page_reads_back_as_it_was_written() {
    let page = page(20);
    assert_eq!(Page::decode(page.encode().0), Ok(page));
}

#[test]
fn a_page_is_refused_that_is_too_long_empty_or_has_no_next_page_where_there_are_older_documents() {
    let long = Bytes::from(vec![0; MAX_PAGE + 1]);
    assert_eq!(Page::decode(long), Err(PageError::TooLong(MAX_PAGE + 1)));
    assert_eq!(Page::decode(Bytes::new()), Err(PageError::Entries(0)));
    assert!(matches!(Page::decode(page(2_000).encode().0), Err(PageError::TooLong(_))));
    let without = Page { tail: None, ..page(3) };
    assert_eq!(Page::decode(without.encode().0), Err(PageError::Field("next page")));
    let needless = Page { below: Chain::EMPTY, ..page(3) };
    assert_eq!(Page::decode(needless.encode().0), Err(PageError::Field("next page")));
}

#[test]
fn the_chain_within_a_page_is_that_of_its_oldest_documents() {
    let page = page(5);
    assert_eq!(page.chain_at(9), Some(page.below));
    assert_eq!(page.chain_at(14), Some(page.chain()));
    assert_eq!((page.chain_at(8), page.chain_at(15)), (None, None));
}

/// 3/REMOTE-LOG's own fields, as a plain reader knows them.
#[derive(Clone, PartialEq, prost::Message)]
struct Plain {
    #[prost(message, repeated, tag = "1")]
    pair: Vec<PlainPair>,
    #[prost(bytes = "vec", tag = "2")]
    tail: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PlainPair {
    #[prost(bytes = "vec", tag = "1")]
    remote_hash: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    local_hash: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    data: Vec<u8>,
}

#[test]
fn a_plain_reader_of_the_rfc_gets_from_the_head_to_every_document() {
    use prost::Message as _;
    for mode in MODES {
        let mut place = waypost_remote_log::memory::InMemory::default();
        let signer = signer(1);
        let all = documents(0, 300, 100);
        append_all(&mut place, &signer, mode, &all);
        let mut next = Plain::decode(place.names[&signer.key()].clone()).unwrap();
        let mut found = Vec::new();
        loop {
            for pair in &next.pair {
                let content = match ContentHash::from_slice(&pair.remote_hash) {
                    Some(hash) => place.content[&hash].to_vec(),
                    None => pair.data.clone(),
                };
                let document = waypost_protocol::document::Document::decode(content.into()).unwrap();
                assert_eq!(document.id().as_bytes(), pair.local_hash);
                found.push(document);
            }
            let Some(tail) = ContentHash::from_slice(&next.tail) else { break };
            next = Plain::decode(place.content[&tail].clone()).unwrap();
        }
        found.reverse();
        assert!(found == all, "{mode:?}");
    }
}
