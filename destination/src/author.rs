//! Documents that the destination writes itself: sealed to a collection's readers, signed inside, confirmed, and listed
//! in its own remote log, from which gateways fetch them.

use std::fs;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use waypost_openpgp::{Certificate, Compress, SealError, seal_bytes_signed};
use waypost_protocol::confirmation::Verdict;
use waypost_protocol::content::Label;
use waypost_protocol::document::{Document, DocumentError};
use waypost_protocol::envelope::{EnvelopeError, Header, assemble};
use waypost_protocol::ids::MessageId;
use waypost_remote_log::{Described, LogId, Mode, PlaceError, Source, WriteError, Writer};

use crate::clock::now;
use crate::content::{self, ContentError};
use crate::durable::{self, random};
use crate::home::{Home, HomeError};
use crate::log::{Logs, LogsOf};
use crate::store::{ClientKind, Committed, NewDocument, StoreError};

/// The name of the destination among its clients.
const CLIENT: &str = "destination";
/// So many of the newest documents lie within the log's first page: most gateways need one request for all that is new.
const INLINE: u32 = 16;
/// Sealed documents that gateways do not see yet, below the home.
const PUBLISHING: &str = "publishing";
/// How often a document is tried to be listed while other processes list theirs.
const TRIES: u32 = 64;
/// Content of one document, in bytes: it is held in memory.
pub const MAX_CONTENT: u64 = 64 << 20;

