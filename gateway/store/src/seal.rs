//! Sealing: what lies on the disk is authenticated ciphertext under keys derived from the store key.

use chacha20::cipher::consts::U10;
use chacha20::hchacha;
use hmac::{Hmac, Mac};
use rand_core::RngCore;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::tables::Table;

const NONCE: usize = 24;
const TAG: usize = 16;
/// Bytes that sealing adds to a value: a random nonce before it and a tag after it.
pub(crate) const OVERHEAD: usize = NONCE + TAG;
/// No row key is longer.
const MAX_ROW_KEY: usize = 32;

/// The 32 secret bytes that everything in a store is sealed under. Cannot be printed.
#[derive(Clone)]
pub struct StoreKey(Zeroizing<[u8; 32]>);

impl StoreKey {
    /// From the bytes that the platform keeps (systemd credential, key store, passphrase).
    pub fn new(bytes: [u8; 32]) -> Self {
        StoreKey(Zeroizing::new(bytes))
    }

    fn derive(&self, purpose: &[u8]) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(keyed(&self.0).chain_update(purpose).finalize().into_bytes().into())
    }
}

/// A pseudo-random row key: 16 bytes that say nothing about the id that they stand for.
pub(crate) type Prf = [u8; 16];

/// The keys of rows and of the pseudo-random function.
pub(crate) struct Keys {
    pub(crate) rows: Sealer,
    prf: Hmac<Sha256>,
}

impl Keys {
    pub(crate) fn new(store: &StoreKey) -> Self {
        Keys {
            rows: Sealer::new(&store.derive(b"waypost store v1 rows")),
            prf: keyed(&store.derive(b"waypost store v1 row keys")),
        }
    }

    /// The row key that stands for `parts` in `table`: HMAC-SHA256, its first 16 bytes.
    ///
    /// At most the last of the parts may vary in length, or two ids could share a row.
    pub(crate) fn prf(&self, table: Table, parts: &[&[u8]]) -> Prf {
        let mut mac = self.prf.clone();
        mac.update(&[table as u8]);
        for part in parts {
            mac.update(part);
        }
        let whole: [u8; 32] = mac.finalize().into_bytes().into();
        let mut out = [0; 16];
        out.copy_from_slice(&whole[..16]);
        out
    }
}

/// XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03) under one key, bound to the place of each value.
///
/// The part that runs over the bytes is `ring`'s: its assembler, on small boards above all, is several times as fast
/// as portable code, and sealing is most of what storing a form costs beside the disk.
pub(crate) struct Sealer(Zeroizing<[u8; 32]>);

impl Sealer {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Sealer(Zeroizing::new(*key))
    }

    /// The key and nonce of ChaCha20-Poly1305 that an extended nonce stands for (draft, §2.3).
    fn under(&self, nonce: &[u8; NONCE]) -> Option<(LessSafeKey, Nonce)> {
        let (head, tail) = nonce.split_at(16);
        let subkey = hchacha::<U10>(self.0.as_slice().into(), head.into());
        let key = UnboundKey::new(&CHACHA20_POLY1305, &subkey).ok()?;
        let mut short = [0; 12];
        short[4..].copy_from_slice(tail);
        Some((LessSafeKey::new(key), Nonce::assume_unique_for_key(short)))
    }

    /// Nonce, ciphertext, tag. `None` only for values beyond what the cipher allows (256 GiB) or absurd row keys.
    pub(crate) fn seal(
        &self,
        rng: &mut impl RngCore,
        table: Table,
        key: &[u8],
        plain: &[u8],
    ) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE];
        rng.fill_bytes(&mut nonce);
        let mut out = Vec::with_capacity(plain.len() + OVERHEAD);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plain);
        let (sealing, nonce) = self.under(&nonce)?;
        let place = Place::new(table, key)?;
        let tag =
            sealing.seal_in_place_separate_tag(nonce, Aad::from(place.bytes()), &mut out[NONCE..]).ok()?;
        out.extend_from_slice(tag.as_ref());
        Some(out)
    }

    /// The value, if it was sealed under this key for this very place.
    pub(crate) fn open(&self, table: Table, key: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE>()?;
        let (opening, nonce) = self.under(nonce)?;
        let place = Place::new(table, key)?;
        let mut out = rest.to_vec();
        let length = opening.open_in_place(nonce, Aad::from(place.bytes()), &mut out).ok()?.len();
        out.truncate(length);
        Some(out)
    }
}

/// Associated data: the table and the row key, which for a piece of a body ends with its offset.
struct Place([u8; 1 + MAX_ROW_KEY], usize);

impl Place {
    fn new(table: Table, key: &[u8]) -> Option<Self> {
        let mut bytes = [0; 1 + MAX_ROW_KEY];
        bytes[0] = table as u8;
        bytes.get_mut(1..1 + key.len())?.copy_from_slice(key);
        Some(Place(bytes, 1 + key.len()))
    }

    fn bytes(&self) -> &[u8] {
        &self.0[..self.1]
    }
}

fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    // A short key is padded with zeros to the hash's block (RFC 2104 §2).
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    let mac = <Hmac<Sha256> as Mac>::new(&block.into());
    zeroize::Zeroize::zeroize(&mut block);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng;

    #[test]
    fn a_value_opens_only_in_its_own_place() {
        let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
        let keys = Keys::new(&StoreKey::new([1; 32]));
        let sealed = keys.rows.seal(&mut rng, Table::Documents, b"row", b"value").unwrap();
        assert_eq!(sealed.len(), 5 + OVERHEAD);
        assert_eq!(keys.rows.open(Table::Documents, b"row", &sealed).as_deref(), Some(&b"value"[..]));
        assert_eq!(keys.rows.open(Table::Documents, b"other", &sealed), None);
        assert_eq!(keys.rows.open(Table::Outbox, b"row", &sealed), None);
        assert_eq!(Keys::new(&StoreKey::new([2; 32])).rows.open(Table::Documents, b"row", &sealed), None);
        for cut in 0..sealed.len() {
            assert_eq!(keys.rows.open(Table::Documents, b"row", &sealed[..cut]), None);
        }
    }

    #[test]
    fn what_is_sealed_is_xchacha20_poly1305_as_others_make_it() {
        use chacha20poly1305::aead::{Aead, KeyInit, Payload};
        let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
        let theirs = chacha20poly1305::XChaCha20Poly1305::new(&[7; 32].into());
        for length in [0, 1, 1_000, 40_000] {
            let plain: Vec<u8> = (0..length).map(|at: u32| at.to_be_bytes()[3]).collect();
            let sealed = Sealer::new(&[7; 32]).seal(&mut rng, Table::Pieces, b"row", &plain).unwrap();
            let (nonce, rest) = sealed.split_at(NONCE);
            let aad = [&[Table::Pieces as u8][..], b"row"].concat();
            let payload = Payload { msg: rest, aad: &aad };
            assert_eq!(theirs.decrypt(nonce.into(), payload).unwrap(), plain);
        }
    }

    #[test]
    fn row_keys_differ_by_table_and_store() {
        let keys = Keys::new(&StoreKey::new([1; 32]));
        let other = Keys::new(&StoreKey::new([2; 32]));
        assert_ne!(keys.prf(Table::Index, &[b"id"]), keys.prf(Table::Verdicts, &[b"id"]));
        assert_ne!(keys.prf(Table::Index, &[b"id"]), other.prf(Table::Index, &[b"id"]));
    }
}
