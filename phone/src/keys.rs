//! The keys in a phone's folder: each in a file in clear, or both in one file under a passphrase, which counts where it is.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use nix::fcntl::{Flock, FlockArg};
use rand_core::RngCore as _;
use waypost_node::{KeyFileError, identity_secret, secret_key, store_key, system_rng};
use zeroize::Zeroizing;

use crate::lock::{Cost, Keys, LockError, MAX_FILE, Passphrase, lock, unlock};

const IDENTITY: &str = "identity.key";
const STORE: &str = "store.key";
const LOCKED: &str = "keys.locked";
/// What is being written, until it has its name.
const NEW: &str = "keys.new";

/// Why a phone's keys cannot be had or kept.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A key file in clear is missing, damaged or readable by others.
    #[error(transparent)]
    Clear(#[from] KeyFileError),
    /// The file under the passphrase does not open.
    #[error("{path}: {source}")]
    Lock {
        /// Which.
        path: PathBuf,
        /// Why.
        source: LockError,
    },
    /// There is a passphrase, and none was given.
    #[error(
        "this phone has a passphrase; type it on a terminal, or name its file with --passphrase-file or WAYPOST_PASSPHRASE_FILE"
    )]
    Needed,
    /// There is none to change or remove.
    #[error("this phone has no passphrase; next: waypost-phone passphrase set")]
    NotLocked,
    /// There is one already.
    #[error("this phone has a passphrase already; next: waypost-phone passphrase change")]
    AlreadyLocked,
    /// A key in clear that is not the one under the passphrase.
    #[error("{0} is another key than the one in {LOCKED}; move away the one that is not this phone's")]
    Other(PathBuf),
}

/// What is done to a folder, one thing after another; what ends amid these is made whole by the next who opens it.
enum Step {
    /// A whole file, on the disk.
    Write(&'static str, Zeroizing<String>),
    /// In one go over what has that name.
    Rename(&'static str, &'static str),
    Remove(PathBuf),
    /// Names as they are now are on the disk.
    Sync,
}

/// A phone's folder, which no other process changes meanwhile.
pub(crate) struct KeyFolder<'f> {
    path: &'f Path,
    cost: Cost,
    _held: Flock<File>,
}

impl<'f> KeyFolder<'f> {
    /// Waits for others.
    pub(crate) fn hold(path: &'f Path) -> Result<Self, KeysError> {
        let error = |source| KeysError::Io { path: path.to_owned(), source };
        let folder = File::open(path).map_err(error)?;
        let held = Flock::lock(folder, FlockArg::LockExclusive).map_err(|(_, errno)| error(errno.into()))?;
        Ok(KeyFolder { path, cost: Cost::USUAL, _held: held })
    }

    /// Whether there are keys in a folder already.
    pub(crate) fn has_keys(path: &Path) -> bool {
        Self::is_locked(path) || path.join(IDENTITY).try_exists().unwrap_or(true)
    }

    /// Whether they are under a passphrase.
    pub(crate) fn is_locked(path: &Path) -> bool {
        path.join(LOCKED).try_exists().unwrap_or(false)
    }

    /// The keys. Where there are none they are made, under the passphrase if one is given.
    pub(crate) fn open(&self, passphrase: Option<&Passphrase>) -> Result<Keys, KeysError> {
        match (self.read_locked()?, passphrase) {
            (Some(text), Some(passphrase)) => {
                let keys = self.unlock(&text, passphrase)?;
                self.perform(&self.without_clear(&keys)?)?;
                Ok(keys)
            }
            (Some(_), None) => Err(KeysError::Needed),
            (None, Some(passphrase)) if !Self::has_keys(self.path) => {
                let mut keys = Keys { identity: Zeroizing::new([0; 32]), store: Zeroizing::new([0; 32]) };
                let mut rng = system_rng()?;
                rng.fill_bytes(keys.identity.as_mut_slice());
                rng.fill_bytes(keys.store.as_mut_slice());
                self.perform(&self.locking(&keys, passphrase)?)?;
                Ok(keys)
            }
            (None, _) => {
                let keys = self.clear()?;
                self.perform(&self.leftovers(&[NEW])?)?;
                Ok(keys)
            }
        }
    }

    /// Puts the keys under a passphrase.
    pub(crate) fn set(&self, passphrase: &Passphrase) -> Result<(), KeysError> {
        if self.read_locked()?.is_some() {
            return Err(KeysError::AlreadyLocked);
        }
        self.perform(&self.setting(passphrase)?)
    }

