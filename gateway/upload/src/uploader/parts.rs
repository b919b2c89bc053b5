//! What an uploader is connected to: where documents come from, who is told, what else is done.

use bytes::Bytes;
use waypost_protocol::api::Info;
use waypost_protocol::ids::{MessageId, Seq};
use waypost_protocol::mvds;
use waypost_protocol::time::Monotonic;

#[cfg(doc)]
use super::Settings;
use crate::client::{CachedInfo, Client};
use crate::error::{Cause, Error};
use crate::plan::{PathState, Waiting};
use crate::way::Route;

/// Where documents come from. Calls come from the uploader's thread; they may block, but not for long.
pub trait Source: Send {
    /// At most `limit` documents that wait for upload to this destination, by arrival, after one of them.
    ///
    /// A document that [`Sink::confirmations`] has returned must not come again, nor one that was deleted. One that was
    /// reported as [`Event::SetAside`] may be kept back until an admin wants it tried again.
    fn waiting(&self, after: Option<Seq>, limit: usize) -> Result<Vec<Waiting>, String>;

    /// For each, whether it still waits: it may have been confirmed by another way, deleted or expired since.
    fn still_waiting(&self, documents: &[Waiting]) -> Result<Vec<bool>, String>;

    /// Bytes of a body: `len` from `offset` on, fewer only at its end.
    fn read_body(&self, document: &Waiting, offset: u64, len: usize) -> Result<Bytes, String>;

    /// Whether a remote log at this destination lists the document by its hash: see [`crate::Upload::is_listed`].
    fn is_listed(&self, _document: &Waiting) -> bool {
        false
    }

    /// Whether documents have a verdict that may still change (`held`).
    fn owed(&self) -> bool;

    /// The cursor that was last told as [`Event::Cursor`]; 0 at first.
    fn cursor(&self) -> u64;
}

/// Who is told. Calls come from the uploader's thread; the upload waits for them.
pub trait Sink: Send {
    /// Something happened.
    fn event(&mut self, event: Event<'_>);

    /// Confirmations came, unverified and maybe not about this destination's documents at all. Verifies each, commits
    /// those that hold, and returns the ids of the documents that they settle. Documents that are not returned go on
    /// waiting; an error is one of the store, and everything will be asked for again.
    fn confirmations(&mut self, confirmations: Vec<mvds::Confirmation>) -> Result<Vec<MessageId>, String>;

    /// Whether a confirmation of the last call did not verify.
    fn has_unproven(&mut self) -> bool {
        false
    }

    /// Whether the destination's chain should be fetched: it is called otherwise than before, or somebody unknown signs.
    /// Says so once.
    fn wants_successions(&mut self, _called: &str) -> bool {
        false
    }

    /// The destination's chain came, unverified ([`waypost_protocol::succession::decode`]). Whether something was new,
    /// so that confirmations may verify now that did not before.
    fn successions(&mut self, _encoded: &[u8]) -> bool {
        false
    }
}

/// What happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// The destination can be reached, or not any more.
    StateChanged(PathState),
    /// Connections go by another route than before.
    TookRoute(&'a Route),
    /// The destination said of itself; to be kept, and given to [`Settings::info`] at the next start.
    Info(&'a CachedInfo),
    /// An upload begins. Remembering these as ambiguous until something else is told about them saves sending them
    /// twice after a power cut.
    Attempting {
        /// The documents.
        documents: &'a [Waiting],
    },
    /// Bytes of the upload that went out; both ends and at most five times a second in between.
    Progress {
        /// Bytes sent.
        sent: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The destination has them, and confirmations may still be to come.
    Sent {
        /// Their ids.
        ids: &'a [MessageId],
    },
    /// A request failed.
    Failed {
        /// Documents concerned; empty where none were.
        documents: &'a [Waiting],
        /// Why; it says whether it is ambiguous.
        error: &'a Error,
    },
    /// This document is not tried again until the next start.
    SetAside {
        /// The document.
        document: &'a Waiting,
        /// Why.
        cause: &'a Cause,
    },
    /// Confirmations were committed up to here.
    Cursor(u64),
    /// The store could not be read, or could not keep confirmations.
    StoreFailed(&'a str),
}

/// What else is to be done over the destination's connection: whenever no upload can be, and a step after each upload, so
/// that a window that is too short for all uploads has room for it. Calls come from the uploader's thread.
pub trait AfterUploads: Send {
    /// When the next step is due; `None`: not before something happens.
    fn due(&self) -> Option<Monotonic>;

    /// One step: about one request. Whether it has stored documents that may have to be uploaded.
    fn step(&mut self, client: &mut Client, now: Monotonic) -> bool;

    /// Something new may be in the source, or has been confirmed.
    fn nudge(&mut self, now: Monotonic);

    /// A backhaul appeared: what failed before is tried at once.
    fn path_up(&mut self, now: Monotonic);

    /// What the destination says of itself.
    fn info(&mut self, info: &Info, now: Monotonic);
}
