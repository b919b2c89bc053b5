//! Heads: the one part of a log that changes, signed by the gateway whose log it is.

use std::fmt;

use bytes::Bytes;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use hmac::{Hmac, Mac as _};
use prost::Message as _;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::hash::ContentHash;
use crate::page::Chain;
use crate::wire;

/// No head is longer, in bytes.
pub const MAX_HEAD: usize = 1_024;
/// No bookmark is longer, in bytes.
pub const MAX_BOOKMARK: usize = 32;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// From bytes of exactly the right length.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map($name)
            }

            /// From hexadecimal text.
            pub fn from_hex(text: &str) -> Option<Self> {
                HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).ok().and_then(|bytes| Self::from_slice(&bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

name!(
    /// The Ed25519 public key that a gateway signs its heads with (RFC 8032). It is the log's name.
    LogKey, 32
);
name!(
    /// Random; made with a log. A gateway that can no longer continue its log begins another one under the same key.
    LogId, 16
);

/// Why bytes are no head of a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// It is longer than [`MAX_HEAD`].
    #[error("a head of {0} bytes, at most {MAX_HEAD} are allowed")]
    TooLong(usize),
    /// The protobuf does not decode.
    #[error("not the protobuf of a head: {0}")]
    Protobuf(String),
    /// A field is missing or has a wrong length.
    #[error("the head's {0} is missing or has a wrong length")]
    Field(&'static str),
    /// Another gateway's.
    #[error("the head is of log {found}, not of {wanted}")]
    OtherLog {
        /// Whose was wanted.
        wanted: LogKey,
        /// Whose it says it is.
        found: LogKey,
    },
    /// The signature does not verify.
    #[error("the signature on the head of log {0} does not verify")]
    Signature(LogKey),
}

/// What a log is at one moment. Holding one means that its signature has been verified, or was made here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Whose log.
    pub key: LogKey,
    /// Which of its logs.
    pub log: LogId,
    /// Rises with each head of the same log.
    pub sequence: u64,
    /// All documents of the log.
    pub chain: Chain,
    /// The newest page.
    pub root: ContentHash,
    /// For the writer alone: where it goes on; at most [`MAX_BOOKMARK`] bytes.
    pub bookmark: Bytes,
}

impl Head {
    /// What is signed: fixed lengths, big-endian numbers, the bookmark at the end.
    fn signed_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(192);
        out.extend(b"waypost log head v1");
        out.extend(self.key.0);
        out.extend(self.log.0);
        out.extend(self.sequence.to_be_bytes());
        out.extend(self.chain.count.to_be_bytes());
        out.extend(self.chain.hash);
        out.extend(self.root.0);
        out.extend(&self.bookmark);
        out
    }

    /// From the bytes that a name system has for `key`.
    pub fn decode(bytes: &[u8], key: &LogKey) -> Result<Head, HeadError> {
        if bytes.len() > MAX_HEAD {
            return Err(HeadError::TooLong(bytes.len()));
        }
        let wire = wire::RemoteLog::decode(bytes).map_err(|error| HeadError::Protobuf(error.to_string()))?;
        let signed = wire.head.ok_or(HeadError::Field("signature"))?;
        let found = LogKey::from_slice(&signed.key).ok_or(HeadError::Field("key"))?;
        if found != *key {
            return Err(HeadError::OtherLog { wanted: *key, found });
        }
        if signed.count == 0 {
            return Err(HeadError::Field("count"));
        }
        if signed.bookmark.len() > MAX_BOOKMARK {
            return Err(HeadError::Field("bookmark"));
        }
        let chain = signed.chain.as_ref().try_into().map_err(|_| HeadError::Field("chain"))?;
        let head = Head {
            key: found,
            log: LogId::from_slice(&signed.log).ok_or(HeadError::Field("log id"))?,
            sequence: signed.sequence,
            chain: Chain { count: signed.count, hash: chain },
            root: ContentHash::from_slice(&wire.tail).ok_or(HeadError::Field("newest page"))?,
            bookmark: signed.bookmark,
        };
        let public = UnparsedPublicKey::new(&ED25519, head.key.0);
        let verified = public.verify(&head.signed_bytes(), &signed.signature);
        verified.map_err(|_| HeadError::Signature(*key)).map(|()| head)
    }
}

/// Signs a gateway's heads.
pub struct Signer {
    pair: Ed25519KeyPair,
    key: LogKey,
}

impl Signer {
    /// From the 32 bytes of the gateway's identity key: HMAC-SHA256(those, "waypost log key v1") is the Ed25519 seed, so
    /// that a kiosk that moves to another board takes its log along, and has no second secret to lose.
    pub fn derive(identity: &[u8; 32]) -> Option<Signer> {
        let mut mac = Hmac::<Sha256>::new_from_slice(identity).ok()?;
        mac.update(b"waypost log key v1");
        let seed: Zeroizing<[u8; 32]> = Zeroizing::new(mac.finalize().into_bytes().into());
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).ok()?;
        let key = LogKey::from_slice(pair.public_key().as_ref())?;
        Some(Signer { pair, key })
    }

    /// The public key.
    pub fn key(&self) -> LogKey {
        self.key
    }

    /// The head as bytes for a name system. `head.key` is the signer's.
    pub fn sign(&self, head: &Head) -> Bytes {
        let copy = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
        let signature = self.pair.sign(&head.signed_bytes());
        let signed = wire::SignedHead {
            key: copy(&head.key.0),
            log: copy(&head.log.0),
            sequence: head.sequence,
            count: head.chain.count,
            chain: copy(&head.chain.hash),
            bookmark: head.bookmark.clone(),
            signature: copy(signature.as_ref()),
        };
        let wire =
            wire::RemoteLog { tail: copy(&head.root.0), head: Some(signed), ..wire::RemoteLog::default() };
        Bytes::from(wire.encode_to_vec())
    }
}
