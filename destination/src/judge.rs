//! One document off a stream: its id, its verdict, and its opened content in a temporary file.
//!
//! Nothing is held in memory: the bytes are hashed and decrypted while they come.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use waypost_openpgp::{Limits as OpenLimits, OpenError, SecretKey};
use waypost_protocol::api::FailureCode;
use waypost_protocol::collection::CollectionKey;
use waypost_protocol::confirmation::{Rejection, Verdict};
use waypost_protocol::content::Label;
use waypost_protocol::document::{IdHasher, MAX_PREFIX, parse_prefix, prefix};
use waypost_protocol::envelope;
use waypost_protocol::ids::{Fingerprint, GroupId, MessageId};
use waypost_protocol::time::UnixTime;

use crate::durable::{is_full, random_name};
use crate::store::NewDocument;

/// What may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest document in bytes of canonical encoding; larger ones are rejected.
    pub max_document: u64,
    /// The largest opened content in bytes: compressed documents expand.
    pub max_content: u64,
}

impl Limits {
    /// Documents up to this many bytes are read through, so that they can be rejected by their true id; larger ones
    /// are refused unread.
    pub fn readable(&self) -> u64 {
        self.max_document.saturating_mul(8)
    }
}

/// What came of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It has a verdict, which counts once the store has it.
    Judged(NewDocument),
    /// It got none.
    Failed(Failed),
}

/// Why a document got no verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Its id, where that could be computed.
    pub id: Option<MessageId>,
    /// For programs.
    pub code: FailureCode,
    /// For people.
    pub detail: String,
    /// The client may not upload any more.
    pub is_revoked: bool,
}

impl Failed {
    /// A failure of this kind.
    pub fn new(id: Option<MessageId>, code: FailureCode, detail: impl Into<String>) -> Self {
        Failed { id, code, detail: detail.into(), is_revoked: false }
    }
}

/// Judges documents for one destination.
pub struct Judge {
    destination: Fingerprint,
    key: SecretKey,
    collections: Vec<(GroupId, String)>,
    temporary: PathBuf,
    limits: Limits,
}

impl Judge {
    /// `temporary` is the folder of temporary files. Collections are known under the destination's own key and under
    /// the well-known one, which phones use that have nothing but its certificate.
    pub fn new(
        destination: Fingerprint,
        key: SecretKey,
        collection_key: &CollectionKey,
        collections: &[String],
        temporary: &Path,
        limits: Limits,
    ) -> Self {
        let keys = [collection_key, &CollectionKey::well_known(&destination)];
        let named = |key: &CollectionKey| -> Vec<_> {
            collections.iter().map(|name| (key.group(&destination, name), name.clone())).collect()
        };
        let collections = keys.into_iter().flat_map(named).collect();
        Judge { destination, key, collections, temporary: temporary.to_owned(), limits }
    }

    /// Its limits.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Reads exactly `length` bytes, one document in canonical encoding. An error means that the stream failed or
    /// ended ([`io::ErrorKind::UnexpectedEof`]), which says nothing about the document.
    pub fn judge(&self, source: &mut (impl Read + Send + Sync), length: u64) -> io::Result<Outcome> {
        let (mut body, group, timestamp) = match Body::begin(source, length)? {
            Ok(begun) => begun,
            Err(failed) => return Ok(Outcome::Failed(failed)),
        };
        let size = body.size;
        let result = match self.too_large(length) {
            true => Ok(Content::rejected(Rejection::TooLarge)),
            false => self.read_envelope(&mut body, group, timestamp),
        };
        let id = body.finish();
        let discard = |content: &Result<Content, Failed>| {
            if let Ok(Content { staged: Some(staged), .. }) = content {
                self.discard(staged);
            }
        };
        let id = match id {
            Ok(id) => id,
            Err(error) => {
                discard(&result);
                return Err(error);
            }
        };
        if let Ok(Content { fault: Some(fault), .. }) = &result {
            log::warn!(document:% = id; "a document cannot be opened: {fault}");
        }
        Ok(match result {
            Ok(Content { verdict, label, staged, size: content_size, .. }) => Outcome::Judged(NewDocument {
                id,
                group,
                timestamp,
                size,
                verdict,
                name: label.as_ref().and_then(|label| label.file_name.clone()),
                collection: label.map(|label| label.collection),
                staged,
                content_size,
            }),
            Err(failed) => Outcome::Failed(Failed { id: Some(id), ..failed }),
        })
    }

