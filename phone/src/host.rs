//! The phone's side of a conversation: who may come, what is verified, what its user is told, what is counted.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;
use waypost_link::{Link as WireLink, LinkInfo, Medium};
use waypost_node::{ContactSummary, ConversationId, Ending as NodeEnding, Grant, Host, Node, StoredNow};
use waypost_protocol::confirmation::{Confirmation, Verdict};
use waypost_protocol::ids::{Fingerprint, MessageId, PeerKey};
use waypost_protocol::invite::CodeSecret;
use waypost_protocol::moving::WifiOffer;
use waypost_protocol::refusal::{Goodbye, Reason};
use waypost_protocol::session::{Introduction, Pattern};
use waypost_protocol::succession::Link;
use waypost_protocol::sync::{Accepts, Event, PeerHello, Served};
use waypost_store::{Change, Filter, Freeing, PeerClass, State, Store};

use crate::Phone;
use crate::contact::{MAX_CARRIED, SyncError};
use crate::destination::Destination;
use crate::report::{Ending, Progress, Refusal, SyncReport, Unserved};
use crate::subscribe::{self, Subscription};
use crate::words::plain;

/// At most so often is told how far a document has got.
const PROGRESS_EVERY: Duration = Duration::from_millis(150);

/// What a user can do about a document whose bytes are damaged here.
pub(crate) const UNREADABLE: &str =
    "damaged in this phone's store; delete it here and add the file again, if you still have it";
/// What a user can do about a peer that ends the handshake.
const HUNG_UP: &str = "it does not take this phone for one that it knows: it is another kiosk, or was set up anew; \
     scan its QR code again";

/// The phone's side of its conversations.
pub(crate) struct PhoneHost<'p> {
    phone: &'p Phone,
    store: Store,
    destinations: Vec<Destination>,
    accepts: Accepts,
    /// What comes is a subscription, and not to be carried on.
    reads: bool,
    progress: &'p mut dyn FnMut(Progress),
    /// Who may open a link to this phone.
    pub(crate) admits: PeerClass,
    /// Peers that count as phones.
    phones: Vec<PeerKey>,
    /// Verdicts on the phone's documents that were verified and are on their way into the store.
    awaited: Vec<(MessageId, Verdict)>,
    /// Documents that the peer has acknowledged, and the bytes of their bodies.
    deposited: HashMap<MessageId, u64>,
    told: HashMap<MessageId, Instant>,
    counted: SyncReport,
    pub(crate) hello: Option<PeerHello>,
    pub(crate) finished_at: Option<Instant>,
    /// The peer has asked for a document, answered one, or finished: it serves this phone.
    pub(crate) accepted: bool,
    pub(crate) stopped: bool,
    pub(crate) ended: Option<ContactSummary>,
    /// Whether the session may go on over another link.
    pub(crate) may_move: bool,
    /// The conversation that counts, and one over another link that takes its place once it stands.
    pub(crate) current: Option<ConversationId>,
    next: Option<ConversationId>,
    /// Bytes that are left to send, where the peer is to be told.
    pub(crate) waiting: Option<u64>,
    /// Where the session can go on.
    pub(crate) offer: Option<Box<WifiOffer>>,
    /// Where it goes on is being joined.
    joining: bool,
    /// It is not going on elsewhere after all.
    pub(crate) has_stayed: bool,
    /// The current conversation, whose link was lost while it was about to go on elsewhere.
    lost: Option<ContactSummary>,
    /// The conversations before the current one.
    before: Vec<ContactSummary>,
}

