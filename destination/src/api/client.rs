//! Who asks: a bearer token (RFC 6750), or a client certificate.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use sha2::{Digest as _, Sha256};

use super::{Problem, Shared};

/// SHA-256 of the certificate that the connection's other end has the key of.
#[derive(Debug, Clone, Copy)]
pub struct PeerCertificate(pub Option<[u8; 32]>);

/// An admitted client's row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client(pub(super) i64);

impl FromRequestParts<Arc<Shared>> for Client {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Problem> {
        let token = parts.headers.get(header::AUTHORIZATION).map(|value| bearer(value.as_bytes()));
        let token = match token {
            Some(None) => return Err(Problem::unauthorized()),
            Some(Some(token)) => Some(<[u8; 32]>::from(Sha256::digest(token))),
            None => None,
        };
        let certificate = parts.extensions.get::<PeerCertificate>().and_then(|certificate| certificate.0);
        let shared = shared.clone();
        // By hash, so that how long the look-up takes says nothing about a token.
        let found = super::questions::blocking(move || {
            let store = shared.intake.store();
            match (token, certificate) {
                (Some(token), _) => store.client_by_token(&token),
                (None, Some(certificate)) => store.client_by_certificate(&certificate),
                (None, None) => Ok(None),
            }
        });
        found.await??.map(Client).ok_or_else(Problem::unauthorized)
    }
}

/// The token in `Bearer TOKEN`; the scheme's case does not matter.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bearer_tokens_are_read() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bearer  abc "), Some(&b"abc"[..]));
        assert_eq!(bearer(b"Basic abc"), None);
        assert_eq!(bearer(b"Bearer "), None);
    }
}
