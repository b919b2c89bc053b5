//! The tables of the database: which there are, and reading and writing their sealed rows.

use std::ops::Bound;
use std::path::Path;

use data_encoding::HEXLOWER;
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions, MdbError, PutFlags, RoTxn, RwTxn, WithoutTls};
use rand_core::RngCore;

use crate::error::{OpenError, StoreError};
use crate::rows::Row;
use crate::seal::{Keys, Prf, Sealer};

/// The tables. The numbers are part of what seals a row and are never given to another table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Table {
    /// The store's name, schema version, counters.
    Meta = 0,
    /// Arrival sequence → document.
    Documents = 1,
    /// PRF(id) → sequence.
    Index = 2,
    /// (destination, sequence) → attempts; what still has to get to its destination.
    Outbox = 3,
    /// (blob, offset) → bytes of a body, under the body's own key.
    Pieces = 4,
    /// Blob → the body's own key.
    BodyKeys = 5,
    /// Blob → (): its key is gone, its pieces have to be removed.
    Dead = 6,
    /// PRF(id ‖ depositor) → a body under way.
    Partials = 7,
    /// PRF(id) → why the document is gone.
    Tombstones = 8,
    /// Confirmation sequence → confirmation.
    Confirmations = 9,
    /// PRF(confirmation id) → confirmation sequence.
    ConfirmationIndex = 10,
    /// (PRF(document id), destination) → verdict and confirmation sequence.
    Verdicts = 11,
    /// (peer, confirmation sequence) → (): the peer should get it.
    Due = 12,
    /// Peer number → peer.
    Peers = 13,
    /// PRF(peer key) → peer number.
    PeerIndex = 14,
    /// (sequence, peer) → (): a further depositor, beside the first one in the document's row.
    Depositors = 15,
    /// (sequence, peer) → what the peer said of the document: held, or refused.
    Answers = 16,
    /// Destination number → fingerprint.
    Destinations = 17,
    /// PRF(fingerprint) → destination number.
    DestinationIndex = 18,
    /// PRF(code id) → pairing code.
    Codes = 19,
    /// PRF(key) → key and value.
    Settings = 20,
    /// (peer, PRF(id)) → a document that the peer brought and that was lost here.
    Lost = 21,
    /// (PRF(group id), sequence) → (): a document of that collection whose body is here.
    Collections = 22,
    /// Sequence → (): a document whose body goes where others need the room.
    Retained = 23,
}

impl Table {
    pub(crate) const ALL: [(Table, &'static str); 24] = [
        (Table::Meta, "meta"),
        (Table::Documents, "documents"),
        (Table::Index, "index"),
        (Table::Outbox, "outbox"),
        (Table::Pieces, "pieces"),
        (Table::BodyKeys, "body_keys"),
        (Table::Dead, "dead"),
        (Table::Partials, "partials"),
        (Table::Tombstones, "tombstones"),
        (Table::Confirmations, "confirmations"),
        (Table::ConfirmationIndex, "confirmation_index"),
        (Table::Verdicts, "verdicts"),
        (Table::Due, "due"),
        (Table::Peers, "peers"),
        (Table::PeerIndex, "peer_index"),
        (Table::Depositors, "depositors"),
        (Table::Answers, "answers"),
        (Table::Destinations, "destinations"),
        (Table::DestinationIndex, "destination_index"),
        (Table::Codes, "codes"),
        (Table::Settings, "settings"),
        (Table::Lost, "lost"),
        (Table::Collections, "collections"),
        (Table::Retained, "retained"),
    ];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// Whether new rows come after all others. LMDB then fills pages to the brim, where it would leave room for rows
    /// in between: fewer pages are written, and the file is smaller.
    fn grows_at_its_end(self) -> bool {
        matches!(
            self,
            Table::Documents | Table::Outbox | Table::Pieces | Table::BodyKeys | Table::Confirmations
        )
    }
}

/// A row key of a sequence number, blob or the like: big-endian, so that rows lie in order.
pub(crate) fn key8(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// A row key of two numbers, ordered by the first.
pub(crate) fn key16(first: u64, second: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&first.to_be_bytes());
    key[8..].copy_from_slice(&second.to_be_bytes());
    key
}

/// A row key of a PRF output and a number, ordered by the number within the first.
pub(crate) fn key24(first: &Prf, second: u64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(first);
    key[16..].copy_from_slice(&second.to_be_bytes());
    key
}

/// Number `at` of a key made by [`key8`], [`key16`] or, after its first two, [`key24`].
pub(crate) fn number(key: &[u8], at: usize) -> u64 {
    let part = key.get(at * 8..at * 8 + 8).and_then(|part| part.try_into().ok());
    part.map_or(0, u64::from_be_bytes)
}

const SCHEMA_KEY: &[u8] = b"schema";

/// The open database and the keys of its rows.
pub(crate) struct Tables {
    env: Env<WithoutTls>,
    databases: [Database<'static, Bytes, Bytes>; Table::ALL.len()],
    pub(crate) keys: Keys,
}

impl Tables {
    pub(crate) fn open(folder: &Path, map_size: usize, keys: Keys) -> Result<Self, OpenError> {
        let env = open_environment(folder, map_size).map_err(|error| match error {
            heed::Error::EnvAlreadyOpened => OpenError::AlreadyOpen(folder.to_owned()),
            error => OpenError::Store(error.into()),
        })?;
        // A process that was killed leaves its reader slots taken; LMDB would never reuse pages since then.
        env.clear_stale_readers().map_err(StoreError::from)?;
        let databases = match Self::existing(&env)? {
            Some(databases) => databases,
            None => Self::create(&env)?,
        };
        Ok(Tables { env, databases, keys })
    }

