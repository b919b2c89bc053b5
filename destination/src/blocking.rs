//! Asynchronous databases and stores, waited for by the threads that take documents in.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::task::AbortHandle;

/// Drives connections on a thread of its own, and waits for answers on the caller's.
pub(crate) struct Blocking {
    handle: Handle,
    /// Its end is the thread's.
    _alive: tokio::sync::oneshot::Sender<()>,
}

impl Blocking {
    /// `name` is the thread's.
    pub(crate) fn new(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (alive, ended) = tokio::sync::oneshot::channel();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            // Either way the owner is gone.
            let _ = runtime.block_on(ended);
        })?;
        Ok(Blocking { handle, _alive: alive })
    }

    /// Waits for it. Within asynchronous code it would panic: there it would hold up everything else.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.handle.block_on(work)
    }

    /// Drives it, and waits for nothing: also from asynchronous code.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.handle.spawn(work).abort_handle()
    }
}
