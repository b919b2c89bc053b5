//! Remote logs (Vac's 3/REMOTE-LOG): what a gateway holds, listed where others can read it although they never meet.
//!
//! A *place* is a content store and a name system ([`ContentStore`], [`NameSystem`]): the destination, a folder on a
//! stick. A [`Writer`] puts documents there and [pages](page) that list them, and signs a [head](mod@head) that names the
//! newest page. A [`Reader`] goes from the head to what it knows already, verifies everything on the way, and hands
//! over what its [`Shelf`] wants. Nothing here has a clock or a socket; only [`Folder`] touches files.
//!
//! `docs/remote-log.md` is the format.

pub mod folder;
pub mod hash;
pub mod head;
pub mod memory;
pub mod page;
pub mod place;
pub mod reader;
mod superseded;
mod wire;
pub mod writer;

pub use folder::Folder;
pub use hash::ContentHash;
pub use head::{Head, LogId, LogKey, Signer};
pub use page::{Chain, Content, Described, Entry, Page};
pub use place::{ContentStore, NameSystem, Place, PlaceError};
pub use reader::{Progress, ReadError, Reader, Shelf, ShelfError};
pub use superseded::superseded;
pub use writer::{Mode, Source, WriteError, Writer};
