//! The lossy disk behaves like a disk with a volatile cache, for plain files and for LMDB.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use heed::types::{Bytes, U32};
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::statvfs::statvfs;
use nix::unistd::Pid;
use waypost_tests::lossy_fs::{Action, Loss, LossyDisk, Mounted, Then};

fn sync_folder(path: &Path) {
    File::open(path).unwrap().sync_all().unwrap();
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_was_not_synced_is_lost_and_what_was_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let mounted = LossyDisk::new().mount(at).unwrap();
    let mut kept = File::create(at.join("kept")).unwrap();
    kept.write_all(b"synced ").unwrap();
    kept.sync_all().unwrap();
    kept.write_all(b"and not").unwrap();
    fs::write(at.join("nameless"), b"data without a durable name").unwrap();
    let nameless = File::open(at.join("nameless")).unwrap();
    sync_folder(at);
    fs::write(at.join("lost"), b"never synced").unwrap();
    assert_eq!(fs::read(at.join("kept")).unwrap(), b"synced and not");
    drop((kept, nameless));

    let mounted = mounted.crash(Loss::Everything).unwrap().mount(at).unwrap();
    assert_eq!(names(at), ["kept", "nameless"]);
    assert_eq!(fs::read(at.join("kept")).unwrap(), b"synced ");
    assert_eq!(fs::read(at.join("nameless")).unwrap(), b"");
    drop(mounted);
    assert!(names(at).is_empty());
}

#[test]
fn an_orderly_unmount_keeps_everything() {
    let folder = tempfile::tempdir().unwrap();
    let mounted = LossyDisk::new().mount(folder.path()).unwrap();
    fs::create_dir(folder.path().join("a")).unwrap();
    fs::write(folder.path().join("a/b"), vec![5; 300_000]).unwrap();
    let disk = mounted.unmount().unwrap();
    let mounted = disk.mount(folder.path()).unwrap();
    assert_eq!(fs::read(folder.path().join("a/b")).unwrap(), vec![5; 300_000]);
    drop(mounted.crash(Loss::Everything).unwrap().mount(folder.path()).unwrap());
}

#[test]
fn a_rename_lasts_only_once_its_folder_is_synced() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let mounted = LossyDisk::new().mount(at).unwrap();
    for (name, content) in [("final", "old"), ("temporary", "new")] {
        fs::write(at.join(name), content).unwrap();
        File::open(at.join(name)).unwrap().sync_all().unwrap();
    }
    sync_folder(at);
    fs::rename(at.join("temporary"), at.join("final")).unwrap();
    assert_eq!(fs::read(at.join("final")).unwrap(), b"new");
    let mounted = mounted.crash(Loss::Everything).unwrap().mount(at).unwrap();
    assert_eq!(names(at), ["final", "temporary"]);
    assert_eq!(fs::read(at.join("final")).unwrap(), b"old");

    fs::rename(at.join("temporary"), at.join("final")).unwrap();
    sync_folder(at);
    let _mounted = mounted.crash(Loss::Everything).unwrap().mount(at).unwrap();
    assert_eq!(names(at), ["final"]);
    assert_eq!(fs::read(at.join("final")).unwrap(), b"new");
}

#[test]
fn an_unsynced_write_may_be_torn_at_sectors() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let mut torn = 0;
    for seed in 0..20 {
        let mounted = LossyDisk::new().mount(at).unwrap();
        let file = File::create(at.join("f")).unwrap();
        file.write_all_at(&[1; 16384], 0).unwrap();
        file.sync_data().unwrap();
        sync_folder(at);
        file.write_all_at(&[2; 16384], 0).unwrap();
        drop(file);
        let _mounted = mounted.crash(Loss::Torn { seed, sector: 4096 }).unwrap().mount(at).unwrap();
        let left = fs::read(at.join("f")).unwrap();
        assert_eq!(left.len(), 16384);
        assert!(left.chunks(4096).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
        torn += usize::from(left.contains(&1) && left.contains(&2));
    }
    assert!(torn >= 8, "only {torn} of 20 crashes tore the write");
}

