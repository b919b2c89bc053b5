//! The phone against an in-process kiosk: over real TCP with the command line, and over links in memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod adding;
mod at_rest;
mod background;
mod confirmations;
mod delivering;
mod direct;
mod kiosk;
mod kit;
mod links;
mod passphrases;
mod phones;
mod reading;
mod refusals;
mod turns;
mod usage;
