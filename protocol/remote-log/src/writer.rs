//! The writer: puts documents and the pages that list them into a place, then signs a head that names the newest page.
//!
//! Everything that a head leads to is put before the head, so that a line that is cut at any moment leaves the log as it
//! was. The place itself holds all that the writer goes on from: its own newest head and page.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use waypost_protocol::ids::MessageId;

use crate::hash::ContentHash;
use crate::head::{Head, HeadError, LogId, LogKey, MAX_BOOKMARK, Signer};
use crate::page::{Chain, Content, Described, Entry, MAX_PAGE, Page};
use crate::place::{Place, PlaceError, read_page};

/// Documents in a full page.
pub const PAGE_ENTRIES: usize = 256;
/// A document that is larger, in canonical encoding, is never in a page itself, whatever the mode. Bytes.
pub const MAX_INLINE: u64 = 32 << 10;
/// At most so many documents are inline in the mode "mixed".
pub const MAX_INLINE_LAST: u32 = 128;
/// At most so many documents in one call of [`Writer::publish`]; with what is inline, 8 MiB of memory.
pub const MAX_BATCH: usize = 256;

/// How a log is laid out (3/REMOTE-LOG, "Remote log"). Readers follow all of them alike, and a log may change its mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Fully replicated: content is in the pages.
    Full,
    /// Pages of [`PAGE_ENTRIES`] documents, content by hash.
    Page,
    /// A page for each document, content by hash: the least to write, the most round trips to read.
    Linked,
    /// The last `inline_last` documents are in the newest page, older ones by hash.
    Mixed {
        /// How many; at most [`MAX_INLINE_LAST`], and as many as fit a page.
        inline_last: u32,
    },
}

/// Where a writer's documents are.
pub trait Source {
    /// The canonical encoding of a document.
    fn open(&mut self, id: &MessageId) -> io::Result<Box<dyn Read + '_>>;
}

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The place.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The place does not take this document, and never will; without it the others can be published.
    #[error("document {id} is refused: {why}")]
    Refused {
        /// Which.
        id: MessageId,
        /// Why.
        why: String,
    },
    /// More documents at once than [`MAX_BATCH`], or a bookmark that is too long: the caller's mistake.
    #[error(
        "{documents} documents and a bookmark of {bookmark} bytes, at most {MAX_BATCH} and {MAX_BOOKMARK} at once"
    )]
    TooMuch {
        /// Documents given.
        documents: usize,
        /// Bytes of the bookmark.
        bookmark: usize,
    },
}

/// What came of [`Writer::publish`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The head that stands now.
    pub head: Head,
    /// Documents that are new in it.
    pub listed: usize,
    /// Documents that the source could not give: they are not in the log.
    pub unreadable: Vec<(MessageId, String)>,
    /// Content that the place had already.
    pub already_there: usize,
}

/// How a writer has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// With the log that is there.
    Continued(Head),
    /// With a new log: none was there.
    First,
    /// With a new log: the one that is there cannot be continued, for this reason.
    Anew(String),
}

/// Appends to one gateway's log at one place.
pub struct Writer {
    signer: Arc<Signer>,
    mode: Mode,
    log: LogId,
    sequence: u64,
    /// The bytes that stand under its name.
    replaces: Option<ContentHash>,
    open: OpenPage,
}

/// The newest page, which is written again with each head as long as it has room.
#[derive(Debug, Clone, Default)]
struct OpenPage {
    entries: Vec<Entry>,
    below: Option<Chain>,
    tail: Option<ContentHash>,
}

impl Writer {
    /// Goes on from what the place has under the signer's key.
    ///
    /// `known` is the newest head that this gateway remembers to have published there: where the place has an older
    /// one of the same log, it was rolled back, and continuing it would fork the log before its readers. Then, and where
    /// the newest page is lost, a new log is begun, with the id `fresh`.
    pub fn begin(
        place: &mut dyn Place,
        signer: Arc<Signer>,
        mode: Mode,
        known: Option<(LogId, u64)>,
        fresh: LogId,
    ) -> Result<(Writer, Begun), WriteError> {
        let key = signer.key();
        let standing = place.resolve(&key)?;
        let replaces = standing.as_ref().map(|bytes| ContentHash::of(bytes));
        let mut writer =
            Writer { signer, mode, log: fresh, sequence: 0, replaces, open: OpenPage::default() };
        let Some(bytes) = standing else { return Ok((writer, Begun::First)) };
        let head = match Head::decode(&bytes, &key) {
            Ok(head) => head,
            Err(error) => return Ok((writer, Begun::Anew(words(&error)))),
        };
        if let Some((_, newest)) = known.filter(|(log, newest)| *log == head.log && head.sequence < *newest) {
            let why = format!("the place was rolled back to head {}, {newest} was published", head.sequence);
            return Ok((writer, Begun::Anew(why)));
        }
        let page = match read_page(place, &head.root) {
            Ok(bytes) => Page::decode(bytes).map_err(|error| error.to_string()),
            Err(error @ (PlaceError::Missing(_) | PlaceError::Damaged { .. })) => Err(error.to_string()),
            Err(error) => return Err(error.into()),
        };
        match page {
            Ok(page) if page.chain() == head.chain && page.key == key => {
                (writer.log, writer.sequence) = (head.log, head.sequence);
                writer.open = OpenPage { entries: page.entries, below: Some(page.below), tail: page.tail };
                Ok((writer, Begun::Continued(head)))
            }
            Ok(_) => Ok((writer, Begun::Anew("its newest page is not the one that its head counts".into()))),
            Err(why) => Ok((writer, Begun::Anew(why))),
        }
    }

