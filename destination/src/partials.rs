//! Large documents whose upload goes on later (tus 1.0): what came of each, as a file named by client, document and
//! length.
//!
//! The file's length is the upload's offset. Whether its bytes are the document's is only known when all have come
//! and its id is computed; so nothing here needs to be trusted after a power cut.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;
use waypost_protocol::ids::MessageId;

use crate::intake::Incoming;

/// Unfinished uploads of one client; the one that was left alone longest makes room for another.
const MOST: usize = 16;
/// How long an unfinished upload is kept after its last byte.
const KEPT: Duration = Duration::from_secs(14 * 86_400);
/// How long a request waits for an earlier one of the same upload to let go of it.
const PATIENCE: Duration = Duration::from_secs(10);

/// One upload: a client's, of one document.
type Key = (i64, MessageId);

/// The folder of unfinished uploads.
pub struct Partials {
    folder: PathBuf,
    claims: Mutex<HashMap<Key, CancellationToken>>,
    released: Condvar,
}

/// Why an unfinished upload cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PartialError {
    /// An earlier request does not let go of it.
    #[error("an earlier request of this upload has not ended; try again in some seconds")]
    Locked,
    /// The file system.
    #[error(transparent)]
    File(#[from] io::Error),
}

/// An unfinished upload, which nobody else has meanwhile.
pub struct Partial {
    partials: Arc<Partials>,
    key: Key,
    superseded: CancellationToken,
    path: PathBuf,
    length: u64,
    offset: u64,
    file: File,
    /// Why bytes could not be kept.
    fault: Option<io::Error>,
}

impl Partials {
    /// In that folder, which is made.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Partials { folder: folder.to_owned(), claims: Mutex::default(), released: Condvar::new() })
    }

    /// Begins an upload of `length` bytes. What there is of the same document is thrown away.
    pub fn create(
        self: &Arc<Self>,
        client: i64,
        id: MessageId,
        length: u64,
    ) -> Result<Partial, PartialError> {
        let claim = self.claim((client, id))?;
        let folder = self.folder.join(client.to_string());
        fs::create_dir_all(&folder)?;
        self.make_room(client, &id)?;
        if let Some((path, _)) = self.look(client, &id)? {
            fs::remove_file(path)?;
        }
        let path = folder.join(format!("{id}-{length}"));
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(&path)?;
        Ok(claim.with(path, length, file))
    }

    /// The upload of this document that this client began, if any. A request that still adds to it is ended first: its
    /// client is back, so its connection is dead.
    pub fn find(self: &Arc<Self>, client: i64, id: MessageId) -> Result<Option<Partial>, PartialError> {
        if self.look(client, &id)?.is_none() {
            return Ok(None);
        }
        let claim = self.claim((client, id))?;
        // The request that was ended may have finished it.
        let Some((path, length)) = self.look(client, &id)? else { return Ok(None) };
        let file = OpenOptions::new().read(true).append(true).open(&path)?;
        let mut partial = claim.with(path, length, file);
        partial.offset = partial.file.metadata()?.len().min(length);
        Ok(Some(partial))
    }

    /// Removes what was left alone for too long, of all clients.
    pub fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let Some(client) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            for (path, _, touched) in self.all(client)? {
                if touched.elapsed().is_ok_and(|age| age > KEPT) {
                    fs::remove_file(path)?;
                }
            }
        }
        Ok(())
    }

    /// File and length of an unfinished upload.
    fn look(&self, client: i64, id: &MessageId) -> io::Result<Option<(PathBuf, u64)>> {
        let all = self.all(client)?;
        let prefix = format!("{id}-");
        Ok(all.into_iter().find_map(|(path, length, _)| {
            path.file_name()?.to_str()?.starts_with(&prefix).then_some((path, length))
        }))
    }

    /// A client's unfinished uploads: file, length, last change.
    fn all(&self, client: i64) -> io::Result<Vec<(PathBuf, u64, SystemTime)>> {
        let folder = match fs::read_dir(self.folder.join(client.to_string())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            folder => folder?,
        };
        let mut found = Vec::new();
        for entry in folder {
            let entry = entry?;
            let name = entry.file_name();
            let length = name.to_str().and_then(|name| name.split_once('-')?.1.parse().ok());
            if let (Some(length), Ok(metadata)) = (length, entry.metadata()) {
                found.push((entry.path(), length, metadata.modified()?));
            }
        }
        Ok(found)
    }

    fn make_room(&self, client: i64, newcomer: &MessageId) -> io::Result<()> {
        let mut all = self.all(client)?;
        let own = format!("{newcomer}-");
        all.retain(|(path, _, _)| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| !name.starts_with(&own))
        });
        all.sort_by_key(|(_, _, touched)| *touched);
        let most = all.len().saturating_sub(MOST - 1);
        for (path, _, _) in all.into_iter().take(most) {
            log::info!("an unfinished upload made room for another: {}", path.display());
            fs::remove_file(path)?;
        }
        Ok(())
    }

    fn claims(&self) -> MutexGuard<'_, HashMap<Key, CancellationToken>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn claim(self: &Arc<Self>, key: Key) -> Result<Claim, PartialError> {
        let claims = self.claims();
        if let Some(earlier) = claims.get(&key) {
            earlier.cancel();
        }
        let held = |claims: &mut HashMap<Key, CancellationToken>| claims.contains_key(&key);
        let waited = self.released.wait_timeout_while(claims, PATIENCE, held);
        let (mut claims, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if claims.contains_key(&key) {
            return Err(PartialError::Locked);
        }
        let superseded = CancellationToken::new();
        claims.insert(key, superseded.clone());
        Ok(Claim { partials: self.clone(), key, superseded, is_passed_on: false })
    }

    fn release(&self, key: &Key) {
        self.claims().remove(key);
        self.released.notify_all();
    }
}

