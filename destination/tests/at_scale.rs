//! The same tests against servers that share PostgreSQL and an object store.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::duplicate_mod, reason = "each file of tests brings its support along")]

#[path = "commands.rs"]
mod commands;
#[path = "crash.rs"]
mod crash;
#[path = "logs.rs"]
mod logs;
#[path = "tus.rs"]
mod tus;
#[path = "uploads.rs"]
mod uploads;
