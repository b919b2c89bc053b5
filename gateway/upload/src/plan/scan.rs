//! Reading what waits in the store.

use waypost_protocol::ids::Seq;
use waypost_protocol::time::Monotonic;

use super::lanes::Lanes;
use super::step::{Begun, Waiting};
use super::{Item, Planner, Scan};
use crate::body::framed_len;

impl Planner {
    /// The destination takes documents of so many bytes now.
    pub(super) fn take_up_large(&mut self, most: u64) {
        let before = self.set_aside.len();
        self.set_aside.retain(|_, size| size.is_none_or(|size| size > most));
        if self.set_aside.len() < before {
            self.scan.wanted = Some(None);
        }
    }

    pub(super) fn scan_again(&mut self) {
        self.scan.retry_at = None;
        if self.scan.wanted.is_none() {
            let skipped = self.scan.skipped.take();
            self.scan.wanted = Some(match skipped {
                Some(seq) => seq.0.checked_sub(1).map(Seq),
                None => self.scan.seen,
            });
        }
    }

    /// Reads everything anew, but for what is under way: others may have brought it to its destination meanwhile.
    pub(super) fn read_anew(&mut self) {
        let Planner { flight, items, .. } = self;
        items.retain(|seq, _| flight.contains(seq));
        self.lanes = Lanes::new(self.settings.quantum);
        self.retries.clear();
        self.asks.clear();
        self.deferred.clear();
        self.scan = Scan { wanted: Some(None), ..Scan::default() };
    }

    pub(super) fn scanned(&mut self, documents: &[Waiting], more: bool, owed: bool, now: Monotonic) {
        self.scan.failures = 0;
        let last = documents.last().map(|document| document.seq);
        self.scan.seen = self.scan.seen.max(last);
        for document in documents {
            self.offer(document);
        }
        self.scan.wanted = last.filter(|_| more).map(Some);
        match (owed, self.fetch_at) {
            (true, None) => self.fetch_at = Some(now),
            (false, Some(_)) => self.fetch_at = None,
            _ => {}
        }
    }

    /// Takes a document into the window where there is room, or where others of a greedier depositor can wait.
    pub(super) fn offer(&mut self, document: &Waiting) {
        let seq = document.seq;
        if self.items.contains_key(&seq) || self.set_aside.contains_key(&seq) {
            return;
        }
        if self.lanes.len() >= self.settings.window || self.items.len() >= self.most_items() {
            let evicted = self.lanes.evict_for(&document.depositor);
            let out = evicted.unwrap_or(seq);
            self.scan.skipped = Some(self.scan.skipped.map_or(out, |earliest| earliest.min(out)));
            match evicted {
                Some(evicted) => self.items.remove(&evicted),
                None => return,
            };
        }
        let bytes = framed_len(&document.description).unwrap_or(document.description.size);
        let ask = document.ambiguous;
        let begun = if document.ambiguous { Begun::Unsure(0) } else { Begun::No };
        let item = Item {
            waiting: *document,
            bytes,
            begun,
            ask,
            asked: false,
            charged: 0,
            tries: 0,
            losses: 0,
            cap: usize::MAX,
        };
        self.items.insert(seq, item);
        self.enqueue(seq);
    }
}