    /// Whether the newest page lists this document: what a power cut between publishing and remembering leaves.
    pub fn lists(&self, id: &MessageId) -> bool {
        self.open.entries.iter().any(|entry| entry.described.id == *id)
    }

    /// The log that it writes.
    pub fn log(&self) -> LogId {
        self.log
    }

    /// Appends documents, oldest first, and publishes a head that ends with the last of them. `bookmark` is for the
    /// caller, who finds it in the head that [`Writer::begin`] continues. On an error nothing is published.
    pub fn publish(
        &mut self,
        place: &mut dyn Place,
        batch: &[Described],
        source: &mut dyn Source,
        bookmark: Bytes,
    ) -> Result<Option<Published>, WriteError> {
        if batch.len() > MAX_BATCH || bookmark.len() > MAX_BOOKMARK {
            return Err(WriteError::TooMuch { documents: batch.len(), bookmark: bookmark.len() });
        }
        let key = self.signer.key();
        let mut layout =
            Layout { key, mode: self.mode, open: self.open.clone(), demoted: Vec::new(), pages: Vec::new() };
        let mut by_hash = Vec::new();
        let mut unreadable = Vec::new();
        for (at, described) in batch.iter().enumerate() {
            match self.content(described, batch.len() - at, source) {
                Ok(content) => {
                    if let Content::At(hash) = &content {
                        by_hash.push((*hash, *described));
                    }
                    layout.open.entries.push(Entry { described: *described, content });
                }
                Err(error) => unreadable.push((described.id, error.to_string())),
            }
        }
        let listed = batch.len() - unreadable.len();
        if listed == 0 {
            return Ok(None);
        }
        layout.arrange();
        let already_there = put_missing(place, &by_hash, &layout.demoted, source)?;
        for (hash, bytes) in &layout.pages {
            place.put(hash, bytes.len() as u64, &mut &bytes[..])?;
        }
        let open = layout.open;
        let (root, chain) = match open.page(key) {
            Some(page) => {
                let (bytes, hash) = page.encode();
                place.put(&hash, bytes.len() as u64, &mut &bytes[..])?;
                (hash, page.chain())
            }
            // A page was cut whenever no entries are left open.
            None => match open.tail {
                Some(tail) => (tail, open.below.unwrap_or(Chain::EMPTY)),
                None => return Ok(None),
            },
        };
        let sequence = self.sequence.saturating_add(1);
        let head = Head { key, log: self.log, sequence, chain, root, bookmark };
        let bytes = self.signer.sign(&head);
        place.publish(&head.key, &bytes, self.replaces)?;
        (self.sequence, self.replaces, self.open) = (sequence, Some(ContentHash::of(&bytes)), open);
        Ok(Some(Published { head, listed, unreadable, already_there }))
    }

    /// Inline where the mode wants it; `from_end` is 1 for the last of the batch.
    fn content(
        &self,
        described: &Described,
        from_end: usize,
        source: &mut dyn Source,
    ) -> io::Result<Content> {
        let wants_inline = match self.mode {
            Mode::Full => true,
            Mode::Page | Mode::Linked => false,
            Mode::Mixed { .. } => from_end <= inline_last(self.mode),
        };
        let mut reader = source.open(&described.id)?;
        let wrong =
            || io::Error::new(io::ErrorKind::InvalidData, "it has another length than its description");
        if wants_inline && described.size <= MAX_INLINE {
            let mut bytes = Vec::new();
            reader.take(MAX_INLINE + 1).read_to_end(&mut bytes)?;
            return if bytes.len() as u64 == described.size {
                Ok(Content::Inline(bytes.into()))
            } else {
                Err(wrong())
            };
        }
        let (hash, length) = ContentHash::of_reader(&mut *reader)?;
        if length == described.size { Ok(Content::At(hash)) } else { Err(wrong()) }
    }
}

impl OpenPage {
    fn page(&self, key: LogKey) -> Option<Page> {
        (!self.entries.is_empty()).then(|| Page {
            key,
            entries: self.entries.clone(),
            below: self.below.unwrap_or(Chain::EMPTY),
            tail: self.tail,
        })
    }
}

