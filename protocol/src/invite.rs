//! The texts behind QR codes: pairing with a gateway, adding a destination.

use data_encoding::BASE64URL_NOPAD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::collection::CollectionKey;
use crate::ids::{CodeId, Fingerprint, PeerKey};
use crate::succession::MAX_CHAIN;

const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'/')
    .remove(b':')
    .remove(b'[')
    .remove(b']');
const PAIRING: &str = "waypost://pair?";
const DESTINATION: &str = "waypost://destination?";
/// The longest text that is read: a QR code holds at most 2,953 bytes (ISO/IEC 18004, version 40-L).
pub const MAX_TEXT: usize = 2_953;

/// Why a text is no invitation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    /// It begins otherwise.
    #[error("not a Waypost code: expected a text that begins with {0}")]
    Kind(&'static str),
    /// Longer than [`MAX_TEXT`].
    #[error("code of {0} bytes, at most {MAX_TEXT} are allowed")]
    TooLong(usize),
    /// Made by a newer version.
    #[error("code of version {0}, this program knows 1; update it")]
    Version(String),
    /// A part is missing.
    #[error("code lacks {0}")]
    Missing(&'static str),
    /// A part is not what it should be.
    #[error("code's {part} is not {expected}")]
    Part {
        /// Which one.
        part: &'static str,
        /// What it should be.
        expected: &'static str,
    },
}

/// The 16 secret bytes of a pairing code. Cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct CodeSecret(Zeroizing<[u8; 16]>);

impl CodeSecret {
    /// From random bytes.
    pub fn new(bytes: [u8; 16]) -> Self {
        CodeSecret(Zeroizing::new(bytes))
    }

    /// The bytes, for the gateway's store and the text.
    pub fn expose(&self) -> &[u8; 16] {
        &self.0
    }

    /// Which code it is, told in clear in frame 0: first 8 bytes of SHA-256(domain ‖ secret).
    pub fn id(&self) -> CodeId {
        let mut out = [0; 8];
        out.copy_from_slice(&self.hash(b"waypost code id v1")[..8]);
        CodeId(out)
    }

    /// The pre-shared key of the `IKpsk2` handshake: SHA-256(domain ‖ secret).
    pub fn psk(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.hash(b"waypost code psk v1"))
    }

    fn hash(&self, domain: &[u8]) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(domain);
        hasher.update(self.0.as_slice());
        hasher.finalize().into()
    }
}

/// What a gateway's QR code says.
#[derive(Clone, PartialEq, Eq)]
pub struct Pairing {
    /// The gateway's static key.
    pub gateway: PeerKey,
    /// The code's secret.
    pub secret: CodeSecret,
    /// The gateway's name, for people.
    pub name: String,
    /// `host:port` of its LAN links, most likely first; may be empty where radios find it.
    pub addresses: Vec<String>,
}

impl Pairing {
    /// The text in the QR code.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{PAIRING}v=1&k={}&s={}&n={}",
            BASE64URL_NOPAD.encode(self.gateway.as_bytes()),
            BASE64URL_NOPAD.encode(self.secret.expose()),
            utf8_percent_encode(&self.name, PLAIN),
        );
        for address in &self.addresses {
            text.push_str("&a=");
            text.extend(utf8_percent_encode(address, PLAIN));
        }
        text
    }

    /// From the text in the QR code.
    pub fn parse(text: &str) -> Result<Self, InviteError> {
        let parts = Parts::parse(text, PAIRING)?;
        Ok(Pairing {
            gateway: PeerKey(parts.bytes("k", "key", "32 bytes of base64url")?),
            secret: CodeSecret::new(parts.bytes("s", "secret", "16 bytes of base64url")?),
            name: parts.first("n").unwrap_or_default().to_owned(),
            addresses: parts.all("a").map(str::to_owned).collect(),
        })
    }
}

/// What a destination's code for phones says.
#[derive(Clone, PartialEq, Eq)]
pub struct Destination {
    /// Base URL of the destination API, `https://…`.
    pub url: Option<String>,
    /// First fingerprint: the destination's name.
    pub fingerprint: Fingerprint,
    /// The OpenPGP certificate, binary; fetched from the URL where it is absent.
    pub certificate: Option<Vec<u8>>,
    /// Certificates that succeed the first one, in their order, on the word of whoever made the code.
    pub successors: Vec<Fingerprint>,
    /// Key of its collections.
    pub collection_key: CollectionKey,
    /// Names of its collections, the usual one first.
    pub collections: Vec<String>,
    /// Bearer token with which a phone uploads by itself.
    pub token: Option<Zeroizing<String>>,
}

