//! What the tests share: a store in a temporary folder with clocks and a disk that they set.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use waypost_protocol::confirmation::{Confirmation, Rejection, Statement, Verdict};
use waypost_protocol::document::Document;
use waypost_protocol::envelope::{self, Header};
use waypost_protocol::ids::{Fingerprint, GroupId, MessageId, PeerKey, Seq, StoreId};
use waypost_protocol::sync::Recipient;
use waypost_protocol::time::{Monotonic, UnixTime};
use waypost_store::{
    Applied, Boot, Change, ChangeError, Clock, DiskSpace, Freeing, NewDocument, Options, PeerClass, Store,
    StoreKey,
};

pub(crate) const A: Fingerprint = Fingerprint::V4([0xa1; 20]);
pub(crate) const B: Fingerprint = Fingerprint::V4([0xb2; 20]);
pub(crate) const REJECTED: Verdict = Verdict::Rejected(Rejection::CannotOpen);

pub(crate) fn peer(n: u8) -> PeerKey {
    PeerKey([n; 32])
}

pub(crate) fn store_id(n: u8) -> StoreId {
    StoreId([n; 16])
}

#[derive(Default)]
pub(crate) struct TestClock(AtomicU64, Mutex<Option<Boot>>);

impl TestClock {
    pub(crate) fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    /// The machine says that it was started as `name`, so many seconds ago.
    pub(crate) fn set_boot(&self, name: &str, seconds: u64) {
        *self.1.lock().unwrap() = Some(Boot { name: name.to_owned(), seconds });
    }
}

impl Clock for TestClock {
    fn monotonic(&self) -> Monotonic {
        Monotonic(Duration::from_secs(self.0.load(Ordering::SeqCst)))
    }

    fn wall(&self) -> UnixTime {
        UnixTime(1_800_000_000 + self.0.load(Ordering::SeqCst))
    }

    fn boot(&self) -> Option<Boot> {
        self.1.lock().unwrap().clone()
    }
}

pub(crate) struct TestDisk(pub(crate) AtomicU64);

impl DiskSpace for TestDisk {
    fn free(&self, _: &Path) -> std::io::Result<u64> {
        Ok(self.0.load(Ordering::SeqCst))
    }

    fn size(&self, _: &Path) -> std::io::Result<u64> {
        Ok(1 << 40)
    }
}

pub(crate) struct Kit {
    pub(crate) folder: TempDir,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) disk: Arc<TestDisk>,
    pub(crate) options: Options,
    store: Option<Store>,
}

impl Kit {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(set: impl FnOnce(&mut Options)) -> Self {
        let clock = Arc::new(TestClock::default());
        let disk = Arc::new(TestDisk(AtomicU64::new(u64::MAX / 2)));
        let mut options = Options {
            map_size: 64 << 20,
            reserve: 64 << 10,
            forwards: true,
            clock: clock.clone(),
            disk: disk.clone(),
            ..Options::default()
        };
        set(&mut options);
        // In memory where that is possible: what a flush does is tested elsewhere, and a slow disk takes minutes.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let mut kit = Kit { folder, clock, disk, options, store: None };
        kit.reopen();
        kit
    }

    pub(crate) fn key() -> StoreKey {
        StoreKey::new([7; 32])
    }

    /// Closes the store and opens it again.
    pub(crate) fn reopen(&mut self) {
        self.store = None;
        self.store = Some(Store::open(self.folder.path(), &Self::key(), self.options.clone()).unwrap());
    }

    pub(crate) fn close(&mut self) {
        self.store = None;
    }

    pub(crate) fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    pub(crate) fn apply(&self, change: Change) -> Result<Applied, ChangeError> {
        self.store().apply_one(change)
    }

    pub(crate) fn put(&self, document: &Document, from: Option<PeerKey>) -> Result<Applied, ChangeError> {
        self.apply(deposit(document, from))
    }

    /// Stores a document and gives its sequence.
    /// Makes a peer known by a code of its own.
    pub(crate) fn pair(&self, n: u8) {
        self.apply(Change::PutPeer { peer: peer(n), class: PeerClass::Paired, label: None }).unwrap();
    }

