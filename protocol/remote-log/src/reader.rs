//! The reader: goes from a log's head down to what it knows, one question at a time, and can stop after each of them.
//!
//! What it remembers between rounds is a [`Memory`]: how far it has come, and what it must never be told otherwise. A
//! head that is older than the newest one seen, or whose documents do not continue those seen, is refused by name; the
//! documents taken meanwhile stay, as each is proven by its own id.

mod known;

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};

use bytes::Bytes;
use waypost_protocol::ids::MessageId;

use crate::hash::ContentHash;
use crate::head::{Head, HeadError, LogId, LogKey};
use crate::page::{Chain, Content, Described, Entry, Page, PageError};
use crate::place::{Place, PlaceError, read_page};

pub use known::{KnownLog, MAX_LOGS, MAX_OWED, Memory, MemoryError, Owed};

/// Documents up to this size, in bytes, are asked for together.
const SMALL: u64 = 64 << 10;
/// So many at a time, with so many bytes: they are held in memory, and other work waits for them.
const TOGETHER: usize = 256;
const TOGETHER_BYTES: u64 = 256 << 10;

/// Who takes the documents.
pub trait Shelf {
    /// Whether a document is wanted, and from which byte of its canonical encoding on: more than 0 where the beginning
    /// was taken before the line was lost. An error is one of the shelf, and ends the round.
    fn wants(&mut self, described: &Described) -> Result<Option<u64>, String>;

    /// Takes a document: its canonical encoding from `offset` on, **unverified**. Computes its id.
    fn take(&mut self, described: &Described, offset: u64, content: &mut dyn Read) -> Result<(), ShelfError>;
}

/// Why a document was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// It is not wanted after all, and never will be.
    #[error("{0}")]
    Refused(String),
    /// Its bytes are not what its id says, or there is no room for it: it is tried again with the next head.
    #[error("{0}")]
    Later(String),
    /// Its bytes stopped coming.
    #[error("{0}")]
    Line(io::Error),
    /// The shelf itself failed.
    #[error("{0}")]
    Failed(String),
}

/// Why a round ended early. What was taken stays taken, and the next round goes on.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The place.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The head is not one of this log.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The place shows an older head than before.
    #[error(
        "log {key} was rolled back: head {found} is shown, {known} was seen before; who keeps the place can say why"
    )]
    RollBack {
        /// Whose log.
        key: LogKey,
        /// The newest head seen.
        known: u64,
        /// What is shown.
        found: u64,
    },
    /// The documents listed now do not continue those that were listed before.
    #[error(
        "log {key} was forked: at document {count} it says something else than before; its gateway must begin a new one"
    )]
    Fork {
        /// Whose log.
        key: LogKey,
        /// Where the two part at the latest: the number of documents, counted from the oldest.
        count: u64,
    },
    /// A page is no page.
    #[error("page {hash} of log {key}: {error}")]
    Page {
        /// Whose log.
        key: LogKey,
        /// Which page.
        hash: ContentHash,
        /// What is wrong.
        error: PageError,
    },
    /// The shelf failed.
    #[error("{0}")]
    Shelf(String),
}

/// What one step was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The head was read; `None`: there is no such log here.
    Head(Option<u64>),
    /// A page was read that lists so many documents.
    Page(usize),
    /// So many documents were asked for together; they are looked at next.
    Fetched(usize),
    /// A document was taken.
    Taken(MessageId),
    /// A document is not wanted, or is there already.
    Passed(MessageId),
    /// A document could not be taken, or was refused; why.
    Skipped(MessageId, String),
    /// Nothing is left to do in this round.
    Done,
}

/// Reads one log at one place.
pub struct Reader {
    key: LogKey,
    memory: Memory,
    changed: bool,
    round: Round,
    /// A page that the place could not give in a round before.
    lost_page: Option<ContentHash>,
}

#[derive(Default)]
struct Round {
    /// The log that the head names.
    log: Option<LogId>,
    /// The head has been walked from in this round.
    is_newest: bool,
    page: Option<Open>,
    /// What is tried again.
    owed: VecDeque<MessageId>,
    done: bool,
}

