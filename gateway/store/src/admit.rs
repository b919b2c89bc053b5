//! Admission: how much room there is for documents, so that what is taken can also be written and deleted again.

use crate::error::StoreError;
use crate::seal;
use crate::tables::Table;
use crate::{Store, body};

/// How full a store is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// In use by rows and bodies.
    pub used: u64,
    /// Size of the database file, which keeps freed pages for later use.
    pub file: u64,
    /// Free on the disk.
    pub disk_free: u64,
    /// The most that the store may use: the lesser of its quota and 90 % of its map.
    pub limit: u64,
    /// What documents may still be taken: what is left below the limit and, beyond the reserve, on the disk.
    pub room: u64,
}

impl Store {
    /// Bytes of its disk that are free for this user, and all of them; nothing where the system does not say. What is freed within
    /// the database file, which never shrinks, is free.
    pub fn disk(&self) -> Option<(u64, u64)> {
        let inner = &self.inner;
        let Usage { used, file, disk_free, .. } = self.usage().ok()?;
        let free = disk_free.saturating_add(file.saturating_sub(used));
        inner.options.disk.size(&inner.folder).ok().map(|size| (free.min(size), size))
    }

    /// How full it is.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let txn = self.inner.tables.read()?;
        self.usage_in(&txn)
    }

    pub(crate) fn usage_in(&self, txn: &heed::RoTxn) -> Result<Usage, StoreError> {
        let inner = &self.inner;
        let environment = inner.tables.environment();
        let mut used = 0u64;
        for (table, _) in Table::ALL {
            let stat = inner.tables.database(table).stat(txn)?;
            let pages = stat.branch_pages + stat.leaf_pages + stat.overflow_pages;
            used = used.saturating_add((pages as u64).saturating_mul(u64::from(stat.page_size)));
        }
        let info = environment.info();
        let file = environment.real_disk_size()?;
        let limit = inner.options.quota.min((info.map_size as u64 / 10).saturating_mul(9));
        let disk_free = self.disk_free();
        // Freed pages within the file are used again before it grows.
        let on_disk =
            disk_free.saturating_sub(inner.reserve.size()).saturating_add(file.saturating_sub(used));
        let room = limit.saturating_sub(used).min(on_disk);
        Ok(Usage { used, file, disk_free, limit, room })
    }
}

/// What the rows of a document take, about.
pub(crate) const ROWS: u64 = 1024;

/// What a body of `size` bytes and its document's rows take, in whole pages where LMDB does.
pub(crate) fn cost(size: u64) -> u64 {
    const PAGE: u64 = 4096;
    let piece = body::PIECE as u64;
    let one = |bytes: u64| {
        let sealed = bytes + seal::OVERHEAD as u64 + 16;
        if sealed < PAGE / 2 { sealed } else { sealed.next_multiple_of(PAGE) }
    };
    (size / piece).saturating_mul(one(piece)).saturating_add(one(size % piece)).saturating_add(ROWS)
}
