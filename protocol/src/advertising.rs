//! How nodes are recognised before they are connected: six bytes in the air that mean something only to whoever has met
//! their sender (`docs/protocol.md`, "Advertising").

use std::fmt;

use hmac::{Hmac, Mac};
use rand_core::RngCore;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::ids::IdError;

/// The version of the six bytes that this program makes and reads.
pub const VERSION: u8 = 1;
const KEY_DOMAIN: &[u8] = b"waypost advertising key v1";
const IDENTIFIER_DOMAIN: &[u8] = b"waypost advertising v1";
const BACKHAUL: u8 = 1;
const WIFI: u8 = 2;
const ROOM: u8 = 4;
const GATEWAY: u8 = 8;
const RANDOM: usize = 3;

/// With this a node's advertisements are recognised. It comes in the hello, to peers that are known; see
/// [`crate::session::Identity::advertising_key`].
///
/// 16 bytes: it makes tags of 2 bytes that prove nothing, so that more would only cost bytes at each contact.
#[derive(Clone, PartialEq, Eq)]
pub struct AdvertisingKey(Zeroizing<[u8; 16]>);

impl AdvertisingKey {
    /// From the 16 bytes of a hello or a store.
    pub fn new(bytes: [u8; 16]) -> Self {
        AdvertisingKey(Zeroizing::new(bytes))
    }

    /// From bytes that must be 16.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, IdError> {
        let wrong = |_| IdError::Length { what: "advertising key", expected: "16", found: bytes.len() };
        bytes.try_into().map(Self::new).map_err(wrong)
    }

    /// Of a node's static private key: the first 16 bytes of HMAC-SHA256(private key, domain). So nobody has to store it,
    /// and it lasts as long as the identity.
    pub fn of_private(private: &[u8; 32]) -> Self {
        Self::new(hmac(private, &[KEY_DOMAIN]))
    }

    /// The bytes, for the hello and for storage.
    pub fn expose(&self) -> &[u8; 16] {
        &self.0
    }

    fn tag(&self, random: &[u8]) -> [u8; 2] {
        hmac(self.0.as_slice(), &[IDENTIFIER_DOMAIN, random])
    }
}

/// Shows nothing of it: it is part of what events print.
impl fmt::Debug for AdvertisingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdvertisingKey")
    }
}

/// The first `N` bytes of HMAC-SHA256.
fn hmac<const N: usize>(key: &[u8], parts: &[&[u8]]) -> [u8; N] {
    let mut out = [0; N];
    // HMAC takes a key of any length, so that this cannot fail.
    if let Ok(mut mac) = <Hmac<Sha256> as Mac>::new_from_slice(key) {
        parts.iter().for_each(|part| mac.update(part));
        out.copy_from_slice(&mac.finalize().into_bytes()[..N]);
    }
    out
}

/// Who advertises: 3 random bytes ‖ the first 2 bytes of HMAC-SHA256(advertising key, domain ‖ those 3). To be made anew
/// every 15 minutes, together with the radio's address.
///
/// It is a hint and no proof: anyone can send it again, and of 65,536 strangers one fits a key by chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identifier([u8; 5]);

impl Identifier {
    /// A new one.
    pub fn make(key: &AdvertisingKey, rng: &mut dyn RngCore) -> Self {
        let mut random = [0; RANDOM];
        rng.fill_bytes(&mut random);
        Self::from_random(key, random)
    }

    /// The one with these random bytes.
    pub fn from_random(key: &AdvertisingKey, random: [u8; RANDOM]) -> Self {
        let [a, b, c] = random;
        let [tag, rest] = key.tag(&random);
        Identifier([a, b, c, tag, rest])
    }

    /// Whether whoever has this key may have made it.
    pub fn is_of(&self, key: &AdvertisingKey) -> bool {
        let (random, tag) = self.0.split_at(RANDOM);
        tag == key.tag(random)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 5] {
        &self.0
    }
}

/// What a node says to everyone near, and who it is to those who know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advertisement {
    /// It has a path to a destination now.
    pub has_backhaul: bool,
    /// It offers to go on over Wi-Fi.
    pub offers_wifi: bool,
    /// It has room left for documents.
    pub has_room: bool,
    /// It is a gateway, else a phone.
    pub is_gateway: bool,
    /// Who it is.
    pub identifier: Identifier,
}

