//! A gateway that writes, and one that reads.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use waypost_protocol::document::Document;
use waypost_protocol::ids::{GroupId, MessageId};
use waypost_protocol::time::UnixTime;
use waypost_remote_log::reader::Memory;
use waypost_remote_log::writer::{Begun, Published};
use waypost_remote_log::{
    Described, Head, LogId, LogKey, Mode, Place, Progress, ReadError, Reader, Shelf, ShelfError, Signer,
    Source, WriteError, Writer,
};

pub(crate) const MODES: [Mode; 4] = [Mode::Full, Mode::Page, Mode::Linked, Mode::Mixed { inline_last: 5 }];

pub(crate) fn document(number: u64, size: usize) -> Document {
    let mut body = number.to_be_bytes().to_vec();
    body.resize(size.max(8), u8::try_from(number % 251).unwrap());
    let group = GroupId([u8::try_from(number % 3).unwrap(); 32]);
    Document::new(group, UnixTime(3_600), Bytes::from(body)).unwrap()
}

pub(crate) fn documents(from: u64, count: u64, size: usize) -> Vec<Document> {
    (from..from + count).map(|number| document(number, size)).collect()
}

pub(crate) fn described(document: &Document) -> Described {
    let size = document.encode().len() as u64;
    Described { id: document.id(), group: document.group(), size }
}

pub(crate) fn signer(seed: u8) -> Arc<Signer> {
    Arc::new(Signer::derive(&[seed; 32]).unwrap())
}

/// A gateway's store: documents by id.
#[derive(Default, Clone)]
pub(crate) struct Store {
    pub(crate) documents: BTreeMap<MessageId, Document>,
    /// Content asked for, by document.
    pub(crate) taken: Vec<MessageId>,
    /// Takes no documents with these ids for now.
    pub(crate) full_for: Vec<MessageId>,
}

impl Store {
    pub(crate) fn of(documents: &[Document]) -> Self {
        let documents = documents.iter().map(|document| (document.id(), document.clone())).collect();
        Store { documents, ..Store::default() }
    }
}

impl Source for Store {
    fn open(&mut self, id: &MessageId) -> io::Result<Box<dyn Read + '_>> {
        let document = self.documents.get(id).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(io::Cursor::new(document.encode())))
    }
}

impl Shelf for Store {
    fn wants(&mut self, described: &Described) -> Result<Option<u64>, String> {
        Ok((!self.documents.contains_key(&described.id)).then_some(0))
    }

    fn take(&mut self, described: &Described, offset: u64, content: &mut dyn Read) -> Result<(), ShelfError> {
        assert_eq!(offset, 0);
        if self.full_for.contains(&described.id) {
            return Err(ShelfError::Later("full".into()));
        }
        self.taken.push(described.id);
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).map_err(ShelfError::Line)?;
        let document =
            Document::decode(bytes.into()).map_err(|error| ShelfError::Later(error.to_string()))?;
        if document.id() != described.id {
            return Err(ShelfError::Later("another document".into()));
        }
        self.documents.insert(document.id(), document);
        Ok(())
    }
}

/// Continues the log of `signer` and appends documents in one call.
pub(crate) fn append(
    place: &mut dyn Place,
    signer: &Arc<Signer>,
    mode: Mode,
    documents: &[Document],
) -> Result<Published, WriteError> {
    append_as(place, signer, mode, documents, None, LogId([1; 16])).map(|(published, _)| published)
}

pub(crate) fn append_as(
    place: &mut dyn Place,
    signer: &Arc<Signer>,
    mode: Mode,
    documents: &[Document],
    known: Option<(LogId, u64)>,
    fresh: LogId,
) -> Result<(Published, Begun), WriteError> {
    let (mut writer, begun) = Writer::begin(place, signer.clone(), mode, known, fresh)?;
    let batch: Vec<Described> = documents.iter().map(described).collect();
    let mut source = Store::of(documents);
    let published = writer.publish(place, &batch, &mut source, Bytes::from_static(b"mark"))?;
    Ok((published.unwrap(), begun))
}

pub(crate) fn append_all(
    place: &mut dyn Place,
    signer: &Arc<Signer>,
    mode: Mode,
    documents: &[Document],
) -> Head {
    let published = documents.chunks(200).map(|chunk| append(place, signer, mode, chunk).unwrap());
    published.last().unwrap().head
}

/// A whole round; what its steps were.
pub(crate) fn round(
    reader: &mut Reader,
    place: &mut dyn Place,
    store: &mut Store,
) -> Result<Vec<Progress>, ReadError> {
    reader.begin();
    let mut steps = Vec::new();
    loop {
        let step = reader.step(place, store)?;
        steps.push(step.clone());
        if step == Progress::Done {
            return Ok(steps);
        }
    }
}

pub(crate) fn reader(key: LogKey) -> Reader {
    Reader::new(key, Memory::default())
}

/// The same reader after a power cut.
pub(crate) fn restarted(reader: &Reader) -> Reader {
    let bytes = reader.memory().encode();
    Reader::new(reader.key(), Memory::decode(&bytes).unwrap())
}

pub(crate) fn ids(documents: &[Document]) -> Vec<MessageId> {
    let mut ids: Vec<MessageId> = documents.iter().map(Document::id).collect();
    ids.sort_unstable();
    ids
}

pub(crate) fn held(store: &Store) -> Vec<MessageId> {
    store.documents.keys().copied().collect()
}
