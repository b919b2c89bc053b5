//! Confirmations as files that anyone can check: `NAME.txt` and the detached signature `NAME.txt.asc`.

use std::io;
use std::path::Path;

use waypost_openpgp::armor_signature;
use waypost_protocol::confirmation::Confirmation;

use crate::content::Content;
use crate::durable;
use crate::store::{Records, StoreError};

/// How many are read at a time.
const PAGE: u32 = 256;

/// Writes those that are no files yet. What cannot be written is logged, and tried again with the next ones. The records
/// are told once they are durable: a record lasts longer than a file that was only written.
pub(crate) fn export_new(content: &dyn Content, records: &dyn Records) -> Result<(), StoreError> {
    loop {
        let (rows, page): (Vec<_>, Vec<_>) = records.to_export(0, false, PAGE)?.into_iter().unzip();
        let results = match content.export(&page) {
            Ok(results) => results,
            Err(error) => {
                log::warn!("confirmations cannot be written as files yet: {error}");
                return Ok(());
            }
        };
        let written: Vec<_> =
            rows.iter().zip(results).filter(|(_, written)| *written).map(|(row, _)| *row).collect();
        records.note_exported(&written)?;
        if page.is_empty() || written.len() < page.len() {
            return Ok(());
        }
    }
}

/// Writes all to a folder, which must be there; returns how many there are.
pub fn export_all(records: &dyn Records, folder: &Path) -> Result<Result<u64, io::Error>, StoreError> {
    let (mut after, mut count) = (0, 0);
    loop {
        let page = records.to_export(after, true, PAGE)?;
        let Some((last, _)) = page.last() else {
            return Ok(durable::sync_folder(folder).map(|()| count));
        };
        after = *last;
        for (_, confirmation) in &page {
            if let Err(error) = write_confirmation(folder, confirmation) {
                return Ok(Err(error));
            }
            count += 1;
        }
    }
}

/// The same confirmation always has the same name; the signature comes last, so that where it is, both are.
pub(crate) fn write_confirmation(folder: &Path, confirmation: &Confirmation) -> io::Result<()> {
    let name = file_name(confirmation);
    let write = |name: String, text: String| durable::place(&folder.join(name), text.as_bytes(), 0o644);
    write(format!("{name}.txt"), confirmation.statement.text())?;
    write(format!("{name}.txt.asc"), armor_signature(confirmation))
}

/// Its time and the first 16 digits of its id: sorted by time, never the same twice.
pub fn file_name(confirmation: &Confirmation) -> String {
    let time: String = confirmation.statement.time().to_string().replace(['-', ':'], "");
    format!("{time}-{}", &confirmation.id().to_string()[..16])
}