    /// Only computes the id of the `length` bytes.
    pub fn identify(
        &self,
        source: &mut (impl Read + Send + Sync),
        length: u64,
    ) -> io::Result<Result<MessageId, Failed>> {
        match Body::begin(source, length)? {
            Ok((body, _, _)) => body.finish().map(Ok),
            Err(failed) => Ok(Err(failed)),
        }
    }

    /// Throws a temporary file away.
    pub fn discard(&self, staged: &str) {
        let _ = std::fs::remove_file(self.temporary.join(staged));
    }

    fn too_large(&self, length: u64) -> bool {
        length > self.limits.max_document
    }

    fn read_envelope<R: Read + Send + Sync>(
        &self,
        body: &mut Body<'_, R>,
        group: GroupId,
        timestamp: UnixTime,
    ) -> Result<Content, Failed> {
        let malformed = |text: String| Failed::new(None, FailureCode::Malformed, text);
        let mut head = vec![0; envelope::FIXED];
        // The stream's own errors come out when the body is finished.
        let unread = |_| malformed("the document ended early".to_owned());
        let begin = usize::try_from(body.size).unwrap_or(usize::MAX).min(head.len());
        body.read_exact(&mut head[..begin]).map_err(unread)?;
        head.truncate(begin);
        if let [_, _, _, high, low] = head[..] {
            let more = usize::from(u16::from_be_bytes([high, low])).min(envelope::MAX_HEADER);
            let left = usize::try_from(body.size).unwrap_or(usize::MAX).saturating_sub(head.len());
            head.resize(envelope::FIXED + more.min(left), 0);
            body.read_exact(&mut head[envelope::FIXED..]).map_err(unread)?;
        }
        let (header, _) = envelope::parse(&head).map_err(|error| malformed(error.to_string()))?;
        if header.destination != self.destination {
            let detail =
                format!("this is for destination {}; here is {}", header.destination, self.destination);
            return Err(Failed::new(None, FailureCode::WrongDestination, detail));
        }
        if !self.collections.iter().any(|(known, _)| *known == group) {
            return Ok(Content::rejected(Rejection::UnknownCollection));
        }
        match self.key.can_open() {
            true => self.open(body, group),
            false => self.hold(body, group, timestamp, &head),
        }
    }

    /// Decrypts what follows into a temporary file.
    fn open<R: Read + Send + Sync>(&self, body: &mut Body<'_, R>, group: GroupId) -> Result<Content, Failed> {
        let (staged, file) = self.stage()?;
        let mut sink = BufWriter::with_capacity(64 * 1024, file);
        let limits = OpenLimits { max_content: self.limits.max_content };
        let opened = self.key.open(&mut *body, &mut sink, limits);
        let opened = opened.and_then(|label| sink.flush().map(|()| label).map_err(OpenError::Write));
        let size = sink.get_ref().metadata().map(|metadata| metadata.len()).ok();
        // Flushing again what could not be written would be the second try of a broken pipe.
        let _ = sink.into_parts();
        let fits = |label: &Label| self.collections.contains(&(group, label.collection.clone()));
        let rejection = match opened {
            Ok(label) if fits(&label) => {
                let (verdict, label, staged) = (Verdict::Opened, Some(label), Some(staged));
                return Ok(Content { verdict, label, staged, size, fault: None });
            }
            Ok(_) => Rejection::UnknownCollection,
            Err(OpenError::TooLarge(_)) => Rejection::TooLarge,
            Err(OpenError::Write(error)) => {
                self.discard(&staged);
                return Err(write_failed(&error));
            }
            // The stream's: comes out when the body is finished.
            Err(error @ OpenError::Read(_)) => {
                self.discard(&staged);
                return Err(Failed::new(None, FailureCode::Server, error.to_string()));
            }
            Err(error) => {
                self.discard(&staged);
                // Told once all bytes have come: that it was cut short says nothing about the document.
                let fault = Some(error.to_string());
                return Ok(Content { fault, ..Content::rejected(Rejection::CannotOpen) });
            }
        };
        self.discard(&staged);
        Ok(Content::rejected(rejection))
    }

