//! What can be wrong with a bundle as a whole, and with single files in it.

use std::io;
use std::path::PathBuf;

use waypost_protocol::confirmation::ConfirmationError;
use waypost_protocol::document::DocumentError;
use waypost_protocol::envelope::EnvelopeError;
use waypost_protocol::ids::MessageId;

/// Why a bundle cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// There is none.
    #[error("no bundle in {0}: it has no folder \"waypost\"; give the folder that was exported to")]
    None(PathBuf),
    /// Another program uses it.
    #[error("{0} is being imported or exported by another program; wait for that")]
    InUse(PathBuf),
    /// A folder cannot be used.
    #[error("{path}: {error}; is the stick plugged in, mounted and writable?")]
    Folder {
        /// Which.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
}

/// Why a document was not written.
#[derive(Debug)]
pub enum WriteError<E> {
    /// It could not be read where it comes from.
    Source(E),
    /// What was read has another hash, or another length.
    Damaged,
    /// The bundle's file system failed, or is full.
    Bundle(io::Error),
}

/// What is wrong with a single file.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// It is not there.
    #[error("not there")]
    Missing,
    /// A link, folder, pipe or device.
    #[error("not a plain file")]
    NotAFile,
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Io(io::Error),
    /// Longer or shorter than it says.
    #[error("has {found} bytes, should have {expected}: cut off, or not written to its end")]
    Length {
        /// Bytes that are there.
        found: u64,
        /// Bytes that its beginning announces.
        expected: u64,
    },
    /// More bytes than anything of its kind has.
    #[error("has {found} bytes, at most {most} are read")]
    TooLong {
        /// Bytes that are there.
        found: u64,
        /// The bound.
        most: u64,
    },
    /// It does not begin as a document.
    #[error("no document: {0}")]
    Document(#[from] DocumentError),
    /// Its body is no envelope.
    #[error("no sealed document: {0}")]
    Envelope(#[from] EnvelopeError),
    /// Its bytes are another document's, or nobody's.
    #[error("its bytes have the hash {0}: damaged")]
    Hash(MessageId),
    /// Text and signature are no confirmation.
    #[error("{0}")]
    Confirmation(#[from] ConfirmationError),
    /// A confirmation's text without a signature, or a signature that is too long.
    #[error("its signature is missing or damaged")]
    Signature,
    /// An index that is not what its last line sums up.
    #[error("index cut off or damaged at line {0}; the files that it names are looked at all the same")]
    Index(u64),
    /// An index of another version.
    #[error("written by a newer program (version {0}); the files that it names are looked at all the same")]
    Version(u32),
    /// It has a name that nothing here has.
    #[error("does not belong here")]
    Stranger,
    /// There is more than is looked at.
    #[error("more than {0} entries; the rest is passed over")]
    TooMany(usize),
}

impl From<io::Error> for Damage {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Damage::Missing,
            io::ErrorKind::InvalidInput | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
                Damage::NotAFile
            }
            _ => Damage::Io(error),
        }
    }
}

/// A file that was passed over.
#[derive(Debug, thiserror::Error)]
#[error("{}: {damage}", path.display())]
pub struct Fault {
    /// Relative to the bundle's folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub damage: Damage,
}
