//! The numbering of a disk's operations and the faults that tests attach to them.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

/// What an operation does to the disk. Reading is not an operation, nor are changes of mode, owner and times, nor what
/// the kernel writes back of memory mapped pages when it sees fit (no program may count on its moment).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Bytes put into a file.
    Write {
        /// Where they begin.
        offset: u64,
        /// How many there are.
        len: u64,
    },
    /// A file cut or extended to this size.
    Resize {
        /// The new size in bytes.
        len: u64,
    },
    /// Space taken for a part of a file (`fallocate`).
    Allocate {
        /// Where the part begins.
        offset: u64,
        /// Its size in bytes.
        len: u64,
    },
    /// Data and size of a file made durable (`fsync`, `fdatasync`, a write to a file opened with `O_DSYNC`).
    Sync,
    /// The names in a directory made durable.
    SyncDirectory,
    /// A new file, directory, socket or FIFO.
    Create,
    /// A further name for a file.
    Link,
    /// A name, or an empty directory, removed.
    Remove,
    /// A name moved; the operation's path is the old one.
    Rename,
}

/// One operation that reached the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Counted from 0 since the disk was made or rebooted.
    pub number: u64,
    /// What it does.
    pub action: Action,
    /// The file or directory that it is about, from the root of the disk.
    pub path: PathBuf,
}

/// What becomes of an operation, and of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It takes place.
    GoOn,
    /// It does not take place; the program gets this error.
    Fail(Errno),
    /// It does not take place, and neither does any later one: the program gets EIO for everything that it tries,
    /// reading included, until the disk is crashed and mounted again.
    PowerOff,
}

pub(crate) type Matcher = Box<dyn Fn(&Operation) -> bool + Send>;
pub(crate) type Hook = Box<dyn FnOnce(&Operation) -> Then + Send>;

struct Trigger {
    matches: Matcher,
    hook: Hook,
}

/// Faults that are armed, and the operations so far.
#[derive(Default)]
pub(crate) struct Faults {
    triggers: Vec<Trigger>,
    lie: Option<Matcher>,
    unreadable: Vec<(PathBuf, Range<u64>)>,
    pub(crate) trace: Vec<Operation>,
    pub(crate) capacity: Option<u64>,
    pub(crate) off: bool,
    pub(crate) read_only: bool,
}

/// What was decided about an operation before it takes place.
pub(crate) enum Ruling {
    Refused(Errno),
    /// The hook has the last word; it must run without any lock held.
    Ask(Hook, Operation),
    /// `lie`: say that it was done, and do nothing.
    Allowed {
        lie: bool,
    },
}

impl Faults {
    pub(crate) fn new(capacity: Option<u64>) -> Self {
        Self { capacity, ..Self::default() }
    }

    pub(crate) fn arm(&mut self, matches: Matcher, hook: Hook) {
        self.triggers.push(Trigger { matches, hook });
    }

    pub(crate) fn lie(&mut self, matches: Matcher) {
        self.lie = Some(matches);
    }

    pub(crate) fn refuse_reads(&mut self, path: PathBuf, bytes: Range<u64>) {
        self.unreadable.push((path, bytes));
    }

    /// Whether any byte of a file cannot be read.
    pub(crate) fn has_unreadable(&self) -> bool {
        !self.unreadable.is_empty()
    }

    /// Whether one of these bytes of a file cannot be read.
    pub(crate) fn is_unreadable(&self, path: &Path, bytes: &Range<u64>) -> bool {
        let is_hit = |bad: &Range<u64>| bad.start < bytes.end && bytes.start < bad.end;
        self.unreadable.iter().any(|(of, bad)| of == path && is_hit(bad))
    }

    /// Numbers an operation and looks for what a test has in store for it.
    pub(crate) fn rule(&mut self, action: Action, path: PathBuf) -> Ruling {
        if self.off {
            return Ruling::Refused(Errno::EIO);
        }
        let operation = Operation { number: self.trace.len() as u64, action, path };
        self.trace.push(operation.clone());
        if self.read_only {
            return Ruling::Refused(Errno::EROFS);
        }
        if let Some(found) = self.triggers.iter().position(|trigger| (trigger.matches)(&operation)) {
            return Ruling::Ask(self.triggers.remove(found).hook, operation);
        }
        Ruling::Allowed { lie: self.lies_about(&operation) }
    }

    pub(crate) fn lies_about(&self, operation: &Operation) -> bool {
        matches!(operation.action, Action::Sync | Action::SyncDirectory)
            && self.lie.as_ref().is_some_and(|matches| matches(operation))
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults")
            .field("operations", &self.trace.len())
            .field("armed", &self.triggers.len())
            .field("off", &self.off)
            .finish_non_exhaustive()
    }
}
