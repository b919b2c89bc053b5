//! Key files: 32 bytes, or the same as hexadecimal text, which is how they are made at first start; mode 0600.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use waypost_protocol::session::{Identity, IdentityError};
use waypost_store::StoreKey;
use zeroize::Zeroizing;

/// Why a key file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read or made.
    #[error("key file {path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It has something else in it.
    #[error(
        "key file {0} holds neither 32 bytes nor 64 hexadecimal digits; restore it from a backup, or move it away to start anew"
    )]
    Contents(PathBuf),
    /// Others may read it.
    #[error("key file {path} can be read by others (mode {mode:03o}); run: chmod 600 {path}")]
    Mode {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The bytes are no key.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The system has no randomness.
    #[error("no randomness from the system: {0}")]
    Random(String),
}

/// The node's static key pair, made where the file is missing.
pub fn identity(path: &Path) -> Result<Identity, KeyFileError> {
    Ok(Identity::from_private(*load_or_make(path)?)?)
}

/// The bytes of a key file that is there, for moving it elsewhere.
pub fn secret_key(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    load(path, File::open(path).map_err(|source| KeyFileError::Io { path: path.to_owned(), source })?)
}

/// The 32 bytes of the node's identity, made where the file is missing: other keys of the node are derived from them.
pub fn identity_secret(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    load_or_make(path)
}

/// The store's key, made where the file is missing.
pub fn store_key(path: &Path) -> Result<StoreKey, KeyFileError> {
    Ok(StoreKey::new(*load_or_make(path)?))
}

/// What is wrong with a key file, where it is there; nothing is made.
pub fn inspect_key(path: &Path) -> Result<(), KeyFileError> {
    match File::open(path) {
        Ok(file) => load(path, file).map(|_| ()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(KeyFileError::Io { path: path.to_owned(), source }),
    }
}

/// A generator seeded by the system.
pub fn system_rng() -> Result<ChaCha20Rng, KeyFileError> {
    ChaCha20Rng::try_from_os_rng().map_err(|error| KeyFileError::Random(error.to_string()))
}

fn load_or_make(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let io_error = |source| KeyFileError::Io { path: path.to_owned(), source };
    match File::open(path) {
        Ok(file) => load(path, file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut key = Zeroizing::new([0; 32]);
            system_rng()?.fill_bytes(key.as_mut_slice());
            make(path, &key).map_err(io_error)?;
            // Read back, in case another process made it first.
            load(path, File::open(path).map_err(io_error)?)
        }
        Err(error) => Err(io_error(error)),
    }
}

fn load(path: &Path, file: File) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let io_error = |source| KeyFileError::Io { path: path.to_owned(), source };
    let mode = file.metadata().map_err(io_error)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 && !is_credential(path) {
        return Err(KeyFileError::Mode { path: path.to_owned(), mode });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(256));
    file.take(256).read_to_end(&mut bytes).map_err(io_error)?;
    parse(&bytes).ok_or_else(|| KeyFileError::Contents(path.to_owned()))
}

fn parse(bytes: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    if bytes.len() == key.len() {
        key.copy_from_slice(bytes);
        return Some(key);
    }
    let digits = bytes.trim_ascii();
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(key)
}

/// systemd keeps credentials where others cannot reach them, and lets the service's user read them by an ACL, which
/// looks like the permission of a group (systemd.exec(5), "LoadCredential").
fn is_credential(path: &Path) -> bool {
    let own = std::env::var_os("CREDENTIALS_DIRECTORY").filter(|folder| !folder.is_empty());
    path.starts_with("/run/credentials") || own.is_some_and(|folder| path.starts_with(folder))
}

/// Writes beside, then links into place: a power cut leaves a whole file or none, and nobody's key is overwritten.
fn make(path: &Path, key: &[u8; 32]) -> io::Result<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let beside = path.with_extension(format!("new{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    let text: Zeroizing<String> = Zeroizing::new(key.iter().map(|byte| format!("{byte:02x}")).collect());
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    let linked = fs::hard_link(&beside, path);
    fs::remove_file(&beside)?;
    File::open(folder)?.sync_all()?;
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/identity.key");
        let first = identity(&path).unwrap().public();
        assert_eq!(identity(&path).unwrap().public(), first);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = identity(&path).err().unwrap().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn bytes_and_digits_are_the_same_key() {
        let key: Vec<u8> = (0..32).collect();
        let digits: String = key.iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(*parse(&key).unwrap(), key[..]);
        assert_eq!(*parse(format!(" {digits}\n").as_bytes()).unwrap(), key[..]);
        let wrong = [&key[..31], b"", &digits.as_bytes()[..63], &[b'g'; 64], &[0xff; 64]];
        assert!(wrong.into_iter().all(|bytes| parse(bytes).is_none()));
    }

    #[test]
    fn a_damaged_key_file_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.key");
        fs::write(&path, "not a key").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(identity(&path), Err(KeyFileError::Contents(_))));
        assert_eq!(fs::read(&path).unwrap(), b"not a key");
    }
}
