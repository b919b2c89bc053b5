//! Sealing: a file or any content becomes a document that only its destination can read; its sealed bytes alone
//! touch the disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tempfile::{SpooledTempFile, spooled_tempfile_in};
use waypost_openpgp::{Compress, SealError, seal};
use waypost_protocol::content::Label;
use waypost_protocol::document::{Description, Document, DocumentError, IdHasher};
use waypost_protocol::envelope::{EnvelopeError, Header};
use waypost_protocol::ids::MessageId;
use waypost_protocol::time::UnixTime;
use waypost_store::{Applied, Change, ChangeError, NewDocument, StoreError};

use crate::destination::Destination;
use crate::{Phone, media, words};

/// Sealed documents up to this size stay in memory; larger ones lie in a nameless file of the phone's folder.
const IN_MEMORY: usize = 1 << 20;
/// Large documents go to the store in pieces of so many bytes, so many in one transaction (of at most 4 MiB).
const PIECE: usize = 768 << 10;
const PIECES: usize = 5;

/// Why something was not added.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Read(io::Error),
    /// A folder.
    #[error(
        "is a folder; name its files, for example: find FOLDER -type f -print0 | waypost-phone add --files-from -"
    )]
    Folder,
    /// A pipe, socket or device.
    #[error("is no regular file")]
    NotAFile,
    /// It is outside the folder that names are relative to.
    #[error("is not inside {0}, which --base names")]
    OutsideBase(PathBuf),
    /// The sealed bytes cannot be kept.
    #[error("cannot be sealed in {folder}: {source}; make room there")]
    Spool {
        /// The phone's folder.
        folder: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The header cannot be written.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// Group or time are wrong.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The destination has no such collection.
    #[error(
        "{destination} has no collection `{collection}`, it has: {known}; add one with `waypost-phone destination set`"
    )]
    Collection {
        /// Whose.
        destination: String,
        /// What was asked for.
        collection: String,
        /// What there is.
        known: String,
    },
    /// A revision of another record.
    #[error("document {0} is no revision of this record; `waypost-phone list` shows which there are")]
    OtherRecord(MessageId),
    /// The store does not take it.
    #[error(transparent)]
    Store(#[from] ChangeError),
    /// The store cannot be read.
    #[error(transparent)]
    Unreadable(#[from] StoreError),
}

/// How something is sent.
#[derive(Clone)]
pub struct Sending<'a> {
    /// To whom.
    pub destination: &'a Destination,
    /// Its collection; the destination's usual one where `None`.
    pub collection: Option<&'a str>,
    /// Key of the record that it is a revision of.
    pub record: Option<&'a str>,
    /// Revisions of that record that it replaces.
    pub replaces: &'a [MessageId],
    /// After so long nobody wants it any more; zero: never.
    pub lifetime: Duration,
    /// 0 (ordinary) to 9.
    pub priority: u8,
    /// Kept back until [`Phone::release`].
    pub draft: bool,
}

impl<'a> Sending<'a> {
    /// To the usual collection, at once, with nothing special.
    pub fn to(destination: &'a Destination) -> Self {
        Sending {
            destination,
            collection: None,
            record: None,
            replaces: &[],
            lifetime: Duration::ZERO,
            priority: 0,
            draft: false,
        }
    }
}

/// A document that is sealed, but not in the store yet.
pub struct Sealed {
    description: Description,
    header: Header,
    body: SpooledTempFile,
    draft: bool,
    note: Option<String>,
}

impl Sealed {
    /// Its id, group, time and size.
    pub fn description(&self) -> Description {
        self.description
    }
}

impl Phone {
    /// Seals a file under `name`, the bytes of its path as the destination shall see it. Memory is bounded whatever
    /// the file's size.
    pub fn seal_file(&self, path: &Path, name: &[u8], sending: &Sending<'_>) -> Result<Sealed, AddError> {
        let mut file = open(path)?;
        let mut head = Vec::new();
        (&mut file).take(media::HEAD as u64).read_to_end(&mut head).map_err(AddError::Read)?;
        file.seek(SeekFrom::Start(0)).map_err(AddError::Read)?;
        self.seal_content(file, Some(name), media::compression(name, &head), sending)
    }

