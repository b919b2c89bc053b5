//! Schema versions: a store of an older version is brought to this one when it is opened, one transaction per step.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use heed::{RoTxn, RwTxn};
use rand_chacha::ChaCha20Rng;

use crate::apply::collection_key;
use crate::error::StoreError;
use crate::rows::{CollectionRow, DocumentRow, PartialRow, PeerRow};
use crate::shares::Charged;
use crate::tables::{Tables, key8, key24, number};

/// The schema version of this program.
pub(crate) const SCHEMA: u32 = 3;

/// Rewrites a part of a store of one version into the next, from the row after `after` on, and says where the next
/// part begins; `None` after the last one. A part is small enough for one transaction. What a part has written already
/// may be written again: after a crash the step begins anew.
pub(crate) type Step =
    fn(&Tables, &mut RwTxn, &mut ChaCha20Rng, Option<u64>) -> Result<Option<u64>, StoreError>;

/// `STEPS[n]` leads from version n + 1 to n + 2.
pub(crate) const STEPS: &[Step] = &[list_collections, charge_peers];

/// So many rows of documents are converted in one transaction.
const ROWS: usize = 4096;

/// Version 2 finds documents by their collection.
fn list_collections(
    tables: &Tables,
    txn: &mut RwTxn,
    rng: &mut ChaCha20Rng,
    after: Option<u64>,
) -> Result<Option<u64>, StoreError> {
    let start = after.map(key8);
    let mut listed = Vec::new();
    let mut last = None;
    for (seen, row) in (1..).zip(tables.rows_after::<DocumentRow>(txn, start.as_ref().map(|key| &key[..]))?) {
        let (key, row) = row?;
        let seq = number(key, 0);
        if row.live {
            listed.push(key24(&collection_key(tables, &row.group), seq));
        }
        if seen == ROWS {
            last = Some(seq);
            break;
        }
    }
    for key in listed {
        tables.put(txn, rng, &key, &CollectionRow {})?;
    }
    Ok(last)
}

/// Version 3 knows what each peer has here.
fn charge_peers(
    tables: &Tables,
    txn: &mut RwTxn,
    rng: &mut ChaCha20Rng,
    after: Option<u64>,
) -> Result<Option<u64>, StoreError> {
    let mut charged: BTreeMap<u64, Charged> = BTreeMap::new();
    if after.is_none() {
        // Whatever an attempt before has counted counts for nothing.
        for row in tables.rows_after::<PeerRow>(txn, None)? {
            charged.insert(number(row?.0, 0), Charged::default());
        }
        for row in tables.rows_after::<PartialRow>(txn, None)? {
            let (_, row) = row?;
            if let Some(peer) = charged.get_mut(&row.depositor) {
                peer.add_partial(row.size);
            }
        }
    }
    let start = after.map(key8);
    let mut last = None;
    for (seen, row) in (1..).zip(tables.rows_after::<DocumentRow>(txn, start.as_ref().map(|key| &key[..]))?) {
        let (key, row) = row?;
        if row.is_charged() && row.pool().is_none() {
            match charged.entry(row.depositor) {
                Entry::Occupied(mut peer) => peer.get_mut().add_body(row.size),
                Entry::Vacant(none) => {
                    if let Some(known) = undamaged(tables, txn, row.depositor)? {
                        none.insert(Charged::of(&known)).add_body(row.size);
                    }
                }
            }
        }
        if seen == ROWS {
            last = Some(number(key, 0));
            break;
        }
    }
    for (peer, charged) in charged {
        if let Some(mut row) = undamaged(tables, txn, peer)? {
            charged.write_to(&mut row);
            tables.put(txn, rng, &key8(peer), &row)?;
        }
    }
    Ok(last)
}

fn undamaged(tables: &Tables, txn: &RoTxn, peer: u64) -> Result<Option<PeerRow>, StoreError> {
    match tables.get::<PeerRow>(txn, &key8(peer)) {
        Err(StoreError::Damaged { .. }) => Ok(None),
        found => found,
    }
}

