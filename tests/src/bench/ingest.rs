//! `ingest_vs_heed`: the store's public call against raw heed that writes the very rows that the store wrote.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions};
use nix::sys::statfs::statfs;
use waypost_protocol::document::Document;
use waypost_protocol::envelope;
use waypost_protocol::ids::PeerKey;
use waypost_store::{Change, NewDocument, Options, PeerClass, Store, StoreKey};

use super::maths::{Pairs, RUNS};
use super::row::Measured;
use super::workload::{Addressee, FORM, PHOTO, Signer, noise};
use super::{Bench, Outcome};

const PHONE: PeerKey = PeerKey([9; 32]);
/// As large as a gateway's map.
const MAP: usize = 64 << 30;

/// Forms that one frame of 16 KiB brings, and so one turn of the gateway's event loop.
const A_FRAME: u64 = 13;

pub(super) fn ingest_vs_heed(bench: &Bench) -> Outcome<Measured> {
    let addressee = Signer::new()?.addressee;
    let loads = [
        (
            "forms of 1 KB, a frame of 13 a transaction (the figure)",
            Load::new(&addressee, 200, A_FRAME, FORM)?,
        ),
        ("forms of 1 KB, 1 a transaction", Load::new(&addressee, 200, 1, FORM)?),
        ("forms of 1 KB, 128 a transaction", Load::new(&addressee, 30, 128, FORM)?),
        ("photos of 200 KB, 1 a transaction", Load::new(&addressee, 100, 1, PHOTO)?),
        ("photos of 200 KB, 16 a transaction", Load::new(&addressee, 15, 16, PHOTO)?),
    ];
    let (mut figure, mut beside) = (None, Vec::new());
    for (name, load) in loads {
        let took = load.compare(bench)?;
        let rate = |seconds: f64| format!("{:.0} documents/s", load.documents() / seconds);
        let text = format!("{:.3} ({} against {})", took.speed(), rate(took.ours()), rate(took.theirs()));
        figure.get_or_insert(took.speed());
        beside.push((name, text));
    }
    beside.push(("file system", file_system(bench.place())?));
    Ok(Measured { value: figure.ok_or("nothing was measured")?, beside })
}

/// What file system a folder is on.
fn file_system(folder: &Path) -> Outcome<String> {
    let kind = statfs(folder)?.filesystem_type();
    let known = [
        (nix::sys::statfs::EXT4_SUPER_MAGIC, "ext4 (or ext2, ext3)"),
        (nix::sys::statfs::BTRFS_SUPER_MAGIC, "btrfs"),
        (nix::sys::statfs::XFS_SUPER_MAGIC, "xfs"),
        (nix::sys::statfs::OVERLAYFS_SUPER_MAGIC, "overlay"),
        (nix::sys::statfs::TMPFS_MAGIC, "tmpfs, whose fsync does nothing: build into a folder on a disk"),
    ];
    let name = known.iter().find(|(magic, _)| *magic == kind).map(|(_, name)| (*name).to_owned());
    Ok(name.unwrap_or_else(|| format!("{kind:?}")))
}

/// Documents in batches, each to be one transaction.
struct Load {
    batches: Vec<Vec<Document>>,
}

impl Load {
    fn new(addressee: &Addressee, batches: u64, count: u64, size: usize) -> Outcome<Self> {
        let batch = |batch: u64| -> Outcome<Vec<Document>> {
            (0..count).map(|at| addressee.wrap(&noise(batch << 32 | at, size + 150))).collect()
        };
        Ok(Load { batches: (0..batches).map(batch).collect::<Outcome<_>>()? })
    }

    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    fn documents(&self) -> f64 {
        self.batches.iter().map(Vec::len).sum::<usize>() as f64
    }

    /// Both write each batch right after one another, so that the disk's moods hit both alike.
    fn compare(&self, bench: &Bench) -> Outcome<Pairs> {
        let rows = self.record(bench)?;
        (0..RUNS).map(|_| self.compare_once(bench, &rows)).collect::<Outcome<_>>().map(Pairs)
    }

    fn compare_once(&self, bench: &Bench, rows: &[Rows]) -> Outcome<(Duration, Duration)> {
        let (ours, theirs) = (bench.folder("ingest")?, bench.folder("ingest")?);
        let store = open_store(ours.path())?;
        let heed = Heed::open(theirs.path(), rows)?;
        let (mut a, mut b) = (Duration::ZERO, Duration::ZERO);
        for ((number, batch), rows) in self.changes()?.into_iter().enumerate().zip(rows) {
            // Neither is always the first.
            if number % 2 == 0 {
                a += timed(|| apply(&store, batch))?;
                b += timed(|| heed.write(rows))?;
            } else {
                b += timed(|| heed.write(rows))?;
                a += timed(|| apply(&store, batch))?;
            }
        }
        Ok((a, b))
    }

