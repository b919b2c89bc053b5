//! The reference destination server of Waypost: takes documents over HTTPS, opens them into an inbox, confirms them.
//!
//! The way of a document: [`server`] accepts the connection, [`api`] takes the request and pumps its body to a
//! blocking thread, `judge` opens it into a temporary file, `intake` commits verdicts in groups and signs one
//! confirmation per batch, `inbox` puts the file under its own name.

pub mod api;
pub mod author;
mod blocking;
pub mod bundle;
pub mod check;
mod chores;
pub mod cli;
pub mod clock;
pub mod confirmations;
pub mod content;
mod durable;
pub mod home;
pub mod inbox;
pub mod intake;
pub mod judge;
pub mod log;
mod logger;
pub mod metrics;
pub mod names;
pub mod opener;
pub mod partials;
mod places;
pub mod server;
#[cfg(test)]
#[path = "../tests/support/servers.rs"]
mod servers;
pub mod store;
pub mod tls;
pub mod webhook;
mod window;

pub use home::Home;
pub use server::Server;
