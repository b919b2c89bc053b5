//! Opening: a sealed message, streamed to a sink whose content counts only when the end has verified.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sequoia_openpgp as openpgp;

use openpgp::crypto::SessionKey;
use openpgp::packet::key::{SecretParts, UnspecifiedRole};
use openpgp::packet::{Key, PKESK, Packet, SKESK};
use openpgp::parse::PacketParser;
use openpgp::parse::Parse as _;
use openpgp::parse::stream::{
    DecryptionHelper, DecryptorBuilder, MessageLayer, MessageStructure, VerificationError, VerificationHelper,
};
use openpgp::policy::StandardPolicy;
use openpgp::types::SymmetricAlgorithm;
use openpgp::{Cert, KeyHandle};
use waypost_protocol::content::{ContentError, Label, MAX_LINE};
use waypost_protocol::ids::Fingerprint;
use waypost_protocol::time::UnixTime;

use crate::Certificate;
use crate::clock::{BUILD_FLOOR, FUTURE, from_system, to_system};
use crate::guard::{GAVE_UP, guard};

/// Bytes that are read ahead, twice: what bounds memory while a large message streams.
const BUFFER: usize = 64 * 1024;
/// Encryption, compression, literal data, with room for a signed message between them.
const MAX_DEPTH: isize = 4;
/// More packets than any message for a destination and its readers has.
const MAX_PACKETS: usize = 128;

/// What opening may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest content that is written, in bytes, without the label: compressed bytes expand up to a thousandfold.
    pub max_content: u64,
}

/// A message that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The first line inside.
    pub label: Label,
    /// Who signed label and content.
    pub author: Author,
}

/// Who signed a message inside its seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Author {
    /// There is no signature: it may come from anybody.
    Nobody,
    /// There are only signatures of keys that are not among the authors asked for: it may come from anybody.
    Unknown,
    /// There is a signature that names an author and does not prove it, and why: it may come from anybody.
    NotProven(String),
    /// The key of this certificate signed label and content, for whom it was sealed to.
    Signed {
        /// The certificate's fingerprint.
        certificate: Fingerprint,
        /// When, by the author's clock.
        time: UnixTime,
    },
}

/// Why a message was not opened. Whatever the sink got must be thrown away.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// This key file has no secret key for decryption: the destination holds documents for one that has.
    #[error("no secret key for decryption here; open it where that key is kept")]
    NoDecryptionKey,
    /// It is encrypted, but to none of our keys.
    #[error("it is not encrypted to a key of this destination")]
    OtherKey,
    /// It is no encrypted message, or it was damaged or altered.
    #[error("it cannot be decrypted: {0}")]
    Damaged(String),
    /// The content is larger than [`Limits::max_content`].
    #[error("its content is larger than {0} bytes")]
    TooLarge(u64),
    /// It decrypts, but what is inside has no readable first line.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The sealed bytes could not be read; that says nothing about the message.
    #[error("sealed bytes cannot be read: {0}")]
    Read(io::Error),
    /// The content could not be written; that says nothing about the message.
    #[error("opened content cannot be written: {0}")]
    Write(io::Error),
}

impl OpenError {
    /// Whether the fault is this machine's, so that the same message may open later.
    pub fn is_temporary(&self) -> bool {
        matches!(self, OpenError::Read(_) | OpenError::Write(_))
    }
}

/// A key that decrypts, and the certificate that it belongs to.
#[derive(Clone)]
pub(crate) struct DecryptionKey {
    pub(crate) key: Key<SecretParts, UnspecifiedRole>,
    pub(crate) cert: Arc<Cert>,
}

/// With what a message is opened.
#[derive(Clone, Copy)]
pub(crate) struct Keys<'a> {
    pub(crate) decryption: &'a [DecryptionKey],
}

