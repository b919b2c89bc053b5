//! Subscriptions: collections whose documents this phone is sent.

use serde::{Deserialize, Serialize};
use waypost_protocol::ids::{Fingerprint, GroupId};
use waypost_protocol::sync::{Accepts, MAX_HELLO_ENTRIES, Served};

use crate::Phone;
use crate::destination::Destination;
use crate::settings::SettingError;

const PREFIX: &str = "subscription/";
/// The largest document of a subscription that is taken, in bytes.
pub const MAX_RECEIVED: u64 = 256 << 20;

/// Why a subscription is not possible.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeError {
    /// The destination has no such collection.
    #[error(
        "{destination} has no collection `{collection}`, it has: {known}; add one with `waypost-phone destination set`"
    )]
    Collection {
        /// Whose.
        destination: String,
        /// What was asked for.
        collection: String,
        /// What there is.
        known: String,
    },
    /// A kiosk is told of so many at most.
    #[error(
        "this phone has {MAX_HELLO_ENTRIES} subscriptions, and no kiosk takes more; unsubscribe from another first"
    )]
    TooMany,
    /// What the phone knows cannot be read or written.
    #[error(transparent)]
    Setting(#[from] SettingError),
}

/// A collection that this phone wants to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// Whose.
    pub destination: Fingerprint,
    /// Its name.
    pub collection: String,
    /// By which kiosks know it.
    pub group: GroupId,
}

impl Phone {
    /// Kiosks are told at the next contact that this phone wants the collection.
    pub fn subscribe(
        &self,
        destination: &Destination,
        collection: &str,
    ) -> Result<Subscription, SubscribeError> {
        if !destination.collections.iter().any(|name| name == collection) {
            return Err(SubscribeError::Collection {
                destination: destination.name(),
                collection: collection.to_owned(),
                known: destination.collections.join(", "),
            });
        }
        let group = destination.group(collection);
        let known = self.subscriptions()?;
        if known.len() >= MAX_HELLO_ENTRIES && !known.iter().any(|one| one.group == group) {
            return Err(SubscribeError::TooMany);
        }
        let (destination, collection) = (destination.fingerprint(), collection.to_owned());
        let subscription = Subscription { destination, collection, group };
        self.save(&format!("{PREFIX}{group}"), &subscription)?;
        Ok(subscription)
    }

    /// Nothing more of the collection is taken. What is here stays. Whether it was subscribed to.
    pub fn unsubscribe(&self, destination: &Destination, collection: &str) -> Result<bool, SubscribeError> {
        let group = destination.group(collection);
        let known = self.subscriptions()?.iter().any(|one| one.group == group);
        self.erase(&format!("{PREFIX}{group}"))?;
        Ok(known)
    }

    /// Subscriptions to collections of destinations that the phone has.
    pub fn subscriptions(&self) -> Result<Vec<Subscription>, SettingError> {
        let destinations = self.destinations()?;
        let mut all = self.load_all::<Subscription>(PREFIX)?;
        all.retain(|one| destinations.iter().any(|known| known.fingerprint() == one.destination));
        all.truncate(MAX_HELLO_ENTRIES);
        Ok(all)
    }
}

/// What of a kiosk's documents is taken.
pub(crate) fn accepts(subscriptions: &[Subscription]) -> Accepts {
    let served = |one: &Subscription| Served {
        destination: one.destination,
        collections: Some(
            subscriptions
                .iter()
                .filter(|other| other.destination == one.destination)
                .map(|other| other.group)
                .collect(),
        ),
        max_document: MAX_RECEIVED,
    };
    Accepts {
        destinations: subscriptions.iter().map(served).collect(),
        max_document: MAX_RECEIVED,
        records: true,
    }
}
