//! One direction of an emulated network as a function of time: which packets arrive, and when.

use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

/// What a network does to packets. The default does nothing to them.
#[derive(Clone, Debug, PartialEq)]
pub struct Conditions {
    /// Time that each packet is under way, in one direction; a round trip takes twice as long.
    pub delay: Duration,
    /// Up to this much more, differently for each packet. It does not reorder them.
    pub jitter: Duration,
    /// Bytes of IP packets that pass per second; `None` for as many as the machine can.
    pub rate: Option<u64>,
    /// Bytes that wait when packets come faster than `rate`; what doesn't fit is dropped.
    pub queue: u64,
    /// Part of the packets that is lost at random, from 0.0 to 1.0.
    pub loss: f64,
    /// Part of the packets that is held back by `reorder_delay`, so that others overtake them, from 0.0 to 1.0.
    pub reorder: f64,
    /// For how long.
    pub reorder_delay: Duration,
    /// Which packets are lost, late or reordered, given the same packets.
    pub seed: u64,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            rate: None,
            queue: 256 << 10,
            loss: 0.0,
            reorder: 0.0,
            reorder_delay: Duration::from_millis(5),
            seed: 0,
        }
    }
}

/// Packets of one direction since the network was made. Bytes are those of whole IP packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets that arrived.
    pub packets: u64,
    /// Bytes that arrived.
    pub bytes: u64,
    /// Packets lost at random.
    pub lost: u64,
    /// Packets for which there was no room in the queue.
    pub overflowed: u64,
    /// Packets sent, or still under way, while the link was down.
    pub cut: u64,
}

pub(crate) struct Line {
    conditions: Conditions,
    random: ChaCha8Rng,
    up: bool,
    /// When the last packet admitted has left the queue.
    busy_until: Instant,
    /// No packet that is not reordered may arrive before the one sent before it.
    last_arrival: Instant,
    under_way: BinaryHeap<Flying>,
    admitted: u64,
    pub(crate) counters: Counters,
}

/// A packet under way; the greatest is the one to arrive first.
struct Flying {
    arrival: Instant,
    number: u64,
    packet: Vec<u8>,
}

impl Line {
    pub(crate) fn new(conditions: Conditions, now: Instant) -> Self {
        Self {
            random: ChaCha8Rng::seed_from_u64(conditions.seed),
            conditions,
            up: true,
            busy_until: now,
            last_arrival: now,
            under_way: BinaryHeap::new(),
            admitted: 0,
            counters: Counters::default(),
        }
    }

    /// From now on the network is like this. Packets under way arrive as they would have.
    pub(crate) fn set(&mut self, conditions: Conditions) {
        self.random = ChaCha8Rng::seed_from_u64(conditions.seed);
        self.conditions = conditions;
    }

    /// Cuts the link, losing what is under way, or gives it back.
    pub(crate) fn link(&mut self, up: bool, now: Instant) {
        self.up = up;
        self.counters.cut += self.under_way.len() as u64;
        self.under_way.clear();
        self.busy_until = now;
        self.last_arrival = now;
    }

    /// Takes a packet that was sent at `now`.
    pub(crate) fn send(&mut self, packet: &[u8], now: Instant) {
        if !self.up {
            self.counters.cut += 1;
            return;
        }
        if self.happens(self.conditions.loss) {
            self.counters.lost += 1;
            return;
        }
        let begins = self.busy_until.max(now);
        let leaves = match self.conditions.rate {
            None => now,
            Some(rate) => {
                let waiting = (begins - now).as_secs_f64() * rate as f64;
                if waiting + packet.len() as f64 > self.conditions.queue as f64 {
                    self.counters.overflowed += 1;
                    return;
                }
                begins + Duration::from_secs_f64(packet.len() as f64 / rate.max(1) as f64)
            }
        };
        self.busy_until = leaves;
        let jitter = self.conditions.jitter.mul_f64(self.chance());
        let mut arrival = (leaves + self.conditions.delay + jitter).max(self.last_arrival);
        if self.happens(self.conditions.reorder) {
            arrival += self.conditions.reorder_delay;
        } else {
            self.last_arrival = arrival;
        }
        self.admitted += 1;
        self.under_way.push(Flying { arrival, number: self.admitted, packet: packet.to_vec() });
    }

