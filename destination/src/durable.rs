//! Writing files so that they are whole or absent after a power cut.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Flushes a folder's entries: without it a new name may be gone after a power cut.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Writes a file that is not there before, or replaces it whole. `mode` is the file's permissions.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    place(path, bytes, mode)?;
    sync_folder(folder_of(path))
}

/// As [`write`], but for the name, which lasts once [`sync_folder`] has returned: once for many files.
pub(crate) fn place(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = folder_of(path);
    let name = path.file_name().unwrap_or_default();
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(".new");
    let temporary = folder.join(temporary);
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

/// A name for a temporary file: 16 random bytes as hexadecimal text.
pub(crate) fn random_name() -> io::Result<String> {
    Ok(data_encoding::HEXLOWER.encode(&random::<16>()?))
}

/// From the operating system.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    use rand_core::TryRngCore as _;
    let mut bytes = [0; N];
    rand_core::OsRng.try_fill_bytes(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

/// Whether the fault is that there is no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
