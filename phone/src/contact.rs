//! One contact over one link: how it begins, how long it lasts, what is written down of it.

use std::time::Duration;

use tokio::time::Instant;
use waypost_link::{Link, Medium};
use waypost_node::{ConversationId, KeyFileError, Limits, MediumLimits, Node, system_rng};
use waypost_protocol::refusal::Goodbye;
use waypost_protocol::session::{Introduction, SessionError};
use waypost_protocol::sync::{MAX_HELLO_ENTRIES, PeerHello, WINDOW};
use waypost_store::{PeerClass, StoreError};
use waypost_wifi_direct::Network;

use crate::Phone;
use crate::destination::Destination;
use crate::host::PhoneHost;
use crate::moving::{Moving, Wifi};
use crate::report::{Ending, Progress, SyncReport};
use crate::settings::SettingError;
use crate::subscribe::{MAX_RECEIVED, Subscription};

/// The largest document of another phone that is carried, in bytes.
pub const MAX_CARRIED: u64 = 32 << 20;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// How long a conversation may be silent that is not finished.
const IDLE: Duration = Duration::from_secs(60);
/// How long the side that opened a session has for closing it.
const LINGER: Duration = Duration::from_secs(5);

/// How long the last frames of a link may take to leave.
const LAST_WORDS: Duration = Duration::from_secs(5);

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
pub struct SyncOptions<'a> {
    /// After both sides have finished, how long to stay for confirmations of what was deposited.
    pub wait: Duration,
    /// The contact ends after so long, whatever is left. `None`: as long as something moves.
    pub timeout: Option<Duration>,
    /// Takes documents of the peer, another phone, for destinations that this phone has, and carries them on.
    pub carry: bool,
    /// The contact ends as soon as the peer has shown that it serves this phone: enough for pairing.
    pub until_accepted: bool,
    /// Goes on over Wi-Fi where the kiosk offers that and much is left. `None`: stays on its link.
    pub wifi: Option<&'a Wifi>,
}

