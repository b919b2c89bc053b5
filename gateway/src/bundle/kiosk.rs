//! A whole kiosk in a bundle: its identity, the peers that it knows, what was deleted. Moves it to a spare board.
//!
//! Whoever has this part is the kiosk for every phone that it was paired with. It is written only when asked for, and
//! only where others cannot read it, as far as the file system has a say in that.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use nix::sys::statfs::{FsType, MSDOS_SUPER_MAGIC, fstatfs};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};
use waypost_bundle::{Bundle, Folder};
use waypost_node::{identity, secret_key};
use waypost_protocol::ids::{MessageId, PeerKey};
use waypost_protocol::refusal::Reason;
use waypost_store::{Change, Store};
use zeroize::{Zeroize as _, Zeroizing};

use super::{Gateway, WorkError, stick};

/// exFAT, as statfs(2) names it.
const EXFAT: FsType = FsType(0x2011_bab0);
const FOLDER: &str = "identity";
const FILE: &str = "kiosk.jsonl";
/// The longest line: a peer's label has 64 characters, whatever they are.
const MAX_LINE: u64 = 2 * 1024;
/// The longest file, in bytes: millions of peers and deleted documents.
const MAX_FILE: u64 = 1 << 30;
/// Rows that are read and written together.
const PAGE: usize = 512;
/// Says in a store whose move into it has begun.
const MOVING: &str = "bundle/kiosk";

/// Why a kiosk is not moved.
#[derive(Debug, thiserror::Error)]
pub enum KioskError {
    /// Everybody could read it.
    #[error(
        "{0} can be read by others, and who has it is this kiosk; export to a folder or stick of your own, mounted with umask=077"
    )]
    Open(PathBuf),
    /// The bundle has none.
    #[error(
        "the bundle in {0} has no identity; export it on the old board with `waypost export DIR --identity`"
    )]
    None(PathBuf),
    /// It is cut off or altered.
    #[error("{path} is damaged at line {line}; export it again on the old board")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// From 1 on.
        line: u64,
    },
    /// This is another kiosk.
    #[error(
        "this board is a kiosk of its own: its store has {peers} peers and {documents} documents; move a kiosk only to a new \
         store and key (set [store] path and [identity] key_file to places that are empty)"
    )]
    InUse {
        /// Peers in the store.
        peers: usize,
        /// Documents in the store.
        documents: u64,
    },
    /// The key file cannot be written.
    #[error("key file {path}: {error}")]
    KeyFile {
        /// Which.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
}

/// What came of a move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// The static key by which phones know the kiosk.
    pub key: PeerKey,
    /// Peers that it knows.
    pub peers: u64,
    /// Documents that must not come back.
    pub deleted: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    /// The first one.
    Kiosk {
        version: u32,
        secret_key: String,
    },
    Peer {
        key: PeerKey,
        class: String,
        label: String,
        revoked: bool,
    },
    Gone {
        document: MessageId,
        reason: u32,
    },
    /// The last one: how many there were before it.
    End {
        lines: u64,
    },
}

