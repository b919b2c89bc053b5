//! A destination's chain of certificates: the first one that was pinned, renewed states of it, and successors that an
//! old primary key has vouched for.

use sequoia_openpgp as openpgp;

use bytes::Bytes;
use openpgp::policy::{Policy as _, StandardPolicy};
use openpgp::types::RevocationStatus;
use waypost_protocol::ids::Fingerprint;
use waypost_protocol::succession::{Link, MAX_CERTIFICATE, MAX_CHAIN, Statement, Word};
use waypost_protocol::time::UnixTime;

use crate::clock::{BUILD_FLOOR, FUTURE, from_system, reference, to_system};
use crate::guard::{GAVE_UP, guard};
use crate::verify::{check_loose_parts, not_valid, parse_signature};
use crate::{Certificate, CertificateError, VerifyError};

/// Why a link does not extend a chain. The chain is then what it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// It is of another destination.
    #[error("it is of destination {found}, expected {expected}")]
    WrongDestination {
        /// Whose chain this is.
        expected: Fingerprint,
        /// The one that the link names.
        found: Fingerprint,
    },
    /// The certificate cannot be read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Nobody vouches for it.
    #[error("certificate {0} is none of the destination's, and no key of the destination vouches for it")]
    Stranger(Fingerprint),
    /// Whoever vouches is not in the chain.
    #[error("successor {successor} is vouched for by {signer}, which is no primary key of the destination")]
    WrongSigner {
        /// The certificate.
        successor: Fingerprint,
        /// Who signed.
        signer: Fingerprint,
    },
    /// The signature does not hold.
    #[error("successor {successor}: {error}")]
    NotProven {
        /// The certificate.
        successor: Fingerprint,
        /// What is wrong with the signature.
        error: VerifyError,
    },
    /// The signer has vouched for another one.
    #[error(
        "{signer} vouches for {found} although {known} has succeeded it already; somebody else may have its key, ask \
         the destination's admin"
    )]
    Fork {
        /// Who signed both.
        signer: Fingerprint,
        /// The successor that counts.
        known: Fingerprint,
        /// The one that does not.
        found: Fingerprint,
    },
    /// More than [`MAX_CHAIN`] certificates.
    #[error("the destination would have more than {MAX_CHAIN} certificates")]
    TooLong,
    /// A certificate would have more than [`MAX_CERTIFICATE`] bytes.
    #[error("certificate {0} would have more than {MAX_CERTIFICATE} bytes")]
    TooLarge(Fingerprint),
}

/// How a chain has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A certificate has new subkeys, dates or revocations.
    Renewed(Fingerprint),
    /// A certificate was added.
    Succeeded {
        /// Which.
        successor: Fingerprint,
        /// The primary key that vouches for it.
        by: Fingerprint,
    },
}

/// What came of links.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Absorbed {
    /// What is new.
    pub changes: Vec<Change>,
    /// What was left out, and why.
    pub faults: Vec<ChainError>,
}

/// A destination's certificates: the first one names it, each further one succeeds the one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    certificates: Vec<Certificate>,
    /// Why each but the first counts; `None` where an admin says so.
    words: Vec<Option<Word>>,
}

impl Chain {
    /// Of a pinned certificate.
    pub fn new(first: Certificate) -> Self {
        Chain { certificates: vec![fitting(first)], words: vec![None] }
    }

    /// From [`Chain::links`], out of a place that only its owner can write: words are not verified again, since what
    /// was accepted stays accepted when the key that vouched is revoked later.
    pub fn from_links(links: &[Link]) -> Result<Option<Self>, CertificateError> {
        let certificates =
            links.iter().take(MAX_CHAIN).map(|link| Certificate::from_bytes(&link.certificate));
        let certificates = certificates.collect::<Result<Vec<_>, _>>()?;
        let words = links.iter().take(MAX_CHAIN).map(|link| link.word.clone()).collect();
        let is_empty = certificates.is_empty();
        Ok((!is_empty).then_some(Chain { certificates, words }))
    }

    /// All of it, the first certificate first.
    pub fn links(&self) -> Vec<Link> {
        let destination = self.fingerprint();
        let link = |(certificate, word): (&Certificate, &Option<Word>)| Link {
            destination,
            certificate: Bytes::from(certificate.to_bytes()),
            word: word.clone(),
        };
        self.certificates.iter().zip(&self.words).map(link).collect()
    }

