//! What a destination's primary key does: new subkeys and dates, successors, revocations.

use std::time::Duration;

use bytes::Bytes;
use sequoia_openpgp as openpgp;

use openpgp::cert::prelude::*;
use openpgp::crypto::KeyPair;
use openpgp::policy::StandardPolicy;
use openpgp::serialize::MarshalInto as _;
use openpgp::types::{KeyFlags, ReasonForRevocation, RevocationStatus};
use waypost_protocol::ids::Fingerprint;
use waypost_protocol::succession::{Link, Statement, Word};
use waypost_protocol::time::UnixTime;

use crate::clock::{from_system, reference, to_system};
use crate::secret::{library, sign_text};
use crate::{Certificate, KeyError, SecretKey};

impl SecretKey {
    /// With a new subkey to sign and a new one to encrypt to, and valid for `span` from `now` on; without a span its
    /// dates stay as they are. What it had stays in it, so that what was sealed before still opens.
    pub fn renew(&self, span: Option<Duration>, now: UnixTime) -> Result<Self, KeyError> {
        let time = self.after_all(now);
        let (policy, at) = (StandardPolicy::at(to_system(time)), to_system(time));
        let mut primary = self.primary_pair()?;
        let mut cert = self.cert.clone();
        if let Some(span) = span {
            let key = cert.primary_key().with_policy(&policy, at).map_err(library)?;
            let end = to_system(UnixTime(time.0.saturating_add(span.as_secs())));
            let signatures = key.set_expiration_time(&mut primary, Some(end)).map_err(library)?;
            cert = cert.clone().insert_packets(signatures).map_err(library)?.0;
        }
        let encryption = KeyFlags::empty().set_transport_encryption().set_storage_encryption();
        for flags in [KeyFlags::empty().set_signing(), encryption] {
            let valid = cert.with_policy(&policy, at).map_err(library)?;
            let subkey = KeyBuilder::new(flags).set_cipher_suite(CipherSuite::Cv25519).set_creation_time(at);
            let subkey = subkey.subkey(valid).map_err(library)?.set_primary_key_signer(primary.clone());
            cert = subkey.attach_cert().map_err(library)?;
        }
        Self::new(cert)
    }

    /// Says that `successor` goes on in this key's place for the destination of that first fingerprint. Signed by the
    /// primary key: whoever gets hold of a server's subkey cannot hand the destination on.
    pub fn vouch(
        &self,
        destination: Fingerprint,
        successor: &Certificate,
        now: UnixTime,
    ) -> Result<Link, KeyError> {
        let time = reference(now, [self.certificate().creation_time(), successor.creation_time()]);
        let mut primary = self.primary_pair()?;
        let policy = StandardPolicy::at(to_system(time));
        let valid = self.cert.with_policy(&policy, to_system(time)).map_err(library)?;
        valid.alive().map_err(library)?;
        if let RevocationStatus::Revoked(_) = self.cert.revocation_status(&policy, to_system(time)) {
            return Err(KeyError::NoSigningKey(time));
        }
        let signer = self.certificate().fingerprint();
        let statement = Statement { destination, signer, successor: successor.fingerprint(), time };
        let signature = sign_text(&mut primary, &statement.text(), time).map_err(library)?;
        let signature = openpgp::Packet::from(signature).to_vec().map_err(library)?;
        let word = Word { signer, time, signature: Bytes::from(signature) };
        Ok(Link { destination, certificate: Bytes::from(successor.to_bytes()), word: Some(word) })
    }

    /// Revoked: as one in other hands, which counts for nothing from its beginning on, or as one that is retired and
    /// counts for what it signed until `now`.
    pub fn revoke(&self, compromised: bool, now: UnixTime) -> Result<Self, KeyError> {
        let reason = match compromised {
            true => ReasonForRevocation::KeyCompromised,
            false => ReasonForRevocation::KeyRetired,
        };
        let mut primary = self.primary_pair()?;
        let time = to_system(self.after_all(now));
        let revocation = CertRevocationBuilder::new()
            .set_signature_creation_time(time)
            .and_then(|builder| builder.set_reason_for_revocation(reason, b""))
            .and_then(|builder| builder.build(&mut primary, &self.cert, None))
            .map_err(library)?;
        Self::new(self.cert.clone().insert_packets(vec![revocation]).map_err(library)?.0)
    }

    /// Now, but not before anything of this key was signed: of several signatures of one second, none is the newest.
    fn after_all(&self, now: UnixTime) -> UnixTime {
        let primary = self.cert.primary_key();
        let dated = self.cert.userids().flat_map(|user| user.self_signatures());
        let dated = dated.chain(self.cert.keys().subkeys().flat_map(|key| key.self_signatures()));
        let dated = dated.chain(primary.self_signatures());
        let last = dated.filter_map(|signature| signature.signature_creation_time()).map(from_system).max();
        reference(now, last.map(|last| UnixTime(last.0 + 1)))
    }

    fn primary_pair(&self) -> Result<KeyPair, KeyError> {
        let missing = || KeyError::NoPrimary(self.certificate().fingerprint());
        let key = self.cert.primary_key().key().clone().parts_into_secret().map_err(|_| missing())?;
        key.into_keypair().map_err(|_| missing())
    }
}
