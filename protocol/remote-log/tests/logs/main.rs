//! Logs as their writers and readers see them: every mode, every interruption, everything that can be damaged or forged.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod damage;
mod folders;
mod interruptions;
mod kit;
mod modes;
mod wire;