    /// Keeps the document's bytes for whoever has the key.
    fn hold<R: Read + Send + Sync>(
        &self,
        body: &mut Body<'_, R>,
        group: GroupId,
        timestamp: UnixTime,
        head: &[u8],
    ) -> Result<Content, Failed> {
        let (staged, file) = self.stage()?;
        let description = waypost_protocol::document::Description {
            id: MessageId([0; 32]),
            group,
            timestamp,
            size: body.size,
        };
        let mut sink = BufWriter::with_capacity(64 * 1024, file);
        let written = sink
            .write_all(&prefix(&description))
            .and_then(|()| sink.write_all(head))
            .and_then(|()| copy(body, &mut sink))
            .and_then(|()| sink.flush());
        let _ = sink.into_parts();
        match written {
            Ok(()) => {
                let (verdict, staged) = (Verdict::Held, Some(staged));
                Ok(Content { verdict, label: None, staged, size: None, fault: None })
            }
            Err(error) => {
                self.discard(&staged);
                Err(write_failed(&error))
            }
        }
    }

    fn stage(&self) -> Result<(String, File), Failed> {
        let make = || {
            let name = random_name()?;
            let path = self.temporary.join(&name);
            Ok((name, OpenOptions::new().write(true).create_new(true).mode(0o640).open(path)?))
        };
        make().map_err(|error| write_failed(&error))
    }
}

struct Content {
    verdict: Verdict,
    label: Option<Label>,
    staged: Option<String>,
    /// Why it cannot be opened.
    fault: Option<String>,
    /// Bytes that were opened.
    size: Option<u64>,
}

impl Content {
    fn rejected(rejection: Rejection) -> Self {
        let verdict = Verdict::Rejected(rejection);
        Content { verdict, label: None, staged: None, size: None, fault: None }
    }
}

fn write_failed(error: &io::Error) -> Failed {
    let code = if is_full(error) { FailureCode::Full } else { FailureCode::Server };
    log::error!("a document cannot be stored: {error}");
    Failed::new(None, code, format!("the server cannot store it: {error}; send it again later"))
}

/// Copies to the end; what cannot be read is left to [`Body::finish`].
fn copy(from: &mut impl Read, to: &mut impl io::Write) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) | Err(_) => return Ok(()),
            Ok(count) => to.write_all(&buffer[..count])?,
        }
    }
}

/// The rest of a document behind its prefix, hashed as it is read.
struct Body<'a, R> {
    head: Vec<u8>,
    source: io::Take<&'a mut R>,
    hasher: IdHasher,
    size: u64,
    read: u64,
    failed: Option<io::Error>,
}

