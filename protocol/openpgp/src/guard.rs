//! Keeps a panic inside the OpenPGP library from ending the process: bytes from strangers reach it.
//!
//! It panics on some of them, for example on a message that ends within the first block of its encrypted part.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What the caller reports where the library gave up.
pub(crate) const GAVE_UP: &str = "the OpenPGP library gave up on it";

/// Runs `work`; `None` where it panicked. What `work` was changing must not be used then.
pub(crate) fn guard<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}