    fn existing(
        env: &Env<WithoutTls>,
    ) -> Result<Option<[Database<'static, Bytes, Bytes>; Table::ALL.len()]>, StoreError> {
        let txn = env.read_txn()?;
        let opened = env.open_databases_and_commit(txn, |opener, txn| {
            let mut found = Vec::with_capacity(Table::ALL.len());
            for (_, name) in Table::ALL {
                match opener.open_database(txn, Some(name))? {
                    Some(database) => found.push(database),
                    None => return Ok(CommitOrAbort::Abort(())),
                }
            }
            Ok::<_, heed::Error>(into_array(found))
        })?;
        Ok(opened.commit())
    }

    fn create(
        env: &Env<WithoutTls>,
    ) -> Result<[Database<'static, Bytes, Bytes>; Table::ALL.len()], StoreError> {
        let txn = env.write_txn()?;
        let created = env.create_databases_and_commit(txn, |opener, txn| {
            let mut made = Vec::with_capacity(Table::ALL.len());
            for (_, name) in Table::ALL {
                made.push(opener.create_database(txn, Some(name))?);
            }
            Ok::<_, heed::Error>(into_array(made))
        })?;
        created.commit().ok_or_else(|| StoreError::Database("its tables could not be made".into()))
    }

    pub(crate) fn environment(&self) -> &Env<WithoutTls> {
        &self.env
    }

    pub(crate) fn read(&self) -> Result<RoTxn<'_, WithoutTls>, StoreError> {
        Ok(self.env.read_txn()?)
    }

    pub(crate) fn write(&self) -> Result<RwTxn<'_>, StoreError> {
        Ok(self.env.write_txn()?)
    }

