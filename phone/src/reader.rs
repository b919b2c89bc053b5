//! Reading: the phone's own OpenPGP key, and documents of subscriptions that are sealed to it.

use std::io::{self, Read, Write};

use waypost_openpgp::{Author, Certificate, KeyError, Limits, OpenError, SecretKey};
use waypost_protocol::envelope::{self, EnvelopeError, FIXED, MAX_HEADER};
use waypost_protocol::ids::{Fingerprint, MessageId, Seq};
use waypost_protocol::sync::Holdings as _;
use waypost_protocol::time::UnixTime;
use waypost_store::{State, Store, StoreError};

use crate::Phone;
use crate::destination::Destination;
use crate::settings::SettingError;

const KEY: &str = "reader-key";
/// The largest content that is written: compressed bytes expand up to a thousandfold.
const MAX_CONTENT: u64 = 4 << 30;
/// Bytes of a body that are read at a time.
const READ: usize = 64 << 10;

/// Why the phone has no key to read with.
#[derive(Debug, thiserror::Error)]
pub enum ReaderError {
    /// There is one already.
    #[error(
        "this phone has a reader's key already ({0}); documents that are sealed to it could not be read with another"
    )]
    HasKey(Fingerprint),
    /// It cannot be made or read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It cannot decrypt.
    #[error("this key has no secret part to decrypt with; export it with `gpg --export-secret-keys KEY`")]
    CannotOpen,
    /// What the phone knows cannot be read or written.
    #[error(transparent)]
    Setting(#[from] SettingError),
}

/// Why a document cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no key.
    #[error("this phone has no reader's key; make one with `waypost-phone reader new`")]
    NoKey,
    /// It is no document of a subscription.
    #[error("{0} is no document that this phone has received; `waypost-phone list` shows those")]
    NotReceived(MessageId),
    /// Its destination is not known here.
    #[error("its destination {0} is not known to this phone; add it with `waypost-phone destination add`")]
    NoDestination(Fingerprint),
    /// It was sealed to others.
    #[error(
        "it is not sealed to this phone's key; give the destination's operator the certificate \
         (`waypost-phone reader export-certificate`), later documents can then be read"
    )]
    OtherKey,
    /// It does not decrypt.
    #[error(transparent)]
    Open(OpenError),
    /// Its header cannot be read.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// Whoever sealed it says something else inside than outside.
    #[error("it says inside that it belongs to {0}, and came as something else; it is not to be trusted")]
    Misplaced(String),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the phone knows cannot be read.
    #[error(transparent)]
    Key(#[from] ReaderError),
}

impl From<SettingError> for ReadError {
    fn from(error: SettingError) -> Self {
        ReadError::Key(error.into())
    }
}

/// Who wrote a document, as far as it proves that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WrittenBy {
    /// The destination signed it, at that time by its own clock.
    Destination {
        /// When.
        time: UnixTime,
    },
    /// It may come from anybody, and why.
    Unproven(String),
}

/// A document that was opened.
#[derive(Clone, PartialEq, Eq)]
pub struct OpenedDocument {
    /// Which.
    pub id: MessageId,
    /// Whose.
    pub destination: Fingerprint,
    /// Its name, for people.
    pub destination_name: String,
    /// Of which collection.
    pub collection: String,
    /// The key of its record.
    pub record: Option<String>,
    /// When it was written, as its author says.
    pub time: Option<UnixTime>,
    /// The file's name as its author says; bytes, not fit for a disk.
    pub file_name: Option<Vec<u8>>,
    /// Who wrote it.
    pub written_by: WrittenBy,
}

/// Shows nothing that was sealed.
impl std::fmt::Debug for OpenedDocument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenedDocument")
            .field("id", &self.id)
            .field("destination", &self.destination)
            .field("written_by", &self.written_by)
            .finish_non_exhaustive()
    }
}

impl Phone {
    /// Makes the phone's key to read with. `user_id` is what its certificate calls it.
    pub fn make_reader(&self, user_id: &str) -> Result<Certificate, ReaderError> {
        self.refuse_second_reader()?;
        self.keep_reader(&SecretKey::generate(user_id, self.wall())?)
    }

    /// Takes a key without a passphrase, binary or armored, to read with.
    pub fn import_reader(&self, bytes: &[u8]) -> Result<Certificate, ReaderError> {
        self.refuse_second_reader()?;
        self.keep_reader(&SecretKey::from_bytes(bytes)?)
    }