/// Writes it.
pub(super) fn send(gateway: &Gateway, bundle: &Bundle) -> Result<(), WorkError> {
    let path = bundle.path().join(FOLDER);
    let failed = stick(&path);
    let folder = bundle.folder().make_with(FOLDER.as_ref(), 0o700).map_err(&failed)?;
    let part = format!("{FILE}.part");
    let file = folder.create(part.as_ref(), 0o600).map_err(&failed)?;
    let mode = file.metadata().map_err(&failed)?.permissions().mode();
    if mode & 0o077 != 0 && !has_no_modes(&folder).map_err(&failed)? {
        folder.remove(part.as_ref()).map_err(&failed)?;
        return Err(KioskError::Open(path.clone()).into());
    }
    let mut file = BufWriter::new(file);
    let lines = std::cell::Cell::new(0);
    let mut write = |line: &Line| -> io::Result<()> {
        let mut text = Zeroizing::new(serde_json::to_vec(line)?);
        text.push(b'\n');
        lines.set(lines.get() + 1);
        file.write_all(&text)
    };
    let secret = secret_key(&gateway.key_file)?;
    let digits: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let first = Line::Kiosk { version: 1, secret_key: digits };
    let written = write(&first);
    if let Line::Kiosk { mut secret_key, .. } = first {
        secret_key.zeroize();
    }
    written.map_err(&failed)?;
    for peer in gateway.store.peers()? {
        let class = crate::admin::class_word(peer.class).to_owned();
        write(&Line::Peer { key: peer.key, class, label: peer.label, revoked: peer.revoked })
            .map_err(&failed)?;
    }
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = gateway.store.gone(after.as_deref(), PAGE)?;
        let Some(last) = page.last() else { break };
        after = Some(last.place.clone());
        for (document, reason) in page.into_iter().filter_map(|gone| gone.document) {
            write(&Line::Gone { document, reason: reason.code() }).map_err(&failed)?;
        }
    }
    write(&Line::End { lines: lines.get() }).map_err(&failed)?;
    let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(&failed)?;
    folder.rename(part.as_ref(), FILE.as_ref()).map_err(&failed)?;
    folder.sync().map_err(failed)
}

/// FAT has no owners: whoever holds the stick reads it.
fn has_no_modes(folder: &Folder) -> io::Result<bool> {
    let kind = fstatfs(folder.handle()?)?.filesystem_type();
    Ok(kind == MSDOS_SUPER_MAGIC || kind == EXFAT)
}

/// Makes the board with this `store` and `key_file` the kiosk whose identity is in the bundle in `folder`. The store
/// must be new, or one into which this move was begun. Documents and confirmations are imported apart from it.
pub fn receive(store: &Store, key_file: &Path, folder: &Path) -> Result<Moved, WorkError> {
    let bundle = Bundle::open(folder)?;
    let path = bundle.path().join(FOLDER).join(FILE);
    let open = bundle.folder().enter(FOLDER.as_ref()).and_then(|inner| inner.file(FILE.as_ref()));
    let file = match open {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(KioskError::None(folder.to_owned()).into());
        }
        Err(error) => return Err(stick(&path)(error)),
    };
    let mut lines = Lines { lines: BufReader::new(file.take(MAX_FILE)), path: &path, number: 0 };
    // All of it first: half a kiosk is none.
    let secret = lines.check()?;
    let key = public(&secret).ok_or_else(|| lines.damaged())?;
    let begun = store.setting(MOVING)?;
    let (peers, documents) = (store.peers()?.len(), store.counts()?);
    let documents = documents.waiting + documents.opened + documents.held + documents.rejected;
    if begun.as_deref() != Some(key.as_bytes()) && (peers > 0 || documents > 0) {
        return Err(KioskError::InUse { peers, documents }.into());
    }
    store.apply_one(Change::Put { key: MOVING.to_owned(), value: Some(key.0.to_vec()) })?;
    let mut moved = Moved { key, peers: 0, deleted: 0 };
    let inner = bundle.folder().enter(FOLDER.as_ref()).and_then(|inner| inner.file(FILE.as_ref()));
    lines.lines = BufReader::new(inner.map_err(stick(&path))?.take(MAX_FILE));
    lines.number = 0;
    let mut changes = Vec::new();
    loop {
        match lines.next()? {
            Line::Kiosk { secret_key, .. } => drop(Zeroizing::new(secret_key)),
            Line::Peer { key: peer, class, label, revoked } => {
                let class = crate::admin::class_of_word(&class).ok_or_else(|| lines.damaged())?;
                changes.push(Change::PutPeer { peer, class, label: Some(label) });
                changes.extend(revoked.then_some(Change::Revoke { peer }));
                moved.peers += 1;
            }
            Line::Gone { document, reason } => {
                changes.push(Change::Gone { id: document, reason: Reason::from_code(reason) });
                moved.deleted += 1;
            }
            Line::End { .. } => break,
        }
        if changes.len() >= PAGE {
            apply(store, std::mem::take(&mut changes))?;
        }
    }
    apply(store, changes)?;
    // Last: with the key the board is the kiosk.
    put_key(key_file, &secret, &key)
        .map_err(|error| KioskError::KeyFile { path: key_file.to_owned(), error })?;
    Ok(moved)
}

