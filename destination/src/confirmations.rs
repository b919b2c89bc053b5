//! Confirmations as files that anyone can check: `NAME.txt` and the detached signature `NAME.txt.asc`.

use std::io;
use std::path::{Path, PathBuf};

use waypost_openpgp::armor_signature;
use waypost_protocol::confirmation::Confirmation;

use crate::durable;
use crate::store::{Store, StoreError};

/// How many are read at a time.
const PAGE: u32 = 256;

/// Writes confirmations to a folder.
#[derive(Debug, Clone)]
pub struct Exporter {
    folder: PathBuf,
}

impl Exporter {
    /// To that folder, which must be there.
    pub fn new(folder: &Path) -> Self {
        Exporter { folder: folder.to_owned() }
    }

    /// Writes those that are no files yet. A full disk is logged; they are tried again with the next ones. The store is
    /// told once they are durable: it lasts longer than a file that was only written.
    pub fn export_new(&self, store: &mut Store) -> Result<(), StoreError> {
        loop {
            let page = store.to_export(0, false, PAGE)?;
            let mut written = Vec::with_capacity(page.len());
            for (row, confirmation) in &page {
                match self.write(confirmation) {
                    Ok(()) => written.push(*row),
                    Err(error) => log::warn!("{}: {error}", self.folder.display()),
                }
            }
            if let Err(error) = durable::sync_folder(&self.folder) {
                log::warn!("{}: {error}", self.folder.display());
                return Ok(());
            }
            store.note_exported(&written)?;
            if page.is_empty() || written.len() < page.len() {
                return Ok(());
            }
        }
    }

    /// Writes all; returns how many there are.
    pub fn export_all(&self, store: &Store) -> Result<Result<u64, io::Error>, StoreError> {
        let (mut after, mut count) = (0, 0);
        loop {
            let page = store.to_export(after, true, PAGE)?;
            let Some((last, _)) = page.last() else {
                return Ok(durable::sync_folder(&self.folder).map(|()| count));
            };
            after = *last;
            for (_, confirmation) in &page {
                if let Err(error) = self.write(confirmation) {
                    return Ok(Err(error));
                }
                count += 1;
            }
        }
    }

    /// The same confirmation always has the same name; the signature comes last, so that where it is, both are.
    fn write(&self, confirmation: &Confirmation) -> io::Result<()> {
        let name = file_name(confirmation);
        let write =
            |name: String, text: String| durable::place(&self.folder.join(name), text.as_bytes(), 0o644);
        write(format!("{name}.txt"), confirmation.statement.text())?;
        write(format!("{name}.txt.asc"), armor_signature(confirmation))
    }
}

/// Its time and the first 16 digits of its id: sorted by time, never the same twice.
pub fn file_name(confirmation: &Confirmation) -> String {
    let time: String = confirmation.statement.time().to_string().replace(['-', ':'], "");
    format!("{time}-{}", &confirmation.id().to_string()[..16])
}
