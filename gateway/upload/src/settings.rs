//! Where a destination is, whom to trust for it, and how to prove who we are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use ureq::http::header::HeaderValue;
use waypost_protocol::ids::Fingerprint;
use waypost_protocol::time::UnixTime;
use zeroize::Zeroizing;

use crate::error::plain;
use crate::way::{AnyWay, Way};
use crate::wire::{FlooredClock, PatientVerifier};

/// A bearer token, wiped when dropped and never printed.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// From text; white space around it is dropped.
    pub fn new(text: &str) -> Self {
        Token(Zeroizing::new(text.trim().to_owned()))
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A client certificate for mTLS.
#[derive(Clone)]
pub struct ClientCertificate {
    /// Certificate chain, PEM, the client's own first.
    pub chain_pem: Vec<u8>,
    /// Private key, PEM: PKCS #8, PKCS #1 or SEC 1.
    pub key_pem: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientCertificate(…)")
    }
}

/// What time it is at least, in Unix seconds; may be raised while clients use it.
#[derive(Debug, Clone, Default)]
pub struct TimeFloor(Arc<AtomicU64>);

impl TimeFloor {
    /// Begins with this.
    pub fn new(time: UnixTime) -> Self {
        TimeFloor(Arc::new(AtomicU64::new(time.0)))
    }

    /// It is at least this now; it never goes back.
    pub fn raise(&self, time: UnixTime) {
        self.0.fetch_max(time.0, Ordering::Relaxed);
    }

    /// What it is at least.
    pub fn get(&self) -> UnixTime {
        UnixTime(self.0.load(Ordering::Relaxed))
    }
}

/// Where the destination is and how to prove who we are. [`Settings::new`] has the defaults.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `https://host[:port][/path]`; the API's paths are added to it.
    pub url: String,
    /// First fingerprint of the destination; another one in its answer is refused. None only while it is being added.
    pub fingerprint: Option<Fingerprint>,
    /// Sent as `Authorization: Bearer`. Default: none.
    pub token: Option<Token>,
    /// For mTLS. Default: none.
    pub certificate: Option<ClientCertificate>,
    /// Authorities, PEM, trusted instead of the public ones. Default: the public ones (webpki-roots).
    pub ca_pem: Option<Vec<u8>>,
    /// Certificates are judged at the wall clock's time or at this one, whichever is later. Default: 0.
    pub time_floor: TimeFloor,
    /// The way that connections take. Default: the system's routes, without bounds.
    pub way: Arc<dyn Way>,
    /// For the name, and again for TCP and TLS together. Default: 30 s.
    pub connect_timeout: Duration,
    /// The longest that sending may stand still. Default: 60 s.
    pub stall_timeout: Duration,
    /// From the request's end to the answer's head, and from there to its end; the server opens and stores everything
    /// in between. Default: 180 s.
    pub answer_timeout: Duration,
}

impl Settings {
    /// Settings with their defaults.
    pub fn new(url: impl Into<String>, fingerprint: Option<Fingerprint>) -> Self {
        Settings {
            url: url.into(),
            fingerprint,
            token: None,
            certificate: None,
            ca_pem: None,
            time_floor: TimeFloor::default(),
            way: Arc::new(AnyWay),
            connect_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(60),
            answer_timeout: Duration::from_secs(180),
        }
    }
}

/// Why settings make no client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Not a URL of the right form.
    #[error("`{url}` is no destination url; write it as https://host[:port][/path]")]
    Url {
        /// What was given.
        url: String,
    },
    /// The token has characters that no header can carry.
    #[error(
        "the token has characters that cannot be sent; copy it again from `waypost-destination gateways add`"
    )]
    Token,
    /// The authorities' file holds no certificate that can be used.
    #[error(
        "the authorities' file has no usable certificate ({detail}); give a PEM file of one or more authorities (a \
         gateway's `ca_file`, a phone's `--ca FILE`)"
    )]
    Ca {
        /// What is wrong.
        detail: String,
    },
    /// The client certificate or its key cannot be used.
    #[error(
        "the client certificate cannot be used ({detail}); it needs a PEM chain and the PEM key that belongs to it"
    )]
    Certificate {
        /// What is wrong.
        detail: String,
    },
}

