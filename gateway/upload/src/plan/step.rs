//! What the plan takes in and gives out, and what it keeps to.

use std::time::Duration;

use serde::Serialize;
use waypost_protocol::api::{FailureCode, Info};
use waypost_protocol::document::Description;
use waypost_protocol::ids::{PeerKey, Seq};
use waypost_protocol::time::Monotonic;

#[cfg(doc)]
use super::Planner;
use crate::error::{Cause, Error, Kind};

/// A document that waits for upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Its place in the store.
    pub seq: Seq,
    /// Id, group, time and size.
    pub description: Description,
    /// Who brought it first. Callers may give all unknown phones one key, so that together they get one share.
    pub depositor: PeerKey,
    /// What the depositor gets of the upload while others want it too, in percent of a full share: 1 to 100.
    pub share: u8,
    /// Larger goes first, within one depositor and collection.
    pub priority: u8,
    /// Whether an earlier upload ended without an answer, so that the destination may have it.
    pub ambiguous: bool,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Read waiting documents after this one from the store; answer [`Input::Scanned`] or [`Input::ScanFailed`].
    Scan {
        /// From the beginning where there is none.
        after: Option<Seq>,
        /// At most so many.
        limit: usize,
    },
    /// Ask for server information; answer [`Input::Info`].
    Probe,
    /// The same, and whether it knows the gateway, where no document is to follow. The answer is that to [`Step::Probe`].
    Try,
    /// Ask which of these the destination has; answer [`Input::Had`].
    AskHave(Vec<Waiting>),
    /// Send these in one request; answer [`Input::Uploaded`].
    Batch(Vec<Waiting>),
    /// Send this one by itself; answer [`Input::Uploaded`].
    Put(Waiting),
    /// Send a part of this one; answer [`Input::Advanced`], with its last part [`Input::Uploaded`].
    Part(Part),
    /// Ask for later verdicts; answer [`Input::Fetched`].
    FetchConfirmations,
    /// Report that this document is not tried again; nothing to answer.
    SetAside {
        /// The document.
        document: Waiting,
        /// Why.
        cause: Cause,
    },
    /// Nothing until then, or until something happens.
    Wait(Option<Monotonic>),
}

/// A part of a large document, by an upload that can go on later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The document.
    pub document: Waiting,
    /// What the destination has of it.
    pub begun: Begun,
    /// After so many bytes, or so long, it is another's turn, if others wait or begin to.
    pub turn: (u64, Duration),
    /// Whether others wait.
    pub others: bool,
}

/// What the destination has of an upload that can go on later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// Nothing.
    No,
    /// So many bytes.
    At(u64),
    /// At least so many bytes, or none any more: it is asked, and what it has is told as [`Input::Found`].
    Unsure(u64),
}

impl Begun {
    /// The same after something happened that may have changed it.
    pub(crate) fn unsure(self) -> Self {
        match self {
            Begun::At(there) => Begun::Unsure(there),
            other => other,
        }
    }
}

/// What became of one document of an upload or a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// A confirmation was verified and committed.
    Done,
    /// The destination holds it; the confirmation is still to come.
    Held,
    /// The destination does not hold it.
    NotHeld,
    /// The destination does not take it.
    Refused(FailureCode, String),
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Something new may wait in the store.
    Nudge,
    /// A backhaul appeared: waiting ends, failures before it count no more.
    PathUp,
    /// The backhaul is gone. Only a last resort: it is still tried now and then, should that be wrong.
    PathDown,
    /// A page of waiting documents, in order of arrival.
    Scanned {
        /// The documents.
        documents: Vec<Waiting>,
        /// Whether there may be more after them.
        more: bool,
        /// Whether documents have verdicts that may still change (`held`).
        owed: bool,
    },
    /// The store could not be read.
    ScanFailed,
    /// The answer to [`Step::Probe`].
    Info(Result<Info, Error>),
    /// The answer to an upload. Documents that it does not name got no verdict.
    Uploaded(Result<Vec<(Seq, Fate)>, Error>),
    /// Before a part is sent: the destination has so many bytes of the document that is under way.
    Found(u64),
    /// The answer to [`Step::Part`] that was not the last: the destination has so many bytes now.
    Advanced(u64),
    /// An upload, or what there was of it, took so long for so many bytes.
    Pace {
        /// Bytes sent.
        bytes: u64,
        /// In so long.
        span: Duration,
    },
    /// The answer to [`Step::AskHave`].
    Had(Result<Vec<(Seq, Fate)>, Error>),
    /// The answer to [`Step::FetchConfirmations`]: whether verdicts that may still change are left.
    Fetched(Result<bool, Error>),
    /// Documents that do not wait any more: confirmed by another way, deleted or expired.
    Gone(Vec<Seq>),
}

