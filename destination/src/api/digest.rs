//! RFC 9530 digests: `Repr-Digest` and `Content-Digest`, checked while a body streams by.

use axum::http::HeaderMap;
use data_encoding::BASE64;
use sha2::{Digest as _, Sha256, Sha512};

use super::Problem;
use crate::intake::DIGEST_MISMATCH;

/// Both mean the same here, since bodies come without content coding.
const HEADERS: [&str; 2] = ["repr-digest", "content-digest"];

/// The digests that a request promises; algorithms other than SHA-256 and SHA-512 are passed over.
#[derive(Default)]
pub(super) struct Digests {
    sha256: Vec<Vec<u8>>,
    sha512: Vec<Vec<u8>>,
    hash256: Sha256,
    hash512: Sha512,
}

impl Digests {
    /// From the headers; each is a dictionary of byte sequences (RFC 8941 §3.2, §3.3.5).
    pub(super) fn from_headers(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut digests = Digests::default();
        for name in HEADERS {
            for value in headers.get_all(name) {
                let wrong = || {
                    let example = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
                    Problem::bad_request(format!("header {name} does not parse; it looks like {example}"))
                };
                let value = value.to_str().map_err(|_| wrong())?;
                for member in value.split(',') {
                    let (algorithm, digest) = member.trim().split_once('=').ok_or_else(wrong)?;
                    let digest = digest.split(';').next().unwrap_or_default().trim();
                    let digest =
                        digest.strip_prefix(':').and_then(|rest| rest.strip_suffix(':')).ok_or_else(wrong)?;
                    let digest = BASE64.decode(digest.as_bytes()).map_err(|_| wrong())?;
                    match algorithm {
                        "sha-256" => digests.sha256.push(digest),
                        "sha-512" => digests.sha512.push(digest),
                        _ => {}
                    }
                }
            }
        }
        Ok(digests)
    }

    /// The next bytes of the body; hashed only where there is something to compare with.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        if !self.sha256.is_empty() {
            self.hash256.update(bytes);
        }
        if !self.sha512.is_empty() {
            self.hash512.update(bytes);
        }
    }

    /// After the last byte.
    pub(super) fn hold(&self) -> bool {
        let (found256, found512) = (self.hash256.clone().finalize(), self.hash512.clone().finalize());
        self.sha256.iter().all(|digest| digest[..] == found256[..])
            && self.sha512.iter().all(|digest| digest[..] == found512[..])
    }

    pub(super) fn problem() -> Problem {
        Problem::bad_request(DIGEST_MISMATCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digests(value: &str) -> Result<Digests, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert("repr-digest", value.parse().unwrap());
        Digests::from_headers(&headers)
    }

    #[test]
    fn digests_are_compared() {
        let right = format!("sha-256=:{}:", BASE64.encode(&Sha256::digest(b"hello")));
        let holds = |value: &str, body: &[u8]| {
            let mut digests = digests(value).unwrap();
            digests.update(body);
            digests.hold()
        };
        assert!(holds(&right, b"hello") && !holds(&right, b"hallo"));
        let both = format!("unixsum=:AAA=:, {right}, sha-512=:{}:", BASE64.encode(&Sha512::digest(b"hello")));
        assert!(holds(&both, b"hello") && !holds(&both, b"hallo"));
        assert!(holds("md5=:AAAA:", b"anything"));
    }

    #[test]
    fn broken_headers_are_refused() {
        for wrong in ["sha-256", "sha-256=abc", "sha-256=:!!:", "sha-256=:AAA"] {
            assert!(digests(wrong).is_err(), "{wrong}");
        }
    }
}
