//! `remote_log_catch_up`: what the modes of a remote log cost a kiosk that catches up, in bytes and round trips.
//! `remote_log_far_s`: how long that takes from a real destination, by satellite.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use waypost_protocol::document::Document;
use waypost_protocol::ids::{GroupId, MessageId};
use waypost_protocol::time::UnixTime;
use waypost_remote_log::memory::{Costs, InMemory};
use waypost_remote_log::reader::Memory;
use waypost_remote_log::{
    Described, LogId, Mode, Place, Progress, Reader, Shelf, ShelfError, Signer, Source, Writer,
};

use waypost_upload::DestinationPlace;

use super::destination::Destination;
use super::workload::{FORM, noise};
use super::{Bench, Outcome, row::Measured};
use crate::wan::{Conditions, Direction};

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
    append(place, signer, mode, documents)?;
    Ok(place.costs)
}

fn append(place: &mut dyn Place, signer: &Arc<Signer>, mode: Mode, documents: &[Document]) -> Outcome<()> {
    let (mut writer, _) = Writer::begin(place, signer.clone(), mode, None, LogId([1; 16]))?;
    let describe = |document: &Document| Described {
        id: document.id(),
        group: document.group(),
        size: document.encode().len() as u64,
    };
    let batch: Vec<Described> = documents.iter().map(describe).collect();
    writer.publish(place, &batch, &mut Given(documents), Bytes::new())?.ok_or("nothing was published")?;
    Ok(())
}

fn read(place: &mut InMemory, reader: &mut Reader, store: &mut Store) -> Outcome<Costs> {
    place.costs = Costs::default();
    walk(place, reader, store)?;
    match store.0.len() {
        DOCUMENTS => Ok(place.costs),
        held if held == DOCUMENTS - NEW => Ok(place.costs),
        held => Err(format!("{held} documents arrived").into()),
    }
}

/// A whole round.
fn walk(place: &mut dyn Place, reader: &mut Reader, store: &mut Store) -> Outcome<()> {
    reader.begin();
    while reader.step(place, store)? != Progress::Done {}
    Ok(())
}

/// Documents of the log that is read from far away, and how many of them are new to who comes often.
const FAR: usize = 200;

/// The value is that of "page", for all: seconds over 300 ms each way with 2 % loss, from connecting on.
pub(super) fn far(bench: &Bench) -> Outcome<Measured> {
    let destination = Destination::start(bench)?;
    let documents: Vec<Document> = (0..FAR)
        .map(|at| Document::new(GroupId([7; 32]), UnixTime(3_600), Bytes::from(noise(at as u64, FORM))))
        .collect::<Result<_, _>>()?;
    let near = Conditions::default();
    let far = Conditions { delay: Duration::from_millis(300), loss: 0.02, seed: 7, ..near };
    let (before, new) = documents.split_at(FAR - NEW);
    let (mut value, mut lines) = (0.0, Vec::new());
    for ((name, mode), seed) in MODES.into_iter().zip(1u8..) {
        let signer = Arc::new(Signer::derive(&[seed; 32]).ok_or("no key")?);
        let mut often = Reader::new(signer.key(), Memory::default());
        let mut held = Store::default();
        destination.wan.set(&near);
        for chunk in before.chunks(NEW) {
            connected(&destination, |place| append(place, &signer, mode, chunk))?;
        }
        connected(&destination, |place| walk(place, &mut often, &mut held))?;
        connected(&destination, |place| append(place, &signer, mode, new))?;
        destination.wan.set(&far);
        let few = from_far(&destination, &mut often, &mut held)?;
        let mut line = format!("{NEW} new of {FAR}: {:.1} s, {} bytes", few.0, few.1);
        // A page for each document is 400 round trips: four minutes and more.
        if mode != Mode::Linked {
            let mut seldom = Reader::new(signer.key(), Memory::default());
            let all = from_far(&destination, &mut seldom, &mut Store::default())?;
            line += &format!("; all {FAR}: {:.1} s, {} bytes", all.0, all.1);
            if mode == Mode::Page {
                value = all.0;
            }
        }
        lines.push((name, line));
    }
    let measured =
        lines.into_iter().fold(Measured::new(value), |measured, (name, line)| measured.beside(name, line));
    Ok(measured
        .beside("line", "300 ms each way, 2 % loss; bytes of all packets both ways, from connecting on"))
}

/// Over a new connection, which is of the network in which it is made.
fn connected(
    destination: &Destination,
    work: impl FnOnce(&mut dyn Place) -> Outcome<()> + Send,
) -> Outcome<()> {
    let mut client = destination.client()?;
    let near = destination.wan.near().namespace();
    let work =
        || work(&mut DestinationPlace(&mut client)).map_err(|error| io::Error::other(error.to_string()));
    Ok(near.run(work)?)
}

/// Seconds and bytes of a round over a new connection.
fn from_far(destination: &Destination, reader: &mut Reader, store: &mut Store) -> Outcome<(f64, u64)> {
    let carried = || {
        let bytes = |direction| destination.wan.counters(direction).bytes;
        bytes(Direction::Out) + bytes(Direction::Back)
    };
    let (begun, before) = (Instant::now(), carried());
    connected(destination, |place| walk(place, reader, store))?;
    match store.0.len() {
        FAR => Ok((begun.elapsed().as_secs_f64(), carried() - before)),
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