impl<'p> PhoneHost<'p> {
    pub(crate) fn new(
        phone: &'p Phone,
        carry: bool,
        wants: &[Subscription],
        progress: &'p mut dyn FnMut(Progress),
    ) -> Result<Self, SyncError> {
        let destinations = phone.destinations()?;
        let carried = destinations.iter().map(|one| Served::all(one.fingerprint()));
        let is_phone = |peer: &waypost_store::PeerEntry| peer.class == PeerClass::Paired;
        Ok(PhoneHost {
            accepts: match carry {
                true => Accepts { destinations: carried.collect(), max_document: MAX_CARRIED, records: true },
                false => subscribe::accepts(wants),
            },
            reads: !carry,
            admits: PeerClass::Paired,
            phones: phone
                .store()
                .peers()?
                .iter()
                .filter(|peer| is_phone(peer))
                .map(|peer| peer.key)
                .collect(),
            phone,
            store: phone.store().clone(),
            destinations,
            progress,
            awaited: Vec::new(),
            deposited: HashMap::new(),
            told: HashMap::new(),
            counted: SyncReport::not_begun("", Ending::NotReached, ""),
            hello: None,
            finished_at: None,
            accepted: false,
            stopped: false,
            ended: None,
            may_move: false,
            current: None,
            next: None,
            waiting: None,
            offer: None,
            joining: false,
            has_stayed: false,
            lost: None,
            before: Vec::new(),
        })
    }

    fn destination(&self, fingerprint: &Fingerprint) -> Option<&Destination> {
        self.destinations.iter().find(|one| one.fingerprint() == *fingerprint)
    }

    /// Whether the peer holds documents of this phone that the destination has not spoken on.
    pub(crate) fn awaits_confirmations(&self) -> bool {
        let Some(peer) = self.counted.key else { return false };
        let mut any = false;
        let read = self.phone.each_document(Filter::Waiting, |entry| {
            // What the peer said a moment ago may not be written down yet.
            any |= entry.held_by.contains(&peer) || self.deposited.contains_key(&entry.description.id);
        });
        read.is_ok() && any
    }

    /// Tells of what the peer will not be offered: for destinations that it does not serve, or too large for it.
    fn compare(&mut self, hello: &PeerHello) {
        let mut unserved: HashMap<Fingerprint, u64> = HashMap::new();
        let mut too_large = Vec::new();
        let mut waiting = 0u64;
        let read = self.phone.each_document(Filter::Waiting, |entry| {
            if entry.held_by.iter().any(|peer| !self.phones.contains(peer)) {
                // It is at a kiosk already.
            } else if !hello.serves.contains(&entry.header.destination) {
                *unserved.entry(entry.header.destination).or_default() += 1;
            } else if entry.description.size <= hello.max_document {
                waiting = waiting.saturating_add(entry.description.size);
            } else if entry.depositor.is_none() {
                too_large.push(entry.description.id);
            }
        });
        self.waiting = Some(waiting).filter(|_| self.may_move && hello.moves);
        if let Err(error) = read {
            log::warn!("{error}");
        }
        for (destination, documents) in unserved {
            let known = self.destination(&destination);
            let name = known.map_or_else(|| destination.to_string(), Destination::name);
            (self.progress)(Progress::NotServed { destination, name: name.clone(), documents });
            self.counted.not_served.push(Unserved { destination, name, documents });
        }
        too_large.into_iter().for_each(|id| self.refused(id, Reason::TooLarge));
    }

    fn refused(&mut self, id: MessageId, reason: Reason) {
        self.counted.refused.push(Refusal::by_peer(id, reason));
        (self.progress)(Progress::Refused { id, reason: reason.to_string() });
    }

    /// Tells of verdicts that have become durable.
    pub(crate) fn catch_up(&mut self) {
        let mut waiting = Vec::new();
        for (id, verdict) in std::mem::take(&mut self.awaited) {
            match self.store.document(&id) {
                Ok(Some(entry)) if entry.state == State::Confirmed(verdict) => {
                    self.counted.count_verdict(verdict);
                    (self.progress)(Progress::Confirmed { id, verdict });
                }
                _ => waiting.push((id, verdict)),
            }
        }
        self.awaited = waiting;
    }