    /// Puts them under another.
    pub(crate) fn change(&self, old: &Passphrase, new: &Passphrase) -> Result<(), KeysError> {
        let text = self.read_locked()?.ok_or(KeysError::NotLocked)?;
        let keys = self.unlock(&text, old)?;
        let mut steps = self.without_clear(&keys)?;
        steps.extend(self.locking(&keys, new)?);
        self.perform(&steps)
    }

    /// Leaves them in clear.
    pub(crate) fn remove(&self, passphrase: &Passphrase) -> Result<(), KeysError> {
        let text = self.read_locked()?.ok_or(KeysError::NotLocked)?;
        self.perform(&self.removing(&self.unlock(&text, passphrase)?)?)
    }

    fn setting(&self, passphrase: &Passphrase) -> Result<Vec<Step>, KeysError> {
        let keys = self.clear()?;
        let mut steps = self.locking(&keys, passphrase)?;
        steps.extend(self.without_clear(&keys)?);
        Ok(steps)
    }

    fn locking(&self, keys: &Keys, passphrase: &Passphrase) -> Result<Vec<Step>, KeysError> {
        let text =
            lock(keys, passphrase, self.cost, &mut system_rng()?).map_err(|source| self.wrong(source))?;
        Ok(vec![Step::Write(NEW, Zeroizing::new(text)), Step::Rename(NEW, LOCKED), Step::Sync])
    }

    fn removing(&self, keys: &Keys) -> Result<Vec<Step>, KeysError> {
        let mut steps = self.without_clear(keys)?;
        for (name, key) in [(IDENTITY, &keys.identity), (STORE, &keys.store)] {
            let text = Zeroizing::new(HEXLOWER.encode(key.as_slice()) + "\n");
            steps.extend([Step::Write(NEW, text), Step::Rename(NEW, name)]);
        }
        steps.extend([Step::Sync, Step::Remove(self.path.join(LOCKED)), Step::Sync]);
        Ok(steps)
    }

    /// Removes keys in clear that are those under the passphrase, and what was half written.
    fn without_clear(&self, keys: &Keys) -> Result<Vec<Step>, KeysError> {
        for (name, key) in [(IDENTITY, &keys.identity), (STORE, &keys.store)] {
            let path = self.path.join(name);
            match secret_key(&path) {
                Ok(clear) if clear == *key => {}
                Err(KeyFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Ok(_) => return Err(KeysError::Other(path)),
                Err(error) => return Err(error.into()),
            }
        }
        self.leftovers(&[IDENTITY, STORE, "identity.new", "store.new", NEW])
    }

    /// Removes files whose names begin like this.
    fn leftovers(&self, beginnings: &[&str]) -> Result<Vec<Step>, KeysError> {
        let error = |source| KeysError::Io { path: self.path.to_owned(), source };
        let mut steps = Vec::new();
        for entry in fs::read_dir(self.path).map_err(error)? {
            let entry = entry.map_err(error)?;
            let name = entry.file_name();
            if beginnings.iter().any(|beginning| name.as_encoded_bytes().starts_with(beginning.as_bytes())) {
                steps.push(Step::Remove(entry.path()));
            }
        }
        if !steps.is_empty() {
            steps.push(Step::Sync);
        }
        Ok(steps)
    }

    fn clear(&self) -> Result<Keys, KeysError> {
        let (identity, store) = (self.path.join(IDENTITY), self.path.join(STORE));
        store_key(&store)?;
        Ok(Keys { identity: identity_secret(&identity)?, store: secret_key(&store)? })
    }

    fn read_locked(&self) -> Result<Option<Vec<u8>>, KeysError> {
        let path = self.path.join(LOCKED);
        let mut text = Vec::new();
        match File::open(&path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut text)) {
            Ok(_) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(KeysError::Io { path, source }),
        }
    }

    fn unlock(&self, text: &[u8], passphrase: &Passphrase) -> Result<Keys, KeysError> {
        unlock(text, passphrase).map_err(|source| self.wrong(source))
    }

    fn wrong(&self, source: LockError) -> KeysError {
        KeysError::Lock { path: self.path.join(LOCKED), source }
    }

