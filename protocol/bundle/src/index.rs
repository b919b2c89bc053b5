//! An index: what one gateway or destination has put into a bundle, as lines of JSON, summed up by the last one.
//!
//! ```text
//! {"bundle":1,"writer":"gateway-6a…"}
//! {"document":"00…","size":1290,"age":86400}
//! {"confirmation":"04…"}
//! {"entries":2,"sha256":"…"}
//! ```
//!
//! Documents come before confirmations, each in ascending order, so that they can be compared with what lies in the
//! folders without holding either in memory.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Seek as _, Write as _};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use waypost_protocol::ids::{Fingerprint, MessageId, PeerKey};

use crate::VERSION;
use crate::fault::Damage;
use crate::folder::{Folder, part_name};

/// The folder of indexes.
pub(crate) const FOLDER: &str = "index";
/// The longest line, in bytes.
const MAX_LINE: u64 = 256;
/// The longest index, in bytes: some ten million lines.
const MAX_INDEX: u64 = 1 << 30;

/// Whose index it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Writer {
    /// A gateway, or another peer, by its static key.
    Gateway(PeerKey),
    /// A destination, by its first fingerprint.
    Destination(Fingerprint),
}

impl Writer {
    /// The index's file.
    pub(crate) fn file(&self) -> String {
        format!("{self}.jsonl")
    }

    pub(crate) fn of_file(name: &str) -> Option<Self> {
        let text = name.strip_suffix(".jsonl")?;
        let writer = match text.split_once('-')? {
            ("gateway", key) => Writer::Gateway(key.parse().ok()?),
            ("destination", fingerprint) => Writer::Destination(fingerprint.parse().ok()?),
            _ => return None,
        };
        (writer.file() == name).then_some(writer)
    }
}

/// As in the file's name: lower case throughout.
impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Writer::Gateway(key) => write!(f, "gateway-{}", HEXLOWER.encode(key.as_bytes())),
            Writer::Destination(fingerprint) => {
                write!(f, "destination-{}", HEXLOWER.encode(fingerprint.as_bytes()))
            }
        }
    }
}

/// A line of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Entry {
    /// A document.
    Document {
        /// Its id.
        document: MessageId,
        /// Bytes of its body.
        size: u64,
        /// Seconds that it had been under way when it was written.
        age: u64,
    },
    /// A confirmation.
    Confirmation {
        /// Its id.
        confirmation: MessageId,
    },
}

impl Entry {
    fn rank(&self) -> (u8, MessageId) {
        match self {
            Entry::Document { document, .. } => (0, *document),
            Entry::Confirmation { confirmation } => (1, *confirmation),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct First {
    bundle: u32,
    writer: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Last {
    entries: u64,
    sha256: String,
}

/// Writes an index, line by line.
pub struct IndexWriter {
    folder: Folder,
    name: String,
    file: BufWriter<File>,
    hasher: Sha256,
    entries: u64,
    last: Option<(u8, MessageId)>,
}

impl IndexWriter {
    pub(crate) fn begin(folder: Folder, writer: &Writer) -> io::Result<Self> {
        let name = writer.file();
        let file = BufWriter::new(folder.create(part_name(&name).as_ref(), 0o644)?);
        let mut index = IndexWriter { folder, name, file, hasher: Sha256::new(), entries: 0, last: None };
        index.line(&First { bundle: VERSION, writer: writer.to_string() })?;
        Ok(index)
    }

    /// The next entry; documents first, each kind in ascending order.
    pub fn add(&mut self, entry: &Entry) -> io::Result<()> {
        if self.last.is_some_and(|last| last >= entry.rank()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "entries of an index out of order"));
        }
        self.last = Some(entry.rank());
        self.entries += 1;
        self.line(entry)
    }

    /// Sums it up, flushes it, and puts it in the place of the last one. Its name lasts from the next
    /// [`crate::Bundle::flush`] on.
    pub fn finish(mut self) -> io::Result<()> {
        let sha256 = HEXLOWER.encode(&std::mem::take(&mut self.hasher).finalize());
        self.line(&Last { entries: self.entries, sha256 })?;
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        self.folder.rename(part_name(&self.name).as_ref(), self.name.as_ref())?;
        self.folder.sync()
    }

    fn line(&mut self, value: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        self.hasher.update(&line);
        self.file.write_all(&line)
    }
}

/// An index that is whole, read once more entry by entry.
pub(crate) struct IndexReader {
    pub(crate) writer: Writer,
    lines: BufReader<io::Take<File>>,
    left: u64,
    next: Option<Entry>,
}

impl IndexReader {
    /// Reads all of it: what is cut off or altered anywhere is not used.
    pub(crate) fn open(folder: &Folder, name: &str, writer: Writer) -> Result<Self, Damage> {
        let mut file = folder.file(name.as_ref())?;
        let found = file.metadata()?.len();
        if found > MAX_INDEX {
            return Err(Damage::TooLong { found, most: MAX_INDEX });
        }
        let (entries, length) = check(BufReader::new(&file), &writer)?;
        if length != found {
            return Err(Damage::Index(entries + 3));
        }
        file.rewind()?;
        let mut reader =
            IndexReader { writer, lines: BufReader::new(file.take(found)), left: entries, next: None };
        reader.lines.skip_until(b'\n')?;
        reader.advance();
        Ok(reader)
    }

    /// The entry that [`IndexReader::advance`] moves on from.
    pub(crate) fn next(&self) -> Option<&Entry> {
        self.next.as_ref()
    }

    /// A stick that fails meanwhile ends the index: what is not read is not known.
    pub(crate) fn advance(&mut self) {
        let mut line = Vec::new();
        self.next = None;
        if self.left > 0 && (&mut self.lines).take(MAX_LINE).read_until(b'\n', &mut line).is_ok() {
            self.left -= 1;
            self.next = serde_json::from_slice(&line).ok();
        }
    }
}

/// The number of entries and of bytes.
fn check(mut lines: impl io::BufRead, writer: &Writer) -> Result<(u64, u64), Damage> {
    let (mut hasher, mut bytes, mut number) = (Sha256::new(), 0, 0);
    let mut last: Option<(u8, MessageId)> = None;
    loop {
        let mut line = Vec::new();
        (&mut lines).take(MAX_LINE).read_until(b'\n', &mut line)?;
        number += 1;
        let damaged = || Damage::Index(number);
        bytes += line.len() as u64;
        if line.last() != Some(&b'\n') {
            return Err(damaged());
        }
        if number == 1 {
            let first: First = serde_json::from_slice(&line).map_err(|_| damaged())?;
            if first.bundle != VERSION {
                return Err(Damage::Version(first.bundle));
            }
            if first.writer != writer.to_string() {
                return Err(damaged());
            }
        } else if let Ok(entry) = serde_json::from_slice::<Entry>(&line) {
            if last.is_some_and(|last| last >= entry.rank()) {
                return Err(damaged());
            }
            last = Some(entry.rank());
        } else {
            let sum: Last = serde_json::from_slice(&line).map_err(|_| damaged())?;
            let holds = sum.entries == number - 2 && sum.sha256 == HEXLOWER.encode(&hasher.finalize());
            return if holds { Ok((sum.entries, bytes)) } else { Err(damaged()) };
        }
        hasher.update(&line);
    }
}