    pub(crate) fn report(mut self, summary: Option<ContactSummary>) -> SyncReport {
        let mut report =
            std::mem::replace(&mut self.counted, SyncReport::not_begun("", Ending::NotReached, ""));
        let Some(summary) = summary else { return report };
        (report.ending, report.why) = match &summary.ending {
            NodeEnding::Finished => (Ending::Finished, String::new()),
            NodeEnding::NothingNew => (Ending::NothingNew, String::new()),
            NodeEnding::LinkLost(why) => (Ending::LinkLost, why.clone()),
            NodeEnding::SaidGoodbye(Goodbye::Stopping) => {
                report.stopped = true;
                (Ending::LinkLost, "stopped by this side".to_owned())
            }
            NodeEnding::SaidGoodbye(Goodbye::Idle) => {
                (Ending::LinkLost, "the other side fell silent".to_owned())
            }
            NodeEnding::SaidGoodbye(why) => (Ending::Failed, why.to_string()),
            NodeEnding::HeardGoodbye(why) => (Ending::TurnedAway, why.to_string()),
            // On a radio that is full it is not said who is wrong.
            NodeEnding::HungUp if summary.link.medium != Medium::Lan => (
                Ending::LinkLost,
                "it closed the link before it answered; it may be full, or another one".to_owned(),
            ),
            NodeEnding::HungUp => (Ending::Failed, HUNG_UP.to_owned()),
            NodeEnding::Failed(why) => (Ending::Failed, why.clone()),
        };
        report.hung_up = summary.ending == NodeEnding::HungUp;
        if let NodeEnding::HeardGoodbye(goodbye) = summary.ending {
            report.set_goodbye(goodbye);
        }
        report.key = summary.peer;
        report.address = summary.link.address;
        report.medium = summary.link.medium.to_string();
        if report.ending.is_whole() {
            (report.transferred, report.bytes) = (summary.theirs.stored, summary.theirs.bytes);
            report.already_held = summary.theirs.already_held;
        }
        if !self.before.is_empty() && report.ending.is_whole() {
            // The peer has only told what came over the last link.
            report.bytes = self.deposited.values().sum();
            let acknowledged = u64::try_from(self.deposited.len()).unwrap_or(u64::MAX);
            report.transferred = acknowledged.saturating_sub(report.already_held);
        }
        report.confirmations = summary.ours.confirmations.max(report.confirmations);
        (report.bytes_in, report.bytes_out) = (summary.bytes_in, summary.bytes_out);
        let mut took = summary.took;
        for before in &self.before {
            report.bytes_in += before.bytes_in;
            report.bytes_out += before.bytes_out;
            // Both links were up for a moment.
            took += before.took;
        }
        report.set_span(took);
        report
    }
}