/// How the entries are laid out in pages.
struct Layout {
    key: LogKey,
    mode: Mode,
    open: OpenPage,
    /// Was inline, is by hash from now on.
    demoted: Vec<(ContentHash, Bytes)>,
    /// Full pages, oldest first.
    pages: Vec<(ContentHash, Bytes)>,
}

impl Layout {
    fn arrange(&mut self) {
        match self.mode {
            Mode::Full | Mode::Page => loop {
                let fitting = self.fitting(PAGE_ENTRIES);
                if fitting == self.open.entries.len() {
                    return;
                }
                self.cut(fitting);
            },
            Mode::Linked => {
                while !self.open.entries.is_empty() {
                    self.cut(1);
                }
            }
            Mode::Mixed { .. } => self.arrange_mixed(),
        }
    }

    fn arrange_mixed(&mut self) {
        let older = self.open.entries.len().saturating_sub(inline_last(self.mode));
        (0..older).for_each(|at| self.demote(at));
        while self.fitting(PAGE_ENTRIES) < self.open.entries.len() {
            let is_inline = |entry: &Entry| matches!(entry.content, Content::Inline(_));
            let by_hash = self.open.entries.iter().position(is_inline).unwrap_or(self.open.entries.len());
            if by_hash > 0 && (by_hash == self.open.entries.len() || self.open.entries.len() > PAGE_ENTRIES) {
                self.cut(by_hash.min(self.fitting(PAGE_ENTRIES)));
            } else {
                // Too many bytes: the oldest of those that are inline makes room.
                self.demote(by_hash);
            }
        }
    }

    /// From now on by hash.
    fn demote(&mut self, at: usize) {
        let Some(entry) = self.open.entries.get_mut(at) else { return };
        if let Content::Inline(bytes) = &entry.content {
            let hash = ContentHash::of(bytes);
            self.demoted.push((hash, bytes.clone()));
            entry.content = Content::At(hash);
        }
    }

    /// How many of the oldest entries fit one page; at least one.
    fn fitting(&self, most: usize) -> usize {
        /// Key, tail and chain.
        const AROUND: usize = 160;
        let mut left = MAX_PAGE - AROUND;
        let mut groups = Vec::new();
        let mut count = 0;
        for entry in self.open.entries.iter().take(most) {
            let new_group = !groups.contains(&entry.described.group);
            // Keys and lengths of the fields, ids, numbers.
            let content = match &entry.content {
                Content::Inline(bytes) => bytes.len(),
                Content::At(_) => 32,
            };
            let cost = 72 + content + if new_group { 38 } else { 0 };
            match left.checked_sub(cost) {
                Some(rest) => left = rest,
                None => break,
            }
            if new_group {
                groups.push(entry.described.group);
            }
            count += 1;
        }
        count.max(1)
    }

    /// The oldest entries become a page.
    fn cut(&mut self, count: usize) {
        let entries = self.open.entries.drain(..count.min(self.open.entries.len())).collect();
        let below = self.open.below.unwrap_or(Chain::EMPTY);
        let page = Page { key: self.key, entries, below, tail: self.open.tail };
        let (bytes, hash) = page.encode();
        self.pages.push((hash, bytes));
        (self.open.below, self.open.tail) = (Some(page.chain()), Some(hash));
    }
}

fn inline_last(mode: Mode) -> usize {
    match mode {
        Mode::Mixed { inline_last } => inline_last.min(MAX_INLINE_LAST) as usize,
        Mode::Full | Mode::Page | Mode::Linked => 0,
    }
}

/// Puts what the place does not have yet; how many it had.
fn put_missing(
    place: &mut dyn Place,
    by_hash: &[(ContentHash, Described)],
    demoted: &[(ContentHash, Bytes)],
    source: &mut dyn Source,
) -> Result<usize, WriteError> {
    let hashes: Vec<ContentHash> =
        demoted.iter().map(|(hash, _)| *hash).chain(by_hash.iter().map(|(hash, _)| *hash)).collect();
    if hashes.is_empty() {
        return Ok(0);
    }
    let had = place.has(&hashes)?;
    let (old, new) = had.split_at(demoted.len().min(had.len()));
    for ((hash, bytes), _) in demoted.iter().zip(old).filter(|(_, had)| !**had) {
        place.put(hash, bytes.len() as u64, &mut &bytes[..])?;
    }
    for ((hash, described), _) in by_hash.iter().zip(new).filter(|(_, had)| !**had) {
        let mut reader = source.open(&described.id).map_err(PlaceError::Source)?;
        place.put(hash, described.size, &mut *reader).map_err(|error| match error {
            PlaceError::Refused(why) => WriteError::Refused { id: described.id, why },
            error => error.into(),
        })?;
    }
    Ok(had.iter().filter(|had| **had).count())
}

fn words(error: &HeadError) -> String {
    format!("what stands under its name is not its own: {error}")
}