/// Runs the steps from version `found` on. A crash in between goes on where it was.
pub(crate) fn run(tables: &Tables, found: u32, steps: &[Step]) -> Result<(), StoreError> {
    let done = usize::try_from(found.saturating_sub(1)).unwrap_or(usize::MAX);
    for (version, step) in (found..).zip(steps.iter().skip(done)) {
        let mut after = None;
        loop {
            let mut txn = tables.write()?;
            // Another process may have been quicker.
            if tables.schema(&txn)? != Some(version) {
                break;
            }
            after = step(tables, &mut txn, &mut crate::random()?, after)?;
            if after.is_none() {
                tables.set_schema(&mut txn, version.saturating_add(1))?;
            }
            txn.commit()?;
            if after.is_none() {
                break;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use heed::types::Bytes;
    use prost::Message as _;
    use waypost_protocol::document::Document;
    use waypost_protocol::envelope::Header;
    use waypost_protocol::ids::{Fingerprint, GroupId, PeerKey, StoreId};
    use waypost_protocol::sync::{Holdings as _, Recipient};
    use waypost_protocol::time::UnixTime;

    use super::*;
    use crate::rows::SettingRow;
    use crate::tables::Table;
    use crate::{Change, NewDocument, Options, PeerClass, Store, StoreKey};

    fn add(
        tables: &Tables,
        txn: &mut RwTxn,
        rng: &mut ChaCha20Rng,
        after: Option<u64>,
    ) -> Result<Option<u64>, StoreError> {
        let count = tables.get::<SettingRow>(txn, b"steps")?.map_or(0, |row| row.value.len());
        let row = SettingRow { key: "steps".into(), value: vec![0; count + 1] };
        tables.put(txn, rng, b"steps", &row)?;
        // In two parts.
        Ok(if after.is_none() { Some(1) } else { None })
    }

    /// Copies a store as version 1 had it: without the tables that came later, and with nothing that peers are charged.
    #[allow(unsafe_code, reason = "as in `open_environment`: nothing else touches the temporary folder")]
    fn as_version_1(tables: &Tables, folder: &std::path::Path) {
        let mut options = heed::EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(8 << 20).max_dbs(22);
        // SAFETY: the folder is this test's own.
        let env = unsafe { options.open(folder) }.unwrap();
        let from = tables.read().unwrap();
        let made = env.create_databases_and_commit(env.write_txn().unwrap(), |opener, txn| {
            let mut made = Vec::new();
            for (_, name) in &Table::ALL[..22] {
                made.push(opener.create_database(txn, Some(name))?);
            }
            let made: [heed::Database<'_, Bytes, Bytes>; 22] = made.try_into().unwrap();
            Ok::<_, heed::Error>(heed::CommitOrAbort::<_, ()>::Commit(made))
        });
        let made = made.unwrap().commit().unwrap();
        let mut to = env.write_txn().unwrap();
        let mut rng = crate::random().unwrap();
        for ((table, _), copy) in Table::ALL[..22].iter().zip(made) {
            for row in tables.database(*table).iter(&from).unwrap() {
                let (key, value) = row.unwrap();
                let value = match (*table, tables.get::<PeerRow>(&from, key)) {
                    (Table::Peers, Ok(Some(mut row))) => {
                        Charged::default().write_to(&mut row);
                        tables.keys.rows.seal(&mut rng, Table::Peers, key, &row.encode_to_vec()).unwrap()
                    }
                    _ => value.to_vec(),
                };
                copy.put(&mut to, key, &value).unwrap();
            }
            if *table == Table::Meta {
                copy.put(&mut to, b"schema", &1u32.to_be_bytes()).unwrap();
            }
        }
        to.commit().unwrap();
    }

    #[test]
    fn a_store_of_version_1_opens_and_finds_documents_by_collection() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let options = || Options { map_size: 8 << 20, reserve: 0, ..Options::default() };
        let destination = Fingerprint::V4([1; 20]);
        let put = |store: &Store, n: u8| {
            let header = Header::to(destination);
            let body = waypost_protocol::envelope::assemble(&header, &[n; 50]).unwrap();
            let document = Document::new(GroupId([n % 2; 32]), UnixTime(0), body).unwrap();
            let depositor = Some(PeerKey([n % 3; 32]));
            let new = NewDocument { document, header, age: 0, depositor, draft: false, note: None };
            store.apply_one(Change::Document(Box::new(new))).unwrap();
        };
        {
            let store = Store::open(old.path(), &StoreKey::new([1; 32]), options()).unwrap();
            let known = |n| Change::PutPeer { peer: PeerKey([n; 32]), class: PeerClass::Paired, label: None };
            (1..3).for_each(|n| drop(store.apply_one(known(n)).unwrap()));
            (0..9).for_each(|n| put(&store, n));
            as_version_1(&store.inner.tables, new.path());
        }
        for _ in 0..2 {
            let store = Store::open(new.path(), &StoreKey::new([1; 32]), options()).unwrap();
            assert_eq!(store.check().unwrap(), vec![]);
            let to = Recipient {
                key: PeerKey([5; 32]),
                store: StoreId([5; 16]),
                serves: Vec::new(),
                wants: vec![GroupId([1; 32])],
                max_document: u64::MAX,
            };
            assert_eq!(store.subscribed(&to, None, 100).unwrap().documents.len(), 4);
            assert_eq!(store.waiting(&destination, None, 100).unwrap().len(), 9);
        }
        let store = Store::open(new.path(), &StoreKey::new([1; 32]), options()).unwrap();
        put(&store, 11);
        assert_eq!(store.check().unwrap(), vec![]);
    }

    #[test]
    fn what_peers_have_is_counted_once_however_often_it_is_begun() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { map_size: 64 << 20, reserve: 0, ..Options::default() };
        let store = Store::open(folder.path(), &StoreKey::new([1; 32]), options).unwrap();
        let peer = PeerKey([1; 32]);
        store.apply_one(Change::PutPeer { peer, class: PeerClass::Paired, label: None }).unwrap();
        let header = Header::to(Fingerprint::V4([1; 20]));
        let documents = (0..ROWS as u64 + 10).map(|n| {
            let body = waypost_protocol::envelope::assemble(&header, &n.to_be_bytes()).unwrap();
            let document = Document::new(GroupId([1; 32]), UnixTime(0), body).unwrap();
            let (header, depositor) = (header.clone(), Some(peer));
            Change::Document(Box::new(NewDocument {
                document,
                header,
                age: 0,
                depositor,
                draft: false,
                note: None,
            }))
        });
        assert!(store.apply(documents.collect()).iter().all(Result::is_ok));
        assert_eq!(store.check().unwrap(), vec![]);
        let tables = &store.inner.tables;
        let part = |after| {
            let mut txn = tables.write().unwrap();
            let next = charge_peers(tables, &mut txn, &mut crate::random().unwrap(), after).unwrap();
            txn.commit().unwrap();
            next
        };
        let next = part(None);
        assert!(next.is_some(), "it is one part");
        assert_ne!(store.check().unwrap(), vec![]);
        // The power went there.
        assert_eq!(part(None), next);
        assert_eq!(part(next), None);
        assert_eq!(store.check().unwrap(), vec![]);
    }

    #[test]
    fn each_step_runs_once_and_only_from_its_own_version() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { map_size: 8 << 20, reserve: 0, ..Options::default() };
        let store = Store::open(folder.path(), &StoreKey::new([1; 32]), options).unwrap();
        let tables = &store.inner.tables;
        let mut txn = tables.write().unwrap();
        tables.set_schema(&mut txn, 1).unwrap();
        txn.commit().unwrap();
        run(tables, 1, &[add, add]).unwrap();
        run(tables, 3, &[add, add]).unwrap();
        run(tables, 2, &[add, add]).unwrap();
        let txn = tables.read().unwrap();
        assert_eq!(tables.schema(&txn).unwrap(), Some(3));
        assert_eq!(tables.get::<SettingRow>(&txn, b"steps").unwrap().unwrap().value.len(), 4);
    }
}
