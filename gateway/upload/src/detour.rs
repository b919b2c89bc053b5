//! Lines that are up and lead nowhere: after two failures in a row the next line is taken, and the first tried again later.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::error::Kind;
use crate::way::Route;

/// Failures in a row, without an answer in between, after which a line is passed over.
const FAILURES: u32 = 2;
/// For how long at first; twice as long whenever it fails again at its next try.
const FIRST: Duration = Duration::from_secs(30);
/// And at most.
const LONGEST: Duration = Duration::from_secs(1_800);

/// What one client knows of its lines.
#[derive(Debug, Default)]
pub(crate) struct Detours(BTreeMap<Option<String>, Line>);

#[derive(Debug, Default, Clone, Copy)]
struct Line {
    failures: u32,
    passed_over_until: Option<Instant>,
    /// Failures while it was passed over: it was tried for want of a better one.
    in_vain: u32,
}

/// Whether the line can be the reason: the destination itself has said nothing.
pub(crate) fn is_the_lines(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::NoRoute
            | Kind::DnsFailed
            | Kind::ConnectFailed
            | Kind::TlsRefused
            | Kind::CaptivePortal
            | Kind::Timeout
            | Kind::ConnectionLost
    )
}

impl Detours {
    /// The first that is not passed over; where all are, they take turns.
    pub(crate) fn pick<'a>(&self, routes: &'a [Route], now: Instant) -> Option<&'a Route> {
        let in_vain = |route: &&Route| self.0.get(&route.interface).map_or(0, |line| line.in_vain);
        routes.iter().find(|route| self.is_open(route, now)).or_else(|| routes.iter().min_by_key(in_vain))
    }

    pub(crate) fn is_open(&self, route: &Route, now: Instant) -> bool {
        let line = self.0.get(&route.interface);
        line.and_then(|line| line.passed_over_until).is_none_or(|until| until <= now)
    }

    pub(crate) fn failed(&mut self, route: &Route, now: Instant) {
        let is_open = self.is_open(route, now);
        let line = self.0.entry(route.interface.clone()).or_default();
        if !is_open {
            line.in_vain = line.in_vain.saturating_add(1);
            return;
        }
        line.failures = line.failures.saturating_add(1);
        if line.failures >= FAILURES {
            let span = FIRST.saturating_mul(1 << (line.failures - FAILURES).min(16)).min(LONGEST);
            line.passed_over_until = Some(now + span);
        }
    }

    pub(crate) fn worked(&mut self, route: &Route) {
        self.0.remove(&route.interface);
    }

    /// Networks have changed: all that was found out may be over.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str) -> Route {
        Route { interface: Some(name.into()), ..Route::default() }
    }

    fn picked(detours: &Detours, routes: &[Route], now: Instant) -> String {
        detours.pick(routes, now).unwrap().interface.clone().unwrap()
    }

    #[test]
    fn a_line_that_fails_twice_is_passed_over_ever_longer_until_it_works() {
        let (mut detours, routes, mut now) =
            (Detours::default(), [line("eth0"), line("wwan0")], Instant::now());
        detours.failed(&routes[0], now);
        assert_eq!(picked(&detours, &routes, now), "eth0", "once may be chance");
        detours.failed(&routes[0], now);
        for seconds in [30, 60, 120, 240, 480, 960, 1_800, 1_800] {
            assert_eq!(picked(&detours, &routes, now), "wwan0");
            now += Duration::from_secs(seconds - 1);
            assert_eq!(picked(&detours, &routes, now), "wwan0", "{seconds} s");
            now += Duration::from_secs(1);
            assert_eq!(picked(&detours, &routes, now), "eth0", "{seconds} s");
            detours.failed(&routes[0], now);
        }
        detours.worked(&routes[0]);
        detours.failed(&routes[0], now);
        assert_eq!(picked(&detours, &routes, now), "eth0");
    }

    #[test]
    fn where_no_line_works_they_take_turns_and_get_no_worse_by_that() {
        let (mut detours, routes, now) = (Detours::default(), [line("eth0"), line("wwan0")], Instant::now());
        for route in &routes {
            detours.failed(route, now);
            detours.failed(route, now);
        }
        for _ in 0..100 {
            for (at, name) in ["eth0", "wwan0"].into_iter().enumerate() {
                assert_eq!(picked(&detours, &routes, now), name);
                detours.failed(&routes[at], now);
            }
        }
        assert!(detours.is_open(&routes[0], now + FIRST));
        detours.forget();
        assert!(detours.is_open(&routes[1], now));
    }
}