impl Host for PhoneHost<'_> {
    fn admit(&mut self, peer: &PeerKey, pattern: Pattern, link: &LinkInfo) -> Result<Grant, Goodbye> {
        if !link.outgoing {
            self.admit_phone(peer, pattern)?;
        }
        self.counted.key = Some(*peer);
        self.counted.address = link.address.clone();
        Ok(Grant { reads: self.reads, is_known: true, ..Grant::deposits(self.accepts.clone()) })
    }

    fn knows(&self, peer: &PeerKey, pattern: Pattern) -> bool {
        let known = match self.store.peer(peer) {
            Ok(known) => known,
            Err(error) => {
                log::error!("cannot look up a phone: {error}");
                return false;
            }
        };
        match pattern {
            // A code is looked up before anyone may come with it.
            Pattern::Code(_) => true,
            Pattern::Known | Pattern::Open => {
                known.is_some_and(|known| !known.revoked && known.class.is_known())
            }
        }
    }

    fn answers_strangers(&self) -> bool {
        false
    }

    fn verify(&mut self, confirmation: &Confirmation) -> Result<(), String> {
        let named = confirmation.statement.destination();
        let checked = match self.destination(&named) {
            None => Err(format!("it is of destination {named}, which this phone does not have")),
            Some(destination) => destination.verify(confirmation, self.phone.wall()),
        };
        if let Err(why) = &checked {
            self.counted.not_proven += 1;
            (self.progress)(Progress::NotProven { why: why.clone() });
            return checked;
        }
        for (id, verdict) in confirmation.statement.verdicts() {
            let Ok(Some(entry)) = self.store.document(id) else { continue };
            let is_news = match entry.state {
                State::Confirmed(known) => known.may_become(*verdict),
                State::Received(known) => known.is_none_or(|known| known.may_become(*verdict)),
                State::Draft | State::Waiting => true,
            };
            if entry.depositor.is_none() && entry.header.destination == named && is_news {
                self.awaited.push((*id, *verdict));
            }
        }
        Ok(())
    }

    fn follow(&mut self, link: &Link) -> Result<(), Reason> {
        let own = |one: &&mut Destination| one.fingerprint() == link.destination;
        let Some(destination) = self.destinations.iter_mut().find(own) else { return Ok(()) };
        match self.phone.follow_destination(destination, std::slice::from_ref(link)) {
            Ok(absorbed) if absorbed.faults.is_empty() => Ok(()),
            Ok(_) => Err(Reason::NotProven),
            Err(error) => {
                log::warn!("{}: its certificates were not renewed: {error}", destination.name());
                Err(Reason::StorageFailed)
            }
        }
    }

    fn freeing(&self, confirmation: &Confirmation) -> Freeing {
        let destination = self.destination(&confirmation.statement.destination());
        destination.map_or(Freeing::PHONE, Destination::freeing)
    }

    fn event(&mut self, id: ConversationId, peer: &PeerKey, event: &Event) {
        // A hello comes with the handshake, before the peer has decided; these come after.
        let shows_service = matches!(
            event,
            Event::HeldByPeer { .. }
                | Event::RefusedByPeer { .. }
                | Event::Progress { sending: true, .. }
                | Event::Finished { .. }
        );
        self.accepted |= shows_service;
        if shows_service && self.next == Some(id) {
            self.has_moved();
        }
        match event {
            Event::Hello(_) if self.next == Some(id) => {}
            Event::Hello(hello) => {
                let (name, address) = (plain(&hello.name), self.counted.address.clone());
                self.counted.with = name.clone();
                self.phones.retain(|one| one != peer);
                if !hello.is_gateway {
                    self.phones.push(*peer);
                }
                (self.progress)(Progress::Connected { name, key: Some(*peer), address });
                self.compare(hello);
                self.hello = Some(hello.clone());
            }
            Event::HeldByPeer { id, .. } => {
                self.counted.transferred += 1;
                let entry = self.store.document(id).ok().flatten();
                self.deposited.insert(*id, entry.as_ref().map_or(0, |entry| entry.description.size));
                if entry.is_some_and(|entry| entry.depositor.is_none()) {
                    let held = match self.phones.contains(peer) {
                        true => Progress::WithPhone { id: *id },
                        false => Progress::AtKiosk { id: *id },
                    };
                    (self.progress)(held);
                }
            }
            Event::RefusedByPeer { id, reason, .. } => self.refused(*id, *reason),
            Event::Received { id, size } if self.reads => {
                self.counted.received += 1;
                (self.progress)(Progress::Received { id: *id, size: *size });
            }
            Event::Received { id, size } => {
                self.counted.carried += 1;
                (self.progress)(Progress::Carried { id: *id, size: *size });
            }
            Event::Progress { id, sending: true, done, size } => {
                let now = Instant::now();
                let last = self.told.get(id).is_some_and(|at| now.duration_since(*at) < PROGRESS_EVERY);
                if !last || done == size {
                    self.told.insert(*id, now);
                    (self.progress)(Progress::Progress { id: *id, done: *done, size: *size });
                }
            }
            Event::Finished { .. } if self.current == Some(id) => self.finished_at = Some(Instant::now()),
            Event::Wifi(offer) if self.may_move && self.next.is_none() && !self.phones.contains(peer) => {
                // Once: what comes after it was not worth it any more, or has been tried.
                self.may_move = false;
                self.offer = Some(offer.clone());
            }
            Event::Unreadable { id, detail } => {
                log::warn!("{id}: {detail}");
                let refusal = Refusal { id: *id, reason: UNREADABLE.to_owned(), is_temporary: false };
                (self.progress)(Progress::Refused { id: *id, reason: refusal.reason.clone() });
                self.counted.refused.push(refusal);
            }
            Event::Malformed(detail) | Event::StoreUnreadable(detail) => log::warn!("{detail}"),
            _ => {}
        }
    }

    fn stored(&mut self, what: StoredNow) {
        if what == StoredNow::Confirmation {
            self.counted.confirmations += 1;
            self.catch_up();
        }
    }

    fn ended(&mut self, mut summary: ContactSummary) {
        if self.next == Some(summary.id) {
            self.next = None;
            return self.stays(summary.ending.to_string());
        }
        let was_told = summary.ending == NodeEnding::HeardGoodbye(Goodbye::Moved);
        if was_told && self.current == Some(summary.id) && self.next.is_some() {
            self.has_moved();
        } else if was_told && self.current == Some(summary.id) {
            // The peer has seen it arrive over the other link, which was lost before it was known here.
            summary.ending = NodeEnding::LinkLost("it was lost as it went on over Wi-Fi".into());
        }
        if self.current != Some(summary.id) {
            return self.before.push(summary);
        }
        // Two radios side by side disturb each other: the other one may still get there.
        let is_lost = matches!(
            summary.ending,
            NodeEnding::LinkLost(_) | NodeEnding::HeardGoodbye(Goodbye::Busy(_) | Goodbye::Idle)
        );
        match is_lost && (self.joining || self.next.is_some()) {
            true => self.lost = Some(summary),
            false => self.ended = Some(summary),
        }
    }
}

