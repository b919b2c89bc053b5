//! Who is next: deficit round robin by bytes between depositors (Shreedhar and Varghese, 1995). Within a depositor
//! collections take turns, those first that have something small to send; within a collection it goes by priority,
//! then size (small or large), then age.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use waypost_protocol::ids::{GroupId, PeerKey, Seq};

use super::Waiting;

/// Documents that are ready for upload.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lanes: BTreeMap<PeerKey, Lane>,
    /// Depositors with documents; the first is being served.
    turns: VecDeque<PeerKey>,
    /// Whether the first has been given its quantum for this turn.
    paid: bool,
    /// Bytes that a depositor with a full share may send per turn.
    quantum: u64,
    len: usize,
}

#[derive(Debug)]
struct Lane {
    deficit: u64,
    quantum: u64,
    turns: VecDeque<GroupId>,
    queues: BTreeMap<GroupId, BTreeMap<Place, u64>>,
    len: usize,
}

/// The order within a collection: priority, whether it is large, age.
type Place = (Reverse<u8>, bool, Seq);

impl Lane {
    /// The collection whose turn it is: large documents let the small ones of other collections pass.
    fn turn(&self) -> Option<usize> {
        let is_small = |group: &GroupId| {
            let first = self.queues.get(group).and_then(BTreeMap::first_key_value);
            first.is_some_and(|((_, is_large, _), _)| !is_large)
        };
        self.turns.iter().position(is_small).or_else(|| (!self.turns.is_empty()).then_some(0))
    }

    fn first(&self) -> Option<(Seq, u64)> {
        let queue = self.queues.get(self.turns.get(self.turn()?)?)?;
        queue.first_key_value().map(|((_, _, seq), bytes)| (*seq, *bytes))
    }

    /// Turns that must pass before the first document may go.
    fn turns_needed(&self) -> u64 {
        let missing = self.first().map_or(0, |(_, bytes)| bytes.saturating_sub(self.deficit));
        missing.div_ceil(self.quantum)
    }
}

