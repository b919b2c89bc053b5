//! Medians and ratios: how several runs become one figure.

use std::time::Duration;

use super::Outcome;

/// Runs of each side.
pub const RUNS: usize = 5;

/// The middle value; the mean of the two middle ones where their number is even. Not a number where there are none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.get(sorted.len() / 2), sorted.len() % 2) {
        (None, _) => f64::NAN,
        (Some(middle), 1) => *middle,
        (Some(upper), _) => (sorted[sorted.len() / 2 - 1] + upper) / 2.0,
    }
}

/// Runs both in turn, A B A B …, so that what else the machine does hits both alike.
pub fn alternate(
    runs: usize,
    mut a: impl FnMut(usize) -> Outcome<Duration>,
    mut b: impl FnMut(usize) -> Outcome<Duration>,
) -> Outcome<Pairs> {
    (0..runs).map(|run| Ok((a(run)?, b(run)?))).collect::<Outcome<Vec<_>>>().map(Pairs)
}

/// The times of two sides that did the same work, each pair taken at about the same moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Pairs(pub Vec<(Duration, Duration)>);

impl Pairs {
    /// Median of our times, in seconds.
    pub fn ours(&self) -> f64 {
        self.median(|(a, _)| a.as_secs_f64())
    }

    /// Median of the other side's times, in seconds.
    pub fn theirs(&self) -> f64 {
        self.median(|(_, b)| b.as_secs_f64())
    }

    /// How fast we are in units of the other side: 1 for as fast, 0.5 for half as fast. The median over the pairs.
    pub fn speed(&self) -> f64 {
        self.median(|(a, b)| b.as_secs_f64() / a.as_secs_f64())
    }

    /// The median over the pairs of something made of both times.
    pub fn median(&self, of: impl Fn(&(Duration, Duration)) -> f64) -> f64 {
        median(&self.0.iter().map(of).collect::<Vec<f64>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_and_no_outlier_moves_it() {
        assert_eq!(median(&[3.0, 1.0, 900.0, 2.0, 2.5]), 2.5);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
        assert_eq!(median(&[7.0]), 7.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn sides_run_in_turn_and_their_medians_make_the_ratio() {
        let order = std::cell::RefCell::new(Vec::new());
        let side = |name, millis: [u64; 3]| {
            let order = &order;
            move |run: usize| {
                order.borrow_mut().push((name, run));
                Ok(Duration::from_millis(millis[run]))
            }
        };
        let pairs = alternate(3, side('a', [40, 10, 20]), side('b', [10, 10, 500])).unwrap();
        assert_eq!(order.into_inner(), [('a', 0), ('b', 0), ('a', 1), ('b', 1), ('a', 2), ('b', 2)]);
        assert_eq!((pairs.ours(), pairs.theirs()), (0.02, 0.01));
        assert_eq!(pairs.speed(), 1.0, "of 0.25, 1 and 25");
    }

    #[test]
    fn a_run_that_fails_ends_it() {
        let failed = alternate(2, |_| Err("no disk".into()), |_| Ok(Duration::ZERO));
        assert_eq!(failed.unwrap_err().to_string(), "no disk");
    }
}