/// The base of the API's URLs, and the host with its port.
pub(crate) fn parse_url(text: &str) -> Result<(String, String), SettingsError> {
    let wrong = || SettingsError::Url { url: plain(text) };
    let base = text.trim().trim_end_matches('/');
    let uri: ureq::http::Uri = base.parse().map_err(|_| wrong())?;
    let authority = uri.authority().ok_or_else(wrong)?;
    let plain_authority = !authority.as_str().contains('@') && !authority.host().is_empty();
    if uri.scheme_str() != Some("https") || uri.query().is_some() || text.contains('#') || !plain_authority {
        return Err(wrong());
    }
    Ok((base.to_owned(), authority.as_str().to_owned()))
}

/// The `Authorization` header.
pub(crate) fn bearer(token: &Token) -> Result<HeaderValue, SettingsError> {
    let text = Zeroizing::new(format!("Bearer {}", token.0.as_str()));
    let visible = !token.0.is_empty() && token.0.bytes().all(|byte| byte.is_ascii_graphic());
    let mut value = HeaderValue::from_str(&text).map_err(|_| SettingsError::Token)?;
    value.set_sensitive(true);
    if visible { Ok(value) } else { Err(SettingsError::Token) }
}

/// What TLS trusts and shows.
pub(crate) fn tls_config(settings: &Settings) -> Result<ClientConfig, SettingsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clock = Arc::new(FlooredClock(settings.time_floor.clone()));
    let wrong = |error: String| SettingsError::Ca { detail: plain(&error) };
    let roots = Arc::new(roots(settings.ca_pem.as_deref())?);
    let inner = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
        .build()
        .map_err(|error| wrong(error.to_string()))?;
    let verifier = Arc::new(PatientVerifier { inner, floor: settings.time_floor.clone() });
    let builder = ClientConfig::builder_with_details(provider, clock)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let Some(certificate) = &settings.certificate else { return Ok(builder.with_no_client_auth()) };
    let wrong = |detail: String| SettingsError::Certificate { detail: plain(&detail) };
    let chain = CertificateDer::pem_slice_iter(&certificate.chain_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(error.to_string()))?;
    let key =
        PrivateKeyDer::from_pem_slice(&certificate.key_pem).map_err(|error| wrong(error.to_string()))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| wrong(error.to_string()))
}

fn roots(ca_pem: Option<&[u8]>) -> Result<RootCertStore, SettingsError> {
    let Some(pem) = ca_pem else {
        return Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
    };
    let wrong = |detail: String| SettingsError::Ca { detail: plain(&detail) };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() { Err(wrong("it holds no certificate".to_owned())) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_https_urls_are_taken() {
        for good in ["https://d.example", "https://d.example:8443/in/", " https://[::1]:4443 "] {
            assert!(parse_url(good).is_ok(), "{good}");
        }
        assert_eq!(parse_url("https://d.example/in/").unwrap().0, "https://d.example/in");
        for bad in
            ["http://d.example", "d.example", "https://", "https://a@b", "https://a?x=1", "https://a#b", ""]
        {
            assert!(parse_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tokens_are_sent_but_never_printed() {
        let token = Token::new(" s3cret\n");
        assert_eq!(bearer(&token).unwrap().to_str().unwrap(), "Bearer s3cret");
        assert!(!format!("{:?} {:?}", token, bearer(&token)).contains("s3cret"));
        assert_eq!(bearer(&Token::new("a b")), Err(SettingsError::Token));
        assert_eq!(bearer(&Token::new("")), Err(SettingsError::Token));
    }

    #[test]
    fn a_ca_file_without_certificates_is_refused() {
        let error = roots(Some(b"hello")).unwrap_err();
        assert!(matches!(error, SettingsError::Ca { .. }));
        // As the gateway's configuration and the phone's command line call it.
        let words = error.to_string();
        assert!(words.contains("`ca_file`") && words.contains("`--ca FILE`"), "{words}");
        assert!(!roots(None).unwrap().is_empty());
    }
}