/// What is written.
#[derive(Clone, Default)]
pub struct Authored {
    /// The collection.
    pub collection: String,
    /// The file's name, for readers.
    pub file_name: Option<Vec<u8>>,
    /// The content.
    pub content: Vec<u8>,
    /// The record that it is a revision of.
    pub record: Option<String>,
    /// Depth of the revision.
    pub revision: u64,
    /// Revisions of the record that it replaces: one that names all heads resolves a conflict.
    pub replaces: Vec<MessageId>,
    /// 0 to 9.
    pub priority: u8,
    /// Readers besides those of the collection.
    pub readers: Vec<Certificate>,
}

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
pub enum AuthorError {
    /// No collection of that name.
    #[error("this destination has no collection {0:?}; add it to `collections` in destination.toml")]
    Collection(String),
    /// Nobody but the destination could read it.
    #[error(
        "collection {0:?} has no readers: put their OpenPGP certificates into {1}, or name one with --reader FILE \
         (`waypost-phone reader export-certificate` gives a phone's)"
    )]
    NoReaders(String, PathBuf),
    /// A reader's certificate.
    #[error("{path}: {error}")]
    Reader {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: String,
    },
    /// It cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The header has more than it may.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// It is no document.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The quota of the client `destination`.
    #[error("{0}")]
    Quota(String),
    /// The home.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The log.
    #[error(
        "it is stored, but gateways do not see it yet: {0}; publish it again when that is mended, it is then the same document"
    )]
    Log(#[from] WriteError),
    /// Where the log's content lies.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// A file.
    #[error(transparent)]
    File(#[from] io::Error),
}

/// The folder with the certificates of a collection's readers.
pub fn readers_folder(home: &Home, collection: &str) -> PathBuf {
    home.path().join("readers").join(collection)
}

/// Seals, stores, confirms and publishes; the document's id. What failed on its way goes on when it is published again.
pub fn publish(home: &Home, authored: &Authored) -> Result<MessageId, AuthorError> {
    let collection = &authored.collection;
    if !home.settings().collections.contains(collection) {
        return Err(AuthorError::Collection(collection.clone()));
    }
    let folder = readers_folder(home, collection);
    let mut recipients = certificates(&folder)?;
    recipients.extend(authored.readers.iter().cloned());
    if recipients.is_empty() {
        return Err(AuthorError::NoReaders(collection.clone(), folder));
    }
    recipients.push(home.chain().recipient(now()).cloned().unwrap_or_else(|| home.certificate()));
    let _alone = crate::server::lock_publishing(home)?;
    let (document, kept) = sealed_once(home, authored, &recipients)?;
    let (id, records) = (document.id(), home.records()?);
    let client = records.client_named(CLIENT, ClientKind::Gateway, now())?;
    let description = document.description();
    let new = NewDocument {
        id,
        group: description.group,
        timestamp: description.timestamp,
        size: description.size,
        verdict: Verdict::Opened,
        collection: Some(collection.clone()),
        name: authored.file_name.clone(),
        staged: None,
        content_size: Some(authored.content.len() as u64),
    };
    let rows = records.commit(client, &[new], &[], false, now())?;
    let rows: Vec<i64> = rows
        .into_iter()
        .map(|row| match row {
            Committed::New(row) | Committed::Known(row) => Ok(row),
            Committed::OverQuota(why) => Err(AuthorError::Quota(why)),
        })
        .collect::<Result<_, _>>()?;
    let (key, destination) = (home.key(), home.destination());
    records.confirm(&rows, Some(client), &|verdicts| key.sign(destination, verdicts, now()))?;
    let logs = Logs::new(records, content::open(home)?, home.settings().max_log_bytes);
    append(home, &mut logs.of(client), &document)?;
    fs::remove_file(kept)?;
    Ok(id)
}

/// The document, and the file that it is kept in until gateways see it: where that failed before, sealing it again would make
/// another document of it.
fn sealed_once(
    home: &Home,
    authored: &Authored,
    recipients: &[Certificate],
) -> Result<(Document, PathBuf), AuthorError> {
    let folder = home.path().join(PUBLISHING);
    fs::create_dir_all(&folder)?;
    let file = folder.join(HEXLOWER.encode(&same(home, authored, recipients)));
    let kept = match fs::read(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        // One that is damaged is of no use to anybody.
        other => Document::decode(other?.into()).ok(),
    };
    let document = match kept {
        Some(document) => document,
        None => {
            let document = seal(home, authored, recipients)?;
            durable::write(&file, &document.encode(), 0o640)?;
            document
        }
    };
    Ok((document, file))
}

/// A digest over all that is the same when something is published again, its readers and its signer too.
fn same(home: &Home, authored: &Authored, recipients: &[Certificate]) -> [u8; 32] {
    let Authored { collection, file_name, content, record, revision, replaces, priority, readers: _ } =
        authored;
    let mut digest = Sha256::new();
    let mut add = |bytes: &[u8]| {
        digest.update((bytes.len() as u64).to_be_bytes());
        digest.update(bytes);
    };
    add(collection.as_bytes());
    add(&[u8::from(file_name.is_some()), u8::from(record.is_some()), *priority]);
    add(file_name.as_deref().unwrap_or_default());
    add(record.as_deref().unwrap_or_default().as_bytes());
    add(&revision.to_be_bytes());
    add(&replaces.iter().flat_map(|id| id.0).collect::<Vec<_>>());
    add(&home.key().certificate().to_bytes());
    recipients.iter().for_each(|recipient| add(&recipient.to_bytes()));
    add(content);
    digest.finalize().into()
}

fn seal(home: &Home, authored: &Authored, recipients: &[Certificate]) -> Result<Document, AuthorError> {
    let label = Label {
        collection: authored.collection.clone(),
        record: authored.record.clone(),
        file_name: authored.file_name.clone(),
        ..Label::default()
    };
    let time = now();
    let sealed =
        seal_bytes_signed(&label, &authored.content, home.key(), recipients, Compress::WhenSmaller, time)?;
    let header = Header {
        record: authored.record.as_ref().map(|record| home.collection_key().record_tag(record)),
        revision: authored.revision,
        replaces: authored.replaces.clone(),
        priority: authored.priority,
        ..Header::to(home.destination())
    };
    let group = home.collection_key().group(&home.destination(), &authored.collection);
    Ok(Document::new(group, time.rounded_to_hour(), assemble(&header, &sealed)?)?)
}

/// Lists it in the destination's own log, once. Where another process publishes at the same moment, again after that.
fn append(home: &Home, place: &mut LogsOf<'_>, document: &Document) -> Result<(), AuthorError> {
    let signer = Arc::new(home.log_signer()?);
    let mode = Mode::Mixed { inline_last: INLINE };
    let bytes = Bytes::from(document.encode());
    let described = Described { id: document.id(), group: document.group(), size: bytes.len() as u64 };
    let mut tries = 0;
    let published = loop {
        tries += 1;
        let (mut writer, _) = Writer::begin(place, signer.clone(), mode, None, LogId(random()?))?;
        if writer.lists(&document.id()) {
            return Ok(());
        }
        match writer.publish(place, &[described], &mut One(bytes.clone()), Bytes::new()) {
            Err(WriteError::Place(PlaceError::Changed)) if tries < TRIES => {}
            outcome => break outcome?,
        }
    };
    match published.and_then(|published| published.unreadable.into_iter().next()) {
        Some((_, why)) => Err(AuthorError::File(io::Error::other(why))),
        None => Ok(()),
    }
}

/// The document that is published.
struct One(Bytes);

impl Source for One {
    fn open(&mut self, _: &MessageId) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(Cursor::new(self.0.clone())))
    }
}

/// All certificates of a folder, by name; none where there is no folder.
fn certificates(folder: &Path) -> Result<Vec<Certificate>, AuthorError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.sort();
    paths.iter().map(|path| certificate(path)).collect()
}

/// A certificate from a file, binary or armored.
pub fn certificate(path: &Path) -> Result<Certificate, AuthorError> {
    let wrong = |error: String| AuthorError::Reader { path: path.to_owned(), error };
    let bytes = fs::read(path).map_err(|error| wrong(error.to_string()))?;
    Certificate::from_bytes(&bytes).map_err(|error| wrong(error.to_string()))
}
