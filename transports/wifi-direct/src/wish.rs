//! When a group is to be there: always, or while somebody wants it or has joined.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

/// Whoever wants the group has at least so long to join it.
const COMING: Duration = Duration::from_secs(30);

/// When a group is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// All the time.
    Always,
    /// From when somebody wants it until nobody has been in it for a while.
    OnDemand,
}

/// Whether the group is to be up, and until when.
#[derive(Debug)]
pub(crate) struct Wish {
    mode: Mode,
    /// How long a group stays up that nobody is in.
    idle: Duration,
    /// Until then it stays also where nobody is in it.
    until: Option<Instant>,
    stations: BTreeSet<String>,
}

impl Wish {
    pub(crate) fn new(mode: Mode, idle: Duration) -> Self {
        Wish { mode, idle, until: None, stations: BTreeSet::new() }
    }

    /// Somebody is about to come.
    pub(crate) fn wanted(&mut self, now: Instant) {
        self.stay(now, self.idle.max(COMING));
    }

    fn stay(&mut self, now: Instant, long: Duration) {
        self.until = self.until.max(Some(now + long));
    }

    /// Somebody has joined, or left.
    pub(crate) fn station(&mut self, address: &str, is_in: bool, now: Instant) {
        match is_in {
            true => self.stations.insert(address.to_owned()),
            false => self.stations.remove(address),
        };
        self.stay(now, self.idle);
    }

    /// The group has ended, and everybody in it is out.
    pub(crate) fn ended(&mut self, now: Instant) {
        if !self.stations.is_empty() {
            self.stations.clear();
            // They will want to go on.
            self.stay(now, self.idle);
        }
    }

    /// How many are in the group.
    pub(crate) fn stations(&self) -> usize {
        self.stations.len()
    }

    /// Whether the group is to be up now.
    pub(crate) fn is_up(&self, now: Instant) -> bool {
        let stays = self.until.is_some_and(|until| now < until);
        self.mode == Mode::Always || !self.stations.is_empty() || stays
    }

    /// When [`Wish::is_up`] ends if nobody comes.
    pub(crate) fn ends(&self) -> Option<Instant> {
        let may_end = self.mode == Mode::OnDemand && self.stations.is_empty();
        self.until.filter(|_| may_end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    #[test]
    fn on_demand_it_is_up_while_somebody_wants_it_or_is_in_it_and_a_while_longer() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut wish = Wish::new(Mode::OnDemand, IDLE);
        assert!(!wish.is_up(begun) && wish.ends().is_none());
        wish.wanted(at(10));
        assert!(wish.is_up(at(10)) && wish.is_up(at(69)) && !wish.is_up(at(70)));
        assert_eq!(wish.ends(), Some(at(70)));
        wish.station("02:00:00:00:01:00", true, at(60));
        assert!(wish.is_up(at(5_000)) && wish.ends().is_none());
        wish.station("02:00:00:00:02:00", true, at(61));
        wish.station("02:00:00:00:01:00", false, at(100));
        assert_eq!((wish.stations(), wish.is_up(at(5_000))), (1, true));
        wish.station("02:00:00:00:02:00", false, at(200));
        assert!(wish.is_up(at(259)) && !wish.is_up(at(260)));
    }

    #[test]
    fn a_group_that_ends_under_those_who_are_in_it_is_wanted_again_and_one_that_nobody_was_in_is_not() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut wish = Wish::new(Mode::OnDemand, IDLE);
        wish.wanted(begun);
        wish.ended(at(59));
        assert_eq!(wish.ends(), Some(at(60)));
        wish.station("02:00:00:00:01:00", true, at(59));
        wish.ended(at(300));
        assert!(wish.is_up(at(359)) && !wish.is_up(at(360)) && wish.stations() == 0);
    }

    #[test]
    fn whoever_wants_it_has_time_to_join_however_short_it_idles() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut wish = Wish::new(Mode::OnDemand, Duration::from_secs(5));
        wish.wanted(begun);
        assert!(wish.is_up(at(29)) && !wish.is_up(at(30)));
        wish.station("02:00:00:00:01:00", true, at(20));
        wish.station("02:00:00:00:01:00", false, at(40));
        assert!(wish.is_up(at(44)) && !wish.is_up(at(45)));
    }

    #[test]
    fn always_is_always() {
        let begun = Instant::now();
        let mut wish = Wish::new(Mode::Always, IDLE);
        assert!(wish.is_up(begun) && wish.ends().is_none());
        wish.wanted(begun);
        assert!(wish.is_up(begun + IDLE * 100) && wish.ends().is_none());
    }
}
