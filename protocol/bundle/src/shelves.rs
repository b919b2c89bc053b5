//! Where files lie: two levels of folders, so that FAT folders stay small, and walking them in order.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use waypost_protocol::ids::MessageId;

use crate::fault::{Damage, Fault};
use crate::folder::Folder;

/// A folder is read up to so many names; with 256 of them that is more than a stick should carry.
pub(crate) const MAX_NAMES: usize = 65_536;

/// What is kept in two levels of folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `documents/ab/<id>.mvds`: a document in its canonical encoding.
    Documents,
    /// `confirmations/ab/<id>.txt` and `.txt.sig`: what a destination signed, and the signature.
    Confirmations,
}

impl Kind {
    /// The upper folder.
    pub fn folder(self) -> &'static str {
        match self {
            Kind::Documents => "documents",
            Kind::Confirmations => "confirmations",
        }
    }

    fn ending(self) -> &'static str {
        match self {
            Kind::Documents => ".mvds",
            Kind::Confirmations => ".txt",
        }
    }

    /// The file's name.
    pub fn name(self, id: &MessageId) -> String {
        format!("{id}{}", self.ending())
    }

    /// Relative to the bundle's folder.
    pub fn path(self, id: &MessageId) -> PathBuf {
        Path::new(self.folder()).join(shelf_name(id)).join(self.name(id))
    }

    /// Its own names only: lower case, as they are written.
    fn id(self, name: &str) -> Option<MessageId> {
        let id: MessageId = name.strip_suffix(self.ending())?.parse().ok()?;
        (self.name(&id) == name).then_some(id)
    }
}

/// The first two digits.
pub(crate) fn shelf_name(id: &MessageId) -> String {
    format!("{:02x}", id.0[0])
}

/// A file that has the name of one of its kind.
pub struct Place {
    /// What it should be.
    pub kind: Kind,
    /// The id in its name.
    pub id: MessageId,
    pub(crate) name: String,
    pub(crate) shelf: Arc<Folder>,
}

impl Place {
    /// Relative to the bundle's folder.
    pub fn path(&self) -> PathBuf {
        self.kind.path(&self.id)
    }

    /// This file, with what is wrong with it.
    pub fn fault(&self, damage: Damage) -> Fault {
        Fault { path: self.path(), damage }
    }
}

/// The files of a kind, in ascending order of their ids; what does not belong there comes as a fault.
pub struct Walk<'a> {
    bundle: &'a Folder,
    kind: Kind,
    upper: Option<Folder>,
    /// The lower folders that are yet to be read; `None` before the upper one was.
    shelves: Option<VecDeque<String>>,
    found: VecDeque<Result<Place, Fault>>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(bundle: &'a Folder, kind: Kind) -> Self {
        Walk { bundle, kind, upper: None, shelves: None, found: VecDeque::new() }
    }

    fn fault(&mut self, path: PathBuf, damage: Damage) {
        self.found.push_back(Err(Fault { path, damage }));
    }

    fn begin(&mut self) {
        let shelves = self.shelves.insert(VecDeque::new());
        let folder = Path::new(self.kind.folder());
        let upper = match self.bundle.enter(folder.as_os_str()) {
            Ok(upper) => upper,
            Err(error) => {
                match Damage::from(error) {
                    // A bundle without documents, or without confirmations.
                    Damage::Missing => {}
                    damage => self.fault(folder.to_owned(), damage),
                }
                return;
            }
        };
        match upper.names(MAX_NAMES) {
            Err(error) => self.fault(folder.to_owned(), error.into()),
            Ok((names, more)) => {
                let mut strangers = Vec::new();
                let is_shelf = |name: &str| (0..=255u8).any(|byte| format!("{byte:02x}") == name);
                for name in names {
                    match name.into_string() {
                        Ok(name) if is_shelf(&name) => shelves.push_back(name),
                        Ok(other) => strangers.push(folder.join(other)),
                        Err(other) => strangers.push(folder.join(other)),
                    }
                }
                strangers.into_iter().for_each(|path| self.stranger(path));
                if more {
                    self.fault(folder.to_owned(), Damage::TooMany(MAX_NAMES));
                }
            }
        }
        self.upper = Some(upper);
    }

    fn shelf(&mut self, name: &str) {
        let Some(upper) = &self.upper else { return };
        let path = Path::new(self.kind.folder()).join(name);
        let read = upper.enter(name.as_ref()).and_then(|shelf| Ok((shelf.names(MAX_NAMES)?, shelf)));
        let ((names, more), shelf) = match read {
            Ok(read) => read,
            Err(error) => {
                return match Damage::from(error) {
                    Damage::Missing => {}
                    damage => self.fault(path, damage),
                };
            }
        };
        let shelf = Arc::new(shelf);
        for file in names {
            let id = file.to_str().and_then(|file| self.kind.id(file)).filter(|id| shelf_name(id) == name);
            match (id, file.into_string()) {
                (Some(id), Ok(name)) => {
                    let place = Place { kind: self.kind, id, name, shelf: shelf.clone() };
                    self.found.push_back(Ok(place));
                }
                (_, Ok(other)) => {
                    let of_a_text =
                        other.strip_suffix(".sig").is_some_and(|text| self.kind.id(text).is_some());
                    if self.kind != Kind::Confirmations || !of_a_text {
                        self.stranger(path.join(other));
                    }
                }
                (_, Err(other)) => self.stranger(path.join(other)),
            }
        }
        if more {
            self.fault(path, Damage::TooMany(MAX_NAMES));
        }
    }

    /// What was being written when the stick was pulled is no news, nor is what other systems leave in every folder.
    fn stranger(&mut self, path: PathBuf) {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        if !name.ends_with(b".part") && !name.starts_with(b".") {
            self.fault(path, Damage::Stranger);
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Place, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.shelves.is_none() {
            self.begin();
        }
        loop {
            if let Some(found) = self.found.pop_front() {
                return Some(found);
            }
            let name = self.shelves.as_mut().and_then(VecDeque::pop_front)?;
            self.shelf(&name);
        }
    }
}