    fn changes(&self) -> Outcome<Vec<Vec<Change>>> {
        let change = |document: &Document| -> Outcome<Change> {
            let (header, _) = envelope::parse(document.body())?;
            let document = document.clone();
            let new =
                NewDocument { document, header, age: 0, depositor: Some(PHONE), draft: false, note: None };
            Ok(Change::Document(Box::new(new)))
        };
        self.batches.iter().map(|batch| batch.iter().map(change).collect()).collect()
    }

    /// The rows that each batch adds or replaces, by table.
    fn record(&self, bench: &Bench) -> Outcome<Vec<Rows>> {
        let folder = bench.folder("ingest")?;
        drop(open_store(folder.path())?);
        let mut before = read_all(folder.path())?;
        let mut recorded = Vec::new();
        for batch in self.changes()? {
            apply(&open_store(folder.path())?, batch)?;
            let after = read_all(folder.path())?;
            let is_new = |(key, value): &(&(String, Vec<u8>), &Vec<u8>)| before.get(*key) != Some(*value);
            recorded
                .push(after.iter().filter(is_new).map(|(key, value)| (key.clone(), value.clone())).collect());
            before = after;
        }
        Ok(recorded)
    }
}

/// (Table, key) → value.
type Rows = BTreeMap<(String, Vec<u8>), Vec<u8>>;

fn open_store(folder: &Path) -> Outcome<Store> {
    let store = Store::open(folder, &StoreKey::new([1; 32]), Options::default())?;
    store.apply_one(Change::PutPeer { peer: PHONE, class: PeerClass::Paired, label: None })?;
    Ok(store)
}

fn apply(store: &Store, batch: Vec<Change>) -> Outcome<()> {
    for outcome in store.apply(batch) {
        outcome?;
    }
    Ok(())
}

type Table<'e> = Database<'e, Bytes, Bytes>;

#[expect(unsafe_code, reason = "heed leaves it to the caller that nobody else changes the file meanwhile")]
fn open_raw(folder: &Path) -> Outcome<Env> {
    std::fs::create_dir_all(folder)?;
    // SAFETY: the folder was made for this measurement, and no other environment of it is open.
    Ok(unsafe { EnvOpenOptions::new().map_size(MAP).max_dbs(64).open(folder) }?)
}

fn read_all(folder: &Path) -> Outcome<Rows> {
    let env = open_raw(folder)?;
    let read = env.open_databases_and_commit(env.read_txn()?, |opener, txn| -> Outcome<_> {
        let table = |name: Option<&str>| -> Outcome<Table<'_>> {
            Ok(opener.open_database(txn, name)?.ok_or("no such table")?)
        };
        let mut rows = Rows::new();
        for named in table(None)?.iter(txn)? {
            let name = String::from_utf8(named?.0.to_vec())?;
            for row in table(Some(&name))?.iter(txn)? {
                let (key, value) = row?;
                rows.insert((name.clone(), key.to_vec()), value.to_vec());
            }
        }
        Ok(CommitOrAbort::<(), Rows>::Abort(rows))
    })?;
    Ok(read.abort().unwrap_or_default())
}

/// A bare environment; its tables exist before anything is timed, as the store's do.
struct Heed<'r> {
    env: Env,
    tables: BTreeMap<&'r str, Table<'static>>,
}

impl<'r> Heed<'r> {
    fn open(folder: &Path, batches: &'r [Rows]) -> Outcome<Self> {
        let env = open_raw(folder)?;
        let mut tables = BTreeMap::new();
        for name in batches.iter().flat_map(|rows| rows.keys().map(|(name, _)| name.as_str())) {
            if !tables.contains_key(name) {
                let made = env.create_databases_and_commit(env.write_txn()?, |opener, txn| {
                    opener.create_database(txn, Some(name)).map(CommitOrAbort::<_, ()>::Commit)
                })?;
                tables.insert(name, made.commit().ok_or("no table was made")?);
            }
        }
        Ok(Heed { env, tables })
    }

    /// One transaction.
    fn write(&self, rows: &Rows) -> Outcome<()> {
        let mut txn = self.env.write_txn()?;
        for ((table, key), value) in rows {
            self.tables.get(table.as_str()).ok_or("no such table")?.put(&mut txn, key, value)?;
        }
        Ok(txn.commit()?)
    }
}

fn timed(work: impl FnOnce() -> Outcome<()>) -> Outcome<Duration> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed())
}