/// Opens `sealed` with one of `keys`, and looks for signatures of `authors`.
pub(crate) fn open(
    keys: Keys<'_>,
    sealed: impl Read + Send + Sync,
    mut sink: impl Write,
    limits: Limits,
    authors: &[Certificate],
) -> Result<Opened, OpenError> {
    let failing = Arc::new(AtomicBool::new(false));
    let source = Source { inner: sealed, failed: failing.clone() };
    let mut seen = Seen::default();
    let gave_up = || Err(OpenError::Damaged(GAVE_UP.to_owned()));
    let result =
        guard(|| stream(keys, source, &mut sink, limits, authors, &mut seen)).unwrap_or_else(gave_up);
    let source_failed = failing.load(Ordering::Relaxed);
    let label = match result {
        Err(OpenError::Damaged(text)) if source_failed => Err(OpenError::Read(io::Error::other(text))),
        Err(OpenError::Damaged(_)) if seen.encrypted && !seen.decrypted && seen.fault.is_none() => {
            Err(OpenError::OtherKey)
        }
        Err(OpenError::Damaged(text)) => {
            Err(OpenError::Damaged(seen.fault.map(str::to_owned).unwrap_or(text)))
        }
        other => other,
    };
    let mut label = label?;
    let author = seen.author.unwrap_or(Author::Nobody);
    if !matches!(author, Author::Signed { .. }) {
        // No signature covers the packet's date.
        label.time = label.time.or(seen.date);
    }
    Ok(Opened { label, author })
}

fn stream(
    keys: Keys<'_>,
    source: impl Read + Send + Sync,
    sink: &mut impl Write,
    limits: Limits,
    authors: &[Certificate],
    seen: &mut Seen,
) -> Result<Label, OpenError> {
    let damaged = |error: openpgp::anyhow::Error| OpenError::Damaged(error.to_string());
    // Opening depends on no clock: what was sealed may be older than a key's or an algorithm's end.
    // Nor does what is signed: a signature counts if its key was valid when it was made.
    let policy = StandardPolicy::at(to_system(BUILD_FLOOR));
    let at = to_system(UnixTime(BUILD_FLOOR.0 + FUTURE));
    let recipient = Recipient { keys, authors, seen };
    let mut opened = DecryptorBuilder::from_reader(source)
        .map_err(damaged)?
        .buffer_size(BUFFER)
        .with_policy(&policy, at, recipient)
        .map_err(damaged)?;

    let mut buffer = vec![0; BUFFER];
    let mut head = Vec::new();
    let mut label = None;
    let mut written = 0u64;
    loop {
        let count = match opened.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(OpenError::Damaged(error.to_string())),
        };
        let mut content = &buffer[..count];
        if label.is_none() {
            head.extend_from_slice(content);
            if head.len() < MAX_LINE && !content.contains(&b'\n') {
                continue;
            }
            let (parsed, at) = Label::parse(&head)?;
            label = Some(parsed);
            content = &head[at..];
        }
        written += content.len() as u64;
        if written > limits.max_content {
            return Err(OpenError::TooLarge(limits.max_content));
        }
        sink.write_all(content).map_err(OpenError::Write)?;
    }
    match label {
        Some(label) => Ok(label),
        // Ended before a line did: says so.
        None => Ok(Label::parse(&head).map(|(label, _)| label)?),
    }
}

/// What the parser came across.
#[derive(Default)]
struct Seen {
    packets: usize,
    containers: usize,
    encrypted: bool,
    decrypted: bool,
    compressed: usize,
    date: Option<UnixTime>,
    author: Option<Author>,
    fault: Option<&'static str>,
}

/// Whoever has the keys: opens with them, and sees what comes along.
struct Recipient<'a> {
    keys: Keys<'a>,
    authors: &'a [Certificate],
    seen: &'a mut Seen,
}

