//! Free space on the disk, and the reserve file that is given up so that deleting works on a full one.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Tells how much a file system can still take.
pub trait DiskSpace: Send + Sync {
    /// Bytes that this user may still write below `path`.
    fn free(&self, path: &Path) -> io::Result<u64>;

    /// Bytes that the file system with `path` has in all, free or not.
    fn size(&self, path: &Path) -> io::Result<u64>;
}

/// What the operating system says (`statvfs`).
#[derive(Debug, Clone, Copy)]
pub struct SystemDisk;

impl DiskSpace for SystemDisk {
    fn free(&self, path: &Path) -> io::Result<u64> {
        let stat = nix::sys::statvfs::statvfs(path)?;
        // The fields' widths differ between platforms.
        #[allow(clippy::useless_conversion, reason = "u32 on some platforms, u64 on others")]
        let (blocks, size) = (u64::from(stat.blocks_available()), u64::from(stat.fragment_size()));
        Ok(blocks.saturating_mul(size))
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        let stat = nix::sys::statvfs::statvfs(path)?;
        // What only root may use counts as full.
        #[allow(clippy::useless_conversion, reason = "u32 on some platforms, u64 on others")]
        let (blocks, size) = (u64::from(stat.blocks()), u64::from(stat.fragment_size()));
        Ok(blocks.saturating_mul(size))
    }
}

/// The reserve file.
pub(crate) struct Reserve {
    path: PathBuf,
    size: u64,
}

impl Reserve {
    pub(crate) fn new(folder: &Path, size: u64) -> Self {
        Reserve { path: folder.join("reserve"), size }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Gives the space up. Whether there was any.
    pub(crate) fn release(&self) -> bool {
        let there = fs::remove_file(&self.path).is_ok();
        if there {
            log::warn!(path:% = self.path.display(); "disk is full: gave up the store's reserve so that deleting works");
        }
        there
    }

    /// Makes the file again where at least three times its size is free. It holds nothing.
    pub(crate) fn restore(&self, free: u64) {
        if self.size == 0 || free < self.size.saturating_mul(3) || self.path.exists() {
            return;
        }
        if let Err(error) = self.allocate() {
            log::warn!(path:% = self.path.display(), error:%; "could not make the store's reserve file");
            let _ = fs::remove_file(&self.path);
        }
    }

    fn allocate(&self) -> io::Result<()> {
        let file = File::create(&self.path)?;
        let size = i64::try_from(self.size).unwrap_or(i64::MAX);
        // posix_fallocate writes the blocks itself where the file system cannot reserve them.
        nix::fcntl::posix_fallocate(&file, 0, size)?;
        file.sync_all()
    }
}

/// Makes a new file's name durable: a file's own flush does not cover its folder's entry.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
