//! Sealing: label and content, encrypted to a destination and to readers.

use std::io::{self, Read, Write};
use std::time::SystemTime;

use sequoia_openpgp as openpgp;

use openpgp::Cert;
use openpgp::cert::prelude::*;
use openpgp::packet::key::PublicParts;
use openpgp::policy::StandardPolicy;
use openpgp::serialize::stream::{Compressor, Encryptor, LiteralWriter, Message, Recipient, Signer};
use openpgp::types::{CompressionAlgorithm, DataFormat, SymmetricAlgorithm};
use waypost_protocol::content::{ContentError, Label};
use waypost_protocol::ids::Fingerprint;
use waypost_protocol::time::UnixTime;

use crate::clock::{reference, to_system};
use crate::{Certificate, KeyError, SecretKey};

/// How much of the head is tried for whether it shrinks, in bytes.
const SAMPLE: usize = 64 * 1024;
/// Bytes that a compressed packet costs in any case: its header, algorithm, and deflate's own end.
const COMPRESSION_OVERHEAD: usize = 6;

/// Whether content is compressed before it is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compress {
    /// Deflate, when the first 64 KiB shrink by 10 % or more.
    #[default]
    WhenSmaller,
    /// Never: for photos, video, audio and archives, which are compressed already.
    Never,
}

/// Why something was not sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// No recipient at all.
    #[error("nothing can be sealed to nobody; add a destination first")]
    NoRecipient,
    /// A recipient's certificate has no key to encrypt to: none, expired, revoked.
    #[error("{0} has no valid key to encrypt to (expired, revoked, or none); fetch its certificate again")]
    NoEncryptionKey(Fingerprint),
    /// The author's key cannot sign.
    #[error(transparent)]
    Author(#[from] KeyError),
    /// The label cannot be written.
    #[error(transparent)]
    Label(#[from] ContentError),
    /// The content could not be read.
    #[error("content cannot be read: {0}")]
    Read(io::Error),
    /// The sealed bytes could not be written, or a cipher failed.
    #[error("sealed document cannot be written: {0}")]
    Write(String),
}

/// Seals `content` under `label` to the recipients (destination first, then readers) and returns how many bytes of
/// content it had.
///
/// The literal packet is binary and nameless; its body is the label's line, then the content. An exact time travels
/// in the packet's own date field (RFC 9580 §5.9), where it costs nothing. AES-128 with SEIPDv1, or SEIPDv2 when all
/// certificates ask for it. Memory is bounded whatever the size: some buffers of 4 MiB.
pub fn seal(
    label: &Label,
    content: impl Read,
    recipients: &[Certificate],
    compress: Compress,
    sink: impl Write + Send + Sync,
    now: UnixTime,
) -> Result<u64, SealError> {
    seal_for(label, content, None, recipients, compress, sink, now)
}

/// As [`seal`], with the author's signature inside, over the label's line and the content.
///
/// The signature names the recipients (RFC 9580 §5.2.3.36): whoever opens it can prove to nobody else that it was
/// written to them. The exact time is in the label's line, as the packet's date is covered by no signature. An author
/// who wants to read its own copy is one of the recipients.
pub fn seal_signed(
    label: &Label,
    content: impl Read,
    author: &SecretKey,
    recipients: &[Certificate],
    compress: Compress,
    sink: impl Write + Send + Sync,
    now: UnixTime,
) -> Result<u64, SealError> {
    seal_for(label, content, Some(author), recipients, compress, sink, now)
}

fn seal_for(
    label: &Label,
    mut content: impl Read,
    author: Option<&SecretKey>,
    recipients: &[Certificate],
    compress: Compress,
    sink: impl Write + Send + Sync,
    now: UnixTime,
) -> Result<u64, SealError> {
    let failed = |error: openpgp::anyhow::Error| SealError::Write(error.to_string());
    let author_made = author.map(|author| author.certificate().creation_time());
    let reference = reference(now, recipients.iter().map(Certificate::creation_time).chain(author_made));
    let at = to_system(reference);
    let policy = StandardPolicy::at(at);
    let pair = author.map(|author| author.signing_pair(reference)).transpose()?;
    let (line, date) = match author {
        None => split_time(label)?,
        Some(_) => (label.encode()?, None),
    };
    let keys = recipients.iter().map(|recipient| {
        let key = encryption_key(&recipient.cert, &policy, at);
        key.map(Recipient::from).ok_or(SealError::NoEncryptionKey(recipient.fingerprint()))
    });
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    if keys.is_empty() {
        return Err(SealError::NoRecipient);
    }
    let mut head = Vec::new();
    (&mut content).take(SAMPLE as u64).read_to_end(&mut head).map_err(SealError::Read)?;

    let message = Encryptor::for_recipients(Message::new(sink), keys)
        .symmetric_algo(SymmetricAlgorithm::AES128)
        .build()
        .map_err(failed)?;
    let message = match compress == Compress::WhenSmaller && shrinks(&head) {
        true => Compressor::new(message).algo(CompressionAlgorithm::Zip).build().map_err(failed)?,
        false => message,
    };
    let message = match pair {
        None => message,
        Some(pair) => {
            let mut signer = Signer::new(message, pair).map_err(failed)?.creation_time(at);
            for recipient in recipients {
                signer = signer.add_intended_recipient(&recipient.cert);
            }
            signer.build().map_err(failed)?
        }
    };
    let mut literal = LiteralWriter::new(message).format(DataFormat::Binary);
    if let Some(date) = date {
        literal = literal.date(to_system(date)).map_err(failed)?;
    }
    let mut literal = literal.build().map_err(failed)?;
    let written = |error: io::Error| SealError::Write(error.to_string());
    literal.write_all(&line).map_err(written)?;
    literal.write_all(&head).map_err(written)?;
    let mut bytes = head.len() as u64;
    let mut buffer = head;
    buffer.resize(SAMPLE, 0);
    loop {
        let count = match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(SealError::Read(error)),
        };
        literal.write_all(&buffer[..count]).map_err(written)?;
        bytes += count as u64;
    }
    literal.finalize().map_err(failed)?;
    Ok(bytes)
}