#[test]
fn a_full_disk_refuses_growth_and_goes_on_when_space_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let disk = LossyDisk::new();
    disk.set_capacity(1 << 20);
    let mounted = disk.mount(at).unwrap();
    let reserve = File::create(at.join("reserve")).unwrap();
    nix::fcntl::fallocate(&reserve, nix::fcntl::FallocateFlags::empty(), 0, 512 << 10).unwrap();
    let file = File::create(at.join("f")).unwrap();
    file.write_all_at(&[1; 400 << 10], 0).unwrap();
    let free = statvfs(at).unwrap();
    assert_eq!(free.blocks_available() * free.fragment_size(), 112 << 10);
    assert_eq!(file.write_all_at(&[1; 200 << 10], 400 << 10).unwrap_err().kind(), ErrorKind::StorageFull);
    file.write_all_at(&[2; 400 << 10], 0).unwrap();
    drop(reserve);
    fs::remove_file(at.join("reserve")).unwrap();
    file.write_all_at(&[1; 200 << 10], 400 << 10).unwrap();
    mounted.disk().fill(0);
    assert_eq!(file.write_all_at(&[1; 1], 700 << 10).unwrap_err().kind(), ErrorKind::StorageFull);
}

#[test]
fn faults_hit_the_operation_that_they_name() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let mounted = LossyDisk::new().mount(at).unwrap();
    let disk = mounted.disk();
    disk.at(2, |_| Then::Fail(Errno::EIO));
    disk.when(|o| o.path == Path::new("f") && o.action == Action::Sync, |_| Then::Fail(Errno::ENOSPC));
    let file = File::create(at.join("f")).unwrap();
    file.write_all_at(b"one", 0).unwrap();
    assert_eq!(file.write_all_at(b"two", 0).unwrap_err().raw_os_error(), Some(Errno::EIO as i32));
    assert_eq!(file.sync_data().unwrap_err().kind(), ErrorKind::StorageFull);
    file.sync_data().unwrap();
    file.set_len(1).unwrap();
    let actions: Vec<_> = disk.trace().into_iter().map(|operation| operation.action).collect();
    let write = Action::Write { offset: 0, len: 3 };
    assert_eq!(
        actions,
        [Action::Create, write, write, Action::Sync, Action::Sync, Action::Resize { len: 1 }]
    );
    disk.power_off();
    assert!(file.write_all_at(b"x", 0).is_err());
    assert_eq!(disk.operations(), 6);
}

#[test]
fn a_hook_kills_a_process_at_the_very_operation() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let mounted = LossyDisk::new().mount(at).unwrap();
    let mut child = Command::new("sh")
        .args(["-c", "read go; i=0; while :; do i=$((i+1)); echo $i > $i; done"])
        .current_dir(at)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let id = Pid::from_raw(child.id().cast_signed());
    mounted.disk().at(20, move |_| {
        kill(id, Signal::SIGKILL).unwrap();
        Then::PowerOff
    });
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let status = child.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    assert_eq!(mounted.disk().operations(), 21);
}

const TRANSACTIONS: u32 = 12;

type Rows = Database<'static, U32<heed::byteorder::BE>, Bytes>;

fn open(at: &Path) -> (Env, Rows) {
    #[expect(
        unsafe_code,
        reason = "heed leaves it to the caller that nobody else changes the file meanwhile"
    )]
    // SAFETY: the file is on a disk of this test only.
    let env = unsafe { EnvOpenOptions::new().map_size(16 << 20).max_dbs(1).open(at) }.unwrap();
    let rows = env
        .create_databases_and_commit(env.write_txn().unwrap(), |opener, txn| {
            opener.create_database(txn, Some("rows")).map(CommitOrAbort::<_, ()>::Commit)
        })
        .unwrap()
        .unwrap_commit();
    (env, rows)
}

