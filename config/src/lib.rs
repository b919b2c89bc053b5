//! The gateway's configuration: types, defaults, validation, schema.
//!
//! [`load`] reads `gateway.toml` and `gateway.d/*.toml` and returns what holds with all that is wrong. A wrong entry is
//! named, left out, and stops nothing else; only what no default can stand in for is fatal ([`Severity`]).
//! `config/gateway.toml` documents every key. To add one, add it to its section in `config.rs`, then run the tests with
//! `UPDATE_CONFIG_FILES=1`, which writes that file and the JSON Schema anew.

mod annotated;
mod backhaul;
pub mod boot;
mod config;
mod destination;
mod diff;
mod load;
mod nearest;
mod problem;
mod quantity;
mod reader;
mod schema;
mod setting;
mod source;
mod tables;
mod value;
mod wifi;

pub use annotated::annotated;
pub use backhaul::{Backhaul, MAX_BACKHAULS, Pattern, Window};
pub use config::{
    Access, Bundles, Config, Control, Identity, Lan, Limits, Log, RemoteLog, Store, Upload, WifiDirect,
};
pub use destination::{Collection, Credentials, Destination, MAX_DESTINATIONS};
pub use diff::{Change, after_reload, reload_diff};
pub use load::{Loaded, load, parse};
pub use nearest::nearest;
pub use problem::{MAX_PROBLEMS, Origin, Problem, Severity, printable};
pub use quantity::{Period, QuantityError, Size};
pub use schema::schema;
pub use source::{MAX_DROP_INS, MAX_FILE, Source, drop_in_directory};
pub use value::{
    AccessMode, AdapterName, Cost, FileName, GroupList, HostPort, HttpsUrl, Keep, LogLevel, LogMode,
    LogPlace, Name,
};
pub use wifi::{RadioName, WifiChannels, WifiJoin, WifiMode};