impl PhoneHost<'_> {
    /// The peer has told where it can go on, and that is tried.
    pub(crate) fn joins(&mut self) {
        self.joining = true;
        (self.progress)(Progress::Joining);
    }

    /// There is another link to the peer: a conversation begins there that takes this one's place.
    pub(crate) fn goes_on(&mut self, node: &mut Node, link: WireLink, token: CodeSecret) {
        let Some(peer) = self.counted.key else { return };
        self.joining = false;
        self.counted.address = link.info.address.clone();
        match node.open(link, &Introduction::Code(peer, token)) {
            Ok(id) => self.next = Some(id),
            Err(error) => self.stays(error.to_string()),
        }
    }

    /// It goes on as it was.
    pub(crate) fn stays(&mut self, why: String) {
        log::info!("not over Wi-Fi: {why}");
        (self.joining, self.has_stayed) = (false, true);
        match self.lost.take() {
            Some(lost) => self.ended = Some(lost),
            None => (self.progress)(Progress::NotMoved { why }),
        }
    }

    /// Whether the session has gone on over another link.
    pub(crate) fn has_gone_on(&self) -> bool {
        self.counted.over_wifi
    }

    /// It ends, whatever is under way; a conversation that is still open ends by itself.
    pub(crate) fn stops(&mut self) {
        if self.next.is_none()
            && let Some(lost) = self.lost.take()
        {
            self.ended = Some(lost);
        }
    }

    fn has_moved(&mut self) {
        (self.current, self.finished_at) = (self.next.take(), None);
        self.before.extend(self.lost.take());
        self.counted.over_wifi = true;
        (self.progress)(Progress::Moved { address: self.counted.address.clone() });
    }
}

impl PhoneHost<'_> {
    /// Somebody comes to this phone: a phone with the code that its user was shown, or known from then; or a kiosk.
    fn admit_phone(&mut self, peer: &PeerKey, pattern: Pattern) -> Result<(), Goodbye> {
        let failed = |error: &dyn std::fmt::Display| {
            log::error!("cannot look up or write down a phone: {error}");
            Goodbye::Busy(None)
        };
        let known = self.store.peer(peer).map_err(|error| failed(&error))?;
        if known.as_ref().is_some_and(|known| known.revoked) {
            return Err(Goodbye::Revoked);
        }
        match pattern {
            Pattern::Open => Err(Goodbye::NotPaired),
            Pattern::Known => match known.map(|known| known.class) {
                Some(class) if class == self.admits => Ok(()),
                _ => Err(Goodbye::NotPaired),
            },
            Pattern::Code(_) if self.admits != PeerClass::Paired => Err(Goodbye::NotPaired),
            Pattern::Code(code) => {
                let consume = Change::ConsumeCode { code, peer: *peer, label: None };
                self.phone.writer().apply(consume).map_err(|error| match error {
                    waypost_store::ChangeError::BadCode => Goodbye::BadCode,
                    other => failed(&other),
                })?;
                self.phones.push(*peer);
                Ok(())
            }
        }
    }
}
