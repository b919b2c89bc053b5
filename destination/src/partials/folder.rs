//! Unfinished uploads as files of this machine, each named by client, document and length; its own length is the offset.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use tokio_util::sync::CancellationToken;

use super::claims::Key;
use super::{Claimed, KEPT, PartialError, Pending, Place, Room, Stored, StoredBytes};
use crate::store::{Records, StoreError};

/// `CLIENT/ID-LENGTH` below a folder that one process alone uses.
pub(crate) struct Folder {
    folder: PathBuf,
    /// Held while room is made.
    beginning: Mutex<()>,
}

struct StoredFile {
    path: PathBuf,
    file: File,
    length: u64,
    offset: u64,
}

impl Folder {
    /// The folder is made.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Folder { folder: folder.to_owned(), beginning: Mutex::new(()) })
    }

    fn of(&self, client: i64) -> PathBuf {
        self.folder.join(client.to_string())
    }

    /// A client's unfinished uploads.
    fn all(&self, client: i64) -> io::Result<Vec<(PathBuf, Pending)>> {
        let folder = match fs::read_dir(self.of(client)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            folder => folder?,
        };
        let now = SystemTime::now();
        let mut found = Vec::new();
        for entry in folder {
            let entry = entry?;
            let name = entry.file_name();
            let parts = name.to_str().and_then(|name| name.split_once('-'));
            let parts = parts.and_then(|(id, length)| Some((id.parse().ok()?, length.parse().ok()?)));
            if let (Some((id, length)), Ok(metadata)) = (parts, entry.metadata()) {
                let idle = now.duration_since(metadata.modified()?).unwrap_or_default();
                found.push((entry.path(), Pending { id, length, idle }));
            }
        }
        Ok(found)
    }
}

impl Place for Folder {
    fn begin(
        &self,
        (client, id): Key,
        length: u64,
        room: &Room,
        _: &CancellationToken,
    ) -> Result<Box<dyn Stored>, PartialError> {
        let _alone = self.beginning.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = self.of(client);
        fs::create_dir_all(&folder)?;
        let all = self.all(client)?;
        let others = all.iter().map(|(_, pending)| pending).filter(|pending| pending.id != id);
        let gone = room.make(others.cloned().collect(), length).map_err(PartialError::Full)?;
        for (path, pending) in &all {
            if gone.contains(&pending.id) {
                log::info!("an unfinished upload made room for another: {}", path.display());
            }
            if pending.id == id || gone.contains(&pending.id) {
                fs::remove_file(path)?;
            }
        }
        let path = folder.join(format!("{id}-{length}"));
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(&path)?;
        Ok(Box::new(StoredFile { path, file, length, offset: 0 }))
    }

    fn claim(
        &self,
        (client, id): Key,
        _: &mut Option<i64>,
        _: bool,
        _: &CancellationToken,
    ) -> Result<Claimed, PartialError> {
        let all = self.all(client)?;
        let Some((path, pending)) = all.into_iter().find(|(_, pending)| pending.id == id) else {
            return Ok(Claimed::None);
        };
        let file = OpenOptions::new().read(true).append(true).open(&path)?;
        file.set_modified(SystemTime::now())?;
        let offset = file.metadata()?.len().min(pending.length);
        Ok(Claimed::Mine(Box::new(StoredFile { path, file, length: pending.length, offset })))
    }

    fn sweep(&self, records: &dyn Records) -> Result<(), PartialError> {
        for entry in fs::read_dir(&self.folder)? {
            let Some(client) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let is_revoked = match records.account(client) {
                Err(StoreError::Revoked) => true,
                account => account.map(|_| false)?,
            };
            for (path, pending) in self.all(client)? {
                if is_revoked || pending.idle > KEPT {
                    fs::remove_file(path)?;
                }
            }
        }
        Ok(())
    }

    fn sweep_orphans(&self) -> Result<(), PartialError> {
        // A file is its own name.
        Ok(())
    }
}

impl Stored for StoredFile {
    fn length(&self) -> u64 {
        self.length
    }

    fn offset(&self) -> u64 {
        self.offset
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
            // What of it was written is no part of the upload.
            let _ = self.file.set_len(self.offset);
            return Err(error);
        }
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn reader(&self) -> io::Result<StoredBytes> {
        Ok(Box::new(File::open(&self.path)?))
    }

    fn remove(&mut self) -> Result<(), PartialError> {
        match fs::remove_file(&self.path) {
            // It made room for another, or its client was revoked.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => Ok(other?),
        }
    }
}
