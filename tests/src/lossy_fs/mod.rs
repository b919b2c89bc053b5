//! A disk in memory that forgets what was not synced, behind a FUSE mount, for proving that stored means durable.
//!
//! Every write, resize, rename, creation and removal is volatile: programs see it at once, but [`Mounted::crash`] throws
//! it away (or a random part of it, torn at sectors) unless it was synced before: data and size of a file by `fsync` or
//! `fdatasync` of that file, names by `fsync` of their directory. This is stricter than ext4, which also makes the name of
//! a new file durable when the file is synced; what holds here holds on any disk that honours flushes.
//!
//! The kernel's page cache works as on any file system, so memory maps, locks and LMDB do too. One thing does not: a map
//! that is shared, writable and written to, in the very process that serves the disk. The kernel writes its pages back
//! while it holds the lock on the process's memory, which the serving thread may need to answer: both wait for ever. LMDB
//! has such a map of `lock.mdb`, which means nothing after a reboot anyway: every `lock.mdb` is a link to a file elsewhere,
//! so LMDB may run in this process as well as in others.
//!
//! Operations are numbered
//! ([`LossyDisk::trace`]), and a test may attach faults to them: run a hook and cut the power ([`LossyDisk::at`],
//! [`LossyDisk::when`]), return an error, lie about syncs ([`LossyDisk::lie`]), be full ([`LossyDisk::fill`]), not be
//! readable somewhere ([`LossyDisk::refuse_reads`]).
//!
//! It needs `/dev/fuse` and the right to mount: root, or root of a user namespace (`tests/tools/run-test.sh`). If the process that runs it is killed, its mount points stay behind,
//! dead, until they are unmounted by hand.

mod content;
mod disk;
mod faults;
mod fuse;
mod volatile;

use std::fs::OpenOptions;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fuser::{BackgroundSession, Config, Session, SessionACL};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{getegid, geteuid};
use tempfile::TempDir;
use thiserror::Error;

use disk::Disk;
pub use faults::{Action, Operation, Then};
use faults::{Faults, Ruling};
pub use volatile::Loss;

/// What `statfs` reports as the size of a disk without [`LossyDisk::set_capacity`], in bytes.
const SIZE: u64 = 64 << 30;
/// How long a mount may take to end when nobody uses it any more.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a disk could not be mounted or unmounted.
#[derive(Error)]
pub enum LossyError {
    /// No FUSE, or no right to it.
    #[error(
        "FUSE is not available, /dev/fuse can't be opened: run the tests with `make test`, or as root, on a kernel with fuse (modprobe fuse)"
    )]
    NoFuse(#[source] io::Error),
    /// The mount was refused.
    #[error("can't mount on {path}: the folder must exist, and the tests run with `make test`, or as root")]
    Mount {
        /// The mount point.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Somebody still has files open, or the mount is gone already.
    #[error("can't unmount {path}: close every file and end every process that uses it first")]
    Unmount {
        /// The mount point.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// As people read it: `unwrap` in a test prints this.
impl std::fmt::Debug for LossyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")?;
        std::error::Error::source(self).map_or(Ok(()), |source| write!(f, " ({source})"))
    }
}

/// State that the file system shares with the test.
struct Shared {
    disk: Mutex<Disk>,
    faults: Mutex<Faults>,
}

impl Shared {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A disk: its bytes, its faults, its count of operations. Clones are the same disk.
#[derive(Clone)]
pub struct LossyDisk {
    shared: Arc<Shared>,
}

impl Default for LossyDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl LossyDisk {
    /// An empty disk without faults. It has room for 64 GiB until [`set_capacity`](Self::set_capacity).
    pub fn new() -> Self {
        Self::with(Disk::new(geteuid().as_raw(), getegid().as_raw()), None)
    }

    fn with(disk: Disk, capacity: Option<u64>) -> Self {
        let faults = Faults::new(capacity);
        Self { shared: Arc::new(Shared { disk: Mutex::new(disk), faults: Mutex::new(faults) }) }
    }

    /// Mounts the disk on an existing folder and serves it from a thread of this process, until the answer is dropped,
    /// unmounted or crashed. The folder is open to every user, with the usual permissions.
    ///
    /// # Errors
    ///
    /// Without FUSE, without root, or when the folder isn't there.
    pub fn mount(&self, path: impl AsRef<Path>) -> Result<Mounted, LossyError> {
        let path = path.as_ref().to_owned();
        let device =
            OpenOptions::new().read(true).write(true).open("/dev/fuse").map_err(LossyError::NoFuse)?;
        let failed = |source: io::Error| LossyError::Mount { path: path.clone(), source };
        let elsewhere = elsewhere().map_err(failed)?;
        let options = format!(
            "fd={},rootmode=40000,user_id={},group_id={},allow_other,default_permissions",
            device.as_raw_fd(),
            geteuid(),
            getegid(),
        );
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("lossy"), &path, Some("fuse"), flags, Some(options.as_str()))
            .map_err(|errno| failed(errno.into()))?;
        // From here on the mount exists; dropping `mounted` on an error takes it away.
        let adapter = fuse::Adapter::new(Arc::clone(&self.shared), elsewhere.path().to_owned());
        let mut mounted =
            Mounted { disk: self.clone(), path: Some(path.clone()), session: None, _elsewhere: elsewhere };
        let session = Session::from_fd(adapter, OwnedFd::from(device), SessionACL::All, Config::default())
            .and_then(Session::spawn)
            .map_err(failed)?;
        mounted.session = Some(session);
        Ok(mounted)
    }

    /// What a power cut at this moment would leave, as another disk. This one goes on.
    pub fn left_by_power_cut(&self, loss: Loss) -> LossyDisk {
        Self::with(self.shared.disk().after_power_cut(loss), None)
    }

    /// How many operations were tried so far, those that failed included.
    pub fn operations(&self) -> u64 {
        self.shared.faults().trace.len() as u64
    }

    /// All operations so far, in order.
    pub fn trace(&self) -> Vec<Operation> {
        self.shared.faults().trace.clone()
    }

    /// Runs `hook` instead of operation `number`; see [`when`](Self::when).
    pub fn at(&self, number: u64, hook: impl FnOnce(&Operation) -> Then + Send + 'static) {
        self.when(move |operation| operation.number == number, hook);
    }

    /// Runs `hook`, once, before the next operation that `matches`, and lets its answer decide. Nothing else happens on
    /// the disk meanwhile, so a hook that kills a process and answers [`Then::PowerOff`] is a power cut at that very
    /// point. A hook must not touch files on the disk, which would wait for the hook for ever.
    pub fn when(
        &self,
        matches: impl Fn(&Operation) -> bool + Send + 'static,
        hook: impl FnOnce(&Operation) -> Then + Send + 'static,
    ) {
        self.shared.faults().arm(Box::new(matches), Box::new(hook));
    }

    /// From now on, pretends to do those syncs that `matches`: the program hears that it worked. For showing that a
    /// test would fail if the program left that sync out.
    pub fn lie(&self, matches: impl Fn(&Operation) -> bool + Send + 'static) {
        self.shared.faults().lie(Box::new(matches));
    }

    /// From now on, reading one of these bytes of the file at `path` (from the root of the disk) fails with EIO, as on a card
    /// that is dying. What the kernel has read before it may still have: arm it before anybody reads the file.
    pub fn refuse_reads(&self, path: impl Into<PathBuf>, bytes: Range<u64>) {
        self.shared.faults().refuse_reads(path.into(), bytes);
    }

    /// From now on nothing can be changed and no file opened for writing, or it can again: what a file system does that had an
    /// error, mounted with `errors=remount-ro`. What is open for writing stays open, and is refused when it writes.
    pub fn set_read_only(&self, is_read_only: bool) {
        self.shared.faults().read_only = is_read_only;
    }

    /// The size of the disk in bytes. When files take as much, growing one fails with ENOSPC.
    pub fn set_capacity(&self, bytes: u64) {
        self.shared.faults().capacity = Some(bytes);
    }

    /// Lets the disk run full after `left` more bytes (in blocks of 4096).
    pub fn fill(&self, left: u64) {
        let used = self.shared.disk().used();
        self.set_capacity(used + left);
    }

    /// Bytes that files take, in blocks of 4096.
    pub fn used(&self) -> u64 {
        self.shared.disk().used()
    }

    /// Cuts the power now: from here on every access gets EIO.
    pub fn power_off(&self) {
        self.shared.faults().off = true;
    }
}

/// A folder on a common file system where every user may make files, as programs on the disk run under any.
fn elsewhere() -> io::Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("waypost-locks-").tempdir()?;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777))?;
    Ok(folder)
}

