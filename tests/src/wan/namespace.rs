//! Network namespaces without a name: they are gone with the last process and descriptor that use them, even after kill -9.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use super::device::set_up;

/// A network of its own: its interfaces, addresses, routes and ports are not those of the machine. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Namespace {
    handle: Arc<File>,
}

impl Namespace {
    /// A new namespace with nothing but its loopback interface, which is up.
    ///
    /// # Errors
    ///
    /// Without the right to make namespaces (root).
    pub(crate) fn new() -> io::Result<Self> {
        let handle = on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            set_up("lo", true)?;
            File::open("/proc/thread-self/ns/net")
        })?;
        Ok(Self { handle: Arc::new(handle) })
    }

    /// Runs `work` on a thread inside the namespace. Sockets that it makes stay inside wherever they are used later, and
    /// so do processes that it starts.
    ///
    /// # Errors
    ///
    /// When the namespace can't be entered, or what `work` fails with.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        on_a_thread(|| {
            setns(self.handle.as_ref(), CloneFlags::CLONE_NEWNET)?;
            work()
        })
    }

    /// The same, where names are resolved as this `resolv.conf` says; it is seen by nobody else.
    ///
    /// # Errors
    ///
    /// As [`Namespace::run`], and without the right to mount (root).
    pub fn run_with_names<T: Send>(
        &self,
        resolv_conf: &std::path::Path,
        work: impl FnOnce() -> io::Result<T> + Send,
    ) -> io::Result<T> {
        let nothing = None::<&str>;
        on_a_thread(|| {
            setns(self.handle.as_ref(), CloneFlags::CLONE_NEWNET)?;
            unshare(CloneFlags::CLONE_NEWNS)?;
            mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
            mount(Some(resolv_conf), "/etc/resolv.conf", nothing, MsFlags::MS_BIND, nothing)?;
            work()
        })
    }

    /// A command that will run inside the namespace.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let handle = Arc::clone(&self.handle);
        let mut command = Command::new(program);
        let enter = move || setns(handle.as_ref(), CloneFlags::CLONE_NEWNET).map_err(io::Error::from);
        #[expect(unsafe_code, reason = "the only way to enter a namespace between fork and exec")]
        // SAFETY: the closure makes one system call; it takes no lock and no memory.
        unsafe {
            command.pre_exec(enter);
        }
        command
    }
}

/// The namespace is a property of the thread: a fresh one keeps it away from the caller's.
fn on_a_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|_| Err(io::Error::other("the thread inside the namespace panicked")))
}