fn apply(store: &Store, changes: Vec<Change>) -> Result<(), WorkError> {
    store.apply(changes).into_iter().try_for_each(|outcome| outcome.map(drop)).map_err(WorkError::from)
}

struct Lines<'a, R> {
    lines: BufReader<R>,
    path: &'a Path,
    number: u64,
}

impl<R: io::Read> Lines<'_, R> {
    fn damaged(&self) -> WorkError {
        KioskError::Damaged { path: self.path.to_owned(), line: self.number }.into()
    }

    fn next(&mut self) -> Result<Line, WorkError> {
        let mut line = Zeroizing::new(Vec::new());
        self.number += 1;
        let read = (&mut self.lines).take(MAX_LINE).read_until(b'\n', &mut line);
        read.map_err(stick(self.path))?;
        if line.last() != Some(&b'\n') {
            return Err(self.damaged());
        }
        serde_json::from_slice(&line).map_err(|_| self.damaged())
    }

    /// Reads to the end; the secret key of the first line.
    fn check(&mut self) -> Result<Zeroizing<String>, WorkError> {
        let Line::Kiosk { version: 1, secret_key } = self.next()? else { return Err(self.damaged()) };
        let secret = Zeroizing::new(secret_key);
        loop {
            match self.next()? {
                Line::Kiosk { .. } => return Err(self.damaged()),
                Line::Peer { class, .. } if crate::admin::class_of_word(&class).is_none() => {
                    return Err(self.damaged());
                }
                Line::Peer { .. } | Line::Gone { .. } => {}
                Line::End { lines } if lines == self.number - 1 => return Ok(secret),
                Line::End { .. } => return Err(self.damaged()),
            }
        }
    }
}

fn public(digits: &str) -> Option<PeerKey> {
    let mut key = Zeroizing::new([0; 32]);
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    for (at, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    waypost_protocol::session::Identity::from_private(*key).ok().map(|identity| identity.public())
}

/// Puts the key in its place; another one that is there is kept beside it.
fn put_key(path: &Path, digits: &str, key: &PeerKey) -> io::Result<()> {
    if path.exists() {
        let here = identity(path).map_err(io::Error::other)?.public();
        if here == *key {
            return Ok(());
        }
        fs::hard_link(path, path.with_extension(format!("before-{}", &here.to_string()[..8]))).or_else(
            |error| if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) },
        )?;
    }
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let beside = path.with_extension("moving");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(digits.as_bytes())?;
    file.write_all(b"\n")?;
    // Root may do this for a gateway that has a user of its own.
    if geteuid().is_root() {
        let owner = fs::metadata(folder)?;
        fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    file.sync_all()?;
    fs::rename(&beside, path)?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::chown;

    use super::*;

    #[test]
    fn a_key_that_root_puts_is_the_one_of_whose_folder_it_is_in() {
        let folder = tempfile::tempdir().unwrap();
        if geteuid().is_root() {
            chown(folder.path(), Some(4_242), Some(4_243)).unwrap();
        }
        let (path, digits) = (folder.path().join("identity.key"), "01".repeat(32));
        put_key(&path, &digits, &public(&digits).unwrap()).unwrap();
        let (own, above) = (fs::metadata(&path).unwrap(), fs::metadata(folder.path()).unwrap());
        assert_eq!((own.uid(), own.gid()), (above.uid(), above.gid()));
        assert_eq!(own.mode() & 0o777, 0o600);
    }
}
