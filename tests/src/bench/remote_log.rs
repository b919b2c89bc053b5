//! `remote_log_catch_up`: what the modes of a remote log cost a kiosk that catches up, in bytes and round trips.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use waypost_protocol::document::Document;
use waypost_protocol::ids::{GroupId, MessageId};
use waypost_protocol::time::UnixTime;
use waypost_remote_log::memory::{Costs, InMemory};
use waypost_remote_log::reader::Memory;
use waypost_remote_log::{
    Described, LogId, Mode, Progress, Reader, Shelf, ShelfError, Signer, Source, Writer,
};

use super::workload::{FORM, noise};
use super::{Bench, Outcome, row::Measured};

/// Documents of the log, and how many of them are new to the reader that comes often.
const DOCUMENTS: usize = 1_000;
const NEW: usize = 10;

const MODES: [(&str, Mode); 4] = [
    ("full", Mode::Full),
    ("page", Mode::Page),
    ("linked", Mode::Linked),
    ("mixed, last 16 inline", Mode::Mixed { inline_last: 16 }),
];

/// The value is that of "page", which is the default, for the new ones: bytes both ways ÷ bytes of the documents.
pub(super) fn catch_up(_: &Bench) -> Outcome<Measured> {
    let documents: Vec<Document> = (0..DOCUMENTS)
        .map(|at| Document::new(GroupId([7; 32]), UnixTime(3_600), Bytes::from(noise(at as u64, FORM))))
        .collect::<Result<_, _>>()?;
    let mut rows = Vec::new();
    for (name, mode) in MODES {
        let mut place = InMemory::default();
        let signer = Arc::new(Signer::derive(&[1; 32]).ok_or("no key")?);
        let mut seldom = Reader::new(signer.key(), Memory::default());
        let mut often = Reader::new(signer.key(), Memory::default());
        let (before, new) = documents.split_at(DOCUMENTS - NEW);
        for chunk in before.chunks(NEW) {
            publish(&mut place, &signer, mode, chunk)?;
        }
        read(&mut place, &mut often, &mut Store::default())?;
        let written = publish(&mut place, &signer, mode, new)?;
        let mut held = Store(before.iter().map(Document::id).collect());
        let few = read(&mut place, &mut often, &mut held)?;
        let all = read(&mut place, &mut seldom, &mut Store::default())?;
        rows.push((name, few, all, written));
    }
    let page = rows.iter().find(|(name, ..)| *name == "page").ok_or("no mode page")?;
    let content: usize = documents.iter().take(NEW).map(|document| document.encode().len()).sum();
    let mut measured =
        Measured::new(f64::from(u32::try_from(bytes(&page.1))?) / f64::from(u32::try_from(content)?));
    for (name, few, all, written) in rows {
        let line = format!(
            "10 new of 1,000: {} bytes, {} round trips; all 1,000: {} bytes, {} round trips; publishing 10: {} bytes, {} \
             round trips",
            bytes(&few),
            few.round_trips,
            bytes(&all),
            all.round_trips,
            bytes(&written),
            written.round_trips
        );
        measured = measured.beside(name, line);
    }
    Ok(measured.beside("10 documents", format!("{content} bytes")))
}

fn bytes(costs: &Costs) -> u64 {
    costs.bytes_up + costs.bytes_down
}

fn publish(place: &mut InMemory, signer: &Arc<Signer>, mode: Mode, documents: &[Document]) -> Outcome<Costs> {
    place.costs = Costs::default();
    let (mut writer, _) = Writer::begin(place, signer.clone(), mode, None, LogId([1; 16]))?;
    let describe = |document: &Document| Described {
        id: document.id(),
        group: document.group(),
        size: document.encode().len() as u64,
    };
    let batch: Vec<Described> = documents.iter().map(describe).collect();
    writer.publish(place, &batch, &mut Given(documents), Bytes::new())?.ok_or("nothing was published")?;
    Ok(place.costs)
}

fn read(place: &mut InMemory, reader: &mut Reader, store: &mut Store) -> Outcome<Costs> {
    place.costs = Costs::default();
    reader.begin();
    while reader.step(place, store)? != Progress::Done {}
    match store.0.len() {
        DOCUMENTS => Ok(place.costs),
        held if held == DOCUMENTS - NEW => Ok(place.costs),
        held => Err(format!("{held} documents arrived").into()),
    }
}

struct Given<'a>(&'a [Document]);

impl Source for Given<'_> {
    fn open(&mut self, id: &MessageId) -> io::Result<Box<dyn Read + '_>> {
        let found = self.0.iter().find(|document| document.id() == *id).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(io::Cursor::new(found.encode())))
    }
}

/// Ids of what arrived.
#[derive(Default)]
struct Store(BTreeSet<MessageId>);

impl Shelf for Store {
    fn wants(&mut self, described: &Described) -> Result<Option<u64>, String> {
        Ok((!self.0.contains(&described.id)).then_some(0))
    }

    fn take(&mut self, _: &Described, _: u64, content: &mut dyn Read) -> Result<(), ShelfError> {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).map_err(ShelfError::Line)?;
        let document =
            Document::decode(bytes.into()).map_err(|error| ShelfError::Failed(error.to_string()))?;
        self.0.insert(document.id());
        Ok(())
    }
}
