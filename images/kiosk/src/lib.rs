//! Sets up a kiosk from the one file on its card's boot partition, `waypost.toml`, and says beside it what came of it.
//!
//! [`plan`] is pure: texts in, files and problems out. [`apply`] writes them so that the power may go at any moment,
//! [`activate`] puts them where the system reads them, at each boot. [`status`] and [`console`] show how
//! the kiosk is. `docs/kiosk-file.md` is for the admin.

pub mod activate;
pub mod apply;
pub mod boot_partition;
pub mod cli;
pub mod cloud_init;
pub mod console;
pub mod disk;
pub mod errors;
pub mod gateway;
pub mod machine;
pub mod overview;
pub mod plan;
pub mod render;
pub mod secrets;
pub mod status;
pub mod users;