impl std::fmt::Debug for LossyDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LossyDisk").field(&*self.shared.faults()).finish()
    }
}

/// A disk in use. Dropping it cuts the power and takes the mount away; the disk itself is lost unless it was cloned.
#[derive(Debug)]
pub struct Mounted {
    disk: LossyDisk,
    /// None once it was unmounted.
    path: Option<PathBuf>,
    session: Option<BackgroundSession>,
    /// Where the files named `lock.mdb` are.
    _elsewhere: TempDir,
}

impl Mounted {
    /// The disk, for arming faults.
    pub fn disk(&self) -> &LossyDisk {
        &self.disk
    }

    /// Cuts the power, takes the mount away even from programs that still use it (they get EIO), and returns the disk as
    /// it is after a reboot: with what was synced, less what `loss` says, with the same capacity and no faults, its
    /// operations counted from 0.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to unmount.
    pub fn crash(mut self, loss: Loss) -> Result<LossyDisk, LossyError> {
        self.disk.power_off();
        self.detach(MntFlags::MNT_DETACH)?;
        let left = self.disk.shared.disk().after_power_cut(loss);
        let capacity = self.disk.shared.faults().capacity;
        Ok(LossyDisk::with(left, capacity))
    }

    /// Unmounts as an orderly shutdown does: everything is durable afterwards.
    ///
    /// # Errors
    ///
    /// When the disk is still in use; it is then crashed.
    pub fn unmount(mut self) -> Result<LossyDisk, LossyError> {
        self.detach(MntFlags::empty())?;
        self.disk.shared.disk().sync_all();
        Ok(self.disk.clone())
    }

    fn detach(&mut self, flags: MntFlags) -> Result<(), LossyError> {
        let Some(path) = self.path.take() else { return Ok(()) };
        if let Err(errno) = umount2(&path, flags) {
            let source = errno.into();
            self.path = Some(path.clone());
            return Err(LossyError::Unmount { path, source });
        }
        // The thread ends with the last user of the mount. If there still are some, it goes on to answer them EIO.
        if let Some(session) = self.session.take() {
            let begun = Instant::now();
            while !session.guard.is_finished() && begun.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.path.is_some() {
            self.disk.power_off();
            if let Err(error) = self.detach(MntFlags::MNT_DETACH) {
                log::warn!("{error}: {:?}", std::error::Error::source(&error));
            }
        }
    }
}