impl<'a, R: Read> Body<'a, R> {
    /// Reads the prefix. The inner error is about bytes that are no document; then all `length` bytes have been read.
    fn begin(source: &'a mut R, length: u64) -> io::Result<Result<(Self, GroupId, UnixTime), Failed>> {
        let mut source = source.take(length);
        let mut head = Vec::with_capacity(MAX_PREFIX);
        (&mut source).take(MAX_PREFIX as u64).read_to_end(&mut head)?;
        if (head.len() as u64) < length.min(MAX_PREFIX as u64) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let failure = match parse_prefix(&head) {
            Ok((group, timestamp, size, at)) if at as u64 + size == length => {
                let head = head.split_off(at);
                let hasher = IdHasher::new(group, timestamp);
                return Ok(Ok((
                    Body { head, source, hasher, size, read: 0, failed: None },
                    group,
                    timestamp,
                )));
            }
            Ok((_, _, size, at)) => {
                format!("{length} bytes, but its own header says {}", size.saturating_add(at as u64))
            }
            Err(error) => error.to_string(),
        };
        io::copy(&mut source, &mut io::sink())?;
        match source.limit() {
            0 => {
                let detail = format!("not a document in canonical encoding: {failure}");
                Ok(Err(Failed::new(None, FailureCode::Malformed, detail)))
            }
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Reads what is left, and gives the id.
    fn finish(mut self) -> io::Result<MessageId> {
        let mut buffer = vec![0; 64 * 1024];
        while self.failed.is_none()
            && self.read < self.size
            && self.read(&mut buffer).is_ok_and(|count| count > 0)
        {}
        match self.failed {
            Some(error) => Err(error),
            None if self.read < self.size => Err(io::ErrorKind::UnexpectedEof.into()),
            None => Ok(self.hasher.finish()),
        }
    }
}

impl<R: Read> Read for Body<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match self.head.len().min(buffer.len()) {
            0 => match self.source.read(buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
                Err(error) => {
                    let kind = error.kind();
                    self.failed = Some(error);
                    return Err(kind.into());
                }
            },
            count => {
                buffer[..count].copy_from_slice(&self.head[..count]);
                self.head.drain(..count);
                count
            }
        };
        self.hasher.update(&buffer[..count]);
        self.read += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use waypost_openpgp::{Compress, seal_bytes};
    use waypost_protocol::document::Document;
    use waypost_protocol::envelope::{Header, assemble};

    const NOW: UnixTime = UnixTime(1_795_236_000);

    struct Place {
        folder: tempfile::TempDir,
        key: SecretKey,
        collection: CollectionKey,
    }

    impl Place {
        fn new() -> Self {
            let key = SecretKey::generate("Clinic", NOW).unwrap();
            Place { folder: tempfile::tempdir().unwrap(), key, collection: CollectionKey::new([3; 32]) }
        }

        fn judge(&self, key: SecretKey) -> Judge {
            let limits = Limits { max_document: 100_000, max_content: 200_000 };
            let destination = self.key.certificate().fingerprint();
            Judge::new(destination, key, &self.collection, &["forms".into()], self.folder.path(), limits)
        }

        fn document(&self, collection: &str, label: &str, content: &[u8]) -> Document {
            let certificate = self.key.certificate();
            let label =
                Label { collection: label.into(), file_name: Some(b"a.xml".to_vec()), ..Label::default() };
            let sealed =
                seal_bytes(&label, content, std::slice::from_ref(&certificate), Compress::WhenSmaller, NOW)
                    .unwrap();
            let body = assemble(&Header::to(certificate.fingerprint()), &sealed).unwrap();
            let group = self.collection.group(&certificate.fingerprint(), collection);
            Document::new(group, NOW.rounded_to_hour(), body).unwrap()
        }

        fn files(&self) -> Vec<PathBuf> {
            std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
        }
    }

    fn judged(judge: &Judge, bytes: &[u8]) -> Outcome {
        let mut source = bytes;
        let outcome = judge.judge(&mut source, bytes.len() as u64).unwrap();
        assert!(source.is_empty(), "exactly its bytes are read");
        outcome
    }

    fn verdict(judge: &Judge, document: &Document) -> Verdict {
        match judged(judge, &document.encode()) {
            Outcome::Judged(new) => {
                assert_eq!(new.id, document.id());
                new.verdict
            }
            Outcome::Failed(failed) => panic!("{failed:?}"),
        }
    }

    fn failure(judge: &Judge, bytes: &[u8]) -> Failed {
        match judged(judge, bytes) {
            Outcome::Failed(failed) => failed,
            Outcome::Judged(new) => panic!("{new:?}"),
        }
    }

    #[test]
    fn a_good_document_is_opened_into_a_temporary_file() {
        let place = Place::new();
        let judge = place.judge(place.key.clone());
        for content in [&b""[..], b"hello", &[7; 150_000]] {
            let document = place.document("forms", "forms", content);
            let Outcome::Judged(new) = judged(&judge, &document.encode()) else { panic!() };
            assert_eq!((new.id, new.verdict), (document.id(), Verdict::Opened));
            assert_eq!(
                (new.collection.as_deref(), new.name.as_deref()),
                (Some("forms"), Some(&b"a.xml"[..]))
            );
            let staged = place.folder.path().join(new.staged.unwrap());
            assert!(std::fs::read(staged).unwrap() == content);
        }
    }

    #[test]
    fn without_the_key_the_bytes_are_held() {
        let place = Place::new();
        let judge = place.judge(place.key.signing_only().unwrap());
        let document = place.document("forms", "forms", b"hello");
        let Outcome::Judged(new) = judged(&judge, &document.encode()) else { panic!() };
        assert_eq!((new.id, new.verdict), (document.id(), Verdict::Held));
        let bytes = std::fs::read(place.folder.path().join(new.staged.unwrap())).unwrap();
        assert_eq!(bytes, document.encode());
        let Outcome::Judged(opened) = judged(&place.judge(place.key.clone()), &bytes) else { panic!() };
        assert_eq!((opened.id, opened.verdict), (document.id(), Verdict::Opened));
    }

    #[test]
    fn what_is_never_wanted_is_rejected_and_leaves_nothing() {
        let place = Place::new();
        let judge = place.judge(place.key.clone());
        let rejected = |rejection| Verdict::Rejected(rejection);
        let unknown = place.document("photos", "photos", b"x");
        assert_eq!(verdict(&judge, &unknown), rejected(Rejection::UnknownCollection));
        let posing = place.document("forms", "photos", b"x");
        assert_eq!(verdict(&judge, &posing), rejected(Rejection::UnknownCollection));
        let expanding = place.document("forms", "forms", &[0; 300_000]);
        assert!(expanding.body().len() < 10_000);
        assert_eq!(verdict(&judge, &expanding), rejected(Rejection::TooLarge));
        let good = place.document("forms", "forms", b"x");
        let mut body = good.body().to_vec();
        *body.last_mut().unwrap() ^= 1;
        let altered = Document::new(good.group(), good.timestamp(), body.into()).unwrap();
        assert_eq!(verdict(&judge, &altered), rejected(Rejection::CannotOpen));
        let large = Document::new(good.group(), good.timestamp(), Bytes::from(vec![1; 100_001])).unwrap();
        assert_eq!(verdict(&judge, &large), rejected(Rejection::TooLarge));
        assert_eq!(place.files(), Vec::<PathBuf>::new());
    }

    #[test]
    fn what_is_no_document_for_this_destination_fails_with_the_reason() {
        let place = Place::new();
        let judge = place.judge(place.key.clone());
        let good = place.document("forms", "forms", b"x");
        let code = |bytes: &[u8]| failure(&judge, bytes).code;
        assert_eq!(code(b""), FailureCode::Malformed);
        assert_eq!(code(b"hello"), FailureCode::Malformed);
        assert_eq!(code(&[0; 5_000]), FailureCode::Malformed);
        assert_eq!(code(&[good.encode(), vec![0]].concat()), FailureCode::Malformed);
        for body in [&b""[..], b"WP", b"WP\x01\0\xff", b"XXXXXXXXXXXX"] {
            let document = Document::new(good.group(), NOW, Bytes::from_static(body)).unwrap();
            let failed = failure(&judge, &document.encode());
            assert_eq!((failed.code, failed.id), (FailureCode::Malformed, Some(document.id())));
        }
        let other = Header::to(Fingerprint::V4([1; 20]));
        let elsewhere = Document::new(good.group(), NOW, assemble(&other, b"x").unwrap()).unwrap();
        let failed = failure(&judge, &elsewhere.encode());
        assert_eq!((failed.code, failed.id), (FailureCode::WrongDestination, Some(elsewhere.id())));
        assert_eq!(place.files(), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_stream_that_ends_early_says_nothing_about_the_document() {
        let place = Place::new();
        for judge in [place.judge(place.key.clone()), place.judge(place.key.signing_only().unwrap())] {
            let bytes = place.document("forms", "forms", &[5; 3_000]).encode();
            for cut in 0..bytes.len() {
                let error = judge.judge(&mut &bytes[..cut], bytes.len() as u64).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "cut at {cut}");
            }
            assert_eq!(place.files(), Vec::<PathBuf>::new());
        }
    }
}
