//! Talks to a destination over HTTPS: the client of its API, the plan of what to upload when, and the thread that does it.
//!
//! The only crate that touches `ureq`. It verifies nothing of OpenPGP: confirmations are handed to the caller, who does.

mod body;
pub mod client;
pub mod decode;
mod detour;
pub mod error;
mod names;
pub mod plan;
pub mod portal;
pub mod remote_log;
mod resumable;
pub mod settings;
pub mod uploader;
pub mod way;
mod wire;

pub use body::Upload;
pub use client::{CachedInfo, Client};
pub use error::{Cause, Error, Kind};
pub use plan::{PathState, Planner};
pub use remote_log::DestinationPlace;
pub use settings::{ClientCertificate, Settings, SettingsError, Token};
////pub use uploader::{Event, Sink, Source, Uploader};
