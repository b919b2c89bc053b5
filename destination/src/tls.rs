//! TLS: the server's certificates, a certificate authority of its own, and client certificates that are pinned.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName as CaName, ServerConfig, SignatureScheme};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file does not hold what it should.
    #[error("{path}: no {what} in PEM found: {error}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// The reader's words.
        error: String,
    },
    /// Certificate and key are not usable together.
    #[error("TLS certificate and key cannot be used: {0}")]
    Rustls(#[from] rustls::Error),
    /// No certificate could be made.
    #[error("no TLS certificate could be made: {0}; check the host names")]
    Make(#[from] rcgen::Error),
}

/// A certificate authority and one certificate under it, PEM. Its own key is thrown away.
pub struct Authority {
    /// For clients.
    pub authority: String,
    /// The server's.
    pub certificate: String,
    /// Its key.
    pub key: Zeroizing<String>,
}

/// Makes a certificate authority that signs one certificate, for these host names and IP addresses.
pub fn make_authority(name: &str, hosts: &[String]) -> Result<Authority, TlsError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&format!("{name} (Waypost)"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority_key = KeyPair::generate()?;
    let authority = params.self_signed(&authority_key)?.pem();
    let issuer = Issuer::new(params, authority_key);

    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name = common_name(hosts.first().map_or("waypost-destination", String::as_str));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?.pem();
    Ok(Authority { authority, certificate, key: Zeroizing::new(key.serialize_pem()) })
}

/// For libraries that ask the process for its cryptography.
pub(crate) fn set_default_provider() {
    // Only fails where it is set already.
    let _ = ring::default_provider().install_default();
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// TLS 1.3 and 1.2; client certificates are asked for and not required.
pub fn server_config(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let pem = |path: &Path, what, error: rustls::pki_types::pem::Error| TlsError::Pem {
        path: path.to_owned(),
        what,
        error: error.to_string(),
    };
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| pem(certificate, "certificate", error))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| pem(key, "private key", error))?;
    let provider = Arc::new(ring::default_provider());
    let clients = Arc::new(AnyClient::new(&provider));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, secret)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// SHA-256 of the first certificate in a PEM file: how a client certificate is known.
pub fn certificate_hash_of_file(path: &Path) -> Result<[u8; 32], TlsError> {
    let wrong = |error: rustls::pki_types::pem::Error| TlsError::Pem {
        path: path.to_owned(),
        what: "certificate",
        error: error.to_string(),
    };
    Ok(certificate_hash(&CertificateDer::from_pem_file(path).map_err(wrong)?))
}

/// SHA-256 of a certificate.
pub fn certificate_hash(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate).into()
}

/// Lets any client certificate connect whose key the client proves to have. Who that is, is looked up by its hash
/// like a token: who signed it does not matter, and an unknown one gets no further than a client without any.
#[derive(Debug)]
struct AnyClient {
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyClient {
    fn new(provider: &CryptoProvider) -> Self {
        AnyClient { algorithms: provider.signature_verification_algorithms }
    }
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[CaName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
