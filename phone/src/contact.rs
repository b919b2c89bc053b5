//! One contact over one link: the phone's side of the node, what it tells its user, and when it is over.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;
use waypost_link::{Link, LinkInfo};
use waypost_node::{
    ContactSummary, ConversationId, Ending as NodeEnding, Grant, Host, KeyFileError, Limits, Node, StoredNow,
    system_rng,
};
use waypost_protocol::confirmation::{Confirmation, Verdict};
use waypost_protocol::ids::{Fingerprint, MessageId, PeerKey};
use waypost_protocol::refusal::{Goodbye, Reason};
use waypost_protocol::session::{Introduction, Pattern, SessionError};
use waypost_protocol::sync::{Accepts, Event, MAX_HELLO_ENTRIES, PeerHello, WINDOW};
use waypost_store::{Change, Filter, Freeing, PeerClass, State, Store, StoreError};

use crate::Phone;
use crate::destination::Destination;
use crate::report::{Ending, Progress, Refusal, SyncReport, Unserved};
use crate::settings::SettingError;
use crate::words::plain;

/// The largest document of another phone that is carried, in bytes.
pub const MAX_CARRIED: u64 = 32 << 20;
/// At most so often is told how far a document has got.
const PROGRESS_EVERY: Duration = Duration::from_millis(150);
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// How long a conversation may be silent that is not finished.
const IDLE: Duration = Duration::from_secs(60);
/// How long the side that opened a session has for closing it.
const LINGER: Duration = Duration::from_secs(5);
/// What a user can do about a document whose bytes are damaged here.
pub(crate) const UNREADABLE: &str =
    "damaged in this phone's store; delete it here and add the file again, if you still have it";
/// What a user can do about a peer that ends the handshake.
const HUNG_UP: &str = "it does not take this phone for one that it knows: it is another kiosk, or was set up anew; \
     scan its QR code again";

/// Why a contact could not be made or written down.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the phone knows cannot be read or written.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The session cannot begin.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The system has no randomness.
    #[error(transparent)]
    Random(#[from] KeyFileError),
}

/// How a contact goes.
#[derive(Debug, Clone, Copy, Default)]
pub struct SyncOptions {
    /// After both sides have finished, how long to stay for confirmations of what was deposited.
    pub wait: Duration,
    /// The contact ends after so long, whatever is left. `None`: as long as something moves.
    pub timeout: Option<Duration>,
    /// Takes documents of the peer, another phone, for destinations that this phone has, and carries them on.
    pub carry: bool,
    /// The contact ends as soon as the peer has shown that it serves this phone: enough for pairing.
    pub until_accepted: bool,
}

