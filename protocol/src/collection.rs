//! Collections: how a name and a key become group ids and record tags.

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::ids::{Fingerprint, GroupId, RecordTag};

/// The secret that makes a destination's group ids unguessable; phones have it, gateways never get it.
#[derive(Clone, PartialEq, Eq)]
pub struct CollectionKey(Zeroizing<[u8; 32]>);

impl CollectionKey {
    /// From the 32 bytes of the destination's configuration.
    pub fn new(bytes: [u8; 32]) -> Self {
        CollectionKey(Zeroizing::new(bytes))
    }

    /// The key of a destination that gave none: anyone who knows the certificate can compute it, so group ids
    /// then hide no names. For destinations added by certificate alone.
    pub fn well_known(destination: &Fingerprint) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(b"waypost well-known collection key v1");
        hasher.update(destination.as_bytes());
        Self::new(hasher.finalize().into())
    }

    /// The bytes, for storage and for the destination's own configuration.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Group id of the collection `name`: SHA-256(domain ‖ first fingerprint ‖ collection key ‖ name).
    pub fn group(&self, destination: &Fingerprint, name: &str) -> GroupId {
        let mut hasher = Sha256::new();
        hasher.update(b"waypost collection v1");
        hasher.update(destination.as_bytes());
        hasher.update(self.0.as_slice());
        hasher.update(name.as_bytes());
        GroupId(hasher.finalize().into())
    }

    /// Tag of the record `key`: HMAC-SHA256(collection key, record key), its first 16 bytes.
    pub fn record_tag(&self, key: &str) -> RecordTag {
        let mut tag = [0; 16];
        // HMAC takes a key of any length, so that this cannot fail.
        if let Ok(mut mac) = <Hmac<Sha256> as Mac>::new_from_slice(self.0.as_slice()) {
            mac.update(key.as_bytes());
            tag.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        }
        RecordTag(tag)
    }
}

/// The reserved group of a destination's confirmations.
pub fn confirmations_group(destination: &Fingerprint) -> GroupId {
    let mut hasher = Sha256::new();
    hasher.update(b"waypost confirmations v1");
    hasher.update(destination.as_bytes());
    GroupId(hasher.finalize().into())
}

/// The reserved group of a destination's certificates.
pub fn successions_group(destination: &Fingerprint) -> GroupId {
    let mut hasher = Sha256::new();
    hasher.update(b"waypost successions v1");
    hasher.update(destination.as_bytes());
    GroupId(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_tags_differ_by_key_and_name() {
        let destination = Fingerprint::V4([1; 20]);
        let (one, two) = (CollectionKey::new([1; 32]), CollectionKey::new([2; 32]));
        assert_ne!(one.group(&destination, "forms"), two.group(&destination, "forms"));
        assert_ne!(one.group(&destination, "forms"), one.group(&destination, "photos"));
        assert_ne!(one.record_tag("a"), one.record_tag("b"));
        assert_ne!(one.record_tag("a"), two.record_tag("a"));
    }
}