    /// The next packet that has arrived by `now`.
    pub(crate) fn receive(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.next_arrival()? > now {
            return None;
        }
        let packet = self.under_way.pop()?.packet;
        self.counters.packets += 1;
        self.counters.bytes += packet.len() as u64;
        Some(packet)
    }

    /// When the next packet arrives.
    pub(crate) fn next_arrival(&self) -> Option<Instant> {
        self.under_way.peek().map(|flying| flying.arrival)
    }

    fn happens(&mut self, part: f64) -> bool {
        part > 0.0 && self.chance() < part
    }

    /// A number from 0.0 up to, but not including, 1.0.
    fn chance(&mut self) -> f64 {
        f64::from(self.random.next_u32()) / (f64::from(u32::MAX) + 1.0)
    }
}

impl Ord for Flying {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.arrival, other.number).cmp(&(self.arrival, self.number))
    }
}

impl PartialOrd for Flying {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Flying {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Flying {}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Sends `count` packets of 1000 bytes, `apart` from each other, and lists which arrive at which millisecond.
    fn arrivals(line: &mut Line, begin: Instant, count: u64, apart: Duration) -> Vec<(u64, u128)> {
        let mut arrived = Vec::new();
        for number in 0..count {
            let mut packet = vec![0; 1000];
            packet[..8].copy_from_slice(&number.to_be_bytes());
            line.send(&packet, begin + apart * u32::try_from(number).unwrap());
        }
        while let Some(at) = line.next_arrival() {
            let packet = line.receive(at).unwrap();
            arrived.push((u64::from_be_bytes(packet[..8].try_into().unwrap()), (at - begin).as_millis()));
        }
        arrived
    }

    #[test]
    fn every_packet_takes_the_delay() {
        let begin = Instant::now();
        let mut line = Line::new(Conditions { delay: 300 * MS, ..Conditions::default() }, begin);
        assert_eq!(arrivals(&mut line, begin, 3, MS), [(0, 300), (1, 301), (2, 302)]);
    }

    #[test]
    fn packets_faster_than_the_rate_wait_and_then_overflow() {
        let begin = Instant::now();
        let conditions = Conditions { rate: Some(100_000), queue: 3000, ..Conditions::default() };
        let mut line = Line::new(conditions, begin);
        assert_eq!(arrivals(&mut line, begin, 5, Duration::ZERO), [(0, 10), (1, 20), (2, 30)]);
        assert_eq!(line.counters.overflowed, 2);
    }

    #[test]
    fn loss_is_the_part_that_was_asked_for_and_the_same_for_the_same_seed() {
        let begin = Instant::now();
        let conditions = Conditions { loss: 0.02, seed: 7, ..Conditions::default() };
        let run = || arrivals(&mut Line::new(conditions.clone(), begin), begin, 10_000, Duration::ZERO);
        let (first, second) = (run(), run());
        assert_eq!(first, second);
        assert!((9_750..9_850).contains(&first.len()), "{} of 10000 arrived", first.len());
    }

    #[test]
    fn jitter_keeps_the_order_and_reordering_does_not() {
        let begin = Instant::now();
        let jitter = Conditions { jitter: 20 * MS, ..Conditions::default() };
        let arrived = arrivals(&mut Line::new(jitter, begin), begin, 100, MS);
        assert!(arrived.is_sorted_by_key(|(number, _)| *number));
        let reorder = Conditions { reorder: 0.1, ..Conditions::default() };
        let arrived = arrivals(&mut Line::new(reorder, begin), begin, 100, MS);
        assert_eq!(arrived.len(), 100);
        assert!(!arrived.is_sorted_by_key(|(number, _)| *number));
    }

    #[test]
    fn nothing_arrives_that_was_sent_before_or_while_the_link_was_down() {
        let begin = Instant::now();
        let mut line = Line::new(Conditions { delay: 10 * MS, ..Conditions::default() }, begin);
        line.send(b"before", begin);
        line.link(false, begin + MS);
        line.send(b"while", begin + 2 * MS);
        line.link(true, begin + 3 * MS);
        line.send(b"after", begin + 4 * MS);
        assert_eq!(line.receive(begin + 20 * MS).as_deref(), Some(&b"after"[..]));
        assert_eq!(line.receive(begin + 20 * MS), None);
        assert_eq!(line.counters.cut, 2);
    }
}