/// [`seal`] in memory.
pub fn seal_bytes(
    label: &Label,
    content: &[u8],
    recipients: &[Certificate],
    compress: Compress,
    now: UnixTime,
) -> Result<Vec<u8>, SealError> {
    let mut sealed = Vec::with_capacity(content.len() + 256);
    seal(label, content, recipients, compress, &mut sealed, now)?;
    Ok(sealed)
}

/// [`seal_signed`] in memory.
pub fn seal_bytes_signed(
    label: &Label,
    content: &[u8],
    author: &SecretKey,
    recipients: &[Certificate],
    compress: Compress,
    now: UnixTime,
) -> Result<Vec<u8>, SealError> {
    let mut sealed = Vec::with_capacity(content.len() + 512);
    seal_signed(label, content, author, recipients, compress, &mut sealed, now)?;
    Ok(sealed)
}

/// The newest valid key to encrypt to, as GnuPG chooses.
pub(crate) fn encryption_key<'a>(
    cert: &'a Cert,
    policy: &'a StandardPolicy<'a>,
    at: SystemTime,
) -> Option<ValidErasedKeyAmalgamation<'a, PublicParts>> {
    cert.with_policy(policy, at).ok()?.alive().ok()?;
    if let openpgp::types::RevocationStatus::Revoked(_) = cert.revocation_status(policy, at) {
        return None;
    }
    let keys = cert.keys().with_policy(policy, at).supported().alive().revoked(false);
    keys.for_transport_encryption().for_storage_encryption().max_by_key(|key| key.key().creation_time())
}

/// The label's line, and the time that the literal packet carries in its place: not 0 (which means none there), and
/// within OpenPGP's 32 bits; any other time stays in the line.
fn split_time(label: &Label) -> Result<(Vec<u8>, Option<UnixTime>), ContentError> {
    let date = label.time.filter(|time| (1..=u64::from(u32::MAX)).contains(&time.0));
    let mut rest = label.clone();
    if date.is_some() {
        rest.time = None;
    }
    Ok((rest.encode()?, date))
}

/// Whether deflate makes the sample at least 10 % smaller, overhead included.
fn shrinks(sample: &[u8]) -> bool {
    let mut squeezed = Vec::new();
    let mut squeeze = || -> openpgp::Result<()> {
        let mut writer =
            Compressor::new(Message::new(&mut squeezed)).algo(CompressionAlgorithm::Zip).build()?;
        writer.write_all(sample)?;
        writer.finalize()
    };
    squeeze().is_ok() && (squeezed.len() + COMPRESSION_OVERHEAD) * 10 <= sample.len() * 9
}