    /// Seals whatever `content` gives.
    pub fn seal_content(
        &self,
        content: impl Read,
        name: Option<&[u8]>,
        compress: Compress,
        sending: &Sending<'_>,
    ) -> Result<Sealed, AddError> {
        let Sending { destination, .. } = sending;
        let collection = self.collection(sending)?;
        let header = self.header(sending)?;
        let encoded = header.encode()?;
        let now = self.trusted_time();
        let label = Label {
            collection: collection.to_owned(),
            record: sending.record.map(str::to_owned),
            time: now,
            file_name: name.map(<[u8]>::to_vec),
        };
        let group = destination.group(collection);
        let timestamp = now.map_or(UnixTime(0), UnixTime::rounded_to_hour);
        let spool = |source| AddError::Spool { folder: self.home().to_owned(), source };
        let mut body = Body {
            spool: spooled_tempfile_in(IN_MEMORY, self.home()),
            hasher: IdHasher::new(group, timestamp),
            size: 0,
        };
        body.write_all(&encoded).map_err(spool)?;
        seal(
            &label,
            content,
            &destination.recipients(collection, self.wall()),
            compress,
            &mut body,
            self.wall(),
        )?;
        let description = Description { id: body.hasher.finish(), group, timestamp, size: body.size };
        let note = name.map(words::file_name);
        Ok(Sealed { description, header, body: body.spool, draft: sending.draft, note })
    }

    /// Puts a sealed document into the store. `done` is called once it is durable, or why it is not; from a thread
    /// that must not wait for the phone.
    pub fn store_sealed(
        &self,
        sealed: Sealed,
        done: impl FnOnce(Result<Description, AddError>) + Send + 'static,
    ) {
        let spool = |source| AddError::Spool { folder: self.home().to_owned(), source };
        let Sealed { description, header, mut body, draft, note } = sealed;
        if let Err(error) = body.seek(SeekFrom::Start(0)) {
            return done(Err(spool(error)));
        }
        if description.size > IN_MEMORY as u64 {
            // Its pieces follow each other without waiting for other documents.
            return done(self.store_large(description, Arc::new(header), body, draft, note));
        }
        let mut bytes = Vec::new();
        let document = match body.read_to_end(&mut bytes) {
            Ok(_) => Document::new(description.group, description.timestamp, bytes.into()),
            Err(error) => return done(Err(spool(error))),
        };
        match document {
            Ok(document) => {
                let new = NewDocument { document, header, age: 0, depositor: None, draft, note };
                self.writer().submit(Change::Document(Box::new(new)), move |outcome| {
                    done(outcome.map(|_| description).map_err(AddError::from));
                });
            }
            Err(error) => done(Err(error.into())),
        }
    }

    /// Seals a file and stores it: durable when this returns.
    pub fn add_file(&self, path: &Path, name: &[u8], sending: &Sending<'_>) -> Result<Description, AddError> {
        let sealed = self.seal_file(path, name, sending)?;
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.store_sealed(sealed, move |outcome| {
            // The receiver below waits for it.
            let _ = sender.send(outcome);
        });
        let stopped = || StoreError::Database("the writer was stopped".into());
        receiver.recv().unwrap_or_else(|_| Err(stopped().into()))
    }

