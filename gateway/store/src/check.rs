//! Checking and compacting: every value is opened, every body hashed, and the tables are compared with each other.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use data_encoding::HEXLOWER;
use heed::RoTxn;

use crate::apply::{collection_key, verdict_key};
use crate::error::{OpenError, StoreError};
use crate::rows::*;
use crate::shares::Charged;
use crate::tables::{Table, Tables, key8, key16, key24, number};
use crate::{Store, body, disk};

/// At most so many findings are listed.
const MAX_FINDINGS: usize = 1000;
/// So many rows are looked at in one transaction.
const ROWS: usize = 512;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which table.
    pub table: &'static str,
    /// The row's key in hexadecimal.
    pub key: String,
    /// What is wrong, for people.
    pub problem: Cow<'static, str>,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.table, self.key, self.problem)
    }
}

struct Check<'s> {
    store: &'s Store,
    findings: Vec<Finding>,
    counts: CountsRow,
    /// What is here of each peer, by its number.
    charged: HashMap<u64, Charged>,
    /// Bodies that documents and partials refer to.
    blobs: HashSet<u64>,
    /// Bodies of a page of rows, to be hashed after the transaction that found them.
    bodies: Vec<(u64, DocumentRow)>,
    partials: Vec<(Vec<u8>, PartialRow)>,
}

impl Store {
    /// Reads everything and tells what is wrong, at most 1,000 findings. May run beside a daemon that writes; sums
    /// and left-over bodies are then only compared if nothing was written meanwhile.
    pub fn check(&self) -> Result<Vec<Finding>, StoreError> {
        let version = || -> Result<usize, StoreError> { Ok(self.inner.tables.read()?.id()) };
        let before = version()?;
        let mut check = Check {
            store: self,
            findings: Vec::new(),
            counts: CountsRow::default(),
            charged: HashMap::new(),
            blobs: HashSet::new(),
            bodies: Vec::new(),
            partials: Vec::new(),
        };
        check.documents()?;
        check.references()?;
        check.confirmations()?;
        check.people()?;
        if before == version()? {
            check.sums()?;
        }
        Ok(check.findings)
    }

