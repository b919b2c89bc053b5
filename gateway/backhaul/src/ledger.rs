//! What was spent of each budget: pure, so that days pass in tests as they do not in life.
//!
//! A day is 24 hours and a month 30 days, from the first byte on, by clocks that run no faster than time does: the
//! store's, which stands still while the machine is off, and the time that destinations vouch for, where it is known.
//! The wall clock has no say: a board that boots in 1970, or one that is set wrong, neither spends twice nor never again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// In seconds.
const DAY: u64 = 86_400;
/// In seconds.
const MONTH: u64 = 30 * DAY;

/// A moment, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Moment {
    /// Seconds that the machine was on.
    pub uptime: u64,
    /// Unix seconds that were vouched for; not later than it is.
    pub trusted: Option<u64>,
}

impl Moment {
    /// Seconds that have passed at least.
    fn since(&self, earlier: &Moment) -> u64 {
        let uptime = self.uptime.saturating_sub(earlier.uptime);
        let trusted = self.trusted.zip(earlier.trusted).map_or(0, |(now, then)| now.saturating_sub(then));
        uptime.max(trusted)
    }
}

/// Bounds of a backhaul, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Budget {
    /// In a day.
    pub day: Option<u64>,
    /// In a month.
    pub month: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Period {
    began: Moment,
    bytes: u64,
}

impl Period {
    fn at(self, now: Moment, length: u64) -> Period {
        if self.bytes == 0 || now.since(&self.began) >= length {
            Period { began: now, bytes: 0 }
        } else {
            self
        }
    }
}

/// What was spent, by the name of the backhaul.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ledger {
    spent: BTreeMap<String, [Period; 2]>,
}

impl Ledger {
    /// Bytes that may still be spent now; `None` without a bound.
    pub fn left(&self, name: &str, budget: Budget, now: Moment) -> Option<u64> {
        let [day, month] = self.periods(name, now);
        let left = |bound: Option<u64>, period: Period| bound.map(|bound| bound.saturating_sub(period.bytes));
        [left(budget.day, day), left(budget.month, month)].into_iter().flatten().min()
    }

    /// Seconds until there is something to spend again, at most; 0 where there is.
    pub fn wait(&self, name: &str, budget: Budget, now: Moment) -> u64 {
        let wait = |bound: Option<u64>, period: Period, length: u64| match bound {
            Some(bound) if period.bytes >= bound => length.saturating_sub(now.since(&period.began)).max(1),
            _ => 0,
        };
        let [day, month] = self.periods(name, now);
        wait(budget.day, day, DAY).max(wait(budget.month, month, MONTH))
    }

    /// Writes down what was spent.
    pub fn spend(&mut self, name: &str, bytes: u64, now: Moment) {
        let mut periods = self.periods(name, now);
        for period in &mut periods {
            period.bytes = period.bytes.saturating_add(bytes);
        }
        self.spent.insert(name.to_owned(), periods);
    }

    /// Takes back what was written down and not spent after all.
    pub fn give_back(&mut self, name: &str, bytes: u64) {
        for period in self.spent.get_mut(name).into_iter().flatten() {
            period.bytes = period.bytes.saturating_sub(bytes);
        }
    }

    /// Bytes spent in the day and in the month that are under way.
    pub fn spent(&self, name: &str, now: Moment) -> [u64; 2] {
        self.periods(name, now).map(|period| period.bytes)
    }

    fn periods(&self, name: &str, now: Moment) -> [Period; 2] {
        let [day, month] = self.spent.get(name).copied().unwrap_or_default();
        [day.at(now, DAY), month.at(now, MONTH)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;
    const BUDGET: Budget = Budget { day: Some(50 * MB), month: Some(120 * MB) };

    fn at(uptime: u64) -> Moment {
        Moment { uptime, trusted: None }
    }

    #[test]
    fn a_day_ends_24_hours_after_its_first_byte_and_a_month_after_30_days() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.left("modem", BUDGET, at(5)), Some(50 * MB));
        ledger.spend("modem", 20 * MB, at(100));
        assert_eq!(ledger.left("modem", BUDGET, at(100)), Some(30 * MB));
        ledger.spend("modem", 30 * MB, at(200));
        assert_eq!(
            (ledger.left("modem", BUDGET, at(200)), ledger.wait("modem", BUDGET, at(200))),
            (Some(0), DAY - 100)
        );
        assert_eq!(ledger.left("modem", BUDGET, at(100 + DAY)), Some(50 * MB));
        ledger.spend("modem", 50 * MB, at(100 + DAY));
        assert_eq!(
            ledger.left("modem", BUDGET, at(100 + 2 * DAY)),
            Some(20 * MB),
            "the month is the closer bound"
        );
        ledger.spend("modem", 20 * MB, at(100 + 2 * DAY));
        assert_eq!(ledger.wait("modem", BUDGET, at(100 + 3 * DAY)), MONTH - 3 * DAY);
        assert_eq!(ledger.left("modem", BUDGET, at(100 + MONTH)), Some(50 * MB));
        // Others have their own; without bounds there is nothing to wait for.
        assert_eq!(ledger.left("satellite", BUDGET, at(200)), Some(50 * MB));
        assert_eq!(
            (
                ledger.left("modem", Budget::default(), at(200)),
                ledger.wait("modem", Budget::default(), at(200))
            ),
            (None, 0)
        );
    }

    #[test]
    fn hours_that_the_machine_was_off_count_once_somebody_vouches_for_them() {
        let mut ledger = Ledger::default();
        let noon = |uptime, hours: u64| Moment { uptime, trusted: Some(1_800_000_000 + hours * 3_600) };
        ledger.spend("modem", 50 * MB, noon(0, 0));
        // On for eight hours a day: the next day begins with the destination's word, not after three days.
        assert_eq!(ledger.left("modem", BUDGET, at(8 * 3_600)), Some(0));
        assert_eq!(ledger.left("modem", BUDGET, noon(8 * 3_600, 23)), Some(0));
        assert_eq!(ledger.left("modem", BUDGET, noon(8 * 3_600, 24)), Some(50 * MB));
    }

    #[test]
    fn a_clock_that_goes_back_spends_nothing_twice() {
        let mut ledger = Ledger::default();
        ledger.spend("modem", 50 * MB, Moment { uptime: 1_000, trusted: Some(1_800_000_000) });
        let back = Moment { uptime: 10, trusted: Some(5) };
        assert_eq!(ledger.left("modem", BUDGET, back), Some(0));
    }

    #[test]
    fn what_was_not_spent_comes_back_and_everything_survives_being_written_down() {
        let mut ledger = Ledger::default();
        ledger.spend("modem", 10 * MB, at(0));
        ledger.give_back("modem", 4 * MB);
        ledger.give_back("nobody", 4 * MB);
        let text = serde_json::to_string(&ledger).unwrap();
        let read: Ledger = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (read.left("modem", BUDGET, at(1)), read.spent("modem", at(1))),
            (Some(44 * MB), [6 * MB; 2])
        );
    }
}
