//! Bundles: documents and confirmations as files, for a USB stick that is carried from a gateway to a destination and
//! back. `docs/bundle.md` is the specification.
//!
//! A stick may be pulled at any byte, FAT keeps no promise about what is there then, and anybody may have written to it.
//! So nothing counts because of where it lies: a document is what has the hash that names its file, a confirmation is
//! handed out for its signature to be verified, an index is what its last line sums up. What is damaged, half there, a
//! link, a device or too long is named and passed over.
//!
//! Documents are streamed. Names are read relative to open folders and no symbolic link is followed, so that nothing
//! outside the bundle is read or written, whatever is on the stick.

#![deny(unsafe_code)]

mod confirmations;
mod document;
mod fault;
mod folder;
mod index;
mod listing;
mod shelves;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::syncfs;
use waypost_protocol::document::Description;
use waypost_protocol::ids::MessageId;

pub use confirmations::{Kept, MAX_TEXT};
pub use document::DocumentFile;
pub use fault::{BundleError, Damage, Fault, WriteError};
pub use folder::Folder;
pub use index::{Entry, IndexWriter, Writer};
pub use listing::{Listed, Listing};
pub use shelves::{Kind, Place, Walk};

/// The folder on the stick that a bundle is in.
pub const FOLDER: &str = "waypost";
/// The version of the format that this crate writes.
pub const VERSION: u32 = 1;

const README: &str = "\
This folder is a Waypost bundle: sealed documents on their way to their destination, and what the destination has
confirmed. Nothing in it can be read without the destination's key. It may be copied, and deleted once it has been
imported. Check a confirmation with `gpg --verify NAME.txt.sig NAME.txt`.
";

/// What came of writing a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is there now.
    New,
    /// It was there, but damaged, and is whole now.
    Mended,
    /// It was there, and is whole.
    AlreadyThere,
}

/// A bundle that nobody else uses meanwhile, as far as they ask.
pub struct Bundle {
    path: PathBuf,
    folder: Folder,
    /// Folders whose names have to be flushed.
    touched: std::cell::RefCell<BTreeSet<PathBuf>>,
    _lock: Flock<File>,
}

