//! Schema versions: a store of an older version is brought to this one when it is opened, one transaction per step.

use heed::RwTxn;
use rand_chacha::ChaCha20Rng;

use crate::error::StoreError;
use crate::tables::Tables;

/// The schema version of this program.
pub(crate) const SCHEMA: u32 = 1;

/// Rewrites a store of one version into the next. A step is small, or leaves the bulk to be converted when read.
pub(crate) type Step = fn(&Tables, &mut RwTxn, &mut ChaCha20Rng) -> Result<(), StoreError>;

/// `STEPS[n]` leads from version n + 1 to n + 2. None so far.
pub(crate) const STEPS: &[Step] = &[];

/// Runs the steps from version `found` on. A crash in between goes on where it was.
pub(crate) fn run(tables: &Tables, found: u32, steps: &[Step]) -> Result<(), StoreError> {
    let done = usize::try_from(found.saturating_sub(1)).unwrap_or(usize::MAX);
    for (version, step) in (found..).zip(steps.iter().skip(done)) {
        let mut txn = tables.write()?;
        // Another process may have been quicker.
        if tables.schema(&txn)? == Some(version) {
            step(tables, &mut txn, &mut crate::random()?)?;
            tables.set_schema(&mut txn, version.saturating_add(1))?;
            txn.commit()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::SettingRow;
    use crate::{Options, Store, StoreKey};

    fn add(tables: &Tables, txn: &mut RwTxn, rng: &mut ChaCha20Rng) -> Result<(), StoreError> {
        let count = tables.get::<SettingRow>(txn, b"steps")?.map_or(0, |row| row.value.len());
        let row = SettingRow { key: "steps".into(), value: vec![0; count + 1] };
        tables.put(txn, rng, b"steps", &row)
    }

    #[test]
    fn each_step_runs_once_and_only_from_its_own_version() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { map_size: 8 << 20, reserve: 0, ..Options::default() };
        let store = Store::open(folder.path(), &StoreKey::new([1; 32]), options).unwrap();
        let tables = &store.inner.tables;
        run(tables, 1, &[add, add]).unwrap();
        run(tables, 3, &[add, add]).unwrap();
        run(tables, 2, &[add, add]).unwrap();
        let txn = tables.read().unwrap();
        assert_eq!(tables.schema(&txn).unwrap(), Some(3));
        assert_eq!(tables.get::<SettingRow>(&txn, b"steps").unwrap().unwrap().value.len(), 2);
    }
}
