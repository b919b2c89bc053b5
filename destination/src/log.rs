//! Remote logs of gateways (3/REMOTE-LOG): content by hash, signed heads by name, within a quota.
//!
//! The bytes lie wherever [`LogStorage`] puts them; the rules are here. A head must be signed by the key that is its name,
//! must replace the one that its writer has seen, and never lead back to an earlier one.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{fs, io};

use bytes::Bytes;
use waypost_remote_log::{ContentHash, Folder, Head, LogId, LogKey, Place, PlaceError};

use crate::durable;

/// So many times may a gateway begin a new log under one key.
const MAX_PAST: usize = 1_024;

/// Where content and names are kept. May be used by several threads at a time.
pub trait LogStorage: Send + Sync {
    /// Content and names.
    fn place(&self) -> Result<Box<dyn Place + Send>, PlaceError>;

    /// Bytes of all content; asked once, at the start.
    fn used(&self) -> io::Result<u64>;

    /// Logs that a name has led to before the present one.
    fn past(&self, name: &LogKey) -> io::Result<Vec<LogId>>;

    /// Remembers them, durably.
    fn set_past(&self, name: &LogKey, past: &[LogId]) -> io::Result<()>;
}

/// A folder, laid out as on a stick.
pub struct LogFolder(PathBuf);

impl LogFolder {
    /// That folder, which is made where it is missing.
    pub fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path.join("past"))?;
        Ok(LogFolder(path.to_owned()))
    }

    fn past_file(&self, name: &LogKey) -> PathBuf {
        self.0.join("past").join(name.to_string())
    }
}

impl LogStorage for LogFolder {
    fn place(&self) -> Result<Box<dyn Place + Send>, PlaceError> {
        Ok(Box::new(Folder::on_disk(&self.0)?))
    }

    fn used(&self) -> io::Result<u64> {
        let folders = match fs::read_dir(self.0.join("content")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            other => other?,
        };
        let mut sum = 0u64;
        for folder in folders {
            for file in fs::read_dir(folder?.path())? {
                sum = sum.saturating_add(file?.metadata()?.len());
            }
        }
        Ok(sum)
    }

    fn past(&self, name: &LogKey) -> io::Result<Vec<LogId>> {
        match fs::read(self.past_file(name)) {
            Ok(bytes) => Ok(bytes.chunks_exact(16).filter_map(LogId::from_slice).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn set_past(&self, name: &LogKey, past: &[LogId]) -> io::Result<()> {
        let bytes: Vec<u8> = past.iter().flat_map(|log| log.0).collect();
        durable::write(&self.past_file(name), &bytes, 0o600)
    }
}

/// The logs of all gateways.
pub struct Logs {
    storage: Box<dyn LogStorage>,
    quota: u64,
    /// Bytes of content, with what is being put.
    used: Mutex<u64>,
    /// Held while a name changes.
    naming: Mutex<()>,
}

impl Logs {
    /// With so much room, in bytes.
    pub fn open(storage: Box<dyn LogStorage>, quota: u64) -> io::Result<Self> {
        let used = Mutex::new(storage.used()?);
        Ok(Logs { storage, quota, used, naming: Mutex::default() })
    }

    /// For each, whether it is there.
    pub fn has(&self, hashes: &[ContentHash]) -> Result<Vec<bool>, PlaceError> {
        self.storage.place()?.has(hashes)
    }

    /// Stores content of that hash and length.
    pub fn put(&self, hash: &ContentHash, length: u64, content: &mut dyn Read) -> Result<(), PlaceError> {
        let mut place = self.storage.place()?;
        if place.has(&[*hash])? == [true] {
            return Ok(());
        }
        let mut used = self.used();
        let room = self.quota.saturating_sub(*used);
        if length > room {
            let quota = self.quota;
            return Err(PlaceError::Full(format!(
                "remote logs may take {quota} bytes, {room} are left; the destination's admin can raise `max_log_bytes`"
            )));
        }
        *used += length;
        drop(used);
        let outcome = place.put(hash, length, content);
        if outcome.is_err() {
            *self.used() -= length;
        }
        outcome
    }

    /// Content from a byte on, handed to `take` piece by piece. Stops where `take` says false.
    pub fn get(
        &self,
        hash: &ContentHash,
        offset: u64,
        begun: impl FnOnce(),
        mut take: impl FnMut(io::Result<Bytes>) -> bool,
    ) -> Result<(), PlaceError> {
        let mut place = self.storage.place()?;
        let mut reader = place.get(hash, offset)?;
        begun();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let piece = match reader.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => Ok(Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default())),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let failed = piece.is_err();
            if !take(piece) || failed {
                return Ok(());
            }
        }
    }

    /// A name's head.
    pub fn resolve(&self, name: &LogKey) -> Result<Option<Bytes>, PlaceError> {
        self.storage.place()?.resolve(name)
    }

    /// Replaces the head that has the hash `replaces`.
    pub fn publish(
        &self,
        name: &LogKey,
        bytes: &Bytes,
        replaces: Option<ContentHash>,
    ) -> Result<(), PlaceError> {
        let refused = |why: String| Err(PlaceError::Refused(why));
        let head = match Head::decode(bytes, name) {
            Ok(head) => head,
            Err(error) => return refused(error.to_string()),
        };
        let _naming = self.naming.lock().unwrap_or_else(PoisonError::into_inner);
        let mut place = self.storage.place()?;
        let present = place.resolve(name)?;
        if present.as_ref().map(|bytes| ContentHash::of(bytes)) != replaces {
            return Err(PlaceError::Changed);
        }
        if let Some(present) = present.and_then(|bytes| Head::decode(&bytes, name).ok()) {
            if present.log == head.log && head.sequence <= present.sequence {
                return refused(format!(
                    "head {} is no newer than head {}, which stands there",
                    head.sequence, present.sequence
                ));
            }
            if present.log != head.log {
                let failed = |error: io::Error| PlaceError::Unreachable(error.to_string());
                let mut past = self.storage.past(name).map_err(failed)?;
                if past.contains(&head.log) || past.len() >= MAX_PAST {
                    return refused("this log was ended; begin one with a new id".to_owned());
                }
                past.push(present.log);
                self.storage.set_past(name, &past).map_err(failed)?;
            }
        }
        if place.has(&[head.root])? != [true] {
            return refused(format!("its newest page {} is not there; put it first", head.root));
        }
        place.publish(name, bytes, replaces)
    }

    fn used(&self) -> MutexGuard<'_, u64> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
