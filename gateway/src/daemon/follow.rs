//! When a destination's chain of certificates is fetched, and what is told of it.

use std::time::{Duration, Instant};

use waypost_openpgp::Absorbed;
use waypost_openpgp::Change::{Renewed, Succeeded};
use waypost_protocol::succession::{self, Link};
use waypost_protocol::time::UnixTime;
use waypost_store::Change;

use crate::destinations::{Served, chain_key};

/// A server that lets strangers sign costs at most one fetch for that in this time.
const PATIENCE: Duration = Duration::from_secs(60);
/// So many other names are followed at once in this time.
const RENAMED: usize = 3;
/// What was not taken, perhaps for the clock's sake, is looked at again after this time.
const AGAIN: Duration = Duration::from_secs(86_400);

/// What says that the chain should be fetched.
pub(super) struct Follow {
    /// How the destination calls its present chain; empty where it has not said.
    pub(super) called: String,
    /// How it called the one that was taken last.
    taken: String,
    /// How it called the one that was asked for last, and when that was.
    asked: Option<(String, Instant)>,
    /// When it was called otherwise, within the last minute: servers that differ are asked so often and not with each answer.
    renamed: Vec<Instant>,
    /// A confirmation came that nobody known has signed.
    pub(super) stranger: bool,
    last_strangers: Option<Instant>,
    /// Not all that was fetched last was taken.
    is_faulty: bool,
}

impl Follow {
    /// `taken`: as it was stored.
    pub(super) fn new(taken: Option<Vec<u8>>) -> Self {
        Follow {
            called: String::new(),
            taken: taken.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default(),
            asked: None,
            renamed: Vec::new(),
            stranger: false,
            last_strangers: None,
            is_faulty: false,
        }
    }

    /// Whether to fetch it now, where the destination calls it so; says so once.
    pub(super) fn wants(&mut self, called: &str, now: Instant) -> bool {
        called.clone_into(&mut self.called);
        let waited = |last: Instant, span| now.duration_since(last) >= span;
        let is_other = !called.is_empty() && called != self.taken;
        self.renamed.retain(|at| !waited(*at, PATIENCE));
        let is_fresh = |(asked, last): &(String, Instant)| match asked == called {
            true => waited(*last, PATIENCE),
            false => self.renamed.len() < RENAMED,
        };
        let other = is_other && self.asked.as_ref().is_none_or(is_fresh);
        let stranger = std::mem::take(&mut self.stranger)
            && self.last_strangers.is_none_or(|last| waited(last, PATIENCE));
        let again = self.is_faulty && self.asked.as_ref().is_none_or(|(_, last)| waited(*last, AGAIN));
        if stranger {
            self.last_strangers = Some(now);
        }
        let wants = other || stranger || again;
        if other {
            self.renamed.push(now);
        }
        if wants {
            self.asked = Some((called.to_owned(), now));
        }
        wants
    }

    /// What was taken counts no more.
    pub(super) fn forget(&mut self) {
        self.taken.clear();
        self.asked = None;
    }

    /// It was fetched, and all of it was taken, or not. Returns what is to be stored as taken.
    pub(super) fn fetched(&mut self, is_whole: bool) -> Option<Vec<u8>> {
        self.is_faulty = !is_whole;
        self.taken.clone_from(&self.called);
        is_whole.then(|| self.taken.clone().into_bytes())
    }
}

/// Takes what verifies and tells the journal. Returns what has to be stored for it to last.
pub(super) fn follow(served: &Served, links: &[Link], now: UnixTime) -> (Absorbed, Option<Change>) {
    let (absorbed, links) = {
        let mut chain = served.chain();
        (chain.absorb(links, now), chain.links())
    };
    let destination = served.config.name.as_str();
    for change in &absorbed.changes {
        match change {
            Renewed(key) => {
                log::info!(destination, key:%; "the destination has renewed its key {key}")
            }
            Succeeded { successor, by } => {
                log::info!(destination, successor:%, by:%; "the destination has a successor key {successor}, vouched for by {by}");
            }
        }
    }
    for fault in &absorbed.faults {
        log::warn!(destination, error:% = fault; "a certificate of the destination is not taken: {fault}");
    }
    let (key, value) = (chain_key(&served.fingerprint), Some(succession::encode(&links)));
    let change = (!absorbed.changes.is_empty()).then_some(Change::Put { key, value });
    (absorbed, change)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_chain_that_is_called_otherwise_is_fetched_at_once_and_only_then() {
        let (mut follow, now) = (Follow::new(Some(b"a".to_vec())), Instant::now());
        assert!(!follow.wants("a", now) && !follow.wants("", now));
        assert!(follow.wants("b", now));
        assert_eq!(follow.fetched(true), Some(b"b".to_vec()));
        assert!(!follow.wants("b", now + 100 * AGAIN));
        assert!(follow.wants("c", now + SECOND), "however soon");
    }

    #[test]
    fn servers_that_call_it_otherwise_by_turns_cost_a_few_fetches_a_minute() {
        let (mut follow, now) = (Follow::new(None), Instant::now());
        let mut fetched = 0;
        for second in 0..180 {
            let called = if second % 2 == 0 { "a" } else { "b" };
            if follow.wants(called, now + second * SECOND) {
                follow.fetched(true);
                fetched += 1;
            }
        }
        assert!((3..=10).contains(&fetched), "{fetched}");
    }

    #[test]
    fn what_could_not_be_fetched_is_tried_once_a_minute() {
        let (mut follow, now) = (Follow::new(None), Instant::now());
        assert!(follow.wants("a", now));
        assert!(!follow.wants("a", now + 59 * SECOND) && follow.wants("a", now + PATIENCE));
    }

    #[test]
    fn strangers_who_sign_have_it_fetched_once_a_minute_whatever_was_fetched_before() {
        let (mut follow, now) = (Follow::new(None), Instant::now());
        assert!(follow.wants("a", now));
        follow.fetched(true);
        let mut asks = |at| {
            follow.stranger = true;
            follow.wants("a", at)
        };
        assert!(asks(now) && !asks(now + SECOND) && asks(now + PATIENCE));
    }

    #[test]
    fn what_was_not_taken_is_not_stored_as_taken_and_fetched_again_after_a_day() {
        let (mut follow, now) = (Follow::new(None), Instant::now());
        assert!(follow.wants("a", now));
        assert_eq!(follow.fetched(false), None);
        assert!(!follow.wants("a", now + PATIENCE) && follow.wants("a", now + AGAIN));
        assert_eq!(follow.fetched(true), Some(b"a".to_vec()));
        assert!(!follow.wants("a", now + 3 * AGAIN));
    }
}
