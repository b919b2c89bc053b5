//! What a peer still has to send, and whether Wi-Fi is worth it for that.

use std::collections::BTreeMap;

use waypost_protocol::ids::MessageId;
use waypost_protocol::moving;
use waypost_protocol::sync::Event;
use waypost_protocol::time::Monotonic;

/// So many bodies that have begun are counted: fewer are under way at once, but a peer can begin one after the other.
const MOST: usize = 64;

/// What a peer has said that it has to send, and what has come of it.
pub(crate) struct Ahead {
    /// Bytes of bodies.
    said: u64,
    /// Bytes that had come over the link when it said so, and when that was.
    from: u64,
    since: Monotonic,
    /// Committed bytes of bodies that have begun and are not here whole, over whichever links they came.
    under_way: BTreeMap<MessageId, u64>,
    /// Bytes of bodies that have come whole since.
    whole: u64,
    /// Something of it has come. Before, all of it may be refused.
    has_begun: bool,
}

impl Ahead {
    pub(crate) fn new(said: u64, from: u64, since: Monotonic) -> Self {
        Ahead { said, from, since, under_way: BTreeMap::new(), whole: 0, has_begun: false }
    }

    /// Something has come.
    pub(crate) fn heard(&mut self, event: &Event) {
        match event {
            Event::Progress { id, sending: false, done, .. } => {
                self.has_begun = true;
                if self.under_way.len() < MOST || self.under_way.contains_key(id) {
                    self.under_way.insert(*id, *done);
                }
            }
            Event::Received { id, size } => {
                self.has_begun = true;
                self.under_way.remove(id);
                self.whole = self.whole.saturating_add(*size);
            }
            _ => {}
        }
    }

    /// Whether the rest goes so much sooner over Wi-Fi that joining is worth it. `came`: bytes that have come over the link;
    /// `guess`: how many come in a second, as long as that has not been seen.
    pub(crate) fn is_worth_moving(&self, came: u64, guess: u64, now: Monotonic) -> bool {
        let here = self.under_way.values().fold(self.whole, |sum, committed| sum.saturating_add(*committed));
        let rate = moving::rate(came.saturating_sub(self.from), now.since(self.since), guess);
        self.has_begun && moving::is_worth(self.said.saturating_sub(here), rate)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MB: u64 = 1_000_000;
    const START: Monotonic = Monotonic(Duration::ZERO);

    fn begins(done: u64) -> Event {
        Event::Progress { id: MessageId([1; 32]), sending: false, done, size: 20 * MB }
    }

    fn is_worth(ahead: &Ahead, came: u64, seconds: u64) -> bool {
        ahead.is_worth_moving(came, 100_000, Monotonic(Duration::from_secs(seconds)))
    }

    #[test]
    fn it_is_worth_it_once_a_body_has_begun() {
        let mut ahead = Ahead::new(20 * MB, 500, START);
        assert!(!is_worth(&ahead, 600, 0), "all of it may be refused");
        ahead.heard(&begins(0));
        assert!(is_worth(&ahead, 600, 0));
    }

    #[test]
    fn what_came_over_another_link_is_not_to_be_sent() {
        let mut ahead = Ahead::new(20 * MB, 0, START);
        ahead.heard(&begins(19 * MB));
        assert!(!is_worth(&ahead, 600, 0));
        let mut ahead = Ahead::new(21 * MB, 0, START);
        ahead.heard(&Event::Received { id: MessageId([1; 32]), size: 20 * MB });
        assert!(!is_worth(&ahead, 600, 0));
    }

    #[test]
    fn it_is_worth_it_no_more_when_little_is_left() {
        let mut ahead = Ahead::new(20 * MB, 0, START);
        ahead.heard(&begins(MB));
        assert!(is_worth(&ahead, MB, 10));
        ahead.heard(&begins(19 * MB));
        assert!(!is_worth(&ahead, 19 * MB, 190));
    }

    #[test]
    fn a_form_is_not_worth_it_where_the_link_stands_still_for_a_moment() {
        let mut ahead = Ahead::new(1_000, 0, START);
        ahead.heard(&begins(0));
        assert!(!is_worth(&ahead, 0, 60));
    }
}
