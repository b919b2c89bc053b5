//! Who is served, and with which rights.

use waypost_config::{AccessMode, Config};
use waypost_node::Grant;
use waypost_protocol::ids::PeerKey;
use waypost_protocol::refusal::Goodbye;
use waypost_protocol::session::Pattern;
use waypost_store::{Applied, Change, ChangeError, PeerClass, Store};

use super::uploads;
use crate::destinations::Destinations;
use crate::policy;

/// Decides on an authenticated peer. A used-up code and a new peer are durable when this returns.
pub(super) fn admit(
    config: &Config,
    destinations: &Destinations,
    store: &Store,
    peer: &PeerKey,
    pattern: Pattern,
) -> Result<Grant, Goodbye> {
    let class = class_of(config, store, peer, pattern)?;
    let rights = policy::rights(class);
    let limits = &config.limits;
    let max_document = match rights.large {
        true => limits.max_document.bytes(),
        false => limits.open_max_document.bytes().min(limits.max_document.bytes()),
    };
    let limit_of = |destination: &_| uploads::largest_body(store, destination);
    let accepts = destinations.accepts(max_document, rights.records, limit_of);
    let may_want = if rights.subscribe { destinations.subscribable() } else { Vec::new() };
    Ok(Grant { may_want, is_known: rights.is_known, ..Grant::deposits(accepts) })
}

/// Whether a peer that was admitted before still would be.
pub(super) fn still_served(config: &Config, store: &Store, peer: &PeerKey) -> Result<(), Goodbye> {
    class_of(config, store, peer, Pattern::Known).map(|_| ())
}

fn class_of(config: &Config, store: &Store, peer: &PeerKey, pattern: Pattern) -> Result<PeerClass, Goodbye> {
    let known = store.peer(peer).map_err(|error| {
        log::error!(error:%; "cannot look up a peer: {error}");
        Goodbye::Busy(None)
    })?;
    // A new code lifts a revocation: the admin has shown it to that phone.
    if known.as_ref().is_some_and(|known| known.revoked) && !matches!(pattern, Pattern::Code(_)) {
        return Err(Goodbye::Revoked);
    }
    if config.access.mode == AccessMode::Listed {
        if !config.access.listed.contains(peer) {
            return Err(Goodbye::NotPaired);
        }
        put(store, peer, PeerClass::Listed)?;
        return Ok(PeerClass::Listed);
    }
    if let Pattern::Code(code) = pattern {
        return match store.apply_one(Change::ConsumeCode { code, peer: *peer, label: None }) {
            Ok(Applied::Paired { class }) => Ok(class),
            Ok(_) => Err(Goodbye::BadCode),
            Err(error) => Err(refuse(&error)),
        };
    }
    let open = config.access.mode == AccessMode::Open;
    match known.map(|known| known.class) {
        Some(PeerClass::Open) | None if open => {
            put(store, peer, PeerClass::Open)?;
            Ok(PeerClass::Open)
        }
        Some(PeerClass::Open) | None => Err(Goodbye::NotPaired),
        Some(class) => Ok(class),
    }
}

/// Whether a peer is known, or shows the code that makes it known, and would be served. Changes nothing.
pub(super) fn knows(config: &Config, store: &Store, peer: &PeerKey, pattern: Pattern) -> bool {
    let known = match store.peer(peer) {
        Ok(known) => known,
        Err(error) => {
            log::error!(error:%; "cannot look up a peer: {error}");
            return false;
        }
    };
    if config.access.mode == AccessMode::Listed && !config.access.listed.contains(peer) {
        return false;
    }
    match pattern {
        Pattern::Code(code) => {
            matches!(store.code(&code), Ok(Some(code)) if policy::rights(code.class).is_known)
        }
        Pattern::Known | Pattern::Open => {
            let is_listed = config.access.mode == AccessMode::Listed;
            known.map_or(is_listed, |known| {
                !known.revoked && (is_listed || policy::rights(known.class).is_known)
            })
        }
    }
}

fn put(store: &Store, peer: &PeerKey, class: PeerClass) -> Result<(), Goodbye> {
    let put = Change::PutPeer { peer: *peer, class, label: None };
    store.apply_one(put).map(|_| ()).map_err(|error| refuse(&error))
}

fn refuse(error: &ChangeError) -> Goodbye {
    match error {
        ChangeError::BadCode => Goodbye::BadCode,
        other => {
            log::error!(error:% = other; "cannot write down a peer: {other}");
            Goodbye::Busy(None)
        }
    }
}
