//! Whether the destination can be reached, and when that is tried again.

use std::time::Duration;

use waypost_protocol::time::Monotonic;

use super::Planner;
use super::step::PathState;
use crate::error::{Cause, Error, Kind};

/// What is known of the way there.
#[derive(Debug)]
pub(super) struct Path {
    pub(super) state: PathState,
    pub(super) not_before: Monotonic,
    /// In a row. Those of questions are forgiven when a question succeeds, those of uploads only by an upload: a
    /// server that answers questions and fails all uploads must not be sent everything at full speed.
    pub(super) failed_questions: u32,
    pub(super) failed_uploads: u32,
    /// Of [`super::Step::Try`], which delay nothing but themselves; when it is the next one's time, and whether one is under way.
    pub(super) failed_tries: u32,
    pub(super) try_at: Monotonic,
    pub(super) is_tried: bool,
    /// The last one, and whether there is a way that none was over.
    pub(super) tried: Option<Monotonic>,
    pub(super) is_untried: bool,
    /// The last failure.
    pub(super) failed_at: Monotonic,
    /// Until then a path is fresh: addresses and names may not be there yet, and it may not be there for long.
    pub(super) fresh_until: Monotonic,
    /// The last answer of the destination.
    pub(super) contact: Monotonic,
}

/// After so long without an answer, what waits may have come to its destination by another gateway.
const ELSEWHERE: Duration = Duration::from_secs(600);
/// After so long without an answer, a destination is tried that nothing waits for, where that costs nothing.
pub(super) const STALE: Duration = Duration::from_secs(6 * 3600);
/// Where it costs money, it is tried once for each appearance of a way there, and not more often than this.
const SELDOM: Duration = Duration::from_secs(3600);
/// For so long after a path appeared failures delay the next try by less than a second.
const FRESH: Duration = Duration::from_secs(15);
/// How much, after the first of them and at most.
const FRESH_DELAYS: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(800)];

impl Default for Path {
    fn default() -> Self {
        Path {
            state: PathState::Unknown,
            not_before: Monotonic::default(),
            failed_questions: 0,
            failed_uploads: 0,
            failed_tries: 0,
            try_at: Monotonic::default(),
            is_tried: false,
            tried: None,
            is_untried: true,
            failed_at: Monotonic::default(),
            fresh_until: Monotonic::default(),
            contact: Monotonic::default(),
        }
    }
}

impl Planner {
    pub(super) fn path_up(&mut self, now: Monotonic) {
        self.path.failed_questions = 0;
        self.path.failed_uploads = 0;
        self.path.not_before = now;
        self.path.failed_tries = 0;
        self.path.try_at = now;
        self.path.fresh_until = now + FRESH;
        self.path.is_untried = true;
        // What went wrong was the path's that was there before. But a path is told of in several pieces.
        let is_old = now.since(self.path.failed_at) >= FRESH;
        match self.path.state {
            PathState::Ok { .. } => {}
            PathState::Unreachable { kind: Kind::NoRoute } => self.path.state = PathState::Unknown,
            _ if is_old => self.path.state = PathState::Unknown,
            _ => {}
        }
        for (_, seq) in std::mem::take(&mut self.deferred) {
            self.enqueue(seq);
        }
        self.fetch_at = self.fetch_at.map(|_| now);
        match now.since(self.path.contact) >= ELSEWHERE {
            true => self.read_anew(),
            false => self.scan_again(),
        }
    }

    /// When [`super::Step::Try`] is due: whoever has just set it up sees whether documents will be taken before the first one
    /// comes. Where one waits for another reason, or uploads have failed, that shows nothing.
    pub(super) fn try_due(&self) -> Option<Monotonic> {
        if !self.items.is_empty() || self.path.failed_uploads > 0 {
            return None;
        }
        let is_metered = !self.patience.is_zero();
        match self.path.state {
            PathState::Ok { .. } if is_metered => None,
            PathState::Ok { .. } => Some(self.path.contact + STALE),
            _ if is_metered && !self.path.is_untried => None,
            _ if is_metered => {
                Some(self.path.tried.map_or(self.path.try_at, |tried| self.path.try_at.max(tried + SELDOM)))
            }
            _ => Some(self.path.try_at),
        }
    }

    pub(super) fn answered_question(&mut self, now: Monotonic) {
        self.path.failed_questions = 0;
        self.path.contact = now;
        if self.path.failed_uploads == 0 {
            self.path.not_before = now;
            if !matches!(self.path.state, PathState::Ok { .. }) {
                self.path.state = PathState::Ok { since: now };
            }
        }
    }

    pub(super) fn path_failed(&mut self, error: &Error, now: Monotonic) {
        let failures = self.path.failed_questions.saturating_add(self.path.failed_uploads);
        self.path.failed_at = now;
        self.path.not_before = now + self.delay(error, failures, now);
        self.path.state = state_after(error);
        // A small question finds out whether it works again for less than a batch.
        if failures >= 2 || matches!(self.path.state, PathState::NotAuthorised | PathState::WrongServer) {
            self.info = None;
        }
    }

    /// One of [`super::Step::Try`] failed: what comes to be sent does not wait for that.
    pub(super) fn try_failed(&mut self, error: &Error, now: Monotonic) {
        self.path.failed_tries = self.path.failed_tries.saturating_add(1);
        self.path.failed_at = now;
        self.path.try_at = now + self.delay(error, self.path.failed_tries, now);
        self.path.state = state_after(error);
    }

    fn delay(&mut self, error: &Error, failures: u32, now: Monotonic) -> Duration {
        let delay = match now < self.path.fresh_until && is_the_paths(error.kind()) {
            true => (FRESH_DELAYS[0] * failures.min(16)).min(FRESH_DELAYS[1]),
            false => self.backoff.after(failures),
        };
        match error.cause() {
            Cause::ServerError { retry_after: Some(asked), .. } => {
                delay.max((*asked).min(self.settings.max_backoff.saturating_mul(4)))
            }
            _ => delay,
        }
    }
}

fn state_after(error: &Error) -> PathState {
    match error.kind() {
        Kind::NotAuthorised => PathState::NotAuthorised,
        Kind::WrongServer | Kind::Incompatible => PathState::WrongServer,
        Kind::Full => PathState::Full,
        kind => PathState::Unreachable { kind },
    }
}

/// Whether a path that has just come up can be the reason.
fn is_the_paths(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::NoRoute | Kind::DnsFailed | Kind::ConnectFailed | Kind::Timeout | Kind::ConnectionLost
    )
}