/// The page under way.
struct Open {
    hash: ContentHash,
    page: Page,
    /// The place after that of the next entry: newest first.
    next: usize,
    /// Entries from here down are known.
    stop: usize,
    /// Entries from here up were asked for together, as far as they are small.
    asked: usize,
    /// What came of that.
    fetched: BTreeMap<ContentHash, Bytes>,
}

impl Open {
    /// Asks for the next small documents that are wanted, if they are several; how many.
    fn fetch(&mut self, place: &mut dyn Place, shelf: &mut dyn Shelf) -> Result<Option<usize>, ReadError> {
        let (mut wanted, mut bytes) = (Vec::new(), 0);
        while self.asked > self.stop && wanted.len() < TOGETHER {
            let Some(Entry { described, content }) = self.page.entries.get(self.asked - 1) else { break };
            if let Content::At(hash) = content
                && described.size <= SMALL
                && shelf.wants(described).map_err(ReadError::Shelf)? == Some(0)
            {
                if bytes + described.size > TOGETHER_BYTES {
                    break;
                }
                bytes += described.size;
                wanted.push((*hash, described.size));
            }
            self.asked -= 1;
        }
        if wanted.len() < 2 {
            return Ok(None);
        }
        let found = place.get_small(&wanted)?;
        let found = wanted.iter().zip(found).filter_map(|((hash, _), bytes)| Some((*hash, bytes?)));
        self.fetched = found.collect();
        Ok(Some(self.fetched.len()))
    }
}

impl Reader {
    /// Goes on with what was remembered.
    pub fn new(key: LogKey, memory: Memory) -> Self {
        Reader { key, memory, changed: false, round: Round::default(), lost_page: None }
    }

    /// Whose log.
    pub fn key(&self) -> LogKey {
        self.key
    }

    /// Begins another round: the head is asked for again.
    pub fn begin(&mut self) {
        self.round = Round::default();
    }

    /// What is remembered.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// What is to be remembered, where that has changed since this was asked last.
    pub fn take_change(&mut self) -> Option<Vec<u8>> {
        std::mem::take(&mut self.changed).then(|| self.memory.encode())
    }

    /// One step: one question to the place at most, two where a page is gone. After an error, or [`Progress::Done`], [`Reader::begin`].
    pub fn step(&mut self, place: &mut dyn Place, shelf: &mut dyn Shelf) -> Result<Progress, ReadError> {
        if self.round.done {
            return Ok(Progress::Done);
        }
        let Some(log) = self.round.log else { return self.read_head(place) };
        if let Some(open) = &mut self.round.page {
            if open.next > open.stop && open.next <= open.asked {
                match open.fetch(place, shelf) {
                    Ok(Some(count)) => return Ok(Progress::Fetched(count)),
                    Ok(None) => {}
                    Err(error) => {
                        self.round = Round { done: true, ..Round::default() };
                        return Err(error);
                    }
                }
            }
            if open.next > open.stop {
                open.next -= 1;
                if let Some(Entry { described, content }) = open.page.entries.get(open.next).cloned() {
                    let owed = match &content {
                        Content::Inline(_) => {
                            Owed { described, hash: open.hash, below: Some(open.page.below) }
                        }
                        Content::At(hash) => Owed { described, hash: *hash, below: None },
                    };
                    let fetched = match &content {
                        Content::At(hash) => open.fetched.remove(hash),
                        Content::Inline(_) => None,
                    };
                    let content = fetched.map_or(content, Content::Inline);
                    let outcome = self.read_document(log, owed, &content, place, shelf);
                    if outcome.is_err() {
                        // The page is read again, and what was taken of it is passed over.
                        self.round = Round { done: true, ..Round::default() };
                    }
                    return outcome;
                }
            }
            self.end_page(log);
        }
        let Some(known) = self.memory.find(&log) else { return Ok(self.end()) };
        if let Some((hash, chain)) = known.walk {
            return self.read_page(log, &hash, chain, place);
        }
        if !self.round.is_newest {
            // What was interrupted is done; is there more by now?
            self.round = Round::default();
            return self.read_head(place);
        }
        match self.round.owed.pop_front() {
            Some(id) => self.read_owed(log, id, place, shelf),
            None => Ok(self.end()),
        }
    }

