//! Phones at a radio, in virtual time.

use super::super::*;

pub(super) const SLOTS: usize = 7;
pub(super) const MEGABYTE: f64 = 1e6;
/// A step of the simulation, in seconds.
pub(super) const STEP: f64 = 0.1;
/// Finding the radio again, connecting and the handshake, in seconds.
pub(super) const CONNECT: f64 = 1.0;
/// A phone of ours at 1 Mbit/s.
pub(super) const FAST: f64 = 125_000.0;

pub(super) fn at(seconds: f64) -> Monotonic {
    Monotonic(Duration::from_secs_f64(seconds))
}

pub(super) fn key(number: usize) -> PeerKey {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&(number as u64).to_be_bytes());
    PeerKey(key)
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Place {
    /// Not at the radio until then.
    Away(f64),
    /// On this link, since then.
    Served(ConversationId, f64),
    Done(f64),
    Gone,
}

#[derive(Clone, Copy)]
pub(super) struct Phone {
    pub(super) is_known: bool,
    /// Bytes per second, alone on the radio.
    pub(super) speed: f64,
    pub(super) left: f64,
    /// It comes so much later (or earlier) than it was told, in seconds.
    pub(super) late: f64,
    /// Its links break after so long.
    pub(super) breaks: Option<f64>,
    /// It is gone for ever, without a word, after so many seconds of service.
    pub(super) vanishes: Option<f64>,
    pub(super) place: Place,
    pub(super) on_link: f64,
    pub(super) first_served: Option<f64>,
    pub(super) has_knocked: bool,
}

pub(super) fn phone(speed: f64, bytes: f64) -> Phone {
    Phone {
        is_known: true,
        speed,
        left: bytes,
        late: 0.0,
        breaks: None,
        vanishes: None,
        place: Place::Away(0.0),
        on_link: 0.0,
        first_served: None,
        has_knocked: false,
    }
}

pub(super) struct World {
    pub(super) turns: Turns,
    pub(super) phones: Vec<Phone>,
    /// What all links move together at most, in bytes per second.
    pub(super) radio: f64,
    next_link: u64,
    pub(super) now: f64,
    /// For so long at a time a slot was free while somebody waited, in seconds.
    longest_idle: f64,
    idle_since: Option<f64>,
    pub(super) most_waiting: usize,
}

impl World {
    pub(super) fn new(phones: Vec<Phone>) -> Self {
        World {
            turns: Turns::new(SLOTS, TurnLength::default()),
            phones,
            radio: f64::INFINITY,
            next_link: 1,
            now: 0.0,
            longest_idle: 0.0,
            idle_since: None,
            most_waiting: 0,
        }
    }

    /// Until all known phones are done, or for so many seconds.
    pub(super) fn run(&mut self, longest: f64) {
        while self.now < longest
            && self
                .phones
                .iter()
                .any(|one| one.is_known && !matches!(one.place, Place::Done(_) | Place::Gone))
        {
            self.now += STEP;
            self.serve();
            self.knock();
            self.watch();
        }
    }

    fn serve(&mut self) {
        let served = self.phones.iter().filter(|one| matches!(one.place, Place::Served(..))).count();
        for at_phone in 0..self.phones.len() {
            let one = &mut self.phones[at_phone];
            let Place::Served(link, since) = one.place else { continue };
            let moved = (one.speed.min(self.radio / served as f64) * STEP).min(one.left);
            one.left -= moved;
            one.on_link += moved;
            self.turns.moved(link, whole(one.on_link), at(self.now), false);
            let spent = self.now - since;
            if one.left <= 0.0 {
                one.place = Place::Done(self.now);
                self.turns.left(link, false, at(self.now));
            } else if one.vanishes.is_some_and(|after| spent >= after) {
                // Nobody tells the radio.
                one.place = Place::Gone;
            } else if one.breaks.is_some_and(|after| spent >= after) {
                one.place = Place::Away(self.now + CONNECT);
                self.turns.left(link, true, at(self.now));
            }
        }
    }

    fn knock(&mut self) {
        for number in 0..self.phones.len() {
            let one = self.phones[number];
            if !matches!(one.place, Place::Away(until) if until <= self.now) {
                continue;
            }
            let link = ConversationId(self.next_link);
            self.next_link += 1;
            self.phones[number].has_knocked = true;
            let back = |line: InLine, late: f64, now: f64| {
                assert!(line.again >= 1 && line.place <= 80, "{line:?}");
                Place::Away(now + (f64::from(line.again) + late).max(0.5) + CONNECT)
            };
            match self.turns.admit(link, key(number), one.is_known, at(self.now)) {
                Admission::Wait(line) => self.phones[number].place = back(line, one.late, self.now),
                Admission::GoesOn { .. } => self.begin(number, link),
                Admission::Serve => self.begin(number, link),
                Admission::Replaces { over, line } => {
                    let is_over = |one: &Phone| matches!(one.place, Place::Served(link, _) if link == over);
                    if let Some(ended) = self.phones.iter_mut().find(|one| is_over(one)) {
                        ended.place = back(line, ended.late, self.now);
                    }
                    self.begin(number, link);
                }
            }
        }
    }

    fn begin(&mut self, number: usize, link: ConversationId) {
        let one = &mut self.phones[number];
        one.first_served.get_or_insert(self.now);
        (one.place, one.on_link) = (Place::Served(link, self.now), 0.0);
    }

    fn watch(&mut self) {
        assert!(self.turns.serving() <= SLOTS);
        self.most_waiting = self.most_waiting.max(self.turns.waiting());
        let waits = self.phones.iter().any(|one| matches!(one.place, Place::Away(_)) && one.has_knocked);
        if waits && self.turns.serving() < SLOTS {
            let since = *self.idle_since.get_or_insert(self.now);
            self.longest_idle = self.longest_idle.max(self.now - since);
        } else {
            self.idle_since = None;
        }
    }

    /// When each known phone was done.
    pub(super) fn done(&self) -> Vec<f64> {
        let done = |one: &Phone| match one.place {
            Place::Done(at) => at,
            other if one.is_known && other != Place::Gone => panic!("not done by {:.0} s", self.now),
            _ => f64::NAN,
        };
        self.phones.iter().map(done).collect()
    }

    pub(super) fn assert_fair(&self, shares: &[f64]) {
        for (number, (done, share)) in self.done().iter().zip(shares).enumerate() {
            assert!(
                done.is_nan() || *done <= 2.0 * share,
                "phone {number}: {done:.1} s, fair is {share:.1} s"
            );
        }
        let hold = TurnLength::default().hold.as_secs_f64();
        // What phones are told is whole seconds.
        assert!(self.longest_idle <= hold + CONNECT + 1.0, "a slot was idle for {:.1} s", self.longest_idle);
    }
}

/// The fair share of each, from the seconds of a slot that each needs.
pub(super) fn fair_shares(needs: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..needs.len()).collect();
    order.sort_by(|a, b| needs[*a].total_cmp(&needs[*b]));
    let (mut now, mut each, mut shares) = (0.0, 0.0, vec![0.0; needs.len()]);
    for (before, number) in order.iter().enumerate() {
        let there = (needs.len() - before) as f64;
        now += (needs[*number] - each) * (there / SLOTS as f64).max(1.0);
        each = needs[*number];
        shares[*number] = now;
    }
    shares
}

pub(super) fn needs(phones: &[Phone]) -> Vec<f64> {
    phones.iter().map(|one| one.left / one.speed).collect()
}

fn whole(bytes: f64) -> u64 {
    Duration::from_secs_f64(bytes).as_secs()
}
