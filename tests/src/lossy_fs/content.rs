//! The bytes of one file as sparse, shared pages, so that keeping a durable and a current version costs little.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes in a page, and in the blocks that `statfs` counts.
pub(crate) const PAGE: u64 = PAGE_BYTES as u64;
pub(crate) const PAGE_BYTES: usize = 4096;

type Page = [u8; PAGE_BYTES];

/// What a file holds. Pages that were never written read as zeros and take no space.
#[derive(Clone, Default)]
pub(crate) struct Content {
    pages: BTreeMap<u64, Arc<Page>>,
    len: u64,
}

impl Content {
    /// Size of the file in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes that the file takes on the disk.
    pub(crate) fn allocated(&self) -> u64 {
        self.pages.len() as u64 * PAGE
    }

    /// Bytes that would newly be taken if `len` bytes at `offset` were written.
    pub(crate) fn growth(&self, offset: u64, len: u64) -> u64 {
        pages_of(offset, len).filter(|page| !self.pages.contains_key(page)).count() as u64 * PAGE
    }

    /// At most `size` bytes from `offset`; fewer at the end of the file.
    pub(crate) fn read(&self, offset: u64, size: usize) -> Vec<u8> {
        let end = self.len.min(offset.saturating_add(size as u64));
        let mut bytes = Vec::with_capacity(size.min(1 << 20));
        let mut at = offset;
        while at < end {
            let within = index(at % PAGE);
            let take = (PAGE_BYTES - within).min(index(end - at));
            match self.pages.get(&(at / PAGE)) {
                Some(page) => bytes.extend_from_slice(&page[within..within + take]),
                None => bytes.resize(bytes.len() + take, 0),
            }
            at += take as u64;
        }
        bytes
    }

    /// Puts `bytes` at `offset`, growing the file if they end behind its end.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let within = index(at % PAGE);
            let take = (PAGE_BYTES - within).min(rest.len());
            let page = self.pages.entry(at / PAGE).or_insert_with(zeros);
            Arc::make_mut(page)[within..within + take].copy_from_slice(&rest[..take]);
            at += take as u64;
            rest = &rest[take..];
        }
        self.len = self.len.max(at);
    }

    /// Cuts or extends (with zeros, without taking space) the file to `len` bytes.
    pub(crate) fn resize(&mut self, len: u64) {
        if len < self.len {
            self.pages.split_off(&len.div_ceil(PAGE));
            let within = index(len % PAGE);
            if let Some(last) = self.pages.get_mut(&(len / PAGE)).filter(|_| within > 0) {
                Arc::make_mut(last)[within..].fill(0);
            }
        }
        self.len = len;
    }

    /// Takes space for `len` bytes at `offset`, as `fallocate` does, and grows the file if `extend`.
    pub(crate) fn allocate(&mut self, offset: u64, len: u64, extend: bool) {
        for page in pages_of(offset, len) {
            self.pages.entry(page).or_insert_with(zeros);
        }
        if extend {
            self.len = self.len.max(offset.saturating_add(len));
        }
    }

    /// Makes the pages numbered in `changed`, and the size, the same as in `newer`.
    pub(crate) fn catch_up(&mut self, newer: &Content, changed: impl IntoIterator<Item = u64>) {
        self.resize(newer.len);
        for number in changed {
            match newer.pages.get(&number) {
                Some(page) => self.pages.insert(number, Arc::clone(page)),
                None => self.pages.remove(&number),
            };
        }
    }
}

/// The numbers of the pages that `len` bytes at `offset` touch.
pub(crate) fn pages_of(offset: u64, len: u64) -> std::ops::Range<u64> {
    if len == 0 { 0..0 } else { offset / PAGE..offset.saturating_add(len).div_ceil(PAGE) }
}

fn zeros() -> Arc<Page> {
    Arc::new([0; PAGE_BYTES])
}

#[expect(clippy::cast_possible_truncation, reason = "an offset within a page or a read, far below 2^32")]
fn index(value: u64) -> usize {
    value as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_read_as_zeros_and_take_no_space() {
        let mut content = Content::default();
        content.write(3 * PAGE + 5, b"end");
        assert_eq!(content.len(), 3 * PAGE + 8);
        assert_eq!(content.allocated(), PAGE);
        assert_eq!(content.read(3 * PAGE + 3, 100), b"\0\0end");
        assert_eq!(content.read(0, 10), [0; 10]);
        assert_eq!(content.read(9 * PAGE, 10), b"");
    }

    #[test]
    fn what_was_cut_off_does_not_come_back_when_the_file_grows() {
        let mut content = Content::default();
        content.write(0, &[7; 2 * PAGE_BYTES]);
        content.resize(10);
        content.resize(PAGE + 10);
        assert_eq!(content.read(0, 20), [[7; 10], [0; 10]].concat());
        assert_eq!(content.read(PAGE, 10), [0; 10]);
        assert_eq!(content.allocated(), PAGE);
    }

    #[test]
    fn allocating_takes_space_once() {
        let mut content = Content::default();
        content.write(0, b"x");
        assert_eq!(content.growth(0, 2 * PAGE), PAGE);
        content.allocate(0, 2 * PAGE, false);
        assert_eq!((content.len(), content.allocated(), content.growth(0, 2 * PAGE)), (1, 2 * PAGE, 0));
        content.allocate(0, 2 * PAGE, true);
        assert_eq!(content.len(), 2 * PAGE);
    }

    #[test]
    fn catching_up_copies_only_what_changed() {
        let mut durable = Content::default();
        durable.write(0, &[1; 2 * PAGE_BYTES]);
        let mut current = durable.clone();
        current.write(0, &[2; PAGE_BYTES]);
        current.write(PAGE, &[3; PAGE_BYTES]);
        durable.catch_up(&current, [1]);
        assert_eq!((durable.read(0, 1), durable.read(PAGE, 1)), (vec![1], vec![3]));
    }
}