impl Bundle {
    /// The bundle in `folder`, which must have one.
    pub fn open(folder: &Path) -> Result<Self, BundleError> {
        let at = |error| BundleError::Folder { path: folder.to_owned(), error };
        let outer = Folder::open(folder).map_err(at)?;
        match outer.enter(FOLDER.as_ref()) {
            Ok(inner) => Self::lock(folder, inner),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(BundleError::None(folder.to_owned()))
            }
            Err(error) => Err(BundleError::Folder { path: folder.join(FOLDER), error }),
        }
    }

    /// The bundle in `folder`, made where it has none. The folder itself must be there: where a stick is not mounted,
    /// nothing is to be written below its mount point.
    pub fn create(folder: &Path) -> Result<Self, BundleError> {
        let at = |error| BundleError::Folder { path: folder.to_owned(), error };
        let outer = Folder::open(folder).map_err(at)?;
        let inner = outer.make(FOLDER.as_ref()).map_err(at)?;
        let bundle = Self::lock(folder, inner)?;
        if !bundle.folder.has("README.txt".as_ref()) {
            bundle.place(&bundle.folder, "README.txt", README.as_bytes()).map_err(at)?;
        }
        for kind in [Kind::Documents, Kind::Confirmations] {
            bundle.folder.make(kind.folder().as_ref()).map_err(at)?;
        }
        bundle.folder.make(index::FOLDER.as_ref()).map_err(at)?;
        bundle.folder.sync().and_then(|()| outer.sync()).map_err(at)?;
        Ok(bundle)
    }

    fn lock(outer: &Path, folder: Folder) -> Result<Self, BundleError> {
        let path = outer.join(FOLDER);
        let file = folder.handle().map_err(|error| BundleError::Folder { path: path.clone(), error })?;
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Err(BundleError::InUse(path)),
            Err((_, errno)) => return Err(BundleError::Folder { path, error: errno.into() }),
        };
        Ok(Bundle { path, folder, touched: Default::default(), _lock: lock })
    }

    /// Where it is, `waypost` included.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder, for files that this crate knows nothing of.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The files of a kind in ascending order of their ids, and what is among them that does not belong there.
    pub fn walk(&self, kind: Kind) -> Walk<'_> {
        Walk::new(&self.folder, kind)
    }

    /// What the indexes say, those that are whole. The others come as faults.
    pub fn listing(&self) -> (Listing, Vec<Fault>) {
        Listing::open(&self.folder)
    }

    /// Opens a document's file and reads its beginning; the hash is still to be checked ([`DocumentFile::verify`]).
    pub fn document(&self, place: &Place) -> Result<DocumentFile, Damage> {
        DocumentFile::open(&place.shelf, &place.name, place.id)
    }

    /// Whether there is a file for a document, whole or not.
    pub fn has_document(&self, id: &MessageId) -> bool {
        let shelf = self.folder.enter(Kind::Documents.folder().as_ref());
        let shelf = shelf.and_then(|upper| upper.enter(shelves::shelf_name(id).as_ref()));
        shelf.is_ok_and(|shelf| shelf.has(Kind::Documents.name(id).as_ref()))
    }

    /// Writes a document unless it is there; what is there is verified. `read` gives at most so many bytes of the body
    /// from an offset on, and an empty answer where it has no more.
    pub fn put_document<E>(
        &self,
        description: &Description,
        read: impl FnMut(u64, usize) -> Result<bytes::Bytes, E>,
    ) -> Result<Written, WriteError<E>> {
        let shelf = self.shelf(Kind::Documents, &description.id).map_err(WriteError::Bundle)?;
        let name = Kind::Documents.name(&description.id);
        let there = DocumentFile::open(&shelf, &name, description.id).and_then(|mut file| {
            // Compared before it is read: a file that claims to be huge costs no time.
            if file.description() == description {
                return file.verify();
            }
            Err(Damage::Length { found: file.length(), expected: description.size })
        });
        let before = match there {
            Ok(()) => return Ok(Written::AlreadyThere),
            Err(Damage::Missing) => Written::New,
            Err(_) => Written::Mended,
        };
        document::write(&shelf, &name, description, read)?;
        Ok(before)
    }

    /// Removes a file; that of a confirmation with its signature.
    pub fn remove(&self, place: &Place) -> io::Result<()> {
        self.note(place.kind, &place.id);
        if place.kind == Kind::Confirmations {
            place.shelf.remove(confirmations::signature_name(&place.id).as_ref())?;
        }
        place.shelf.remove(place.name.as_ref())
    }

    /// Removes what was being written when it was interrupted.
    pub fn remove_parts(&self) -> io::Result<()> {
        for kind in [Kind::Documents, Kind::Confirmations] {
            let upper = self.folder.make(kind.folder().as_ref())?;
            for shelf in 0..=255u8 {
                let name = format!("{shelf:02x}");
                let Ok(shelf) = upper.enter(name.as_ref()) else { continue };
                let (names, _) = shelf.names(shelves::MAX_NAMES)?;
                for part in names.iter().filter(|name| name.as_encoded_bytes().ends_with(b".part")) {
                    shelf.remove(part)?;
                }
            }
        }
        Ok(())
    }

    /// Begins an index. It takes the place of the writer's last one when it is finished.
    pub fn index(&self, writer: &Writer) -> io::Result<IndexWriter> {
        IndexWriter::begin(self.folder.make(index::FOLDER.as_ref())?, writer)
    }

    /// Flushes the names of what was written and removed: until then a power cut may undo it.
    pub fn flush(&self) -> io::Result<()> {
        let touched = std::mem::take(&mut *self.touched.borrow_mut());
        let mut kinds = BTreeSet::new();
        for path in &touched {
            let mut folder = None;
            for part in path.components() {
                let inside = folder.as_ref().unwrap_or(&self.folder).enter(part.as_os_str())?;
                folder = Some(inside);
            }
            folder.as_ref().unwrap_or(&self.folder).sync()?;
            kinds.extend(path.parent().map(Path::to_owned));
        }
        for kind in kinds {
            self.folder.enter(kind.as_os_str())?.sync()?;
        }
        // FAT keeps its tables apart from files and folders.
        Ok(syncfs(self.folder.handle()?)?)
    }

    /// The folder that an id's file belongs in, made where it is missing.
    fn shelf(&self, kind: Kind, id: &MessageId) -> io::Result<Folder> {
        self.note(kind, id);
        self.folder.make(kind.folder().as_ref())?.make(shelves::shelf_name(id).as_ref())
    }

    fn note(&self, kind: Kind, id: &MessageId) {
        self.touched.borrow_mut().insert(Path::new(kind.folder()).join(shelves::shelf_name(id)));
    }

    /// Writes a small file beside, flushes it, and gives it its name.
    fn place(&self, folder: &Folder, name: &str, bytes: &[u8]) -> io::Result<()> {
        let part = folder::part_name(name);
        let mut file = folder.create(part.as_ref(), 0o644)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        drop(file);
        match written.and_then(|()| folder.rename(part.as_ref(), name.as_ref())) {
            Ok(()) => Ok(()),
            Err(error) => {
                // It would take room that others may need.
                let _ = folder.remove(part.as_ref());
                Err(error)
            }
        }
    }
}
