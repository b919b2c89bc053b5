//! When a group is to be there: always, or while somebody wants it or has joined.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

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
    /// Nobody was in it, or asked for it, since then.
    quiet_since: Option<Instant>,
    stations: BTreeSet<String>,
}

impl Wish {
    pub(crate) fn new(mode: Mode, idle: Duration) -> Self {
        Wish { mode, idle, quiet_since: None, stations: BTreeSet::new() }
    }

    /// Somebody is about to come.
    pub(crate) fn wanted(&mut self, now: Instant) {
        self.quiet_since = Some(now);
    }

    /// Somebody has joined, or left.
    pub(crate) fn station(&mut self, address: &str, is_in: bool, now: Instant) {
        match is_in {
            true => self.stations.insert(address.to_owned()),
            false => self.stations.remove(address),
        };
        self.quiet_since = Some(now);
    }

    /// The group has ended, and everybody in it is out.
    pub(crate) fn ended(&mut self, now: Instant) {
        if !self.stations.is_empty() {
            self.stations.clear();
            // They will want to go on.
            self.quiet_since = Some(now);
        }
    }

    /// How many are in the group.
    pub(crate) fn stations(&self) -> usize {
        self.stations.len()
    }

    /// Whether the group is to be up now.
    pub(crate) fn is_up(&self, now: Instant) -> bool {
        let recent = self.quiet_since.is_some_and(|since| now < since + self.idle);
        self.mode == Mode::Always || !self.stations.is_empty() || recent
    }

    /// When [`Wish::is_up`] ends if nobody comes.
    pub(crate) fn ends(&self) -> Option<Instant> {
        let may_end = self.mode == Mode::OnDemand && self.stations.is_empty();
        self.quiet_since.filter(|_| may_end).map(|since| since + self.idle)
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
    fn always_is_always() {
        let begun = Instant::now();
        let mut wish = Wish::new(Mode::Always, IDLE);
        assert!(wish.is_up(begun) && wish.ends().is_none());
        wish.wanted(begun);
        assert!(wish.is_up(begun + IDLE * 100) && wish.ends().is_none());
    }
}