impl Recipient<'_> {
    fn check_packet(&mut self, parser: &PacketParser<'_>) -> Result<(), &'static str> {
        self.seen.packets += 1;
        if self.seen.packets > MAX_PACKETS {
            return Err("it has too many parts");
        }
        if parser.recursion_depth() > MAX_DEPTH {
            return Err("it is nested too deeply");
        }
        match &parser.packet {
            Packet::SEIP(_) => {
                self.seen.encrypted = true;
                self.seen.containers += 1;
                if self.seen.containers > 1 || parser.recursion_depth() > 0 {
                    return Err("it is encrypted more than once");
                }
            }
            Packet::CompressedData(_) => {
                self.seen.compressed += 1;
                if self.seen.compressed > 1 {
                    return Err("it is compressed more than once");
                }
                if !self.seen.decrypted {
                    return Err("it is not encrypted");
                }
            }
            Packet::Literal(literal) => {
                if !self.seen.decrypted {
                    return Err("it is not encrypted");
                }
                self.seen.date = literal.date().map(from_system);
            }
            Packet::Unknown(_) => return Err("it has a part of an unknown kind"),
            _ => {}
        }
        Ok(())
    }
}

impl Recipient<'_> {
    /// The best that the signatures within the encryption say. What is outside of it says nothing of who knew the
    /// content.
    fn author_in(&self, structure: MessageStructure<'_>) -> Author {
        let inside =
            structure.into_iter().skip_while(|layer| !matches!(layer, MessageLayer::Encryption { .. }));
        let mut found = Author::Nobody;
        for layer in inside {
            let MessageLayer::SignatureGroup { results } = layer else { continue };
            for result in results {
                let said = match result {
                    Ok(good) => self.signed_by(good.ka.cert(), good.sig.signature_creation_time()),
                    Err(VerificationError::MissingKey { .. }) => Author::Unknown,
                    Err(error) => Author::NotProven(error.to_string()),
                };
                match (&found, &said) {
                    (_, Author::Signed { .. }) => return said,
                    (Author::NotProven(_), _) => {}
                    _ => found = said,
                }
            }
        }
        found
    }

    fn signed_by(&self, cert: &Cert, time: Option<std::time::SystemTime>) -> Author {
        let author = self.authors.iter().find(|author| author.cert.fingerprint() == cert.fingerprint());
        match (author, time) {
            (Some(author), Some(time)) => {
                Author::Signed { certificate: author.fingerprint(), time: from_system(time) }
            }
            _ => Author::Unknown,
        }
    }
}

impl VerificationHelper for Recipient<'_> {
    fn inspect(&mut self, parser: &PacketParser<'_>) -> openpgp::Result<()> {
        self.check_packet(parser).map_err(|fault| {
            self.seen.fault = Some(fault);
            openpgp::Error::MalformedMessage(fault.to_owned()).into()
        })
    }

    fn get_certs(&mut self, _ids: &[KeyHandle]) -> openpgp::Result<Vec<Cert>> {
        Ok(self.authors.iter().map(|author| author.cert.clone()).collect())
    }

    fn check(&mut self, structure: MessageStructure<'_>) -> openpgp::Result<()> {
        self.seen.author = Some(self.author_in(structure));
        Ok(())
    }
}

impl DecryptionHelper for Recipient<'_> {
    fn decrypt(
        &mut self,
        pkesks: &[PKESK],
        _skesks: &[SKESK],
        algorithm: Option<SymmetricAlgorithm>,
        decrypt: &mut dyn FnMut(Option<SymmetricAlgorithm>, &SessionKey) -> bool,
    ) -> openpgp::Result<Option<Cert>> {
        for pkesk in pkesks {
            let recipient = pkesk.recipient();
            for DecryptionKey { key, cert } in self.keys.decryption {
                let is_ours = |handle: &KeyHandle| handle.aliases(key.key_handle());
                if !recipient.as_ref().is_none_or(is_ours) {
                    continue;
                }
                let Ok(mut pair) = key.clone().into_keypair() else { continue };
                let session = pkesk.decrypt(&mut pair, algorithm);
                if session.is_some_and(|(algorithm, session)| decrypt(algorithm, &session)) {
                    self.seen.decrypted = true;
                    // A signature that names its recipients must name this one.
                    return Ok(Some(Cert::clone(cert)));
                }
            }
        }
        Ok(None)
    }
}

/// Remembers that reading failed, so that a bad disk is not taken for a bad message.
struct Source<R> {
    inner: R,
    failed: Arc<AtomicBool>,
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.inner.read(buffer);
        if result.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::Interrupted) {
            self.failed.store(true, Ordering::Relaxed);
        }
        result
    }
}