    pub(crate) fn stored(&self, document: &Document, from: Option<PeerKey>) -> Seq {
        match self.put(document, from) {
            Ok(Applied::Stored { seq }) => seq,
            other => panic!("not stored: {other:?}"),
        }
    }

    pub(crate) fn confirm(&self, ids: &[MessageId], verdict: Verdict) -> Result<Applied, ChangeError> {
        self.apply(confirmed(confirmation(A, ids, verdict), Freeing::GATEWAY))
    }

    /// Sweeps until nothing is known to be left.
    pub(crate) fn sweep(&self) -> waypost_store::Swept {
        let mut sum = waypost_store::Swept::default();
        loop {
            let swept = self.store().sweep(500).unwrap();
            sum.pieces += swept.pieces;
            sum.expired += swept.expired;
            sum.freed += swept.freed;
            sum.partials += swept.partials;
            sum.forgotten += swept.forgotten;
            if !swept.more {
                return sum;
            }
        }
    }

    /// The store finds nothing wrong with itself.
    pub(crate) fn assert_sound(&self) {
        assert_eq!(self.store().check().unwrap(), vec![]);
    }

    pub(crate) fn whole_body(&self, seq: Seq) -> Vec<u8> {
        use waypost_protocol::sync::Holdings as _;
        let mut body = Vec::new();
        loop {
            let more = self.store().read_body(seq, body.len() as u64, 50_000).unwrap();
            if more.is_empty() {
                return body;
            }
            body.extend(more);
        }
    }
}

pub(crate) fn header() -> Header {
    Header::to(A)
}

/// A document of destination A with `size` bytes after its header; `n` makes it differ from others.
pub(crate) fn document(n: u64, size: usize) -> Document {
    document_with(&header(), n, size)
}

pub(crate) fn document_with(header: &Header, n: u64, size: usize) -> Document {
    let mut sealed: Vec<u8> =
        (0..size as u64).map(|at| ((at ^ n).wrapping_mul(0x9e37_79b9) >> 7) as u8).collect();
    sealed.extend(n.to_be_bytes());
    let body: Bytes = envelope::assemble(header, &sealed).unwrap();
    Document::new(GroupId([3; 32]), UnixTime(1_800_000_000), body).unwrap()
}

pub(crate) fn deposit(document: &Document, depositor: Option<PeerKey>) -> Change {
    Change::Document(Box::new(new_document(document, depositor)))
}

pub(crate) fn new_document(document: &Document, depositor: Option<PeerKey>) -> NewDocument {
    let (header, _) = envelope::parse(document.body()).unwrap();
    NewDocument { document: document.clone(), header, age: 0, depositor, draft: false, note: None }
}

/// The piece of a document's body in `range`.
pub(crate) fn piece(document: &Document, range: std::ops::Range<usize>, from: PeerKey) -> Change {
    let (header, _) = envelope::parse(document.body()).unwrap();
    Change::Piece {
        description: document.description(),
        header: Arc::new(header),
        offset: range.start as u64,
        bytes: document.body().slice(range),
        age: 0,
        depositor: Some(from),
    }
}

pub(crate) fn confirmation(destination: Fingerprint, ids: &[MessageId], verdict: Verdict) -> Confirmation {
    let verdicts = ids.iter().map(|id| (*id, verdict)).collect();
    let statement = Statement::new(destination, destination, UnixTime(1_800_000_000), verdicts).unwrap();
    Confirmation::new(statement, Bytes::from_static(b"a signature that the caller has verified")).unwrap()
}

pub(crate) fn confirmed(confirmation: Confirmation, freeing: Freeing) -> Change {
    Change::Confirmation { confirmation: Box::new(confirmation), freeing, from: None }
}

pub(crate) fn to(peer: PeerKey, store: StoreId) -> Recipient {
    Recipient { key: peer, store, serves: vec![A], wants: vec![], max_document: u64::MAX }
}