    fn end(&mut self) -> Progress {
        self.round.done = true;
        Progress::Done
    }

    fn read_head(&mut self, place: &mut dyn Place) -> Result<Progress, ReadError> {
        self.round.done = true;
        let Some(bytes) = place.resolve(&self.key)? else { return Ok(Progress::Head(None)) };
        let head = Head::decode(&bytes, &self.key)?;
        let (key, found) = (self.key, head.sequence);
        let known = self.memory.find_or_add(&head);
        let fork = || ReadError::Fork { key, count: head.chain.count };
        if known.forked {
            return Err(fork());
        }
        if head.sequence < known.sequence || head.chain.count < known.chain.count {
            return Err(ReadError::RollBack { key, known: known.sequence, found });
        }
        let is_same = head.chain == known.chain;
        if (head.chain.count == known.chain.count && !is_same)
            || (head.sequence == known.sequence && (!is_same || head.root != known.root))
        {
            return Err(fork());
        }
        let is_lost = known.walk.is_some_and(|(page, _)| self.lost_page == Some(page));
        self.round.is_newest = known.walk.is_none() || is_lost || head.sequence == known.sequence;
        if head.sequence > known.sequence && self.round.is_newest {
            // Where an interrupted walk is given up, the new one must pass through what that one promised. Of several
            // the first is kept: the others were never walked to their end.
            if known.walk.is_some() && known.witness.is_none() {
                known.witness = Some(known.chain);
            }
            known.walk = (known.floor != head.chain).then_some((head.root, head.chain));
            (known.sequence, known.chain, known.root) = (head.sequence, head.chain, head.root);
            self.round.owed = known.owed.iter().map(|owed| owed.described.id).collect();
            self.changed = true;
        }
        (self.round.log, self.round.done) = (Some(head.log), false);
        Ok(Progress::Head(Some(found)))
    }

    fn read_page(
        &mut self,
        log: LogId,
        hash: &ContentHash,
        chain: Chain,
        place: &mut dyn Place,
    ) -> Result<Progress, ReadError> {
        let key = self.key;
        let page = read_page(place, hash).map_err(ReadError::from).and_then(|bytes| {
            let page = Page::decode(bytes).and_then(|page| match page.key == key {
                true => Ok(page),
                false => Err(PageError::OtherLog(page.key)),
            });
            page.map_err(|error| ReadError::Page { key, hash: *hash, error })
        });
        let page = match page {
            Ok(page) => page,
            Err(ReadError::Place(PlaceError::Missing(_))) if self.lost_page != Some(*hash) => {
                // The newest page may have been written anew since its head was read.
                self.lost_page = Some(*hash);
                self.round = Round::default();
                return self.read_head(place);
            }
            Err(error) => {
                if !matches!(error, ReadError::Place(PlaceError::Unreachable(_))) {
                    self.lost_page = Some(*hash);
                }
                self.round = Round { done: true, ..Round::default() };
                return Err(error);
            }
        };
        let Some(known) = self.memory.find_mut(&log) else { return Ok(self.end()) };
        let parts = |mark: &Chain| {
            page.below.count <= mark.count
                && mark.count <= chain.count
                && page.chain_at(mark.count) != Some(*mark)
        };
        let marks = [Some(known.floor), known.witness];
        let forked = marks.into_iter().flatten().find(parts).map(|mark| mark.count);
        let forked = forked.or_else(|| (page.chain() != chain).then_some(chain.count));
        if let Some(count) = forked {
            (known.forked, known.walk) = (true, None);
            (self.changed, self.round) = (true, Round { done: true, ..Round::default() });
            return Err(ReadError::Fork { key, count });
        }
        let stop = known.floor.count.saturating_sub(page.below.count);
        let count = page.entries.len();
        let stop = usize::try_from(stop).unwrap_or(count);
        self.round.page =
            Some(Open { hash: *hash, page, next: count, stop, asked: count, fetched: BTreeMap::new() });
        Ok(Progress::Page(count))
    }

