//! Keys under a passphrase: a short JSON text with what Argon2id is to be run with, and the keys sealed under what comes out.

use argon2::{Algorithm, Argon2, Params, Version};
use data_encoding::HEXLOWER;
use rand_core::RngCore;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// No file of keys is longer, in bytes.
pub(crate) const MAX_FILE: u64 = 4 << 10;
/// No passphrase is longer, in bytes.
const MAX_PASSPHRASE: usize = 1 << 10;
const VERSION: u32 = 1;
const KEY: usize = 32;
const SALT: usize = 16;

/// A passphrase. Cannot be printed.
#[derive(PartialEq, Eq)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// From the content of a file or what was typed: a newline at its end is not part of it. `None` where it is empty or
    /// longer than 1 KiB.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let is_fit = !bytes.is_empty() && bytes.len() <= MAX_PASSPHRASE;
        is_fit.then(|| Passphrase(Zeroizing::new(bytes.to_vec())))
    }
}

/// The two keys of a phone, 32 bytes each. Cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) identity: Zeroizing<[u8; KEY]>,
    pub(crate) store: Zeroizing<[u8; KEY]>,
}

/// What a guess costs.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Cost {
    /// RFC 9106, 4, second recommended: where 2 GiB are not to be had, as on phones.
    pub(crate) const USUAL: Cost = Cost { memory_kib: 64 << 10, passes: 3, lanes: 4 };
    /// What a file may ask for: four times the memory, twice the passes.
    const MOST: Cost = Cost { memory_kib: 256 << 10, passes: 6, lanes: 16 };
    #[cfg(test)]
    pub(crate) const LITTLE: Cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };

    fn is_bearable(self) -> bool {
        let most = Self::MOST;
        self.memory_kib <= most.memory_kib && self.passes <= most.passes && self.lanes <= most.lanes
    }
}

