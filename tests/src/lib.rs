//! Scenarios, simulation, fault injection and benches across the crates of Waypost.
//!
//! Faults come from outside: files behind a mount point, sockets in a network namespace, a TCP port, a process. The
//! code under test needs no hook of its own.

pub mod bench;
pub mod kiosk;
pub mod lossy_fs;
pub mod process;
pub mod proxy;
pub mod rogue;
pub mod scenario;
pub mod sim;
pub mod wan;
