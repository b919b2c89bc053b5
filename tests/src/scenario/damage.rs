//! Damage to what a store keeps, as a failing card does it.

use std::path::Path;

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, EnvOpenOptions};

/// Damages the body of the `number`th document (from 0) that came into a store which nobody has open.
#[track_caller]
#[expect(unsafe_code, reason = "LMDB maps its file; nobody else has it open")]
pub fn damage_body(store: &Path, number: usize) {
    // SAFETY: the programs that use this store are not running.
    let env = unsafe { EnvOpenOptions::new().max_dbs(32).map_size(1 << 30).open(store).unwrap() };
    let opened = env.open_databases_and_commit(env.read_txn().unwrap(), |opener, txn| {
        opener.open_database(txn, Some("pieces")).map(CommitOrAbort::<_, ()>::Commit)
    });
    let pieces: Database<Bytes, Bytes> = opened.unwrap().unwrap_commit().unwrap();
    let mut txn = env.write_txn().unwrap();
    let rows: Vec<(Vec<u8>, Vec<u8>)> = pieces
        .iter(&txn)
        .unwrap()
        .map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap())
        .collect();
    let mut bodies: Vec<&[u8]> = rows.iter().map(|(key, _)| &key[..8]).collect();
    bodies.dedup();
    let body = bodies[number].to_vec();
    for (key, value) in rows.iter().filter(|(key, _)| key.starts_with(&body)) {
        let mut value = value.clone();
        *value.last_mut().unwrap() ^= 1;
        pieces.put(&mut txn, key, &value).unwrap();
    }
    txn.commit().unwrap();
}