    pub(crate) fn database(&self, table: Table) -> Database<'static, Bytes, Bytes> {
        self.databases[table as usize]
    }

    /// Schema version; `None` in a new store. It is in clear, since it says how to read the rest.
    pub(crate) fn schema(&self, txn: &RoTxn) -> Result<Option<u32>, StoreError> {
        let Some(bytes) = self.database(Table::Meta).get(txn, SCHEMA_KEY)? else { return Ok(None) };
        bytes
            .try_into()
            .map(|bytes| Some(u32::from_be_bytes(bytes)))
            .map_err(|_| damaged(Table::Meta, SCHEMA_KEY))
    }

    pub(crate) fn set_schema(&self, txn: &mut RwTxn, version: u32) -> Result<(), StoreError> {
        Ok(self.database(Table::Meta).put(txn, SCHEMA_KEY, &version.to_be_bytes())?)
    }

    pub(crate) fn is_schema_key(table: Table, key: &[u8]) -> bool {
        table == Table::Meta && key == SCHEMA_KEY
    }

    /// The row at `key`, if there is one.
    pub(crate) fn get<R: Row>(&self, txn: &RoTxn, key: &[u8]) -> Result<Option<R>, StoreError> {
        match self.database(R::TABLE).get(txn, key)? {
            Some(sealed) => self.decode(key, sealed).map(Some),
            None => Ok(None),
        }
    }

    fn decode<R: Row>(&self, key: &[u8], sealed: &[u8]) -> Result<R, StoreError> {
        let plain = self.keys.rows.open(R::TABLE, key, sealed).ok_or_else(|| damaged(R::TABLE, key))?;
        R::decode(plain.as_slice()).map_err(|_| damaged(R::TABLE, key))
    }

    /// A row of an iterator. One that does not open is reported and passed over, so that it stops nothing else.
    fn opened<'t, R: Row>(
        &self,
        row: heed::Result<(&'t [u8], &'t [u8])>,
    ) -> Option<Result<(&'t [u8], R), StoreError>> {
        let (key, sealed) = match row {
            Ok(row) => row,
            Err(error) => return Some(Err(error.into())),
        };
        match self.decode(key, sealed) {
            Ok(row) => Some(Ok((key, row))),
            Err(error) => {
                log::error!(error:%; "passing over a damaged row");
                None
            }
        }
    }

    /// Writes the row at `key`.
    pub(crate) fn put<R: Row>(
        &self,
        txn: &mut RwTxn,
        rng: &mut impl RngCore,
        key: &[u8],
        row: &R,
    ) -> Result<(), StoreError> {
        self.put_bytes(txn, rng, &self.keys.rows, R::TABLE, key, &row.encode_to_vec())
    }

    /// Writes bytes under another key than that of the rows.
    pub(crate) fn put_bytes(
        &self,
        txn: &mut RwTxn,
        rng: &mut impl RngCore,
        sealer: &Sealer,
        table: Table,
        key: &[u8],
        plain: &[u8],
    ) -> Result<(), StoreError> {
        let sealed = sealer.seal(rng, table, key, plain).ok_or_else(|| damaged(table, key))?;
        let database = self.database(table);
        if table.grows_at_its_end() {
            match database.put_with_flags(txn, PutFlags::APPEND, key, &sealed) {
                // It is not the last: a row that is replaced, or a body that comes in beside others.
                Err(heed::Error::Mdb(MdbError::KeyExist)) => {}
                done => return Ok(done?),
            }
        }
        Ok(database.put(txn, key, &sealed)?)
    }

    /// Removes the row at `key`; whether there was one.
    pub(crate) fn delete(&self, txn: &mut RwTxn, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        Ok(self.database(table).delete(txn, key)?)
    }

    /// Rows after `after` (or from the start), in order of their keys.
    pub(crate) fn rows_after<'t, R: Row>(
        &'t self,
        txn: &'t RoTxn,
        after: Option<&[u8]>,
    ) -> Result<impl Iterator<Item = Result<(&'t [u8], R), StoreError>> + use<'t, R>, StoreError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.rows_within(txn, from, Bound::Unbounded)
    }

    /// Rows whose key is a [`key16`] that begins with `first` and ends with more than `after`.
    pub(crate) fn rows_of<'t, R: Row>(
        &'t self,
        txn: &'t RoTxn,
        first: u64,
        after: Option<u64>,
    ) -> Result<impl Iterator<Item = Result<(&'t [u8], R), StoreError>> + use<'t, R>, StoreError> {
        let (low, high) = (key16(first, after.unwrap_or(0)), key16(first, u64::MAX));
        let from = if after.is_some() { Bound::Excluded(&low[..]) } else { Bound::Included(&low[..]) };
        self.rows_within(txn, from, Bound::Included(&high[..]))
    }

    /// Rows whose key is a [`key24`] that begins with `first` and ends with more than `after`.
    pub(crate) fn rows_under<'t, R: Row>(
        &'t self,
        txn: &'t RoTxn,
        first: &Prf,
        after: u64,
    ) -> Result<impl Iterator<Item = Result<(&'t [u8], R), StoreError>> + use<'t, R>, StoreError> {
        let (low, high) = (key24(first, after), key24(first, u64::MAX));
        self.rows_within(txn, Bound::Excluded(&low[..]), Bound::Included(&high[..]))
    }

    /// Rows whose key begins with `prefix`.
    pub(crate) fn rows_with_prefix<'t, R: Row>(
        &'t self,
        txn: &'t RoTxn,
        prefix: &[u8],
    ) -> Result<impl Iterator<Item = Result<(&'t [u8], R), StoreError>> + use<'t, R>, StoreError> {
        let rows = self.database(R::TABLE).prefix_iter(txn, prefix)?;
        Ok(rows.filter_map(move |row| self.opened(row)))
    }

    /// The still sealed pieces of a body, from the one at `offset` on.
    pub(crate) fn pieces<'t>(
        &self,
        txn: &'t RoTxn,
        blob: u64,
        offset: u64,
    ) -> heed::Result<impl Iterator<Item = heed::Result<(&'t [u8], &'t [u8])>> + use<'t>> {
        let (low, high) = (key16(blob, offset), key16(blob, u64::MAX));
        let bounds = (Bound::Included(&low[..]), Bound::Included(&high[..]));
        self.database(Table::Pieces).range(txn, &bounds)
    }

    fn rows_within<'t, R: Row>(
        &'t self,
        txn: &'t RoTxn,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
    ) -> Result<impl Iterator<Item = Result<(&'t [u8], R), StoreError>> + use<'t, R>, StoreError> {
        let rows = self.database(R::TABLE).range(txn, &(from, to))?;
        Ok(rows.filter_map(move |row| self.opened(row)))
    }
}

pub(crate) fn damaged(table: Table, key: &[u8]) -> StoreError {
    StoreError::Damaged { table: table.name(), key: HEXLOWER.encode(key) }
}

fn into_array<D, const N: usize>(made: Vec<D>) -> CommitOrAbort<[D; N], ()> {
    made.try_into().map_or(CommitOrAbort::Abort(()), CommitOrAbort::Commit)
}

#[allow(unsafe_code, reason = "the one place: see SAFETY")]
fn open_environment(folder: &Path, map_size: usize) -> heed::Result<Env<WithoutTls>> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    let tables = u32::try_from(Table::ALL.len()).unwrap_or(u32::MAX);
    options.map_size(map_size).max_dbs(tables).max_readers(256);
    // SAFETY: the map is sound as long as nothing but LMDB changes data.mdb and lock.mdb while it is open. The
    // folder is the store's own with mode 0700, this crate never writes to the two files itself, sets no flag
    // (locking stays on, no NOSYNC, NOMETASYNC, WRITEMAP), and LMDB's own locks order other processes of this
    // program. heed refuses a second environment of the same folder in one process. Values are only trusted after
    // their seal has opened.
    unsafe { options.open(folder) }
}
