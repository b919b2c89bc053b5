//! Bundles that come on a stick: documents are taken as uploads are, and their confirmations go back onto it.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use waypost_bundle::{Bundle, BundleError, DocumentFile, Entry, Kind, Place, Writer};
use waypost_protocol::confirmation::Confirmation;

use crate::clock::now;
use crate::home::Home;
use crate::intake::{BatchLimits, Incoming, Intake, IntakeError, Upload};
use crate::store::{ClientKind, StoreError};

/// Whose uploads documents from bundles are, in `waypost-destination gateways list`.
pub const CLIENT: &str = "USB bundles";
/// Documents that are taken, and confirmed, together: as many as a confirmation has.
const GROUP: usize = 256;
/// Bytes of them; a larger one goes alone.
const GROUP_BYTES: u64 = 16 << 20;
/// So many files are named in a report; those beyond are only counted.
const MOST: usize = 200;

/// Why a bundle was not imported to its end. What was taken stays, and importing again goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The bundle as a whole.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The server's own part.
    #[error(transparent)]
    Intake(#[from] IntakeError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stick failed in between.
    #[error("{path}: {error}; what was taken is kept, import again with a stick that can be written to")]
    Stick {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        error: io::Error,
    },
}

/// What was passed over, and why.
#[derive(Debug, Default, serde::Serialize)]
pub struct Passed {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub named: Vec<(String, String)>,
}

impl Passed {
    fn note(&mut self, what: &Path, why: impl ToString) {
        self.count += 1;
        if self.named.len() < MOST {
            self.named.push((what.display().to_string(), why.to_string()));
        }
    }
}

/// What came of an import.
#[derive(Debug, Default, serde::Serialize)]
pub struct Imported {
    /// Documents that are new here and have a verdict now.
    pub documents: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// Documents that were here.
    pub already: u64,
    /// Documents for other destinations.
    pub for_others: u64,
    /// Confirmations on the bundle that speak of its documents.
    pub confirmations: u64,
    /// Documents without a verdict.
    pub refused: Passed,
    /// Files that are damaged or do not belong there.
    pub damaged: Passed,
}

impl Imported {
    /// Whether nothing was passed over.
    pub fn is_whole(&self) -> bool {
        self.refused.count == 0 && self.damaged.count == 0
    }
}

/// Imports the bundle in `folder`. The server may be running.
pub fn import(home: &Home, folder: &Path) -> Result<Imported, ImportError> {
    let bundle = Bundle::open(folder)?;
    let intake = Intake::open(home)?;
    let client = intake.store().client_named(CLIENT, ClientKind::Gateway, now())?;
    let mut import = Import { home, intake, client, bundle: &bundle, imported: Imported::default() };
    let mut group = Vec::new();
    let mut bytes = 0;
    for found in bundle.walk(Kind::Documents) {
        let place = match found {
            Ok(place) => place,
            Err(fault) => {
                import.imported.damaged.note(&fault.path, fault.damage);
                continue;
            }
        };
        let Some(document) = import.look_at(place)? else { continue };
        let length = document.file.length() + 4;
        if group.len() >= GROUP || (!group.is_empty() && bytes + length > GROUP_BYTES) {
            import.take(std::mem::take(&mut group))?;
            bytes = 0;
        }
        bytes += length;
        group.push(document);
    }
    import.take(group)?;
    import.finish()
}

/// A document whose file was verified.
struct Verified {
    place: Place,
    file: DocumentFile,
}

struct Import<'a> {
    home: &'a Home,
    intake: Intake,
    client: i64,
    bundle: &'a Bundle,
    imported: Imported,
}