/// Why keys do not come out.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// Also where the file was altered: nothing tells these apart.
    #[error("the passphrase is wrong, or the file was altered")]
    Wrong,
    /// It is no such file.
    #[error("it cannot be read ({0}); restore it from a backup")]
    Shape(String),
    /// A newer program has written it.
    #[error("it has version {0}, this program knows {VERSION}; update the program")]
    Newer(u32),
    /// More memory or time than is spent.
    #[error(
        "it asks for {memory_kib} KiB of memory, {passes} passes and {lanes} lanes, which is more than this program spends"
    )]
    Costly {
        /// Argon2's m.
        memory_kib: u32,
        /// Argon2's t.
        passes: u32,
        /// Argon2's p.
        lanes: u32,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Locked {
    version: u32,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: String,
    keys: String,
}

impl Locked {
    /// Sealed with a fresh salt, so that each derived key seals once, and its nonce may be zero.
    fn sealing(&self, passphrase: &Passphrase) -> Result<(LessSafeKey, Nonce), LockError> {
        let shape = |what: &str| LockError::Shape(what.to_owned());
        let salt = HEXLOWER.decode(self.salt.as_bytes()).ok().filter(|salt| salt.len() == SALT);
        let salt = salt.ok_or_else(|| shape("salt"))?;
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(KEY));
        let params = params.map_err(|error| LockError::Shape(error.to_string()))?;
        let mut key = Zeroizing::new([0; KEY]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(&passphrase.0, &salt, key.as_mut_slice())
            .map_err(|error| LockError::Shape(error.to_string()))?;
        let key = UnboundKey::new(&CHACHA20_POLY1305, key.as_slice()).map_err(|_| shape("key"))?;
        Ok((LessSafeKey::new(key), Nonce::assume_unique_for_key([0; 12])))
    }

    fn aad(&self) -> Aad<String> {
        let Locked { version, memory_kib, passes, lanes, salt, .. } = self;
        Aad::from(format!(
            "waypost phone keys v{version} argon2id m={memory_kib} t={passes} p={lanes} {salt}"
        ))
    }
}

/// The file's text.
pub(crate) fn lock(
    keys: &Keys,
    passphrase: &Passphrase,
    cost: Cost,
    rng: &mut impl RngCore,
) -> Result<String, LockError> {
    let mut salt = [0; SALT];
    rng.fill_bytes(&mut salt);
    let Cost { memory_kib, passes, lanes } = cost;
    let salt = HEXLOWER.encode(&salt);
    let mut locked = Locked { version: VERSION, memory_kib, passes, lanes, salt, keys: String::new() };
    let (key, nonce) = locked.sealing(passphrase)?;
    let mut bytes = [keys.identity.as_slice(), keys.store.as_slice()].concat();
    let sealed = key.seal_in_place_append_tag(nonce, locked.aad(), &mut bytes);
    sealed.map_err(|_| LockError::Shape("keys".into()))?;
    locked.keys = HEXLOWER.encode(&bytes);
    let text = serde_json::to_string_pretty(&locked).map_err(|error| LockError::Shape(error.to_string()))?;
    Ok(text + "\n")
}

/// The keys of a file, within bounds of memory and time whatever it says.
pub(crate) fn unlock(text: &[u8], passphrase: &Passphrase) -> Result<Keys, LockError> {
    #[derive(Deserialize)]
    struct Any {
        version: u32,
    }
    let shape = |error: serde_json::Error| LockError::Shape(error.to_string());
    let Any { version } = serde_json::from_slice(text).map_err(shape)?;
    if version != VERSION {
        return Err(LockError::Newer(version));
    }
    let locked: Locked = serde_json::from_slice(text).map_err(shape)?;
    let Locked { memory_kib, passes, lanes, .. } = locked;
    if !(Cost { memory_kib, passes, lanes }).is_bearable() {
        return Err(LockError::Costly { memory_kib, passes, lanes });
    }
    let sealed = HEXLOWER.decode(locked.keys.as_bytes()).map_err(|_| LockError::Shape("keys".into()))?;
    let mut sealed = Zeroizing::new(sealed);
    let (key, nonce) = locked.sealing(passphrase)?;
    let opened = key.open_in_place(nonce, locked.aad(), &mut sealed).map_err(|_| LockError::Wrong)?;
    let (identity, store) = opened.split_at_checked(KEY).ok_or(LockError::Wrong)?;
    let key = |bytes: &[u8]| bytes.try_into().map(Zeroizing::new).map_err(|_| LockError::Wrong);
    Ok(Keys { identity: key(identity)?, store: key(store)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng as _;

    fn keys() -> Keys {
        Keys { identity: Zeroizing::new([3; 32]), store: Zeroizing::new([4; 32]) }
    }

    fn phrase(text: &str) -> Passphrase {
        Passphrase::new(text.as_bytes()).unwrap()
    }

    fn locked(cost: Cost) -> String {
        lock(&keys(), &phrase("open sesame"), cost, &mut ChaCha20Rng::seed_from_u64(1)).unwrap()
    }

    #[test]
    fn a_files_keys_come_out_with_its_passphrase_only() {
        let text = locked(Cost::LITTLE);
        assert!(unlock(text.as_bytes(), &phrase("open sesame\r\n")).ok() == Some(keys()));
        for wrong in ["open sesam", "Open sesame", "open sesame "] {
            assert_eq!(unlock(text.as_bytes(), &phrase(wrong)).err(), Some(LockError::Wrong));
        }
        assert!(Passphrase::new(b"\n").is_none() && Passphrase::new(&[b'a'; 1025]).is_none());
    }

    #[test]
    fn a_file_that_was_altered_gives_no_keys() {
        let text = locked(Cost::LITTLE);
        let (mut refused, same) = (0, phrase("open sesame"));
        for at in 0..text.len() {
            let mut altered = text.clone().into_bytes();
            altered[at] ^= 1;
            match unlock(&altered, &same) {
                Err(_) => refused += 1,
                Ok(_) => assert!(text.as_bytes()[at].is_ascii_whitespace(), "byte {at}"),
            }
        }
        assert!(refused > 200, "{refused}");
        for end in 0..text.len() - 2 {
            assert!(unlock(&text.as_bytes()[..end], &same).is_err());
        }
    }

    #[test]
    fn a_file_that_asks_for_much_memory_or_time_is_refused_at_once() {
        let text = locked(Cost::LITTLE);
        let start = std::time::Instant::now();
        for (from, to) in [
            ("\"memory_kib\": 64", "\"memory_kib\": 4194304"),
            ("\"memory_kib\": 64", "\"memory_kib\": 262145"),
            ("\"passes\": 1", "\"passes\": 4294967295"),
            ("\"lanes\": 1", "\"lanes\": 16777215"),
        ] {
            let hostile = text.replace(from, to);
            assert_ne!(hostile, text);
            let error = unlock(hostile.as_bytes(), &phrase("open sesame")).err();
            assert!(matches!(error, Some(LockError::Costly { .. })), "{to}: {error:?}");
        }
        assert!(start.elapsed().as_secs() < 1);
        for (from, to) in [("\"memory_kib\": 64", "\"memory_kib\": 0"), ("\"version\": 1", "\"version\": 2")]
        {
            assert!(unlock(text.replace(from, to).as_bytes(), &phrase("open sesame")).is_err());
        }
    }
}