impl Phone {
    /// Syncs over a link that this side opened, and tells what happens. Everything that the report says is durable.
    /// An unverified peer ([`Introduction::Open`]) gets sealed documents only, and not the phone's name.
    pub async fn sync_over(
        &self,
        link: Link,
        introduction: &Introduction,
        options: SyncOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<SyncReport, SyncError> {
        let is_open = matches!(introduction, Introduction::Open);
        let mut host = PhoneHost::new(self, options.carry, progress)?;
        let mut node = self.node(options.carry, is_open, options.wait + IDLE)?;
        let id = node.open(link, introduction)?;
        converse(&mut node, &mut host, id, options, Duration::ZERO).await;
        let accepted = host.accepted;
        let (mut report, name) = self.conclude(host);
        if accepted && options.until_accepted {
            // What it was for is done; the rest goes with the next contact.
            (report.ending, report.why) = (Ending::Finished, String::new());
        }
        if let (Some(key), false) = (report.key, is_open) {
            let accepted =
                accepted || report.ending.is_whole() || report.transferred + report.already_held > 0;
            self.met(&key, &report.address, name.as_deref(), accepted)?;
        }
        Ok(report)
    }

    /// Serves another phone over a link that it opened: takes its documents, hands it confirmations and documents.
    /// It must bring a code that this phone showed, or be known from then.
    pub async fn serve_link(
        &self,
        link: Link,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<SyncReport, SyncError> {
        let options = SyncOptions { carry: true, ..SyncOptions::default() };
        let mut host = PhoneHost::new(self, true, progress)?;
        let mut node = self.node(true, false, IDLE)?;
        let Some(id) = node.accept(link) else {
            return Ok(SyncReport::not_begun("", Ending::Failed, "too many links"));
        };
        converse(&mut node, &mut host, id, options, LINGER).await;
        Ok(self.conclude(host).0)
    }

    /// The report, and the name that the peer gave itself.
    fn conclude(&self, mut host: PhoneHost<'_>) -> (SyncReport, Option<String>) {
        // What the peer said last shall be durable before anyone is told.
        self.writer().flush();
        host.catch_up();
        let (summary, hello) = (host.ended.take(), host.hello.take());
        (host.report(summary), hello.map(|hello| hello.name))
    }

    pub(crate) fn node(&self, carry: bool, anonymous: bool, idle: Duration) -> Result<Node, SyncError> {
        let serves = match carry {
            true => {
                self.destinations()?.iter().map(Destination::fingerprint).take(MAX_HELLO_ENTRIES).collect()
            }
            false => Vec::new(),
        };
        let hello = PeerHello {
            store: self.store().store_id(),
            serves,
            wants: Vec::new(),
            max_document: if carry { MAX_CARRIED } else { 0 },
            window: WINDOW,
            name: if anonymous { String::new() } else { self.name()? },
            has_backhaul: false,
            is_gateway: false,
        };
        let limits = Limits { sessions: 4, half_open: 4, handshake: HANDSHAKE, idle: idle.max(IDLE) };
        let (store, writer) = (self.store().clone(), self.writer().clone());
        Ok(Node::new(self.identity().clone(), hello, limits, store, writer, system_rng()?))
    }
}

/// Drives one conversation to its end. `linger`: how long the other side has for closing a finished one first.
async fn converse(
    node: &mut Node,
    host: &mut PhoneHost<'_>,
    id: ConversationId,
    options: SyncOptions,
    linger: Duration,
) {
    let until = options.timeout.map(|timeout| Instant::now() + timeout);
    while host.ended.is_none() {
        let patience = host.finished_at.map(|finished| match host.awaits_confirmations() {
            true => finished + options.wait.max(linger),
            false => finished + linger,
        });
        let enough = options.until_accepted && host.accepted;
        if enough || patience.is_some_and(|patience| patience <= Instant::now()) {
            node.close(id, host);
            continue;
        }
        if until.is_some_and(|until| until <= Instant::now()) && !host.stopped {
            host.stopped = true;
            node.end_all(Goodbye::Stopping);
        }
        let due = node.deadline().map(|at| node.clock().instant(at));
        let wake = [due, patience, until.filter(|_| !host.stopped)].into_iter().flatten().min();
        let sleep = async {
            match wake {
                Some(wake) => tokio::time::sleep_until(wake).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = node.next_event() => node.handle(event, host),
            () = sleep => node.handle_deadline(host),
        }
    }
}

/// The phone's side of its conversations.
pub(crate) struct PhoneHost<'p> {
    phone: &'p Phone,
    store: Store,
    destinations: Vec<Destination>,
    accepts: Accepts,
    progress: &'p mut dyn FnMut(Progress),
    /// Peers that count as phones.
    phones: Vec<PeerKey>,
    /// Verdicts on the phone's documents that were verified and are on their way into the store.
    awaited: Vec<(MessageId, Verdict)>,
    /// Documents that the peer has acknowledged.
    deposited: HashSet<MessageId>,
    told: HashMap<MessageId, Instant>,
    counted: SyncReport,
    hello: Option<PeerHello>,
    finished_at: Option<Instant>,
    /// The peer has asked for a document, answered one, or finished: it serves this phone.
    accepted: bool,
    stopped: bool,
    ended: Option<ContactSummary>,
}

impl<'p> PhoneHost<'p> {
    pub(crate) fn new(
        phone: &'p Phone,
        carry: bool,
        progress: &'p mut dyn FnMut(Progress),
    ) -> Result<Self, SyncError> {
        let destinations = phone.destinations()?;
        let carried = destinations.iter().filter(|_| carry).map(|one| (one.fingerprint(), None));
        let is_phone = |peer: &waypost_store::PeerEntry| peer.class == PeerClass::Paired;
        Ok(PhoneHost {
            accepts: Accepts { destinations: carried.collect(), max_document: MAX_CARRIED },
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
            deposited: HashSet::new(),
            told: HashMap::new(),
            counted: SyncReport::not_begun("", Ending::NotReached, ""),
            hello: None,
            finished_at: None,
            accepted: false,
            stopped: false,
            ended: None,
        })
    }

    fn destination(&self, fingerprint: &Fingerprint) -> Option<&Destination> {
        self.destinations.iter().find(|one| one.fingerprint() == *fingerprint)
    }

    fn is_own(&self, id: &MessageId) -> bool {
        matches!(self.store.document(id), Ok(Some(entry)) if entry.depositor.is_none())
    }

    /// Whether the peer holds documents of this phone that the destination has not spoken on.
    fn awaits_confirmations(&self) -> bool {
        let Some(peer) = self.counted.key else { return false };
        let mut any = false;
        let read = self.phone.each_document(Filter::Waiting, |entry| {
            // What the peer said a moment ago may not be written down yet.
            any |= entry.held_by.contains(&peer) || self.deposited.contains(&entry.description.id);
        });
        read.is_ok() && any
    }

    /// Tells of what the peer will not be offered: for destinations that it does not serve, or too large for it.
    fn compare(&mut self, hello: &PeerHello) {
        let mut unserved: HashMap<Fingerprint, u64> = HashMap::new();
        let mut too_large = Vec::new();
        let read = self.phone.each_document(Filter::Waiting, |entry| {
            if !hello.serves.contains(&entry.header.destination) {
                *unserved.entry(entry.header.destination).or_default() += 1;
            } else if entry.description.size > hello.max_document && entry.depositor.is_none() {
                too_large.push(entry.description.id);
            }
        });
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
    fn catch_up(&mut self) {
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

    fn report(mut self, summary: Option<ContactSummary>) -> SyncReport {
        let mut report =
            std::mem::replace(&mut self.counted, SyncReport::not_begun("", Ending::NotReached, ""));
        let Some(summary) = summary else { return report };
        (report.ending, report.why) = match &summary.ending {
            NodeEnding::Finished => (Ending::Finished, String::new()),
            NodeEnding::NothingNew => (Ending::NothingNew, String::new()),
            NodeEnding::LinkLost(why) => (Ending::LinkLost, why.clone()),
            NodeEnding::SaidGoodbye(Goodbye::Stopping) => {
                (Ending::LinkLost, "stopped by this side".to_owned())
            }
            NodeEnding::SaidGoodbye(Goodbye::Idle) => {
                (Ending::LinkLost, "the other side fell silent".to_owned())
            }
            NodeEnding::SaidGoodbye(why) => (Ending::Failed, why.to_string()),
            NodeEnding::HeardGoodbye(why) => (Ending::TurnedAway, why.to_string()),
            NodeEnding::HungUp => (Ending::Failed, HUNG_UP.to_owned()),
            NodeEnding::Failed(why) => (Ending::Failed, why.clone()),
        };
        report.hung_up = summary.ending == NodeEnding::HungUp;
        if let NodeEnding::HeardGoodbye(goodbye) = summary.ending {
            report.goodbye = Some(goodbye);
        }
        report.key = summary.peer;
        report.address = summary.link.address;
        report.medium = summary.link.medium.to_string();
        if report.ending.is_whole() {
            (report.transferred, report.bytes) = (summary.theirs.stored, summary.theirs.bytes);
            report.already_held = summary.theirs.already_held;
        }
        report.confirmations = summary.ours.confirmations.max(report.confirmations);
        (report.bytes_in, report.bytes_out) = (summary.bytes_in, summary.bytes_out);
        report.set_span(summary.took);
        report
    }
}

impl Host for PhoneHost<'_> {
    fn admit(&mut self, peer: &PeerKey, pattern: Pattern, link: &LinkInfo) -> Result<Grant, Goodbye> {
        if !link.outgoing {
            self.admit_phone(peer, pattern)?;
        }
        self.counted.key = Some(*peer);
        Ok(Grant { accepts: self.accepts.clone() })
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
                State::Draft | State::Waiting => true,
            };
            if entry.depositor.is_none() && entry.header.destination == named && is_news {
                self.awaited.push((*id, *verdict));
            }
        }
        Ok(())
    }

    fn freeing(&self, confirmation: &Confirmation) -> Freeing {
        let destination = self.destination(&confirmation.statement.destination());
        destination.map_or(Freeing::PHONE, Destination::freeing)
    }

    fn event(&mut self, _: ConversationId, peer: &PeerKey, event: &Event) {
        // A hello comes with the handshake, before the peer has decided; these come after.
        self.accepted |= matches!(
            event,
            Event::HeldByPeer { .. }
                | Event::RefusedByPeer { .. }
                | Event::Progress { sending: true, .. }
                | Event::Finished { .. }
        );
        match event {
            Event::Hello(hello) => {
                let name = plain(&hello.name);
                self.counted.with = name.clone();
                // The address is in the report at the end; here the name is what a person looks for.
                (self.progress)(Progress::Connected { name, key: Some(*peer), address: String::new() });
                self.compare(hello);
                self.hello = Some(hello.clone());
            }
            Event::HeldByPeer { id, .. } => {
                self.counted.transferred += 1;
                self.deposited.insert(*id);
                if self.is_own(id) {
                    let held = match self.phones.contains(peer) {
                        true => Progress::WithPhone { id: *id },
                        false => Progress::AtKiosk { id: *id },
                    };
                    (self.progress)(held);
                }
            }
            Event::RefusedByPeer { id, reason, .. } => self.refused(*id, *reason),
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
            Event::Finished { .. } => self.finished_at = Some(Instant::now()),
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

    fn ended(&mut self, summary: ContactSummary) {
        self.ended = Some(summary);
    }
}

impl PhoneHost<'_> {
    /// Another phone comes to this one: with the code that its user was shown, or known from then.
    fn admit_phone(&mut self, peer: &PeerKey, pattern: Pattern) -> Result<(), Goodbye> {
        let failed = |error: &dyn std::fmt::Display| {
            log::error!("cannot look up or write down a phone: {error}");
            Goodbye::Busy
        };
        let known = self.store.peer(peer).map_err(|error| failed(&error))?;
        if known.as_ref().is_some_and(|known| known.revoked) {
            return Err(Goodbye::Revoked);
        }
        match pattern {
            Pattern::Open => Err(Goodbye::NotPaired),
            Pattern::Known => match known.map(|known| known.class) {
                Some(PeerClass::Paired) => Ok(()),
                _ => Err(Goodbye::NotPaired),
            },
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