/// The right to a [`Partial`] that is not there yet.
struct Claim {
    partials: Arc<Partials>,
    key: Key,
    superseded: CancellationToken,
    is_passed_on: bool,
}

impl Claim {
    fn with(mut self, path: PathBuf, length: u64, file: File) -> Partial {
        self.is_passed_on = true;
        let (partials, key, superseded) = (self.partials.clone(), self.key, self.superseded.clone());
        Partial { partials, key, superseded, path, length, offset: 0, file, fault: None }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.is_passed_on {
            self.partials.release(&self.key);
        }
    }
}

impl Partial {
    /// Bytes in all.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Bytes that are here.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Told when another request wants this upload: this one must end.
    pub fn superseded(&self) -> CancellationToken {
        self.superseded.clone()
    }

    /// What passes through the reader is also kept here.
    pub fn keeping<'b, R>(&'b mut self, source: &'b mut R) -> Keeping<'b, R> {
        Keeping { source, file: &mut self.file, offset: &mut self.offset, fault: &mut self.fault }
    }

    /// Why bytes could not be kept, where that is what ended the reading.
    pub fn take_fault(&mut self) -> Option<io::Error> {
        self.fault.take()
    }

    /// All bytes that are here, from the first on.
    pub fn reader(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    /// Flushes what is here to the disk.
    pub fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Removes it.
    pub fn remove(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        self.partials.release(&self.key);
    }
}

/// Reads from a source, and keeps what it reads.
pub struct Keeping<'a, R> {
    source: &'a mut R,
    file: &'a mut File,
    offset: &'a mut u64,
    fault: &'a mut Option<io::Error>,
}

impl<R: Read> Read for Keeping<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        if let Err(error) = self.file.write_all(buffer.get(..count).unwrap_or_default()) {
            // What of it was written is no part of the upload.
            let _ = self.file.set_len(*self.offset);
            let kind = error.kind();
            *self.fault = Some(error);
            return Err(kind.into());
        }
        *self.offset += count as u64;
        Ok(count)
    }
}

