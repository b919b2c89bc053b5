//! The thread that owns writing: takes whatever is queued into one transaction (group commit), then answers.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::apply::MAX_CHANGES;
use crate::change::{Applied, Change};
use crate::error::{ChangeError, StoreError};
use crate::{MAX_TRANSACTION, Store};

type Outcome = Result<Applied, ChangeError>;
type Reply = Box<dyn FnOnce(Outcome) + Send>;

/// How much may be queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterOptions {
    /// Bytes of changes. Default 8 MiB: one transaction under way and the next one waiting. One change that is
    /// larger is taken when the queue is empty.
    pub bytes: usize,
    /// Number of changes. Default 2,048.
    pub changes: usize,
}

impl Default for WriterOptions {
    fn default() -> Self {
        WriterOptions { bytes: 2 * MAX_TRANSACTION, changes: 2 * MAX_CHANGES }
    }
}

/// A change that the queue has no room for; nothing was done with it.
pub struct Unsubmitted<R> {
    /// The change.
    pub change: Change,
    /// The reply, not called.
    pub reply: R,
}

/// A handle to the writing thread. Cloning it is cheap. The thread ends with [`Writer::stop`] or the last handle.
#[derive(Clone)]
pub struct Writer {
    shared: Arc<Owner>,
}

struct Owner {
    queue: Arc<Queue>,
    options: WriterOptions,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    /// Something was queued, or the thread shall stop.
    work: Condvar,
    /// Something was taken or answered.
    room: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(Change, usize, Reply)>,
    bytes: usize,
    submitted: u64,
    answered: u64,
    stopping: bool,
}

impl Writer {
    /// Starts the thread.
    pub fn start(store: Store, options: WriterOptions) -> Result<Self, StoreError> {
        let queue = Arc::new(Queue::default());
        let theirs = queue.clone();
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || theirs.run(&store))
            .map_err(|error| StoreError::Database(format!("no thread for writing: {error}")))?;
        let thread = Mutex::new(Some(thread));
        Ok(Writer { shared: Arc::new(Owner { queue, options, thread }) })
    }

    /// Queues a change if there is room, without waiting. `reply` is called on the writing thread, once the
    /// transaction is flushed; it must not wait for this writer.
    pub fn try_submit<R>(&self, change: Change, reply: R) -> Result<(), Box<Unsubmitted<R>>>
    where
        R: FnOnce(Result<Applied, ChangeError>) + Send + 'static,
    {
        let state = self.shared.queue.lock();
        match self.has_room(&state, change.weight()) {
            true => self.push(state, change, Box::new(reply)),
            false => return Err(Box::new(Unsubmitted { change, reply })),
        }
        Ok(())
    }

    /// Queues a change, waiting for room as long as it takes; otherwise as [`Writer::try_submit`]. After
    /// [`Writer::stop`] the reply is an error.
    pub fn submit(&self, change: Change, reply: impl FnOnce(Result<Applied, ChangeError>) + Send + 'static) {
        let queue = &self.shared.queue;
        let mut state = queue.lock();
        while !state.stopping && !self.has_room(&state, change.weight()) {
            state = queue.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.stopping {
            drop(state);
            return reply(Err(stopped()));
        }
        self.push(state, change, Box::new(reply));
    }

    /// Makes a change and waits until it is flushed. Not for a thread that must not wait.
    pub fn apply(&self, change: Change) -> Result<Applied, ChangeError> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.submit(change, move |outcome| {
            // Nobody waits any more: fine.
            let _ = sender.send(outcome);
        });
        receiver.recv().unwrap_or_else(|_| Err(stopped()))
    }

    /// Waits until everything queued so far is answered.
    pub fn flush(&self) {
        let queue = &self.shared.queue;
        let mut state = queue.lock();
        let goal = state.submitted;
        while state.answered < goal {
            state = queue.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Writes and answers what is queued, then ends the thread. Whatever is submitted later is answered with an error.
    pub fn stop(&self) {
        self.shared.stop();
    }

    fn has_room(&self, state: &State, weight: usize) -> bool {
        let WriterOptions { bytes, changes } = self.shared.options;
        let fits = state.bytes.saturating_add(weight) <= bytes && state.waiting.len() < changes;
        !state.stopping && (state.waiting.is_empty() || fits)
    }

    fn push(&self, mut state: MutexGuard<'_, State>, change: Change, reply: Reply) {
        let weight = change.weight();
        state.bytes += weight;
        state.submitted += 1;
        state.waiting.push_back((change, weight, reply));
        self.shared.queue.work.notify_one();
    }
}

impl Owner {
    fn stop(&self) {
        self.queue.lock().stopping = true;
        self.queue.work.notify_all();
        self.queue.room.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            // The last handle may be dropped by a reply, on the thread itself.
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            log::error!("the store's writing thread has panicked");
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, store: &Store) {
        while let Some((changes, replies)) = self.take() {
            let answers = Answers { queue: self, count: replies.len() as u64 };
            for (reply, outcome) in replies.into_iter().zip(store.apply(changes)) {
                reply(outcome);
            }
            drop(answers);
        }
    }

    /// The next batch; `None` when it is time to end.
    fn take(&self) -> Option<(Vec<Change>, Vec<Reply>)> {
        let mut state = self.lock();
        while state.waiting.is_empty() {
            if state.stopping {
                return None;
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let (mut changes, mut replies, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some((_, weight, _)) = state.waiting.front()
            && (changes.is_empty() || (bytes + weight <= MAX_TRANSACTION && changes.len() < MAX_CHANGES))
            && let Some((change, weight, reply)) = state.waiting.pop_front()
        {
            bytes += weight;
            changes.push(change);
            replies.push(reply);
        }
        state.bytes -= bytes;
        self.room.notify_all();
        Some((changes, replies))
    }
}

/// Counts a batch as answered, also when a reply panics, so that nobody waits for ever.
struct Answers<'q> {
    queue: &'q Queue,
    count: u64,
}

impl Drop for Answers<'_> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.answered += self.count;
        if std::thread::panicking() {
            state.stopping = true;
            state.answered = state.submitted;
        }
        self.queue.room.notify_all();
    }
}

fn stopped() -> ChangeError {
    StoreError::Database("the writer was stopped".into()).into()
}
