//! Damage to what a store keeps, as a failing card does it.

use std::ops::Range;
use std::path::Path;

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions};

/// A page of LMDB.
const PAGE: usize = 4096;

/// The store's table of pieces.
type Pieces = Database<'static, Bytes, Bytes>;

/// Key and value of each piece of a body: keys begin with the body's number.
type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// Damages the body of the `number`th document (from 0) that came into a store which nobody has open.
#[track_caller]
pub fn damage_body(store: &Path, number: usize) {
    let (env, pieces) = open(store);
    let mut txn = env.write_txn().unwrap();
    for (key, mut value) in body(&env, pieces, number) {
        *value.last_mut().unwrap() ^= 1;
        pieces.put(&mut txn, &key, &value).unwrap();
    }
    txn.commit().unwrap();
}

/// Where in the file of a store which nobody has open a page is that has nothing but bytes of the `number`th document's body.
#[track_caller]
pub fn page_of_body(store: &Path, number: usize) -> Range<u64> {
    let (env, pieces) = open(store);
    let (_, value) = body(&env, pieces, number).swap_remove(0);
    let file = std::fs::read(store.join("data.mdb")).unwrap();
    let found = file.windows(64).position(|bytes| bytes == &value[..64]).unwrap();
    let page = found.next_multiple_of(PAGE);
    assert!(page + PAGE <= found + value.len(), "a piece of {} bytes has no page of its own", value.len());
    page as u64..(page + PAGE) as u64
}

#[track_caller]
#[expect(unsafe_code, reason = "LMDB maps its file; nobody else has it open")]
fn open(store: &Path) -> (Env, Pieces) {
    // SAFETY: the programs that use this store are not running.
    let env = unsafe { EnvOpenOptions::new().max_dbs(32).map_size(1 << 30).open(store).unwrap() };
    let opened = env.open_databases_and_commit(env.read_txn().unwrap(), |opener, txn| {
        opener.open_database(txn, Some("pieces")).map(CommitOrAbort::<_, ()>::Commit)
    });
    let pieces = opened.unwrap().unwrap_commit().unwrap();
    (env, pieces)
}

/// The pieces of the `number`th body.
#[track_caller]
fn body(env: &Env, pieces: Pieces, number: usize) -> Rows {
    let txn = env.read_txn().unwrap();
    let rows =
        pieces.iter(&txn).unwrap().map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap());
    let rows: Rows = rows.collect();
    let mut bodies: Vec<&[u8]> = rows.iter().map(|(key, _)| &key[..8]).collect();
    bodies.dedup();
    let wanted = bodies[number].to_vec();
    rows.into_iter().filter(|(key, _)| key.starts_with(&wanted)).collect()
}