    fn store_large(
        &self,
        description: Description,
        header: Arc<Header>,
        mut body: impl Read,
        draft: bool,
        note: Option<String>,
    ) -> Result<Description, AddError> {
        let mut offset = 0;
        while offset < description.size {
            let mut changes = Vec::new();
            while changes.len() < PIECES && offset < description.size {
                let mut piece = Vec::with_capacity(PIECE);
                let read = (&mut body).take(PIECE as u64).read_to_end(&mut piece);
                let length =
                    read.map_err(|source| AddError::Spool { folder: self.home().to_owned(), source })?;
                if length == 0 {
                    return Err(AddError::Read(io::ErrorKind::UnexpectedEof.into()));
                }
                changes.push(Change::OwnPiece {
                    description,
                    header: header.clone(),
                    offset,
                    bytes: Bytes::from(piece),
                    draft,
                    note: note.clone(),
                });
                offset += length as u64;
            }
            for outcome in self.store().apply(changes) {
                match outcome? {
                    Applied::Partial { .. } | Applied::Stored { .. } => {}
                    // The same bytes under the same id: it is here.
                    _ => return Ok(description),
                }
            }
        }
        Ok(description)
    }

    fn collection<'a>(&self, sending: &Sending<'a>) -> Result<&'a str, AddError> {
        let known = &sending.destination.collections;
        let usual = known.first().map(String::as_str);
        match sending.collection.or(usual) {
            Some(name) if known.iter().any(|one| one == name) => Ok(name),
            name => Err(AddError::Collection {
                destination: sending.destination.name(),
                collection: name.unwrap_or_default().to_owned(),
                known: known.join(", "),
            }),
        }
    }

    fn header(&self, sending: &Sending<'_>) -> Result<Header, AddError> {
        let record = sending.record.map(|key| sending.destination.collection_key.record_tag(key));
        let mut revision = 0;
        for id in sending.replaces {
            let known = self.store().document(id)?;
            if known.as_ref().is_some_and(|known| known.header.record != record) {
                return Err(AddError::OtherRecord(*id));
            }
            let theirs = known.map_or(0, |known| known.header.revision);
            revision = revision.max(theirs.saturating_add(1));
        }
        Ok(Header {
            record,
            revision,
            replaces: sending.replaces.to_vec(),
            lifetime: sending.lifetime.as_secs(),
            priority: sending.priority,
            ..Header::to(sending.destination.fingerprint())
        })
    }
}

/// Without waiting for a writer where it is a pipe.
fn open(path: &Path) -> Result<File, AddError> {
    let metadata = std::fs::metadata(path).map_err(AddError::Read)?;
    if metadata.is_dir() {
        return Err(AddError::Folder);
    }
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC)
        .open(path)
        .map_err(AddError::Read)?;
    match file.metadata().map_err(AddError::Read)?.is_file() {
        true => Ok(file),
        false => Err(AddError::NotAFile),
    }
}

/// Where sealed bytes go: hashed on their way to memory or disk.
struct Body {
    spool: SpooledTempFile,
    hasher: IdHasher,
    size: u64,
}

impl Write for Body {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.spool.write(bytes)?;
        self.hasher.update(bytes.get(..length).unwrap_or_default());
        self.size += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.spool.flush()
    }
}

/// The name that a destination shall see for a file: relative to `base` with `/` between folders, or the last part.
pub fn document_name(path: &Path, base: Option<&Path>) -> Result<Vec<u8>, AddError> {
    use std::os::unix::ffi::OsStrExt as _;
    let Some(base) = base else {
        return Ok(path.file_name().map(|name| name.as_bytes().to_vec()).unwrap_or_default());
    };
    let outside = || AddError::OutsideBase(base.to_owned());
    let absolute = |path: &Path| std::path::absolute(path).map_err(AddError::Read);
    let (path, root) = (absolute(path)?, absolute(base)?);
    let inside = path.strip_prefix(root).map_err(|_| outside())?;
    let mut parts = Vec::new();
    for part in inside.components() {
        match part {
            std::path::Component::Normal(part) => parts.push(part.as_bytes()),
            _ => return Err(outside()),
        }
    }
    match parts.is_empty() {
        true => Err(outside()),
        false => Ok(parts.join(&b'/')),
    }
}