    fn perform(&self, steps: &[Step]) -> Result<(), KeysError> {
        steps.iter().try_for_each(|step| {
            let (path, done) = match step {
                Step::Write(name, text) => (self.path.join(name), self.write(name, text)),
                Step::Rename(from, to) => {
                    (self.path.join(to), fs::rename(self.path.join(from), self.path.join(to)))
                }
                Step::Remove(path) => (path.clone(), fs::remove_file(path)),
                Step::Sync => {
                    (self.path.to_owned(), File::open(self.path).and_then(|folder| folder.sync_all()))
                }
            };
            done.map_err(|source| KeysError::Io { path, source })
        })
    }

    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let path = self.path.join(name);
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phrase(text: &str) -> Passphrase {
        Passphrase::new(text.as_bytes()).unwrap()
    }

    fn hold(path: &Path) -> KeyFolder<'_> {
        KeyFolder { cost: Cost::LITTLE, ..KeyFolder::hold(path).unwrap() }
    }

    fn names(path: &Path) -> Vec<String> {
        let names =
            fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    /// Ends after each number of steps, and amid each file that is written; `opens` then has the keys, and nothing is left over.
    fn cut_everywhere(
        prepare: impl Fn(&KeyFolder<'_>),
        steps: impl Fn(&KeyFolder<'_>) -> Vec<Step>,
        before: &Passphrase,
        after: &Passphrase,
    ) -> usize {
        let count = {
            let folder = tempfile::tempdir().unwrap();
            prepare(&hold(folder.path()));
            steps(&hold(folder.path())).len()
        };
        for (cut, amid) in (0..=count).flat_map(|cut| [(cut, false), (cut, true)]) {
            let home = tempfile::tempdir().unwrap();
            let folder = hold(home.path());
            prepare(&folder);
            let keys = folder.open(Some(before)).ok().unwrap();
            let steps = steps(&folder);
            folder.perform(&steps[..cut]).unwrap();
            if let (true, Some(Step::Write(name, text))) = (amid, steps.get(cut)) {
                fs::write(home.path().join(name), &text[..text.len() / 2]).unwrap();
            }
            let opened = folder.open(Some(before)).or_else(|_| folder.open(Some(after)));
            assert!(opened.is_ok_and(|opened| opened == keys), "after {cut} steps");
            let left = names(home.path());
            assert!(left == [LOCKED] || left == [IDENTITY, STORE], "after {cut} steps: {left:?}");
        }
        count
    }

    #[test]
    fn whenever_setting_changing_or_removing_a_passphrase_ends_the_keys_are_there_once() {
        let (old, new) = (phrase("old"), phrase("new"));
        let count = cut_everywhere(
            |folder| drop(folder.clear().ok().unwrap()),
            |folder| folder.setting(&new).unwrap(),
            &new,
            &new,
        );
        assert_eq!(count, 6);
        let locked = |folder: &KeyFolder<'_>| folder.perform(&folder.setting(&old).unwrap()).unwrap();
        let keys = |folder: &KeyFolder<'_>| folder.open(Some(&old)).ok().unwrap();
        let count = cut_everywhere(locked, |folder| folder.locking(&keys(folder), &new).unwrap(), &old, &new);
        assert_eq!(count, 3);
        let count = cut_everywhere(locked, |folder| folder.removing(&keys(folder)).unwrap(), &old, &old);
        assert_eq!(count, 7);
    }

    #[test]
    fn a_key_in_clear_that_is_another_is_not_removed() {
        let home = tempfile::tempdir().unwrap();
        let folder = hold(home.path());
        folder.set(&phrase("old")).unwrap();
        identity_secret(&home.path().join(IDENTITY)).unwrap();
        let opened = folder.open(Some(&phrase("old")));
        assert!(matches!(opened, Err(KeysError::Other(path)) if path == home.path().join(IDENTITY)));
        assert!(home.path().join(IDENTITY).exists() && home.path().join(LOCKED).exists());
    }

    #[test]
    fn a_phone_that_is_made_with_a_passphrase_never_has_keys_in_clear() {
        let home = tempfile::tempdir().unwrap();
        let folder = hold(home.path());
        let keys = folder.open(Some(&phrase("old"))).ok().unwrap();
        assert_eq!(names(home.path()), [LOCKED]);
        assert!(folder.open(Some(&phrase("old"))).is_ok_and(|again| again == keys));
        assert!(matches!(folder.open(None), Err(KeysError::Needed)));
        assert!(matches!(folder.set(&phrase("new")), Err(KeysError::AlreadyLocked)));
    }
}
