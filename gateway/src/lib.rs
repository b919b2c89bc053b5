//! The Waypost daemon: an event loop around the node, uploader threads, and the control socket its commands use.

pub mod admin;
pub mod bundle;
pub mod cli;
pub mod control;
pub mod daemon;
pub mod destinations;
pub mod logging;
mod notices;
mod policy;
pub mod remote_log;
pub mod setup;
