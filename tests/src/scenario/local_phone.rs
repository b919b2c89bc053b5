//! A phone within the test's own process, by the library that `waypost-phone` is made of: for tests that need hundreds.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use waypost_openpgp::Compress;
use waypost_phone::{Phone, Progress, Search, Sending, SyncOptions, SyncReport};
use waypost_protocol::ids::MessageId;
use waypost_store::{Filter, Options};

use super::PATIENCE;

/// A phone that knows one destination and one gateway. A folder may be open only once in a process.
pub struct LocalPhone {
    phone: Phone,
}

/// What came of a contact.
pub struct Contact {
    /// As the phone tells its user.
    pub report: SyncReport,
    /// Documents of which the gateway said that it has stored them.
    pub acknowledged: BTreeSet<MessageId>,
}

impl LocalPhone {
    /// Opens the phone in a folder; without a reserve, so that many of them fit into memory.
    #[track_caller]
    pub fn open(home: &Path) -> Self {
        Self { phone: Phone::open_with(home, Options { reserve: 0, ..Options::default() }).unwrap() }
    }

    /// Seals a document; it is durable when this returns.
    #[track_caller]
    pub fn add(&self, name: &str, bytes: &[u8]) -> MessageId {
        let destinations = self.phone.destinations().unwrap();
        let sending = Sending::to(&destinations[0]);
        let sealed =
            self.phone.seal_content(bytes, Some(name.as_bytes()), Compress::Never, &sending).unwrap();
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.phone.store_sealed(sealed, move |outcome| sender.send(outcome).unwrap());
        receiver.recv().unwrap().unwrap().id
    }

    /// Meets the gateway at this address; comes again, up to `wait`, until every document is confirmed. The report is that
    /// of the last contact.
    #[track_caller]
    pub fn sync(&self, address: SocketAddr, wait: Duration) -> Contact {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let gateways = self.phone.gateways().unwrap();
        let address = address.to_string();
        let until = Instant::now() + wait;
        let mut acknowledged = BTreeSet::new();
        loop {
            let mut progress = |event| {
                if let Progress::AtKiosk { id } = event {
                    acknowledged.insert(id);
                }
            };
            let left = until.saturating_duration_since(Instant::now());
            let options =
                SyncOptions { wait: left, timeout: Some(left + PATIENCE), ..SyncOptions::default() };
            let contact = self.phone.sync_with(&gateways[0], Search::At(&address), options, &mut progress);
            let report = runtime.block_on(contact).unwrap();
            if Instant::now() >= until || self.left() == 0 {
                return Contact { report, acknowledged };
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Documents that it has written down as being at the gateway, or farther.
    #[track_caller]
    pub fn at_the_kiosk(&self) -> BTreeSet<MessageId> {
        let own = self.phone.own_documents(Filter::All).unwrap();
        own.iter().filter(|one| !one.held_by.is_empty()).map(|one| one.description.id).collect()
    }

    /// Documents whose contents it still has.
    #[track_caller]
    pub fn left(&self) -> usize {
        self.phone.list(false).unwrap().len()
    }
}
