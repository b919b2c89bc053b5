//! What the indexes of a bundle say, compared with what lies there: both in ascending order, neither held in memory.

use std::path::Path;

use waypost_protocol::ids::MessageId;

use crate::fault::{Damage, Fault};
use crate::folder::Folder;
use crate::index::{self, Entry, IndexReader, Writer};

/// So many indexes are read; more gateways than that share no stick.
const MAX_INDEXES: usize = 256;

/// All indexes that are whole.
pub struct Listing {
    readers: Vec<IndexReader>,
}

/// What indexes say of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The id.
    pub id: MessageId,
    /// Bytes of its body.
    pub size: u64,
    /// Seconds under way; the most that any says.
    pub age: u64,
    /// Who lists it.
    pub by: Vec<Writer>,
}

impl Listing {
    pub(crate) fn open(bundle: &Folder) -> (Self, Vec<Fault>) {
        let mut listing = Listing { readers: Vec::new() };
        let mut faults = Vec::new();
        let mut fault = |path: &Path, damage| faults.push(Fault { path: path.to_owned(), damage });
        let upper = Path::new(index::FOLDER);
        let folder = match bundle.enter(index::FOLDER.as_ref()).map_err(Damage::from) {
            Ok(folder) => folder,
            Err(Damage::Missing) => return (listing, faults),
            Err(damage) => {
                fault(upper, damage);
                return (listing, faults);
            }
        };
        match folder.names(MAX_INDEXES) {
            Err(error) => fault(upper, error.into()),
            Ok((names, more)) => {
                for name in names {
                    let path = upper.join(&name);
                    let Some(name) = name.to_str() else {
                        fault(&path, Damage::Stranger);
                        continue;
                    };
                    match Writer::of_file(name) {
                        Some(writer) => match IndexReader::open(&folder, name, writer) {
                            Ok(reader) => listing.readers.push(reader),
                            Err(damage) => fault(&path, damage),
                        },
                        None if name.ends_with(".part") || name.starts_with('.') => {}
                        None => fault(&path, Damage::Stranger),
                    }
                }
                if more {
                    fault(upper, Damage::TooMany(MAX_INDEXES));
                }
            }
        }
        (listing, faults)
    }

    /// Whose indexes they are.
    pub fn writers(&self) -> impl Iterator<Item = &Writer> {
        self.readers.iter().map(|reader| &reader.writer)
    }

    /// The next document that any index lists, if its id is at most `until` (any, where that is `None`).
    pub fn next_document(&mut self, until: Option<&MessageId>) -> Option<Listed> {
        let next = |reader: &IndexReader| match reader.next() {
            Some(Entry::Document { document, size, age }) => Some((*document, *size, *age)),
            _ => None,
        };
        let id = self.readers.iter().filter_map(next).map(|(id, _, _)| id).min()?;
        if until.is_some_and(|until| id > *until) {
            return None;
        }
        let mut listed = Listed { id, size: 0, age: 0, by: Vec::new() };
        for reader in &mut self.readers {
            if let Some((_, size, age)) = next(reader).filter(|(found, _, _)| *found == id) {
                listed.size = size;
                listed.age = listed.age.max(age);
                listed.by.push(reader.writer);
                reader.advance();
            }
        }
        Some(listed)
    }

    /// What is listed of `id`, while ids are asked for in ascending order; `missing` gets what is listed before it and
    /// was not asked for.
    pub fn of_document(&mut self, id: &MessageId, mut missing: impl FnMut(Listed)) -> Option<Listed> {
        while let Some(listed) = self.next_document(Some(id)) {
            if listed.id == *id {
                return Some(listed);
            }
            missing(listed);
        }
        None
    }
}
