//! Where content lies: opened documents in the inbox, held ones until their key comes, confirmations as files, remote
//! logs by hash.
//!
//! Judged content begins as a file in the home's `tmp/`. [`Content::keep`] makes it durable, before the row is committed
//! that names it; [`Content::place`] puts it where it belongs, after that, once. Both can be done again after a crash.

mod folder;
mod objects;

use std::collections::HashSet;
use std::io::{self, Read};
use std::sync::Arc;

use waypost_protocol::confirmation::Confirmation;
use waypost_protocol::ids::MessageId;
use waypost_remote_log::{ContentHash, PlaceError};

use crate::home::Home;
use crate::store::Staged;

pub use folder::Folder;
pub use objects::{Objects, ObjectsError};

/// The bytes of a held document.
pub type HeldBytes = Box<dyn Read + Send + Sync>;

/// What came of putting content where it belongs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Rows whose content is in its place, and its path there; empty where it had been put there before.
    pub placed: Vec<(i64, Vec<u8>)>,
    /// Whether something could not be put in its place, and is to be tried again.
    pub is_incomplete: bool,
}

/// A folder of this machine, or an object store that several processes share. Calls block.
pub trait Content: Send + Sync {
    /// Makes files of `tmp/` durable under the same names. Returns what went wrong with each.
    fn keep(&self, files: &[Option<&str>]) -> Vec<Option<io::Error>>;

    /// Throws away what was kept under that name and is not wanted.
    fn discard(&self, staged: &str);

    /// Puts what was kept where it belongs, and returns once it lasts there.
    fn place(&self, rows: &[Staged]) -> Placement;

    /// Removes what no row names and nobody is writing.
    fn sweep(&self, known: &HashSet<String>) -> io::Result<()>;

    /// A held document, and how many bytes it has.
    fn held(&self, id: &MessageId) -> io::Result<(HeldBytes, u64)>;

    /// Removes a held document.
    fn forget_held(&self, id: &MessageId);

    /// Writes confirmations as files, durably. Returns whether each was written.
    fn export(&self, confirmations: &[Confirmation]) -> io::Result<Vec<bool>>;

    /// Writes `length` bytes of a remote log that have this hash, and returns once they last. Others are refused.
    fn put_logged(&self, hash: &ContentHash, length: u64, bytes: &mut dyn Read) -> Result<(), PlaceError>;

    /// Bytes of a remote log from `offset` on, which is before their end, unverified.
    fn logged(&self, hash: &ContentHash, offset: u64) -> Result<Box<dyn Read + '_>, PlaceError>;

    /// Removes bytes of a remote log.
    fn remove_logged(&self, hash: &ContentHash);

    /// Where opened documents are, for people and for the webhook: a path, or a URL.
    fn inbox(&self) -> String;
}

/// Why there is no place for content.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The object store.
    #[error(transparent)]
    Objects(#[from] ObjectsError),
}

/// As the home's settings say.
pub(crate) fn open(home: &Home) -> Result<Arc<dyn Content>, ContentError> {
    Ok(match home.settings().content.as_deref() {
        None | Some(FOLDER) => Arc::new(Folder::new(home)),
        Some(url) => Arc::new(open_objects(home, url)?),
    })
}

/// With the home's options.
pub(crate) fn open_objects(home: &Home, url: &str) -> Result<Objects, ObjectsError> {
    Objects::open(url, &home.settings().content_options, &home.temporary_folder())
}

/// In the settings: the home's own folders.
pub(crate) const FOLDER: &str = "folder";