    /// Everything of the page was looked at: on to the next one, or that was all.
    fn end_page(&mut self, log: LogId) {
        let Some(Open { page, .. }) = self.round.page.take() else { return };
        let Some(known) = self.memory.find_mut(&log) else { return };
        self.changed = true;
        known.walk =
            page.tail.filter(|_| page.below.count > known.floor.count).map(|tail| (tail, page.below));
        if known.walk.is_none() {
            (known.floor, known.witness) = (known.chain, None);
        }
    }

    /// Tries again what could not be taken.
    fn read_owed(
        &mut self,
        log: LogId,
        id: MessageId,
        place: &mut dyn Place,
        shelf: &mut dyn Shelf,
    ) -> Result<Progress, ReadError> {
        // Where the log was read again meanwhile, it may have been found elsewhere.
        let owed =
            self.memory.find(&log).and_then(|known| known.owed.iter().find(|owed| owed.described.id == id));
        let Some(owed) = owed.copied() else { return Ok(Progress::Passed(id)) };
        let Some(below) = owed.below else {
            return self.read_document(log, owed, &Content::At(owed.hash), place, shelf);
        };
        let page = read_page(place, &owed.hash).map(Page::decode);
        let found = match page {
            Err(error @ PlaceError::Unreachable(_)) => return Err(error.into()),
            Ok(Ok(page)) => page.entries.into_iter().find(|entry| entry.described.id == id),
            _ => None,
        };
        if let Some(entry) = found {
            return self.read_document(log, owed, &entry.content, place, shelf);
        }
        if let Some(known) = self.memory.find_mut(&log) {
            known.settle(&id);
            known.witness = known.witness.or(Some(known.floor));
            (known.walk, known.floor) = (Some((known.root, known.chain)), below);
            self.changed = true;
        }
        Ok(Progress::Skipped(id, "its page was written anew; the log is read again from there".into()))
    }

    fn read_document(
        &mut self,
        log: LogId,
        owed: Owed,
        content: &Content,
        place: &mut dyn Place,
        shelf: &mut dyn Shelf,
    ) -> Result<Progress, ReadError> {
        let described = owed.described;
        let id = described.id;
        let Some(offset) = shelf.wants(&described).map_err(ReadError::Shelf)? else {
            self.settle(log, &id);
            return Ok(Progress::Passed(id));
        };
        let taken = match content {
            Content::Inline(bytes) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                shelf.take(&described, offset, &mut bytes.get(from..).unwrap_or_default())
            }
            Content::At(hash) => match place.get(hash, offset) {
                Ok(reader) => {
                    // One byte more than it says, so that whoever takes it sees where it is longer.
                    let most = described.size.saturating_sub(offset).saturating_add(1);
                    shelf.take(&described, offset, &mut reader.take(most))
                }
                Err(
                    error @ (PlaceError::Missing(_) | PlaceError::Damaged { .. } | PlaceError::Refused(_)),
                ) => Err(ShelfError::Later(error.to_string())),
                Err(error) => return Err(error.into()),
            },
        };
        match taken {
            Ok(()) => {
                self.settle(log, &id);
                Ok(Progress::Taken(id))
            }
            Err(ShelfError::Refused(why)) => {
                self.settle(log, &id);
                Ok(Progress::Skipped(id, why))
            }
            Err(ShelfError::Later(why)) => {
                if let Some(known) = self.memory.find_mut(&log) {
                    self.changed |= known.owe(owed);
                }
                Ok(Progress::Skipped(id, why))
            }
            Err(ShelfError::Line(error)) => Err(PlaceError::Unreachable(error.to_string()).into()),
            Err(ShelfError::Failed(why)) => Err(ReadError::Shelf(why)),
        }
    }

    fn settle(&mut self, log: LogId, id: &MessageId) {
        if let Some(known) = self.memory.find_mut(&log) {
            self.changed |= known.settle(id);
        }
    }
}
