//! Remote logs at a destination: steps between uploads, over the uploader's connection.

use std::sync::{Arc, Mutex};

use waypost_protocol::api::Info;
use waypost_protocol::ids::Fingerprint;
use waypost_protocol::time::Monotonic;
use waypost_remote_log::LogKey;
use waypost_upload::uploader::AfterUploads;
use waypost_upload::{Client, DestinationPlace};

use super::{LogStatus, Parts, Work};

/// The logs at one destination, of the documents for it.
pub struct AtDestination(Work);

impl AtDestination {
    /// At the destination called `name`.
    pub fn new(parts: Parts, destination: Fingerprint, name: &str) -> Self {
        AtDestination(Work::new(parts, Some(destination), name.to_owned()))
    }

    /// How they are, kept up to date.
    pub fn status(&self) -> Arc<Mutex<LogStatus>> {
        self.0.status.clone()
    }
}

impl AfterUploads for AtDestination {
    fn due(&self) -> Option<Monotonic> {
        self.0.due()
    }

    fn step(&mut self, client: &mut Client, now: Monotonic) -> bool {
        let stored = self.0.step(&mut DestinationPlace(client), now);
        if stored {
            (self.0.parts.fetched)();
        }
        stored
    }

    fn nudge(&mut self, now: Monotonic) {
        self.0.nudge(now);
    }

    fn path_up(&mut self, now: Monotonic) {
        self.0.try_now(now);
    }

    fn info(&mut self, info: &Info, now: Monotonic) {
        if let Some(key) = info.log {
            self.0.follow_destination(LogKey(key.0), now);
        }
    }
}