impl Lanes {
    pub(crate) fn new(quantum: u64) -> Self {
        Lanes { quantum: quantum.max(1), ..Lanes::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a document that sends so many bytes at its turn; large ones may have several.
    pub(crate) fn push(&mut self, document: &Waiting, bytes: u64, is_large: bool) {
        let share = u64::from(document.share.clamp(1, 100));
        let quantum = (self.quantum.saturating_mul(share) / 100).max(1);
        let lane = self.lanes.entry(document.depositor).or_insert_with(|| {
            self.turns.push_back(document.depositor);
            Lane { deficit: 0, quantum, turns: VecDeque::new(), queues: BTreeMap::new(), len: 0 }
        });
        let group = document.description.group;
        let queue = lane.queues.entry(group).or_insert_with(|| {
            lane.turns.push_back(group);
            BTreeMap::new()
        });
        if queue.insert((Reverse(document.priority), is_large, document.seq), bytes).is_none() {
            lane.len += 1;
            self.len += 1;
        }
    }

    /// The document whose turn it is. It stays until it is taken.
    pub(crate) fn peek(&mut self) -> Option<Seq> {
        if let Some(seq) = self.round() {
            return Some(seq);
        }
        // Nobody has saved up enough yet: the turns until somebody has pass at once.
        let needed = self.lanes.values().map(Lane::turns_needed).min()?.saturating_sub(1);
        for lane in self.lanes.values_mut() {
            lane.deficit = lane.deficit.saturating_add(lane.quantum.saturating_mul(needed));
        }
        self.round()
    }

    /// Lets everybody have one turn, until one has saved up enough for its first document.
    fn round(&mut self) -> Option<Seq> {
        for _ in 0..=self.turns.len() {
            let lane = self.lanes.get_mut(self.turns.front()?)?;
            if !self.paid {
                lane.deficit = lane.deficit.saturating_add(lane.quantum);
                self.paid = true;
            }
            let (seq, bytes) = lane.first()?;
            if bytes <= lane.deficit {
                return Some(seq);
            }
            self.turns.rotate_left(1);
            self.paid = false;
        }
        None
    }

    /// Takes the document that [`Lanes::peek`] showed.
    pub(crate) fn take(&mut self) -> Option<Seq> {
        let seq = self.peek()?;
        let key = *self.turns.front()?;
        let lane = self.lanes.get_mut(&key)?;
        let at = lane.turn()?;
        let group = *lane.turns.get(at)?;
        let queue = lane.queues.get_mut(&group)?;
        let (_, bytes) = queue.pop_first()?;
        lane.deficit = lane.deficit.saturating_sub(bytes);
        // Those that were passed over are next in their order.
        if let Some(served) = lane.turns.remove(at) {
            lane.turns.push_back(served);
        }
        self.settle(key, group);
        Some(seq)
    }

    /// Gives back what a depositor was charged too much, if it has more to send.
    pub(crate) fn credit(&mut self, depositor: &PeerKey, bytes: u64) {
        if let Some(lane) = self.lanes.get_mut(depositor) {
            lane.deficit = lane.deficit.saturating_add(bytes);
        }
    }

    /// Makes room for `newcomer`: removes the last document of whoever has most, if that is more than it has itself.
    pub(crate) fn evict_for(&mut self, newcomer: &PeerKey) -> Option<Seq> {
        let own = self.lanes.get(newcomer).map_or(0, |lane| lane.len);
        let (key, lane) = self.lanes.iter_mut().max_by_key(|(_, lane)| lane.len)?;
        if lane.len <= own + 1 {
            return None;
        }
        let (key, group) = (*key, *lane.turns.back()?);
        let ((_, _, seq), _) = lane.queues.get_mut(&group)?.pop_last()?;
        self.settle(key, group);
        Some(seq)
    }

    /// Tidies up after one document of this depositor and collection was removed.
    fn settle(&mut self, key: PeerKey, group: GroupId) {
        self.len -= 1;
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        lane.len -= 1;
        if lane.queues.get(&group).is_none_or(BTreeMap::is_empty) {
            lane.queues.remove(&group);
            lane.turns.retain(|other| *other != group);
        }
        if lane.len == 0 {
            // What is left of its deficit goes, or an idle depositor would save up for a burst.
            self.paid &= self.turns.front() != Some(&key);
            self.lanes.remove(&key);
            self.turns.retain(|other| *other != key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::waiting;

    fn drain(lanes: &mut Lanes) -> Vec<u64> {
        std::iter::from_fn(|| lanes.take()).map(|seq| seq.0).collect()
    }

    #[test]
    fn depositors_share_by_bytes_and_not_by_documents() {
        let mut lanes = Lanes::new(1_000);
        for seq in 0..100 {
            lanes.push(&waiting(seq, 1, 1), 100, false);
        }
        for seq in 100..110 {
            lanes.push(&waiting(seq, 2, 1), 1_000, false);
        }
        let order = drain(&mut lanes);
        assert_eq!(order.len(), 110);
        let first: Vec<u64> = order.into_iter().take(22).collect();
        assert_eq!(first.iter().filter(|seq| **seq >= 100).count(), 2, "{first:?}");
    }

    #[test]
    fn a_small_share_gets_its_tenth_and_everything_when_alone() {
        let mut lanes = Lanes::new(1_000);
        for seq in 0..100 {
            lanes.push(&waiting(seq, 1, 1), 100, false);
            lanes.push(&Waiting { share: 10, ..waiting(1_000 + seq, 2, 1) }, 100, false);
        }
        let order = drain(&mut lanes);
        assert_eq!(order.len(), 200);
        assert_eq!(order[..55].iter().filter(|seq| **seq >= 1_000).count(), 5);
    }

    #[test]
    fn priority_orders_within_one_collection_only() {
        let mut lanes = Lanes::new(10);
        lanes.push(&waiting(1, 1, 1), 10, false);
        lanes.push(&Waiting { priority: 9, ..waiting(2, 1, 1) }, 10, false);
        lanes.push(&waiting(3, 1, 2), 10, false);
        lanes.push(&waiting(4, 2, 1), 10, false);
        assert_eq!(drain(&mut lanes), [2, 4, 3, 1]);
    }

    #[test]
    fn large_documents_let_the_small_ones_of_their_depositor_pass() {
        let mut lanes = Lanes::new(1_000);
        lanes.push(&waiting(1, 1, 1), 1_000, true);
        lanes.push(&waiting(2, 1, 1), 10, false);
        lanes.push(&waiting(3, 1, 2), 10, false);
        lanes.push(&waiting(4, 1, 2), 1_000, true);
        lanes.push(&Waiting { priority: 9, ..waiting(5, 1, 3) }, 1_000, true);
        lanes.push(&waiting(6, 1, 3), 10, false);
        // Priority counts within its own collection only; of the large ones the collections take turns.
        assert_eq!(drain(&mut lanes), [2, 3, 5, 6, 1, 4]);
    }

    #[test]
    fn a_huge_document_is_reached_without_counting_up_to_it() {
        let mut lanes = Lanes::new(1);
        lanes.push(&waiting(1, 1, 1), u64::MAX / 4, false);
        lanes.push(&waiting(2, 2, 1), 1 << 40, false);
        assert_eq!(drain(&mut lanes), [2, 1]);
    }

    #[test]
    fn room_is_taken_from_whoever_has_most() {
        let mut lanes = Lanes::new(10);
        for seq in 0..5 {
            lanes.push(&waiting(seq, 1, 1), 10, false);
        }
        assert_eq!(lanes.evict_for(&PeerKey([2; 32])), Some(Seq(4)));
        assert_eq!(lanes.evict_for(&PeerKey([1; 32])), None);
        assert_eq!(lanes.len(), 4);
    }
}