impl Import<'_> {
    /// The document, where it is one that is to be taken. What is known is only confirmed again.
    fn look_at(&mut self, place: Place) -> Result<Option<Verified>, ImportError> {
        let mut file = match self.bundle.document(&place) {
            Ok(file) => file,
            Err(damage) => {
                self.imported.damaged.note(&place.path(), damage);
                return Ok(None);
            }
        };
        let (length, most) = (file.length(), self.intake.readable());
        if length > most {
            self.imported.refused.note(&place.path(), format!("has {length} bytes, at most {most} are read"));
            return Ok(None);
        }
        if file.header().destination != self.home.destination() {
            self.imported.for_others += 1;
            return Ok(None);
        }
        if self.intake.store().rows(&[place.id])?.iter().any(Option::is_some) {
            self.imported.already += 1;
            let confirmations = self.intake.known(self.client, &[place.id])?;
            self.confirm(&confirmations)?;
            return Ok(None);
        }
        match file.verify() {
            Ok(()) => Ok(Some(Verified { place, file })),
            Err(damage) => {
                self.imported.damaged.note(&place.path(), damage);
                Ok(None)
            }
        }
    }

    /// Takes documents as one upload, and writes their confirmation onto the bundle.
    fn take(&mut self, group: Vec<Verified>) -> Result<(), ImportError> {
        if group.is_empty() {
            return Ok(());
        }
        let limits = BatchLimits { documents: u32::MAX, bytes: u64::MAX };
        let mut stream = Stream::new(group.iter().map(|document| &document.file));
        let Upload { confirmations, failures, is_revoked } =
            self.intake.batch(self.client, &mut stream, limits).map_err(|error| self.stick(error))?;
        if is_revoked {
            return Err(StoreError::Revoked.into());
        }
        for (at, document) in group.iter().enumerate() {
            let failed = failures.iter().find(|(index, _)| usize::try_from(*index) == Ok(at));
            match failed {
                Some((_, failed)) => self.imported.refused.note(&document.place.path(), &failed.detail),
                None => {
                    self.imported.documents += 1;
                    self.imported.bytes += document.file.length();
                }
            }
        }
        self.confirm(&confirmations)
    }

    fn confirm(&mut self, confirmations: &[Confirmation]) -> Result<(), ImportError> {
        for confirmation in confirmations {
            self.bundle.put_confirmation(confirmation).map_err(|error| self.stick(error))?;
        }
        Ok(())
    }

    /// The index of what this destination has confirmed, and everything flushed.
    fn finish(mut self) -> Result<Imported, ImportError> {
        let destination = self.home.destination();
        self.bundle.flush().map_err(|error| self.stick(error))?;
        let mut index =
            self.bundle.index(&Writer::Destination(destination)).map_err(|error| self.stick(error))?;
        for place in self.bundle.walk(Kind::Confirmations).flatten() {
            let kept = self.bundle.confirmation(&place);
            if kept.is_ok_and(|kept| kept.confirmation.statement.destination() == destination) {
                let entry = Entry::Confirmation { confirmation: place.id };
                index.add(&entry).map_err(|error| self.stick(error))?;
                self.imported.confirmations += 1;
            }
        }
        index.finish().and_then(|()| self.bundle.flush()).map_err(|error| self.stick(error))?;
        self.intake.finish()?;
        Ok(self.imported)
    }

    fn stick(&self, error: io::Error) -> ImportError {
        ImportError::Stick { path: self.bundle.path().to_owned(), error }
    }
}

/// Files one after the other, each after its length as a big-endian u32.
struct Stream<'a, I> {
    files: I,
    current: Box<dyn Read + Send + Sync + 'a>,
}

impl<'a, I: Iterator<Item = &'a DocumentFile>> Stream<'a, I> {
    fn new(files: I) -> Self {
        Stream { files, current: Box::new(io::empty()) }
    }
}

impl<'a, I: Iterator<Item = &'a DocumentFile>> Read for Stream<'a, I> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.current.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let Some(file) = self.files.next() else { return Ok(0) };
            // Longer ones are refused unread, whatever their length.
            let length = u32::try_from(file.length()).unwrap_or(u32::MAX);
            self.current = Box::new(io::Cursor::new(length.to_be_bytes()).chain(file.reader()));
        }
    }
}

impl<'a, I: Iterator<Item = &'a DocumentFile> + Send + Sync> Incoming for Stream<'a, I> {}