impl Phone {
    /// Syncs over a link that this side opened, and tells what happens. Everything that the report says is durable.
    /// An unverified peer ([`Introduction::Open`]) gets sealed documents only, and not the phone's name.
    pub async fn sync_over(
        &self,
        link: Link,
        introduction: &Introduction,
        options: SyncOptions<'_>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<SyncReport, SyncError> {
        let is_open = matches!(introduction, Introduction::Open);
        // An address on the air means nothing the next time.
        let is_lasting = link.info.medium == Medium::Lan && !link.info.address.contains('%');
        // Whoever is not known is not told what this phone reads.
        let wants = if options.carry || is_open { Vec::new() } else { self.subscriptions()? };
        let mut host = PhoneHost::new(self, options.carry, &wants, progress)?;
        // Moving is for those who know each other: the token is told to the key that has come.
        let is_bluetooth = matches!(link.info.medium, Medium::BleL2cap | Medium::BleGatt);
        let may_move = options.wifi.filter(|_| !is_open && is_bluetooth);
        let options = SyncOptions { wifi: may_move, ..options };
        let mut node = self.node(options.carry, &wants, is_open, options.wait + IDLE, may_move.is_some())?;
        host.may_move = may_move.is_some();
        let id = node.open(link, introduction)?;
        let network = converse(&mut node, &mut host, id, options, Duration::ZERO).await;
        let accepted = host.accepted;
        let (mut report, hello) = self.conclude(host);
        if accepted && options.until_accepted {
            // What it was for is done; the rest goes with the next contact.
            (report.ending, report.why) = (Ending::Finished, String::new());
        }
        if let (Some(key), false) = (report.key, is_open) {
            let address = if is_lasting { report.address.as_str() } else { "" };
            self.met(&key, address, hello.as_ref(), accepted)?;
            if let Some(network) = network {
                self.remember_wifi(&key, &network)?;
            }
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
        let mut host = PhoneHost::new(self, true, &[], progress)?;
        let mut node = self.node(true, &[], false, IDLE, false)?;
        let Some(id) = node.accept(link) else {
            return Ok(SyncReport::not_begun("", Ending::Failed, "too many links"));
        };
        converse(&mut node, &mut host, id, options, LINGER).await;
        Ok(self.conclude(host).0)
    }

    /// Syncs over a link that a known kiosk opened, as if this phone had.
    pub async fn serve_kiosk(
        &self,
        link: Link,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<SyncReport, SyncError> {
        let wants = self.subscriptions()?;
        let mut host = PhoneHost::new(self, false, &wants, progress)?;
        host.admits = PeerClass::Gateway;
        let mut node = self.node(false, &wants, false, IDLE, false)?;
        let Some(id) = node.accept(link) else {
            return Ok(SyncReport::not_begun("", Ending::Failed, "too many links"));
        };
        converse(&mut node, &mut host, id, SyncOptions::default(), LINGER).await;
        let (report, hello) = self.conclude(host);
        if let Some(key) = report.key {
            self.met(&key, "", hello.as_ref(), true)?;
        }
        Ok(report)
    }

    /// The report, and what the peer said of itself.
    fn conclude(&self, mut host: PhoneHost<'_>) -> (SyncReport, Option<PeerHello>) {
        // What the peer said last shall be durable before anyone is told.
        self.writer().flush();
        host.catch_up();
        let (summary, hello) = (host.ended.take(), host.hello.take());
        (host.report(summary), hello)
    }

    fn node(
        &self,
        carry: bool,
        wants: &[Subscription],
        anonymous: bool,
        idle: Duration,
        moves: bool,
    ) -> Result<Node, SyncError> {
        let serves = match carry {
            true => {
                self.destinations()?.iter().map(Destination::fingerprint).take(MAX_HELLO_ENTRIES).collect()
            }
            false => Vec::new(),
        };
        let hello = PeerHello {
            store: self.store().store_id(),
            serves,
            wants: wants.iter().map(|one| one.group).collect(),
            max_document: match (carry, wants.is_empty()) {
                (true, _) => MAX_CARRIED,
                (false, false) => MAX_RECEIVED,
                (false, true) => 0,
            },
            window: WINDOW,
            name: if anonymous { String::new() } else { self.name()? },
            has_backhaul: false,
            is_gateway: false,
            moves,
            advertising_key: None,
        };
        let limits = Limits {
            sessions: 4,
            per_address: 4,
            half_open: 4,
            handshake: HANDSHAKE,
            idle: idle.max(IDLE),
            lan: MediumLimits::none(),
            wifi: MediumLimits::none(),
            ble: MediumLimits::none(),
        };
        let (store, writer) = (self.store().clone(), self.writer().clone());
        Ok(Node::new(self.identity().clone(), hello, limits, store, writer, system_rng()?))
    }
}

/// Drives one conversation to its end, and answers the network that it has moved to. `linger`: how long the other side has for
/// closing a finished one first.
async fn converse(
    node: &mut Node,
    host: &mut PhoneHost<'_>,
    id: ConversationId,
    options: SyncOptions<'_>,
    linger: Duration,
) -> Option<Network> {
    host.current = Some(id);
    let mut moving = Moving::default();
    let until = options.timeout.map(|timeout| Instant::now() + timeout);
    while host.ended.is_none() {
        let id = host.current.unwrap_or(id);
        if let Some(bytes) = host.waiting.take() {
            node.say_waiting(id, bytes);
        }
        if let (Some(offer), Some(wifi)) = (host.offer.take(), options.wifi) {
            host.joins();
            moving.begin(wifi, offer);
        }
        if std::mem::take(&mut host.has_stayed) {
            moving.give_up();
        }
        // News after both had finished is answered, and both finish again, before the link is closed.
        let finished = host.finished_at.filter(|_| node.is_settled(id));
        let patience = finished.map(|finished| match host.awaits_confirmations() {
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
            host.stops();
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
            arrived = moving.arrived() => match arrived {
                Ok((link, token)) => host.goes_on(node, link, token),
                Err(why) => host.stays(why),
            },
        }
    }
    node.settle(LAST_WORDS).await;
    let network = moving.network().filter(|_| host.has_gone_on()).cloned();
    moving.end().await;
    network
}