    /// The destination's name for ever.
    pub fn fingerprint(&self) -> Fingerprint {
        self.certificates.first().map_or(Fingerprint::V4([0; 20]), Certificate::fingerprint)
    }

    /// The first certificate first.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// Whom to seal to at `now`: the newest certificate that can be sealed to.
    pub fn recipient(&self, now: UnixTime) -> Option<&Certificate> {
        self.certificates.iter().rev().find(|certificate| certificate.can_be_sealed_to(now))
    }

    /// Adds a successor on the word of whoever owns this device, after all others. False where it is there already.
    pub fn admit(&mut self, certificate: Certificate) -> Result<bool, ChainError> {
        if let Some(known) = self.position(&certificate.fingerprint()) {
            return self.merge(known, &certificate);
        }
        if self.certificates.len() >= MAX_CHAIN {
            return Err(ChainError::TooLong);
        }
        self.certificates.push(fitting(certificate));
        self.words.push(None);
        Ok(true)
    }

    /// Takes what verifies, in whatever order it comes; what does not changes nothing, and is named.
    ///
    /// First newer states of known certificates are merged, then successions are followed, so that a key that is
    /// known to be revoked vouches for nobody any more. Each certificate has one successor: the one that was accepted
    /// first; of several that come together the one with the earliest time, then the smallest fingerprint.
    pub fn absorb(&mut self, links: &[Link], now: UnixTime) -> Absorbed {
        let mut absorbed = Absorbed::default();
        let mut candidates = Vec::new();
        for link in links {
            let found = link.destination;
            if found != self.fingerprint() {
                absorbed.faults.push(ChainError::WrongDestination { expected: self.fingerprint(), found });
                continue;
            }
            let certificate = Certificate::from_bytes(&link.certificate).and_then(|one| one.self_signed());
            match certificate {
                Ok(certificate) => candidates.push((certificate, link.word.as_ref())),
                Err(error) => absorbed.faults.push(error.into()),
            }
        }
        let order = |word: Option<&Word>| word.map_or(UnixTime(0), |word| word.time);
        candidates.sort_by_key(|(certificate, word)| (order(*word), certificate.fingerprint()));
        self.renew(&candidates, &mut absorbed);
        let mut left = candidates;
        loop {
            let before = self.certificates.len();
            left.retain(|(certificate, word)| self.follow(certificate, *word, now, &mut absorbed));
            if self.certificates.len() == before {
                break;
            }
        }
        for (certificate, word) in left {
            let successor = certificate.fingerprint();
            absorbed.faults.push(match word {
                None => ChainError::Stranger(successor),
                Some(word) => ChainError::WrongSigner { successor, signer: word.signer },
            });
        }
        absorbed
    }

    fn position(&self, fingerprint: &Fingerprint) -> Option<usize> {
        self.certificates.iter().position(|one| one.fingerprint() == *fingerprint)
    }

    fn renew(&mut self, candidates: &[(Certificate, Option<&Word>)], absorbed: &mut Absorbed) {
        for (certificate, _) in candidates {
            let Some(known) = self.position(&certificate.fingerprint()) else { continue };
            match self.merge(known, certificate) {
                Ok(true) => absorbed.changes.push(Change::Renewed(certificate.fingerprint())),
                Ok(false) => {}
                Err(error) => absorbed.faults.push(error),
            }
        }
    }

    fn merge(&mut self, known: usize, newer: &Certificate) -> Result<bool, ChainError> {
        let Some(certificate) = self.certificates.get_mut(known) else { return Ok(false) };
        let merged = fitting(certificate.merged(newer)?);
        if merged == *certificate {
            return Ok(false);
        }
        if merged.to_bytes().len() > MAX_CERTIFICATE {
            return Err(ChainError::TooLarge(certificate.fingerprint()));
        }
        *certificate = merged;
        Ok(true)
    }

