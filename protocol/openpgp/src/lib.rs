//! OpenPGP for Waypost: sealing, opening, confirmations, certificates.
//!
//! The only crate that touches `sequoia-openpgp`; none of its types are in the interface. RFC 9580 is the format,
//! GnuPG ≥ 2.2 the measure of interoperability.

mod certificate;
mod chain;
mod clock;
mod guard;
mod open;
mod renewal;
mod seal;
mod secret;
mod verify;

pub use certificate::{Certificate, CertificateError, MAX_CERTIFICATE};
pub use chain::{Absorbed, Chain, ChainError, Change};
pub use clock::BUILD_FLOOR;
pub use open::{Author, Limits, OpenError, Opened};
pub use seal::{Compress, SealError, seal, seal_bytes, seal_bytes_signed, seal_signed};
pub use secret::{KeyError, SecretKey};
pub use verify::{VerifyError, armor_detached, armor_signature, verify_confirmation};