    /// Writes a copy without free pages into `folder`, which must not have a store yet. A long read: writers cannot
    /// use freed pages again while it lasts, so it is for quiet hours.
    pub fn compact(&self, folder: &Path) -> Result<(), OpenError> {
        let at = |error| OpenError::Folder { path: folder.to_owned(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(at)?;
        let path = folder.join("data.mdb");
        let mut file =
            OpenOptions::new().write(true).read(true).create_new(true).mode(0o600).open(&path).map_err(at)?;
        let copied = self.copy(&mut file).map_err(OpenError::from);
        match copied.and_then(|()| file.sync_all().and_then(|()| disk::sync_folder(folder)).map_err(at)) {
            Ok(()) => Ok(()),
            Err(error) => {
                // Half a copy shall not be taken for a store.
                let _ = std::fs::remove_file(&path);
                Err(error)
            }
        }
    }

    fn copy(&self, file: &mut File) -> Result<(), StoreError> {
        let environment = self.inner.tables.environment();
        Ok(environment.copy_to_file(file, heed::CompactionOption::Enabled)?)
    }
}

impl Check<'_> {
    fn find(&mut self, table: Table, key: &[u8], problem: impl Into<Cow<'static, str>>) {
        if self.findings.len() < MAX_FINDINGS {
            let (key, problem) = (HEXLOWER.encode(key), problem.into());
            self.findings.push(Finding { table: table.name(), key, problem });
        }
    }

    fn expect(&mut self, holds: bool, table: Table, key: &[u8], problem: &'static str) {
        if !holds {
            self.find(table, key, problem);
        }
    }

    /// Opens each row of a table and shows it to `look`, in short transactions.
    fn walk<R: Row>(
        &mut self,
        mut look: impl FnMut(&mut Self, &Tables, &RoTxn, &[u8], R) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let tables = &self.store.inner.tables;
        let mut last: Option<Vec<u8>> = None;
        loop {
            let txn = tables.read()?;
            let from = last.as_deref().map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
            let mut seen = 0;
            let rows = tables.database(R::TABLE).range(&txn, &(from, std::ops::Bound::Unbounded))?;
            let mut next = None;
            for row in rows.take(ROWS) {
                let (key, _) = row?;
                seen += 1;
                next = Some(key.to_vec());
                if Tables::is_schema_key(R::TABLE, key) {
                    continue;
                }
                let looked = match tables.get::<R>(&txn, key) {
                    Ok(Some(row)) => look(self, tables, &txn, key, row),
                    Ok(None) => Ok(()),
                    Err(error) => Err(error),
                };
                match looked {
                    Err(StoreError::Damaged { .. }) => {
                        self.find(R::TABLE, key, "it or a row it refers to does not open")
                    }
                    looked => looked?,
                }
            }
            drop(txn);
            // Page by page: never all rows in memory.
            self.bodies()?;
            if seen < ROWS {
                return Ok(());
            }
            last = next;
        }
    }

    fn documents(&mut self) -> Result<(), StoreError> {
        self.walk::<DocumentRow>(|check, tables, txn, key, row| {
            let table = Table::Documents;
            let seq = number(key, 0);
            let index = tables.get::<IndexRow>(txn, &tables.keys.prf(Table::Index, &[&row.id]))?;
            check.expect(
                index.is_some_and(|index| index.seq == seq),
                table,
                key,
                "the index does not lead to it",
            );
            let outbox = tables.get::<OutboxRow>(txn, &key16(row.destination, seq))?.is_some();
            check.expect(outbox == (row.state == WAITING), table, key, "its state and the outbox differ");
            let destination = tables.get::<DestinationRow>(txn, &key8(row.destination))?;
            check.expect(destination.is_some(), table, key, "its destination is missing");
            let known_state = matches!(
                (row.state, row.verdict()),
                (DRAFT | WAITING, None) | (CONFIRMED, Some(_)) | (RECEIVED, _)
            );
            let known_state = known_state && (row.state != RECEIVED || row.received);
            check.expect(known_state, table, key, "its state is none that there is");
            let readable = row.description().is_some() && row.header().is_some();
            check.expect(readable, table, key, "its description or header cannot be read");
            let has_key = body::sealer(tables, txn, row.blob)?.is_some();
            check.expect(has_key == row.live, table, key, "its body's key is missing, or should be");
            let listed =
                tables.get::<CollectionRow>(txn, &key24(&collection_key(tables, &row.group), seq))?;
            check.expect(
                listed.is_some() == row.live,
                table,
                key,
                "its body and its collection's index differ",
            );
            let retained = tables.get::<RetainedRow>(txn, key)?.is_some();
            check.expect(retained == row.is_retained(), table, key, "it is retained, or should be");
            check.add(&row);
            if row.live {
                check.blobs.insert(row.blob);
                check.bodies.push((seq, row));
            }
            Ok(())
        })?;
        self.walk::<PartialRow>(|check, _, _, key, row| {
            let counts = &mut check.counts;
            counts.partials += 1;
            counts.partial_bytes = counts.partial_bytes.saturating_add(row.size);
            if let Some(pool) = row.pool() {
                let [_, number, bytes] = counts.of_pool(pool);
                (*number, *bytes) = (*number + 1, bytes.saturating_add(row.size));
            } else if row.depositor != 0 {
                check.charged.entry(row.depositor).or_default().add_partial(row.size);
            }
            check.blobs.insert(row.blob);
            check.partials.push((key.to_vec(), row));
            Ok(())
        })
    }

    fn references(&mut self) -> Result<(), StoreError> {
        self.walk::<IndexRow>(|check, tables, txn, key, row| {
            let document = tables.get::<DocumentRow>(txn, &key8(row.seq))?;
            let fits = document.is_some_and(|document| tables.keys.prf(Table::Index, &[&document.id]) == key);
            check.expect(fits, Table::Index, key, "leads to no document, or to another");
            Ok(())
        })?;
        self.walk::<OutboxRow>(|check, tables, txn, key, _| {
            let document = tables.get::<DocumentRow>(txn, &key8(number(key, 1)))?;
            let fits = document.is_some_and(|row| row.destination == number(key, 0) && row.state == WAITING);
            check.expect(fits, Table::Outbox, key, "no document waits for that destination");
            Ok(())
        })?;
        self.walk::<DepositorRow>(|check, tables, txn, key, _| {
            let there = tables.get::<DocumentRow>(txn, &key8(number(key, 0)))?.is_some();
            check.expect(there, Table::Depositors, key, "the document is missing");
            Ok(())
        })?;
        self.walk::<AnswerRow>(|check, tables, txn, key, _| {
            let document = tables.get::<DocumentRow>(txn, &key8(number(key, 0)))?;
            let fits = document.is_some_and(|row| row.live);
            check.expect(fits, Table::Answers, key, "the document or its body is missing");
            Ok(())
        })?;
        self.walk::<CollectionRow>(|check, tables, txn, key, _| {
            let document = tables.get::<DocumentRow>(txn, &key8(number(key, 2)))?;
            let fits =
                document.is_some_and(|row| row.live && key.starts_with(&collection_key(tables, &row.group)));
            check.expect(fits, Table::Collections, key, "leads to no body of that collection");
            Ok(())
        })?;
        self.walk::<RetainedRow>(|check, tables, txn, key, _| {
            let document = tables.get::<DocumentRow>(txn, key)?;
            let fits = document.is_some_and(|row| row.is_retained());
            check.expect(fits, Table::Retained, key, "leads to no body that is retained");
            Ok(())
        })
    }

    fn confirmations(&mut self) -> Result<(), StoreError> {
        self.walk::<ConfirmationRow>(|check, tables, txn, key, row| {
            let Some(confirmation) = row.confirmation() else {
                check.find(Table::Confirmations, key, "cannot be read");
                return Ok(());
            };
            let index = tables.keys.prf(Table::ConfirmationIndex, &[confirmation.id().as_bytes()]);
            let index = tables.get::<ConfirmationIndexRow>(txn, &index)?;
            let fits = index.is_some_and(|index| index.seq == number(key, 0));
            check.expect(fits, Table::Confirmations, key, "the index does not lead to it");
            for (id, _) in confirmation.statement.verdicts() {
                let verdict = tables.get::<VerdictRow>(txn, &verdict_key(tables, id, row.destination))?;
                check.expect(verdict.is_some(), Table::Confirmations, key, "a verdict of it is missing");
            }
            Ok(())
        })?;
        self.walk::<ConfirmationIndexRow>(|check, tables, txn, key, row| {
            let there = tables.get::<ConfirmationRow>(txn, &key8(row.seq))?.is_some();
            check.expect(there, Table::ConfirmationIndex, key, "the confirmation is missing");
            Ok(())
        })?;
        self.walk::<VerdictRow>(|check, tables, txn, key, row| {
            let confirmation = tables.get::<ConfirmationRow>(txn, &key8(row.confirmation))?;
            let confirmation = confirmation.and_then(|row| row.confirmation());
            let said = confirmation.and_then(|confirmation| {
                let mut verdicts = confirmation.statement.verdicts().iter();
                let named = verdicts.find(|(id, _)| verdict_key(tables, id, number(key, 2)) == key);
                named.map(|(_, verdict)| *verdict)
            });
            let fits = said.is_some() && said == row.verdict();
            check.expect(fits, Table::Verdicts, key, "no confirmation says so");
            Ok(())
        })?;
        self.walk::<DueRow>(|check, tables, txn, key, _| {
            let there = tables.get::<ConfirmationRow>(txn, &key8(number(key, 1)))?.is_some();
            check.expect(there, Table::Due, key, "the confirmation is missing");
            Ok(())
        })
    }

    fn people(&mut self) -> Result<(), StoreError> {
        self.walk::<PeerRow>(|check, tables, txn, key, row| {
            let index = tables.get::<PeerIndexRow>(txn, &tables.keys.prf(Table::PeerIndex, &[&row.key]))?;
            let fits = index.is_some_and(|index| index.peer == number(key, 0));
            check.expect(fits, Table::Peers, key, "the index does not lead to it");
            Ok(())
        })?;
        self.walk::<PeerIndexRow>(|check, tables, txn, key, row| {
            let there = tables.get::<PeerRow>(txn, &key8(row.peer))?.is_some();
            check.expect(there, Table::PeerIndex, key, "the peer is missing");
            Ok(())
        })?;
        self.walk::<DestinationRow>(|check, tables, txn, key, row| {
            let index = tables.keys.prf(Table::DestinationIndex, &[&row.fingerprint]);
            let index = tables.get::<DestinationIndexRow>(txn, &index)?;
            let fits = index.is_some_and(|index| index.destination == number(key, 0));
            check.expect(fits, Table::Destinations, key, "the index does not lead to it");
            Ok(())
        })?;
        self.walk::<DestinationIndexRow>(|check, tables, txn, key, row| {
            let there = tables.get::<DestinationRow>(txn, &key8(row.destination))?.is_some();
            check.expect(there, Table::DestinationIndex, key, "the destination is missing");
            Ok(())
        })?;
        self.walk::<SettingRow>(|check, tables, _, key, row| {
            let fits = tables.keys.prf(Table::Settings, &[row.key.as_bytes()]) == key;
            check.expect(fits, Table::Settings, key, "lies under another name's key");
            Ok(())
        })?;
        self.walk::<LostRow>(|check, tables, txn, key, row| {
            check.counts.lost += 1;
            let peer = tables.get::<PeerRow>(txn, &key8(number(key, 0)))?;
            check.expect(peer.is_some() && row.id().is_some(), Table::Lost, key, "its peer or id is missing");
            Ok(())
        })?;
        self.walk::<StoreRow>(|_, _, _, _, _| Ok(()))?;
        self.walk::<TombstoneRow>(|_, _, _, _, _| Ok(()))?;
        self.walk::<CodeRow>(|_, _, _, _, _| Ok(()))?;
        self.walk::<DeadRow>(|_, _, _, _, _| Ok(()))
    }

    fn bodies(&mut self) -> Result<(), StoreError> {
        let tables = &self.store.inner.tables;
        for (seq, row) in std::mem::take(&mut self.bodies) {
            let Some(description) = row.description() else { continue };
            let hashed = body::rehash(tables, &description, row.blob, row.size)?;
            if hashed.map(|hashing| hashing.hasher.finish()) == Some(description.id) {
                continue;
            }
            // It may have been deleted or freed while it was read.
            let now = tables.get::<DocumentRow>(&*tables.read()?, &key8(seq))?;
            if now.is_some_and(|now| now.live && now.blob == row.blob) {
                let id = description.id;
                let what = format!("the body of document {id} is damaged: its bytes do not have this id");
                self.find(Table::Documents, &key8(seq), what);
            }
        }
        for (key, row) in std::mem::take(&mut self.partials) {
            let Some(description) = row.description() else {
                self.find(Table::Partials, &key, "its description cannot be read");
                continue;
            };
            let whole = body::rehash(tables, &description, row.blob, row.committed)?.is_some();
            let now = tables.get::<PartialRow>(&*tables.read()?, &key)?;
            if !whole && now.is_some_and(|now| now.blob == row.blob) {
                self.find(Table::Partials, &key, "its bytes are damaged or missing");
            }
        }
        Ok(())
    }

    /// What can only be said of a store that did not change meanwhile.
    fn sums(&mut self) -> Result<(), StoreError> {
        let blobs = std::mem::take(&mut self.blobs);
        self.walk::<BodyKeyRow>(|check, _, _, key, _| {
            let used = blobs.contains(&number(key, 0));
            check.expect(used, Table::BodyKeys, key, "belongs to no document");
            Ok(())
        })?;
        let charged = std::mem::take(&mut self.charged);
        self.walk::<PeerRow>(|check, _, _, key, row| {
            let here = charged.get(&number(key, 0)).copied().unwrap_or_default();
            check.expect(
                here == Charged::of(&row),
                Table::Peers,
                key,
                "what it has here is not the sum of its rows",
            );
            Ok(())
        })?;
        let tables = &self.store.inner.tables;
        let txn = tables.read()?;
        let mut next = key16(0, 0);
        while let Some((key, _)) =
            tables.database(Table::Pieces).get_greater_than_or_equal_to(&txn, &next[..])?
        {
            let blob = number(key, 0);
            let dead = tables.database(Table::Dead).get(&txn, &key8(blob))?.is_some();
            self.expect(dead != blobs.contains(&blob), Table::Pieces, key, "belongs to no body");
            let Some(after) = blob.checked_add(1) else { break };
            next = key16(after, 0);
        }
        let saved = tables.get::<StoreRow>(&txn, STORE_KEY)?.map(|row| row.counts);
        self.expect(saved == Some(self.counts), Table::Meta, STORE_KEY, "the sums are not those of the rows");
        Ok(())
    }

    fn add(&mut self, row: &DocumentRow) {
        use waypost_protocol::confirmation::Verdict;
        let counts = &mut self.counts;
        match (row.state, row.verdict()) {
            (DRAFT, _) => counts.drafts += 1,
            (RECEIVED, _) => counts.received += 1,
            (CONFIRMED, Some(Verdict::Opened)) => counts.opened += 1,
            (CONFIRMED, Some(Verdict::Held)) => counts.held += 1,
            (CONFIRMED, Some(Verdict::Rejected(_))) => counts.rejected += 1,
            _ => counts.waiting += 1,
        }
        if row.live {
            counts.body_bytes = counts.body_bytes.saturating_add(row.size);
        }
        match row.pool().filter(|_| row.is_charged()) {
            Some(pool) => {
                let [bytes, ..] = counts.of_pool(pool);
                *bytes = bytes.saturating_add(row.size);
            }
            None if row.is_charged() => self.charged.entry(row.depositor).or_default().add_body(row.size),
            None => {}
        }
        if row.is_retained() {
            counts.retained_bytes = counts.retained_bytes.saturating_add(row.size);
        }
        counts.timed += u64::from(row.is_timed());
    }
}
