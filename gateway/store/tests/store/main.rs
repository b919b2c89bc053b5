//! Tests of the store through its public interface.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::cast_possible_truncation, reason = "the tests make up small numbers")]

mod confirmations;
mod documents;
mod kit;
mod lost;
mod model;
mod peers;
mod pieces;
mod retained;
mod secrecy;
mod space;
mod writer;
