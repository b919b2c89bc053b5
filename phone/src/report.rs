//! What a sync tells while it runs and at its end (design R32).

use std::time::Duration;

use serde::{Serialize, Serializer};
use waypost_protocol::confirmation::Verdict;
use waypost_protocol::ids::{Fingerprint, MessageId, PeerKey};
use waypost_protocol::refusal::{Goodbye, Reason};

/// Something that happens during a sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Progress {
    /// A session with a peer, or a connection to a destination, stands.
    Connected {
        /// Its name, unproven.
        name: String,
        /// Its key; `None` for a destination.
        key: Option<PeerKey>,
        /// Where it was reached.
        address: String,
    },
    /// Bytes of a document move.
    Progress {
        /// Which.
        id: MessageId,
        /// Bytes so far.
        done: u64,
        /// Bytes in all.
        size: u64,
    },
    /// The kiosk has stored it durably.
    AtKiosk {
        /// Which.
        id: MessageId,
    },
    /// Another phone carries it.
    WithPhone {
        /// Which.
        id: MessageId,
    },
    /// The destination's verified verdict is here.
    Confirmed {
        /// On which document.
        id: MessageId,
        /// What it says.
        #[serde(serialize_with = "verdict_words")]
        verdict: Verdict,
    },
    /// Much is left, and the kiosk has told how it goes on over Wi-Fi, which is joined now.
    Joining,
    /// It goes on over Wi-Fi.
    Moved {
        /// Where the kiosk is there.
        address: String,
    },
    /// It does not, and goes on over Bluetooth.
    NotMoved {
        /// Why.
        why: String,
    },
    /// The peer does not take it.
    Refused {
        /// Which.
        id: MessageId,
        /// Why, in words.
        reason: String,
    },
    /// Others are served before this phone, which comes again by itself.
    InLine {
        /// Its place, 1 for the next; `None` where it has none.
        place: Option<u32>,
        /// In so many seconds.
        again: u32,
    },
    /// A document of another phone is stored here, to be carried on.
    Carried {
        /// Which.
        id: MessageId,
        /// Bytes of it.
        size: u64,
    },
    /// A document of a subscription is stored here, to be read.
    Received {
        /// Which.
        id: MessageId,
        /// Bytes of it.
        size: u64,
    },
    /// The peer takes no documents for a destination.
    NotServed {
        /// Which.
        destination: Fingerprint,
        /// Its name, for people.
        name: String,
        /// Documents that wait for it.
        documents: u64,
    },
    /// A confirmation came that does not verify. Nothing was deleted for it.
    NotProven {
        /// What is wrong with it.
        why: String,
    },
}

fn verdict_words<S: Serializer>(verdict: &Verdict, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(verdict.words())
}

/// How a sync ended: three different words for three different things, and what kept it from beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Both sides had nothing left to do, and something was moved.
    #[serde(rename = "finished")]
    Finished,
    /// Both sides had nothing left to do, and nothing was moved.
    #[serde(rename = "nothing new")]
    NothingNew,
    /// The link ended before that; what was acknowledged is kept, the rest goes on next time.
    #[serde(rename = "link lost")]
    LinkLost,
    /// The peer does not serve this phone, or this side ended it.
    #[serde(rename = "turned away")]
    TurnedAway,
    /// Nobody was reached.
    #[serde(rename = "not reached")]
    NotReached,
    /// There was no session: versions, keys, codes, TLS.
    #[serde(rename = "failed")]
    Failed,
}

impl Ending {
    /// Whether both sides had nothing left to do.
    pub fn is_whole(&self) -> bool {
        matches!(self, Ending::Finished | Ending::NothingNew)
    }
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Ending::Finished => "finished",
            Ending::NothingNew => "nothing new",
            Ending::LinkLost => "link lost",
            Ending::TurnedAway => "turned away",
            Ending::NotReached => "not reached",
            Ending::Failed => "failed",
        })
    }
}

/// A document that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// Which.
    pub id: MessageId,
    /// Why, in words.
    pub reason: String,
    /// Whether the same peer may take it later.
    pub is_temporary: bool,
}

impl Refusal {
    /// From what a peer said.
    pub fn by_peer(id: MessageId, reason: Reason) -> Self {
        Refusal { id, reason: reason.to_string(), is_temporary: reason.is_temporary() }
    }
}

/// Documents whose destination was not served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unserved {
    /// The destination.
    pub destination: Fingerprint,
    /// Its name, for people.
    pub name: String,
    /// How many documents wait for it.
    pub documents: u64,
}