impl Destination {
    /// The text in the code.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{DESTINATION}v=1&f={}&k={}",
            self.fingerprint,
            BASE64URL_NOPAD.encode(self.collection_key.expose()),
        );
        let mut push = |key: &str, value: &str| {
            text.push('&');
            text.push_str(key);
            text.push('=');
            text.extend(utf8_percent_encode(value, PLAIN));
        };
        self.url.iter().for_each(|url| push("u", url));
        self.collections.iter().for_each(|name| push("c", name));
        self.successors.iter().for_each(|one| push("s", &one.to_string()));
        self.token.iter().for_each(|token| push("t", token));
        self.certificate.iter().for_each(|bytes| push("p", &BASE64URL_NOPAD.encode(bytes)));
        text
    }

    /// From the text in the code.
    pub fn parse(text: &str) -> Result<Self, InviteError> {
        let parts = Parts::parse(text, DESTINATION)?;
        let fingerprint = parts.first("f").ok_or(InviteError::Missing("the fingerprint (f)"))?;
        let base64 = |value: &str| BASE64URL_NOPAD.decode(value.as_bytes());
        let named = |part: &'static str, digits: &str| {
            Fingerprint::from_hex(digits)
                .map_err(|_| InviteError::Part { part, expected: "40 or 64 hexadecimal digits" })
        };
        Ok(Destination {
            url: parts.first("u").map(str::to_owned),
            fingerprint: named("fingerprint", fingerprint)?,
            successors: parts
                .all("s")
                .take(MAX_CHAIN)
                .map(|digits| named("successor's fingerprint", digits))
                .collect::<Result<_, _>>()?,
            certificate: parts
                .first("p")
                .map(base64)
                .transpose()
                .map_err(|_| InviteError::Part { part: "certificate", expected: "base64url" })?,
            collection_key: CollectionKey::new(parts.bytes(
                "k",
                "collection key",
                "32 bytes of base64url",
            )?),
            collections: parts.all("c").map(str::to_owned).collect(),
            token: parts.first("t").map(|token| Zeroizing::new(token.to_owned())),
        })
    }
}

/// Keys and decoded values, in their order.
struct Parts(Vec<(String, String)>);

impl Parts {
    fn parse(text: &str, kind: &'static str) -> Result<Self, InviteError> {
        let text = text.trim();
        if text.len() > MAX_TEXT {
            return Err(InviteError::TooLong(text.len()));
        }
        let rest = text.strip_prefix(kind).ok_or(InviteError::Kind(kind))?;
        let pairs = rest.split('&').filter_map(|pair| pair.split_once('='));
        let parts = Parts(
            pairs
                .map(|(key, value)| {
                    (key.to_owned(), percent_decode_str(value).decode_utf8_lossy().into_owned())
                })
                .collect(),
        );
        match parts.first("v") {
            Some("1") => Ok(parts),
            Some(other) => Err(InviteError::Version(other.to_owned())),
            None => Err(InviteError::Missing("its version (v)")),
        }
    }

    fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    fn first<'a>(&'a self, key: &'a str) -> Option<&'a str> {
        self.all(key).next()
    }

    fn bytes<const N: usize>(
        &self,
        key: &'static str,
        part: &'static str,
        expected: &'static str,
    ) -> Result<[u8; N], InviteError> {
        let value = self.first(key).ok_or(InviteError::Missing(part))?;
        let bytes = BASE64URL_NOPAD.decode(value.as_bytes()).ok();
        bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(InviteError::Part { part, expected })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_pairing_code_comes_back(key: [u8; 32], secret: [u8; 16], name in ".{0,40}", addresses in proptest::collection::vec("[a-z0-9.:\\[\\]]{1,30}", 0..4)) {
            let pairing = Pairing { gateway: PeerKey(key), secret: CodeSecret::new(secret), name, addresses };
            prop_assert!(Pairing::parse(&pairing.to_text()).unwrap() == pairing);
        }

        #[test]
        fn any_text_is_a_code_or_an_error(text in ".{0,200}", tail in "[a-z=&%]{0,60}") {
            let _ = Pairing::parse(&text);
            let _ = Pairing::parse(&format!("{PAIRING}{tail}"));
            let _ = Destination::parse(&format!("{DESTINATION}v=1&{tail}"));
        }
    }

    #[test]
    fn a_destination_code_comes_back() {
        let destination = Destination {
            url: Some("https://example.org:8443/way post".into()),
            fingerprint: Fingerprint::V4([9; 20]),
            certificate: Some(vec![1, 2, 3]),
            successors: vec![Fingerprint::V6([8; 32]), Fingerprint::V4([7; 20])],
            collection_key: CollectionKey::new([4; 32]),
            collections: vec!["forms".into(), "photos & more".into()],
            token: Some(Zeroizing::new("secret".into())),
        };
        assert!(Destination::parse(&destination.to_text()).unwrap() == destination);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |text: &str| Pairing::parse(text).err().unwrap().to_string();
        assert_eq!(error("hello"), "not a Waypost code: expected a text that begins with waypost://pair?");
        assert_eq!(error("waypost://pair?v=2"), "code of version 2, this program knows 1; update it");
        assert_eq!(error("waypost://pair?v=1&k=AA"), "code's key is not 32 bytes of base64url");
        assert_eq!(error("waypost://pair?v=1"), "code lacks key");
    }
}
