//! Faults on demand for the tests of all crates: a disk that forgets, a slow and broken network, cut connections, killed processes.
//!
//! Everything in here is the real thing seen from outside: files behind a mount point, sockets in a network namespace,
//! a TCP port, a process. The code under test needs no hook of its own.

pub mod lossy_fs;
pub mod process;
pub mod proxy;
pub mod wan;
