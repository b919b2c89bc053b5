//! Identifiers: 32-byte ids of documents and groups, fingerprints, store ids, and keys of peers.

use std::fmt;

use data_encoding::HEXLOWER;
use data_encoding::HEXUPPER;
use serde::{Deserialize, Serialize};

/// An identifier of another length, or text that is not hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The bytes have the wrong length.
    #[error("{what} has {found} bytes, expected {expected}")]
    Length {
        /// What was being read, for example "message id".
        what: &'static str,
        /// How many bytes it has.
        expected: &'static str,
        /// How many bytes came.
        found: usize,
    },
    /// The text is not hexadecimal.
    #[error("{what} is not hexadecimal text")]
    NotHex {
        /// What was being read.
        what: &'static str,
    },
}

macro_rules! fixed_id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// From bytes of exactly the right length.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, IdError> {
                bytes.try_into().map($name).map_err(|_| IdError::Length {
                    what: $what,
                    expected: stringify!($len),
                    found: bytes.len(),
                })
            }

            /// From lower- or upper-case hexadecimal text.
            pub fn from_hex(text: &str) -> Result<Self, IdError> {
                let bytes = data_encoding::HEXLOWER_PERMISSIVE
                    .decode(text.trim().as_bytes())
                    .map_err(|_| IdError::NotHex { what: $what })?;
                Self::from_slice(&bytes)
            }

            /// The bytes.
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), HEXLOWER.encode(&self.0))
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::from_hex(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                Self::from_hex(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

fixed_id!(
    /// The MVDS message id of a document: 32 bytes of SHA-256 (2/MVDS, "Message Identifiers").
    MessageId, 32, "message id"
);
fixed_id!(
    /// The MVDS group id that a collection's documents carry: 32 bytes.
    GroupId, 32, "group id"
);
fixed_id!(
    /// The random 128-bit name that is made with a store. "Stored" is a fact about a peer *and* its store id.
    StoreId, 16, "store id"
);
fixed_id!(
    /// What links the revisions of one record without naming it: HMAC-SHA256 cut to 16 bytes.
    RecordTag, 16, "record tag"
);
fixed_id!(
    /// The static X25519 public key of a peer: 32 bytes. It is the peer's name.
    PeerKey, 32, "peer key"
);
fixed_id!(
    /// The first 8 bytes of SHA-256 over a pairing code's secret: says which code a phone was shown.
    CodeId, 8, "code id"
);

/// An OpenPGP fingerprint: 20 bytes of a v4 key (RFC 9580 §5.5.4.2) or 32 bytes of a v6 key (§5.5.4.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fingerprint {
    /// Version 4.
    V4([u8; 20]),
    /// Version 6.
    V6([u8; 32]),
}

impl Fingerprint {
    /// From 20 or 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, IdError> {
        if let Ok(v4) = bytes.try_into() {
            return Ok(Self::V4(v4));
        }
        bytes.try_into().map(Self::V6).map_err(|_| IdError::Length {
            what: "fingerprint",
            expected: "20 or 32",
            found: bytes.len(),
        })
    }

    /// From hexadecimal text; spaces are ignored, as people copy fingerprints in groups of four.
    pub fn from_hex(text: &str) -> Result<Self, IdError> {
        let packed: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let bytes = data_encoding::HEXLOWER_PERMISSIVE
            .decode(packed.as_bytes())
            .map_err(|_| IdError::NotHex { what: "fingerprint" })?;
        Self::from_slice(&bytes)
    }

    /// The 20 or 32 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::V4(bytes) => bytes,
            Self::V6(bytes) => bytes,
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXUPPER.encode(self.as_bytes()))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl std::str::FromStr for Fingerprint {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::from_hex(text)
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        Self::from_hex(&text).map_err(serde::de::Error::custom)
    }
}

/// The order in which a node's store got its documents; a sender's cursor (u64, never reused).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Seq(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_another_length_are_refused_with_both_lengths() {
        let error = MessageId::from_slice(&[0; 31]).unwrap_err();
        assert_eq!(error.to_string(), "message id has 31 bytes, expected 32");
        let error = Fingerprint::from_slice(&[0; 21]).unwrap_err();
        assert_eq!(error.to_string(), "fingerprint has 21 bytes, expected 20 or 32");
    }

    #[test]
    fn hexadecimal_text_goes_there_and_back() {
        let id = MessageId([0xab; 32]);
        assert_eq!(id.to_string().parse::<MessageId>(), Ok(id));
        let fingerprint = Fingerprint::V4([0xcd; 20]);
        let grouped = "CDCD CDCD CDCD CDCD CDCD  CDCD CDCD CDCD CDCD CDCD";
        assert_eq!(Fingerprint::from_hex(grouped), Ok(fingerprint));
        assert_eq!(MessageId::from_hex("xyz"), Err(IdError::NotHex { what: "message id" }));
    }
}
