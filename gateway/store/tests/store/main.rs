//! Tests of the store through its public interface.

mod confirmations;
mod documents;
mod kit;
mod model;
mod peers;
mod pieces;
mod secrecy;
mod space;
mod writer;
