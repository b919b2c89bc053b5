//! What changed between two configurations, and whether SIGHUP is enough.

use serde::Serialize;

use crate::config::Config;
use crate::setting::Setting as _;

/// A key whose value differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The key, for example `limits.sessions`; `destination.NAME` for a destination that came or went,
    /// `destination.NAME.KEY` for a key of one that stayed.
    pub key: String,
    /// Whether it takes effect only after a restart. A running gateway goes on with the old value until then.
    pub needs_restart: bool,
}

/// What a gateway that runs with `running` goes on with after it has read `new`: everything but the keys that take effect
/// only after a restart.
pub fn after_reload(running: &Config, new: &Config) -> Config {
    let mut config = running.clone();
    config.take_up(new, false);
    config
}

/// The keys that differ, in the order of the annotated file.
pub fn reload_diff(old: &Config, new: &Config) -> Vec<Change> {
    let mut changes = Vec::new();
    old.diff(new, "", false, &mut changes);
    changes
}