/// Bytes that are no advertisement of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AdvertisementError {
    /// The length is another.
    #[error("advertisement of {0} bytes, expected 6")]
    Length(usize),
    /// There is no version 0.
    #[error("advertisement of version 0")]
    NoVersion,
    /// Of a later version: a node is there, and more is not known of it. The first frame of a session says which of the
    /// two programs is the older one.
    #[error("advertisement of version {0}, this program knows {VERSION}")]
    Later(u8),
}

impl Advertisement {
    /// Length in bytes: what a legacy packet of Bluetooth LE has room for beside flags and a 128-bit UUID.
    pub const LEN: usize = 6;

    /// To the air: version (high 4 bits) and flags ‖ identifier.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let flag = |on, bit| if on { bit } else { 0 };
        let flags = flag(self.has_backhaul, BACKHAUL)
            | flag(self.offers_wifi, WIFI)
            | flag(self.has_room, ROOM)
            | flag(self.is_gateway, GATEWAY);
        let [a, b, c, d, e] = self.identifier.0;
        [VERSION << 4 | flags, a, b, c, d, e]
    }

    /// From the air.
    pub fn parse(bytes: &[u8]) -> Result<Self, AdvertisementError> {
        let &[first, a, b, c, d, e] = bytes else { return Err(AdvertisementError::Length(bytes.len())) };
        match first >> 4 {
            0 => return Err(AdvertisementError::NoVersion),
            VERSION => {}
            later => return Err(AdvertisementError::Later(later)),
        }
        Ok(Advertisement {
            has_backhaul: first & BACKHAUL != 0,
            offers_wifi: first & WIFI != 0,
            has_room: first & ROOM != 0,
            is_gateway: first & GATEWAY != 0,
            identifier: Identifier([a, b, c, d, e]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    proptest! {
        #[test]
        fn an_advertisement_comes_back(key: [u8; 16], seed: u64, has_backhaul: bool, offers_wifi: bool, has_room: bool, is_gateway: bool) {
            let identifier = Identifier::make(&AdvertisingKey::new(key), &mut ChaCha20Rng::seed_from_u64(seed));
            let made = Advertisement { has_backhaul, offers_wifi, has_room, is_gateway, identifier };
            let found = Advertisement::parse(&made.encode()).unwrap();
            prop_assert_eq!(found, made);
            prop_assert!(found.identifier.is_of(&AdvertisingKey::new(key)));
        }

        #[test]
        fn any_bytes_are_an_advertisement_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            match Advertisement::parse(&bytes) {
                Ok(found) => prop_assert_eq!(&found.encode()[..], &bytes[..]),
                Err(AdvertisementError::Length(found)) => prop_assert!(found == bytes.len() && found != 6),
                Err(AdvertisementError::NoVersion) => prop_assert_eq!(bytes[0] >> 4, 0),
                Err(AdvertisementError::Later(version)) => prop_assert!(version > 1 && bytes[0] >> 4 == version),
            }
        }
    }

    #[test]
    fn a_key_fits_identifiers_of_others_by_chance_only() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let (own, other) = (AdvertisingKey::new([1; 16]), AdvertisingKey::new([2; 16]));
        let made: Vec<Identifier> = (0..65_536).map(|_| Identifier::make(&other, &mut rng)).collect();
        assert!(made.iter().all(|one| one.is_of(&other)));
        // One is expected; more than ten happen less than once in ten million times.
        assert!(made.iter().filter(|one| one.is_of(&own)).count() <= 10);
    }

    #[test]
    fn two_of_one_key_have_nothing_in_common() {
        let key = AdvertisingKey::of_private(&[7; 32]);
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let (one, two) = (Identifier::make(&key, &mut rng), Identifier::make(&key, &mut rng));
        assert!(one.as_bytes()[..3] != two.as_bytes()[..3] && one.as_bytes()[3..] != two.as_bytes()[3..]);
    }

    #[test]
    fn a_key_is_not_printed_with_what_it_is_part_of() {
        assert_eq!(format!("{:?}", Some(AdvertisingKey::new([0xab; 16]))), "Some(AdvertisingKey)");
    }
}