/// The end of a sync.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SyncReport {
    /// The peer's or destination's name.
    pub with: String,
    /// The peer's key, once it has proven it.
    pub key: Option<PeerKey>,
    /// Where it was reached.
    pub address: String,
    /// `lan`, `ble`, `ble-gatt`, `wifi-direct`, `memory`, or `https`; the last one where there were several.
    pub medium: String,
    /// Whether it went on over Wi-Fi in the middle.
    pub over_wifi: bool,
    /// How it ended.
    pub ending: Ending,
    /// Why, where there is more to say than the word.
    pub why: String,
    /// What the peer said when it ended the session.
    #[serde(skip)]
    pub goodbye: Option<Goodbye>,
    /// The phone's place in the line where others are served before it, 1 for the next.
    pub place: Option<u32>,
    /// Seconds after which it should come again, where the peer has said so.
    pub again: Option<u32>,
    /// Whether this side has ended it, as it was told to.
    #[serde(skip)]
    pub stopped: bool,
    /// Whether the peer ended the handshake: another key, or an unknown code.
    #[serde(skip)]
    pub hung_up: bool,
    /// Documents that the peer has stored now and had not before.
    pub transferred: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// Documents that it had already.
    pub already_held: u64,
    /// Documents that it did not take.
    pub refused: Vec<Refusal>,
    /// Documents that were not offered, since it does not serve their destination.
    pub not_served: Vec<Unserved>,
    /// New confirmations that were verified and stored.
    pub confirmations: u64,
    /// The phone's documents that are opened at their destination now, and were not known to be before.
    pub opened: u64,
    /// Those that are held there unopened.
    pub held: u64,
    /// Those that the destination does not want.
    pub rejected: u64,
    /// Confirmations that did not verify. Nothing was deleted for them.
    pub not_proven: u64,
    /// Documents of another phone that are carried from now on.
    pub carried: u64,
    /// Documents of subscriptions that are here from now on.
    pub received: u64,
    /// Bytes on the link that came, framing included.
    pub bytes_in: u64,
    /// Bytes on the link that went.
    pub bytes_out: u64,
    /// How long it took.
    pub seconds: f64,
}

impl SyncReport {
    /// A report of something that did not begin.
    pub fn not_begun(with: &str, ending: Ending, why: impl Into<String>) -> Self {
        SyncReport {
            with: with.to_owned(),
            key: None,
            address: String::new(),
            medium: String::new(),
            over_wifi: false,
            ending,
            why: why.into(),
            goodbye: None,
            place: None,
            again: None,
            stopped: false,
            hung_up: false,
            transferred: 0,
            bytes: 0,
            already_held: 0,
            refused: Vec::new(),
            not_served: Vec::new(),
            confirmations: 0,
            opened: 0,
            held: 0,
            rejected: 0,
            not_proven: 0,
            carried: 0,
            received: 0,
            bytes_in: 0,
            bytes_out: 0,
            seconds: 0.0,
        }
    }

    /// Adds up two contacts of one sync; the later one says how it ended.
    pub fn followed_by(mut self, later: SyncReport) -> SyncReport {
        let moved = self.ending == Ending::Finished;
        let mut refused = std::mem::take(&mut self.refused);
        refused.retain(|one| later.refused.iter().all(|new| new.id != one.id));
        refused.extend(later.refused);
        SyncReport {
            ending: if moved && later.ending == Ending::NothingNew { Ending::Finished } else { later.ending },
            transferred: self.transferred + later.transferred,
            bytes: self.bytes + later.bytes,
            already_held: self.already_held.max(later.already_held),
            refused,
            confirmations: self.confirmations + later.confirmations,
            opened: self.opened + later.opened,
            held: self.held + later.held,
            rejected: self.rejected + later.rejected,
            not_proven: self.not_proven + later.not_proven,
            carried: self.carried + later.carried,
            received: self.received + later.received,
            bytes_in: self.bytes_in + later.bytes_in,
            bytes_out: self.bytes_out + later.bytes_out,
            seconds: self.seconds + later.seconds,
            with: later.with,
            key: later.key,
            address: later.address,
            medium: later.medium,
            over_wifi: self.over_wifi || later.over_wifi,
            why: later.why,
            goodbye: later.goodbye,
            place: later.place,
            again: later.again,
            stopped: later.stopped,
            hung_up: later.hung_up,
            not_served: later.not_served,
        }
    }

    /// Whether it moved anything, either way.
    pub fn moved(&self) -> bool {
        self.transferred + self.carried + self.received + self.confirmations > 0
    }

    /// Whether the same contact may end otherwise in a moment: nobody was there, the link broke, or the peer was busy.
    pub fn is_passing(&self) -> bool {
        let is_away = matches!(self.ending, Ending::NotReached | Ending::LinkLost);
        is_away || matches!(self.goodbye, Some(Goodbye::Busy(_) | Goodbye::Stopping | Goodbye::Idle))
    }

    /// What the peer said when it ended the session.
    pub(crate) fn set_goodbye(&mut self, goodbye: Goodbye) {
        let line = goodbye.line();
        self.place = line.map(|line| line.place).filter(|place| *place > 0);
        self.again = line.map(|line| line.again);
        self.goodbye = Some(goodbye);
    }

    /// After how long the peer wants this phone to come again, where others are before it.
    pub fn comes_again(&self) -> Option<Duration> {
        self.again.map(|seconds| Duration::from_secs(seconds.into()))
    }

    /// Counts a verdict on one of the phone's documents.
    pub(crate) fn count_verdict(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Opened => self.opened += 1,
            Verdict::Held => self.held += 1,
            Verdict::Rejected(_) => self.rejected += 1,
        }
    }

    pub(crate) fn set_span(&mut self, span: Duration) {
        self.seconds = (span.as_secs_f64() * 1000.0).round() / 1000.0;
    }
}