impl<R: Incoming> Incoming for Keeping<'_, R> {
    fn is_idle(&mut self) -> bool {
        self.source.is_idle()
    }

    fn is_intact(&self) -> bool {
        self.source.is_intact()
    }
}

impl Incoming for File {}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: MessageId = MessageId([7; 32]);

    fn partials() -> (tempfile::TempDir, Arc<Partials>) {
        let folder = tempfile::tempdir().unwrap();
        let partials = Partials::open(&folder.path().join("partials")).unwrap();
        (folder, Arc::new(partials))
    }

    fn add(partial: &mut Partial, bytes: &[u8]) {
        io::copy(&mut partial.keeping(&mut &*bytes), &mut io::sink()).unwrap();
    }

    #[test]
    fn an_upload_is_found_again_with_what_it_has_also_by_another_process() {
        let (folder, partials) = partials();
        let mut partial = partials.create(1, ID, 10).unwrap();
        add(&mut partial, b"hello");
        drop(partial);
        let other = Arc::new(Partials::open(&folder.path().join("partials")).unwrap());
        let mut partial = other.find(1, ID).unwrap().unwrap();
        assert_eq!((partial.offset(), partial.length()), (5, 10));
        add(&mut partial, b"world");
        assert_eq!(io::read_to_string(partial.reader().unwrap()).unwrap(), "helloworld");
        partial.remove().unwrap();
        assert!(partials.find(1, ID).unwrap().is_none());
    }

    #[test]
    fn uploads_of_one_document_by_two_clients_are_apart() {
        let (_folder, partials) = partials();
        add(&mut partials.create(1, ID, 10).unwrap(), b"hello");
        assert!(partials.find(2, ID).unwrap().is_none());
        add(&mut partials.create(2, ID, 10).unwrap(), b"x");
        assert_eq!(partials.find(1, ID).unwrap().unwrap().offset(), 5);
        assert_eq!(partials.find(2, ID).unwrap().unwrap().offset(), 1);
    }

    #[test]
    fn whoever_comes_later_ends_the_earlier_request() {
        let (_folder, partials) = partials();
        let partials = &partials;
        let earlier = partials.create(1, ID, 10).unwrap();
        let superseded = earlier.superseded();
        std::thread::scope(|scope| {
            let later = scope.spawn(move || partials.find(1, ID).unwrap().unwrap().offset());
            while !superseded.is_cancelled() {
                std::thread::yield_now();
            }
            let mut earlier = earlier;
            add(&mut earlier, b"abc");
            drop(earlier);
            assert_eq!(later.join().unwrap(), 3);
        });
    }

    #[test]
    fn the_upload_left_alone_longest_makes_room() {
        let (_folder, partials) = partials();
        let id = |n: usize| MessageId([u8::try_from(n).unwrap(); 32]);
        for n in 0..MOST {
            let partial = partials.create(1, id(n), 10).unwrap();
            let age = Duration::from_secs(1_000 - n as u64);
            partial.file.set_modified(SystemTime::now() - age).unwrap();
        }
        drop(partials.create(1, id(3), 10).unwrap());
        assert!(partials.find(1, id(0)).unwrap().is_some(), "its own place is no other's");
        drop(partials.create(1, id(MOST), 10).unwrap());
        let found: Vec<bool> = (0..=MOST).map(|n| partials.find(1, id(n)).unwrap().is_some()).collect();
        assert_eq!(found.iter().filter(|found| !**found).count(), 1);
        assert!(!found[0]);
    }

    #[test]
    fn what_was_left_alone_for_weeks_is_swept_away() {
        let (_folder, partials) = partials();
        let old = partials.create(1, ID, 10).unwrap();
        old.file.set_modified(SystemTime::now() - KEPT - Duration::from_secs(60)).unwrap();
        drop(old);
        drop(partials.create(1, MessageId([8; 32]), 10).unwrap());
        partials.sweep().unwrap();
        assert!(partials.find(1, ID).unwrap().is_none());
        assert!(partials.find(1, MessageId([8; 32])).unwrap().is_some());
    }
}
