//! The gateway's side of conversations: who may come, what is verified, what is logged.

use std::sync::Arc;

use waypost_config::Config;
use waypost_link::LinkInfo;
use waypost_node::{ContactSummary, ConversationId, Ending, Grant, Host, StoredNow};
use waypost_protocol::confirmation::Confirmation;
use waypost_protocol::ids::PeerKey;
use waypost_protocol::refusal::{Goodbye, Reason};
use waypost_protocol::session::Pattern;
use waypost_protocol::succession::{self, Link};
use waypost_protocol::sync::Event;
use waypost_store::{Freeing, Store};

use super::time::TrustedTime;
use super::{access, follow};
use crate::destinations::Destinations;

/// What the node's callbacks need, and what they leave for the event loop.
pub(super) struct GatewayHost {
    pub(super) config: Arc<Config>,
    pub(super) destinations: Arc<Destinations>,
    pub(super) store: Store,
    pub(super) time: TrustedTime,
    /// Documents have come since the loop last looked.
    pub(super) new_documents: bool,
    /// Confirmations have come since the loop last looked.
    pub(super) new_confirmations: bool,
    /// What everyone near is told may have changed since the loop last looked.
    pub(super) look_again: bool,
    /// Contacts that are over.
    pub(super) contacts: u64,
    /// Frame bytes of those.
    pub(super) link_bytes: u64,
    /// Pairing codes that were used up.
    pub(super) codes_used: u64,
}

impl GatewayHost {
    /// Whether a peer comes with a code that nobody has used yet. A printed one stays so; the peer that has used another one
    /// may repeat it.
    fn has_fresh_code(&self, pattern: Pattern) -> bool {
        let Pattern::Code(code) = pattern else { return false };
        matches!(self.store.code(&code), Ok(Some(code)) if code.used_by.is_none())
    }
}

impl Host for GatewayHost {
    fn admit(&mut self, peer: &PeerKey, pattern: Pattern, link: &LinkInfo) -> Result<Grant, Goodbye> {
        let was_fresh = self.has_fresh_code(pattern);
        let granted = access::admit(&self.config, &self.destinations, &self.store, peer, pattern);
        self.codes_used += u64::from(was_fresh && granted.is_ok() && !self.has_fresh_code(pattern));
        match &granted {
            Ok(_) => log::info!(peer:%, medium:% = link.medium; "phone connected"),
            Err(reason) => {
                log::info!(peer:%, medium:% = link.medium, reason:%; "phone turned away: {reason}")
            }
        }
        granted
    }

    fn knows(&self, peer: &PeerKey, pattern: Pattern) -> bool {
        access::knows(&self.config, &self.store, peer, pattern)
    }

    fn tells(&self, peer: &PeerKey) -> Vec<Link> {
        let links: Vec<Link> = self.destinations.0.iter().flat_map(|served| served.chain().links()).collect();
        let told = self.store.peer(peer).ok().flatten().and_then(|peer| peer.told);
        match told == Some(succession::digest(&links)) {
            true => Vec::new(),
            false => links,
        }
    }

    fn verify(&mut self, confirmation: &Confirmation) -> Result<(), String> {
        self.destinations.verify(confirmation, self.time.now()).map_err(|error| error.to_string())?;
        self.time.heard(confirmation.statement.time());
        Ok(())
    }

    fn follow(&mut self, link: &Link) -> Result<(), Reason> {
        let Some(served) = self.destinations.get(&link.destination) else { return Ok(()) };
        let (absorbed, change) = follow::follow(served, std::slice::from_ref(link), self.time.now());
        if let Some(change) = change {
            self.store.apply_one(change).map_err(|error| error.reason())?;
        }
        match absorbed.faults.is_empty() {
            true => Ok(()),
            false => Err(Reason::NotProven),
        }
    }

    fn freeing(&self, confirmation: &Confirmation) -> Freeing {
        self.destinations.freeing(confirmation)
    }

    fn event(&mut self, _: ConversationId, peer: &PeerKey, event: &Event) {
        match event {
            Event::Received { id, size } => log::debug!(peer:%, document:% = id, size; "document stored"),
            Event::Refused { id, reason } => {
                self.look_again |= *reason == Reason::OverQuota;
                log::info!(peer:%, document:% = id, reason:%; "document refused: {reason}")
            }
            Event::Malformed(detail) => {
                log::warn!(peer:%, detail = detail.as_str(); "malformed data passed over: {detail}")
            }
            Event::Unreadable { id, detail } => {
                log::error!(document:% = id, detail = detail.as_str(); "a document cannot be read from the store: {detail}")
            }
            Event::StoreUnreadable(detail) => {
                log::error!(detail = detail.as_str(); "the store cannot be read: {detail}")
            }
            Event::Delivered { id } => log::debug!(peer:%, confirmation:% = id; "confirmation delivered"),
            _ => {}
        }
    }

    fn stored(&mut self, what: StoredNow) {
        match what {
            StoredNow::Document => self.new_documents = true,
            StoredNow::Confirmation => self.new_confirmations = true,
        }
    }

    fn ended(&mut self, summary: ContactSummary) {
        self.contacts += 1;
        self.look_again = true;
        self.link_bytes += summary.bytes_in + summary.bytes_out;
        let ContactSummary { peer, ending, ours, theirs, bytes_in, bytes_out, took, link, .. } = &summary;
        let peer = peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
        let level = match ending {
            Ending::Failed(_) => log::Level::Warn,
            _ => log::Level::Info,
        };
        log::log!(
            level,
            peer = peer.as_str(), address = link.address.as_str(), medium:% = link.medium, stored = ours.stored, already_held = ours.already_held,
            refused = ours.refused, confirmations = theirs.confirmations, bytes_in, bytes_out,
            milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            "contact over: {ending}"
        );
    }
}
