//! Bodies: in pieces, each body sealed under its own random key, hashed again when a process takes one over.

use bytes::{Bytes, BytesMut};
use heed::{RoTxn, RwTxn};
use rand_chacha::ChaCha20Rng;
use rand_core::RngCore as _;
use waypost_protocol::document::{Description, IdHasher};
use zeroize::Zeroizing;

use crate::error::StoreError;
use crate::rows::BodyKeyRow;
use crate::seal::{OVERHEAD, Sealer};
use crate::tables::{Table, Tables, damaged, key8, key16, number};

/// Bytes of a body in one row: with LMDB's header of 16 bytes and the seal, exactly 8 pages.
pub(crate) const PIECE: usize = 8 * 4096 - 16 - OVERHEAD;

/// The running hash of a body under way.
#[derive(Clone)]
pub(crate) struct Hashing {
    pub(crate) hasher: IdHasher,
    pub(crate) blob: u64,
    /// How many bytes are in it.
    pub(crate) length: u64,
}

/// Makes the key of a new body.
pub(crate) fn begin(
    tables: &Tables,
    txn: &mut RwTxn,
    rng: &mut ChaCha20Rng,
    blob: u64,
) -> Result<Sealer, StoreError> {
    let mut key = Zeroizing::new([0; 32]);
    rng.fill_bytes(key.as_mut_slice());
    let mut row = BodyKeyRow { key: key.to_vec() };
    let written = tables.put(txn, rng, &key8(blob), &row);
    zeroize::Zeroize::zeroize(&mut row.key);
    written.map(|()| Sealer::new(&key))
}

/// The key of a body; `None` when it was deleted.
pub(crate) fn sealer(tables: &Tables, txn: &RoTxn, blob: u64) -> Result<Option<Sealer>, StoreError> {
    let Some(row) = tables.get::<BodyKeyRow>(txn, &key8(blob))? else { return Ok(None) };
    let key = Zeroizing::new(row.key);
    let key: &[u8; 32] = key.as_slice().try_into().map_err(|_| damaged(Table::BodyKeys, &key8(blob)))?;
    Ok(Some(Sealer::new(key)))
}

/// Writes `bytes` at `offset`.
pub(crate) fn write(
    tables: &Tables,
    txn: &mut RwTxn,
    rng: &mut ChaCha20Rng,
    sealer: &Sealer,
    blob: u64,
    offset: u64,
    bytes: &[u8],
) -> Result<(), StoreError> {
    let mut at = offset;
    for piece in bytes.chunks(PIECE) {
        tables.put_bytes(txn, rng, sealer, Table::Pieces, &key16(blob, at), piece)?;
        at += piece.len() as u64;
    }
    Ok(())
}

/// Reads at most `len` bytes from `offset` on; fewer only at the end of what is there.
pub(crate) fn read(
    tables: &Tables,
    txn: &RoTxn,
    blob: u64,
    offset: u64,
    len: usize,
) -> Result<Bytes, StoreError> {
    let mut out = BytesMut::new();
    if len == 0 {
        return Ok(out.freeze());
    }
    let Some(sealer) = sealer(tables, txn, blob)? else { return Ok(out.freeze()) };
    let pieces = tables.database(Table::Pieces);
    let first = match pieces.get_lower_than_or_equal_to(txn, &key16(blob, offset))? {
        Some((key, _)) if number(key, 0) == blob => number(key, 1),
        _ => return Ok(out.freeze()),
    };
    let mut expected = first;
    for piece in tables.pieces(txn, blob, first)? {
        let (key, sealed) = piece?;
        // A gap can only come from outside; what is behind it is not the body's.
        if number(key, 1) != expected {
            return Err(damaged(Table::Pieces, key));
        }
        let plain = sealer.open(Table::Pieces, key, sealed).ok_or_else(|| damaged(Table::Pieces, key))?;
        let skip = usize::try_from(offset.saturating_sub(expected)).unwrap_or(usize::MAX);
        let wanted = plain.get(skip..).unwrap_or_default();
        let rest = len - out.len();
        expected += plain.len() as u64;
        if out.is_empty() && wanted.len() >= rest {
            // The usual case: all of it is in one piece, which then need not be copied.
            return Ok(Bytes::from(plain).slice(skip..skip + rest));
        }
        out.extend_from_slice(&wanted[..wanted.len().min(rest)]);
        if out.len() == len {
            break;
        }
    }
    Ok(out.freeze())
}

/// Hashes a body's first `length` bytes from the disk. `None` when they are damaged or not all there.
pub(crate) fn rehash(
    tables: &Tables,
    description: &Description,
    blob: u64,
    length: u64,
) -> Result<Option<Hashing>, StoreError> {
    const STEP: usize = 64 * PIECE;
    let mut hasher = IdHasher::new(description.group, description.timestamp);
    let mut at = 0;
    while at < length {
        // A transaction of its own for each step: no reader grows old, however large the body.
        let txn = tables.read()?;
        let step = usize::try_from(length - at).unwrap_or(STEP).min(STEP);
        let bytes = match read(tables, &txn, blob, at, step) {
            Ok(bytes) if !bytes.is_empty() => bytes,
            Ok(_) | Err(StoreError::Damaged { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        hasher.update(&bytes);
        at += bytes.len() as u64;
    }
    Ok(Some(Hashing { hasher, blob, length }))
}