/// How the destination can be reached, for `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathState {
    /// Not tried yet.
    Unknown,
    /// It answers.
    Ok {
        /// Since when, by the monotonic clock.
        #[serde(skip)]
        since: Monotonic,
    },
    /// It does not answer, or not usefully.
    Unreachable {
        /// Why.
        kind: Kind,
    },
    /// It does not accept our credentials.
    NotAuthorised,
    /// It is somebody else, or of a version that does not fit.
    WrongServer,
    /// It has no room.
    Full,
}

/// In words, for people and programs.
impl std::fmt::Display for PathState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            PathState::Unknown => "not tried yet",
            PathState::Ok { .. } => "ok",
            PathState::NotAuthorised => "not authorised",
            PathState::WrongServer => "wrong server",
            PathState::Full => "destination full",
            PathState::Unreachable { kind } => match kind {
                Kind::NoRoute => "no network",
                Kind::DnsFailed => "DNS dead",
                Kind::CaptivePortal => "captive portal",
                Kind::BackhaulClosed => "backhaul closed",
                Kind::TlsRefused => "TLS refused",
                Kind::ServerError => "server in trouble",
                _ => "unreachable",
            },
        })
    }
}

/// What the plan keeps to. [`Default`] has the defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// A batch is at most so many bytes; larger documents go by themselves. More is lost with a broken connection,
    /// less means more round trips. Default: 4 MiB.
    pub batch_bytes: u64,
    /// A batch is at most so many documents. Default: 1,024.
    pub batch_documents: u32,
    /// A batch is at most what the path carries in so long, as measured; a large document goes so long at a time where
    /// others wait. Default: 10 s.
    pub turn: Duration,
    /// So many documents are held in memory ready for upload, about 250 bytes each. Default: 2,048.
    pub window: usize,
    /// First delay after a failure. Default: 2 s.
    pub min_backoff: Duration,
    /// Last delay after failures. Default: 5 min.
    pub max_backoff: Duration,
    /// Whether the destination is asked again what it says of itself also where nothing has to be sent: it may have something
    /// to fetch. Once after each appearance of a path it is asked anyway. Default: no.
    pub asks_unprompted: bool,
    /// How long server information is believed. Default: 24 h.
    pub info_age: Duration,
    /// How often verdicts that may change are asked for. Default: 15 min.
    pub confirmations_every: Duration,
    /// How much later where bytes cost money. Default: 24 h.
    pub confirmations_every_metered: Duration,
    /// Bytes that a depositor may send before it is another's turn. Default: 64 KiB.
    pub quantum: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            batch_bytes: 4 << 20,
            batch_documents: 1_024,
            turn: Duration::from_secs(10),
            window: 2_048,
            min_backoff: Duration::from_secs(2),
            max_backoff: Duration::from_secs(300),
            asks_unprompted: false,
            info_age: Duration::from_secs(86_400),
            confirmations_every: Duration::from_secs(900),
            confirmations_every_metered: Duration::from_secs(86_400),
            quantum: 64 << 10,
        }
    }
}