fn row(number: u32) -> Vec<u8> {
    vec![number.to_le_bytes()[0]; 300 + number as usize * 900]
}

/// Commits one row after the other until something fails; answers how many commits were acknowledged.
fn commit_rows(env: &Env, rows: &Rows) -> u32 {
    for number in 0..TRANSACTIONS {
        let committed = env.write_txn().and_then(|mut txn| {
            rows.put(&mut txn, &number, &row(number))?;
            txn.commit()
        });
        if committed.is_err() {
            return number;
        }
    }
    TRANSACTIONS
}

/// A disk with an empty database whose name is durable.
fn database(at: &Path) -> (Mounted, Env, Rows) {
    let mounted = LossyDisk::new().mount(at).unwrap();
    let (env, rows) = open(at);
    sync_folder(at);
    (mounted, env, rows)
}

/// How many rows are there, all being whole and none missing in between.
fn rows_after_reboot(disk: &LossyDisk, at: &Path) -> u32 {
    let _mounted = disk.mount(at).unwrap();
    let (env, rows) = open(at);
    let txn = env.read_txn().unwrap();
    let mut found = 0;
    for entry in rows.iter(&txn).unwrap() {
        let (number, bytes) = entry.unwrap();
        assert_eq!((number, bytes), (found, row(number).as_slice()));
        found += 1;
    }
    found
}

#[test]
fn lmdb_keeps_exactly_what_it_committed_wherever_the_power_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (mounted, env, rows) = database(at);
    let begin = mounted.disk().operations();
    assert_eq!(commit_rows(&env, &rows), TRANSACTIONS);
    let end = mounted.disk().operations();
    drop(env);
    drop(mounted);
    assert!(end - begin >= 3 * u64::from(TRANSACTIONS), "{} operations", end - begin);

    for point in begin..end {
        for loss in [Loss::Everything, Loss::Torn { seed: point, sector: 512 }] {
            let (mounted, env, rows) = database(at);
            mounted.disk().at(point, |_| Then::PowerOff);
            let acknowledged = commit_rows(&env, &rows);
            assert!(acknowledged < TRANSACTIONS);
            drop(env);
            let found = rows_after_reboot(&mounted.crash(loss).unwrap(), at);
            // The one that was under way may have made it to the disk.
            assert!(
                found == acknowledged || found == acknowledged + 1,
                "power cut at {point} with {loss:?}: {acknowledged} acknowledged, {found} found"
            );
        }
    }
}

#[test]
fn lmdb_loses_acknowledged_rows_on_a_disk_that_lies_about_syncs() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (mounted, env, rows) = database(at);
    mounted.disk().lie(|_| true);
    assert_eq!(commit_rows(&env, &rows), TRANSACTIONS);
    drop(env);
    assert_eq!(rows_after_reboot(&mounted.crash(Loss::Everything).unwrap(), at), 0);
}

#[test]
fn lmdb_serves_readers_and_a_writer_in_the_process_that_serves_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (mounted, env, rows) = database(at);
    let number_of_rows = 400_u32;
    let written = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..number_of_rows {
                let mut txn = env.write_txn().unwrap();
                rows.put(&mut txn, &number, &vec![1; 20_000]).unwrap();
                txn.commit().unwrap();
            }
            written.store(true, Ordering::Relaxed);
        });
        for _ in 0..2 {
            scope.spawn(|| {
                while !written.load(Ordering::Relaxed) {
                    let txn = env.read_txn().unwrap();
                    for entry in rows.iter(&txn).unwrap() {
                        let (_, bytes) = entry.unwrap();
                        assert!(bytes.iter().all(|byte| *byte == 1));
                    }
                }
            });
        }
    });
    drop(env);
    let disk = mounted.crash(Loss::Everything).unwrap();
    let _mounted = disk.mount(at).unwrap();
    let (env, rows) = open(at);
    assert_eq!(rows.len(&env.read_txn().unwrap()).unwrap(), u64::from(number_of_rows));
}