    /// Whether this candidate waits for another one that may vouch for its signer.
    fn follow(
        &mut self,
        certificate: &Certificate,
        word: Option<&Word>,
        now: UnixTime,
        absorbed: &mut Absorbed,
    ) -> bool {
        let successor = certificate.fingerprint();
        let known = self.position(&successor);
        let Some(word) = word else { return known.is_none() };
        let signer = word.signer;
        let Some(by) = self.position(&signer) else { return known.is_none() };
        // The admin may have said it before the old key did; others will want its word.
        let is_admitted = known.is_some_and(|known| known == by + 1);
        if is_admitted && self.words.get(by + 1).is_some_and(Option::is_some) {
            return false;
        }
        let statement = Statement { destination: self.fingerprint(), signer, successor, time: word.time };
        if let Some(holder) = self.certificates.get(by)
            && let Err(error) = verify_word(&statement, &word.signature, holder, now)
        {
            if !is_admitted {
                absorbed.faults.push(ChainError::NotProven { successor, error });
            }
            return false;
        }
        if is_admitted {
            if let Some(place) = self.words.get_mut(by + 1) {
                *place = Some(word.clone());
            }
            absorbed.changes.push(Change::Succeeded { successor, by: signer });
            return false;
        }
        match self.certificates.get(by + 1) {
            Some(next) => {
                let known = next.fingerprint();
                absorbed.faults.push(ChainError::Fork { signer, known, found: successor });
            }
            None if known.is_some() => {
                absorbed.faults.push(ChainError::Fork { signer, known: signer, found: successor });
            }
            None if self.certificates.len() >= MAX_CHAIN => absorbed.faults.push(ChainError::TooLong),
            None => {
                self.certificates.push(certificate.clone());
                self.words.push(Some(word.clone()));
                absorbed.changes.push(Change::Succeeded { successor, by: signer });
            }
        }
        false
    }
}

/// A certificate that people have signed a lot goes without what they signed: nothing here relies on that, and it would
/// be too large to be kept.
fn fitting(certificate: Certificate) -> Certificate {
    match certificate.to_bytes().len() > MAX_CERTIFICATE {
        true => certificate.self_signed().unwrap_or(certificate),
        false => certificate,
    }
}

/// Whether the primary key of `holder` signed this.
fn verify_word(
    statement: &Statement,
    signature: &Bytes,
    holder: &Certificate,
    now: UnixTime,
) -> Result<(), VerifyError> {
    let gave_up = || Err(VerifyError::Malformed(GAVE_UP.to_owned()));
    guard(|| verify_primary(statement, signature, holder, now)).unwrap_or_else(gave_up)
}

fn verify_primary(
    statement: &Statement,
    signature: &Bytes,
    holder: &Certificate,
    now: UnixTime,
) -> Result<(), VerifyError> {
    let Statement { signer, time, .. } = *statement;
    let signature = parse_signature(signature)?;
    let signed = signature.signature_creation_time().map(from_system);
    if signed != Some(time) {
        return Err(VerifyError::WrongTime { signature: signed.unwrap_or_default(), statement: time });
    }
    if time.0 > BUILD_FLOOR.0 + FUTURE {
        return Err(VerifyError::Future(time));
    }
    let policy = StandardPolicy::at(to_system(reference(now, [holder.creation_time(), time])));
    // A refreshed certificate may have lost the self-signatures of the signature's time.
    may_vouch(holder, &policy, time).or_else(|error| {
        let since =
            holder.bound_since(signer).filter(|since| *since > time && holder.creation_time() <= time);
        since.and_then(|since| may_vouch(holder, &policy, since).ok()).ok_or(error)
    })?;
    let key = holder.cert.primary_key().key();
    signature.verify_message(key, statement.text()).map_err(|_| VerifyError::Altered)?;
    check_loose_parts(&signature, key.role_as_unspecified())?;
    policy.signature(&signature, Default::default()).map_err(|error| VerifyError::Weak(error.to_string()))
}

/// Whether the primary key counts at `time`.
fn may_vouch(holder: &Certificate, policy: &StandardPolicy<'_>, time: UnixTime) -> Result<(), VerifyError> {
    let (signer, at) = (holder.fingerprint(), to_system(time));
    // A hard-revoked key vouches for nobody, whatever the date; a softly revoked one no longer from then on.
    if let RevocationStatus::Revoked(_) = holder.cert.revocation_status(policy, at) {
        return Err(VerifyError::Revoked(signer));
    }
    let valid = holder.cert.with_policy(policy, at);
    let alive = valid.and_then(|valid| valid.alive());
    alive.map_err(|error| not_valid(signer, time, &error))
}
