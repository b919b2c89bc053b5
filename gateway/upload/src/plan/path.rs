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
    /// Until then a path is fresh: addresses and names may not be there yet, and it may not be there for long.
    pub(super) fresh_until: Monotonic,
    /// The last answer of the destination.
    pub(super) contact: Monotonic,
}

/// After so long without an answer, what waits may have come to its destination by another gateway.
const ELSEWHERE: Duration = Duration::from_secs(600);
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
        self.path.fresh_until = now + FRESH;
        if self.path.state == (PathState::Unreachable { kind: Kind::NoRoute }) {
            self.path.state = PathState::Unknown;
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
        let mut delay = match now < self.path.fresh_until && is_the_paths(error.kind()) {
            true => (FRESH_DELAYS[0] * failures.min(16)).min(FRESH_DELAYS[1]),
            false => self.backoff.after(failures),
        };
        if let Cause::ServerError { retry_after: Some(asked), .. } = error.cause() {
            delay = delay.max((*asked).min(self.settings.max_backoff.saturating_mul(4)));
        }
        self.path.not_before = now + delay;
        self.path.state = match error.kind() {
            Kind::NotAuthorised => PathState::NotAuthorised,
            Kind::WrongServer | Kind::Incompatible => PathState::WrongServer,
            Kind::Full => PathState::Full,
            kind => PathState::Unreachable { kind },
        };
        // A small question finds out whether it works again for less than a batch.
        if failures >= 2 || matches!(self.path.state, PathState::NotAuthorised | PathState::WrongServer) {
            self.info = None;
        }
    }
}

/// Whether a path that has just come up can be the reason.
fn is_the_paths(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::NoRoute | Kind::DnsFailed | Kind::ConnectFailed | Kind::Timeout | Kind::ConnectionLost
    )
}