    fn refuse_second_reader(&self) -> Result<(), ReaderError> {
        match self.reader()? {
            Some(known) => Err(ReaderError::HasKey(known.certificate().fingerprint())),
            None => Ok(()),
        }
    }

    fn keep_reader(&self, key: &SecretKey) -> Result<Certificate, ReaderError> {
        if !key.can_open() {
            return Err(ReaderError::CannotOpen);
        }
        self.save(KEY, &key.to_armor()?.as_str())?;
        Ok(key.certificate())
    }

    /// The key that the phone reads with.
    pub fn reader(&self) -> Result<Option<SecretKey>, ReaderError> {
        let armor = self.load::<String>(KEY)?.map(zeroize::Zeroizing::new);
        Ok(armor.map(|armor| SecretKey::from_bytes(armor.as_bytes())).transpose()?)
    }

    /// Opens a document of a subscription into `sink`, whose content counts only when this returns `Ok`.
    pub fn open_received(&self, id: &MessageId, sink: impl Write) -> Result<OpenedDocument, ReadError> {
        let key = self.reader()?.ok_or(ReadError::NoKey)?;
        let entry = self.store().document(id)?.filter(|entry| entry.has_body);
        let received = entry.filter(|entry| matches!(entry.state, State::Received(_)));
        let entry = received.ok_or(ReadError::NotReceived(*id))?;
        let named = entry.header.destination;
        let destination = self.destinations()?.into_iter().find(|one| one.fingerprint() == named);
        let destination = destination.ok_or(ReadError::NoDestination(named))?;
        let mut body = Body { store: self.store(), seq: entry.seq, at: 0 };
        let mut head = Vec::new();
        let read = (&mut body).take((FIXED + MAX_HEADER) as u64).read_to_end(&mut head);
        read.map_err(|error| ReadError::Open(OpenError::Read(error)))?;
        let (header, at) = envelope::parse(&head)?;
        let sealed = head.get(at..).unwrap_or_default().chain(body);
        let limits = Limits { max_content: MAX_CONTENT };
        let opened =
            key.open_signed(sealed, sink, limits, &destination.certificates).map_err(
                |error| match error {
                    OpenError::OtherKey => ReadError::OtherKey,
                    other => ReadError::Open(other),
                },
            )?;
        // What is signed is the content, not the envelope: it must be where its author put it.
        let label = opened.label;
        let group = destination.group(&label.collection);
        let record = label.record.as_deref().map(|record| destination.collection_key.record_tag(record));
        if group != entry.description.group || record != header.record {
            return Err(ReadError::Misplaced(misplaced(&label.collection, label.record.as_deref())));
        }
        Ok(OpenedDocument {
            id: *id,
            destination: named,
            destination_name: destination.name(),
            collection: label.collection,
            record: label.record,
            time: label.time,
            file_name: label.file_name,
            written_by: written_by(opened.author, &destination),
        })
    }
}

fn misplaced(collection: &str, record: Option<&str>) -> String {
    let collection = crate::words::plain(collection);
    match record {
        Some(record) => format!("record `{}` of collection `{collection}`", crate::words::plain(record)),
        None => format!("collection `{collection}`"),
    }
}

fn written_by(author: Author, destination: &Destination) -> WrittenBy {
    let known = |certificate: &Fingerprint| {
        destination.certificates.iter().any(|known| known.fingerprint() == *certificate)
    };
    match author {
        Author::Signed { certificate, time } if known(&certificate) => WrittenBy::Destination { time },
        Author::Signed { .. } | Author::Unknown => {
            WrittenBy::Unproven("it is signed by a key that this phone does not know".into())
        }
        Author::Nobody => WrittenBy::Unproven("it is not signed".into()),
        Author::NotProven(why) => {
            WrittenBy::Unproven(format!("its signature does not verify: {}", crate::words::plain(&why)))
        }
    }
}

/// A sealed body, read from the store.
struct Body<'s> {
    store: &'s Store,
    seq: Seq,
    at: u64,
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.store.read_body(self.seq, self.at, buffer.len().min(READ));
        let bytes = read.map_err(|error| io::Error::other(error.to_string()))?;
        let length = bytes.len().min(buffer.len());
        buffer[..length].copy_from_slice(&bytes[..length]);
        self.at += length as u64;
        Ok(length)
    }
}
