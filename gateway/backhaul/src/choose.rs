//! Which backhauls may be used now, in which order: those of the configuration that are connected, open and within their
//! budget.

use waypost_config::{Backhaul, Cost};

use crate::ledger::{Budget, Ledger, Moment};
use crate::networks::Network;

/// What is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// The system's routes as they are: nothing is configured, or nothing that is configured leads outward.
    System,
    /// These and no others, the preferred one first; never empty.
    Lines(Vec<Line>),
    /// None of those that are connected may be used now.
    Closed {
        /// The one that is preferred.
        backhaul: String,
        /// Why.
        why: Closed,
    },
}

/// A network interface that may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its name.
    pub interface: String,
    /// The backhaul that it belongs to; `None` for one that no backhaul names.
    pub backhaul: Option<String>,
    /// Whether bytes cost money.
    pub metered: bool,
}

/// Why a backhaul is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// Its budget is spent, for at most so many seconds more.
    Spent(u64),
    /// It is not its time of day.
    Hours,
}

/// What a choice depends on, beside the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// Networks with a way out, the one that the kernel prefers first.
    pub outward: &'a [Network],
    /// What was spent.
    pub ledger: &'a Ledger,
    /// Now.
    pub now: Moment,
    /// The minute of the day, where it is known.
    pub minute: Option<u16>,
}

/// The bounds of a backhaul.
pub fn budget(backhaul: &Backhaul) -> Budget {
    Budget { day: backhaul.day.map(|size| size.bytes()), month: backhaul.month.map(|size| size.bytes()) }
}

/// Chooses among the backhauls of the configuration.
pub fn choose(backhauls: &[Backhaul], situation: Situation<'_>) -> Choice {
    let Situation { outward, ledger, now, minute } = situation;
    let (mut closed, mut lines) = (None, Vec::new());
    for backhaul in backhauls {
        let mut connected = outward.iter().filter(|network| backhaul.has(&network.interface)).peekable();
        if connected.peek().is_none() {
            continue;
        }
        let name = backhaul.name.as_str();
        let why = match ledger.wait(name, budget(backhaul), now) {
            0 if minute.is_none_or(|minute| backhaul.is_open_at(minute)) => {
                lines.extend(connected.map(|network| Line {
                    interface: network.interface.clone(),
                    backhaul: Some(name.to_owned()),
                    metered: backhaul.cost == Cost::Metered,
                }));
                continue;
            }
            0 => Closed::Hours,
            seconds => Closed::Spent(seconds),
        };
        closed.get_or_insert(Choice::Closed { backhaul: name.to_owned(), why });
    }
    if !backhauls.is_empty() {
        let is_named = |network: &Network| backhauls.iter().any(|backhaul| backhaul.has(&network.interface));
        let unnamed = outward.iter().filter(|network| !is_named(network));
        lines.extend(unnamed.map(|network| Line {
            interface: network.interface.clone(),
            backhaul: None,
            metered: false,
        }));
    }
    match closed {
        _ if !lines.is_empty() => Choice::Lines(lines),
        Some(closed) => closed,
        None => Choice::System,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIGURATION: &str = r#"
        [[backhaul]]
        name = "cable"
        interfaces = ["eth0"]
        [[backhaul]]
        name = "modem"
        interfaces = ["wwan*"]
        cost = "metered"
        day = "1MB"
        windows = ["20:00-06:00"]
    "#;

    fn backhauls() -> Vec<Backhaul> {
        waypost_config::parse(&[waypost_config::Source::new("gateway.toml", CONFIGURATION)]).config.backhaul
    }

    fn networks(names: &[&str]) -> Vec<Network> {
        names.iter().map(|name| Network { interface: (*name).to_owned(), metric: 0 }).collect()
    }

    fn chosen(names: &[&str], spent: u64, hour: Option<u16>) -> Choice {
        let mut ledger = Ledger::default();
        ledger.spend("modem", spent, Moment::default());
        let outward = networks(names);
        let minute = hour.map(|hour| hour * 60);
        choose(&backhauls(), Situation { outward: &outward, ledger: &ledger, now: Moment::default(), minute })
    }

    fn interfaces(choice: Choice) -> Vec<String> {
        match choice {
            Choice::Lines(lines) => lines.into_iter().map(|line| line.interface).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_order_of_the_configuration_goes_before_that_of_the_kernel() {
        let all = chosen(&["wlan0", "wwan1", "wwan0", "eth0"], 0, Some(22));
        assert_eq!(interfaces(all), ["eth0", "wwan1", "wwan0", "wlan0"]);
        let modem = Line { interface: "wwan0".into(), backhaul: Some("modem".into()), metered: true };
        assert_eq!(chosen(&["wwan0"], 0, Some(22)), Choice::Lines(vec![modem]));
    }

    #[test]
    fn hours_and_budget_close_one_and_another_is_used_where_there_is_one() {
        let modem = |why| Choice::Closed { backhaul: "modem".into(), why };
        assert_eq!(chosen(&["wwan0"], 0, Some(12)), modem(Closed::Hours));
        assert_eq!(chosen(&["wwan0"], 2_000_000, Some(22)), modem(Closed::Spent(86_400)));
        assert_eq!(interfaces(chosen(&["wwan0", "wlan0"], 0, Some(12))), ["wlan0"]);
        assert_eq!(interfaces(chosen(&["wwan0", "eth0"], 2_000_000, Some(22))), ["eth0"]);
    }

    #[test]
    fn without_knowing_the_time_the_hours_close_nothing() {
        assert_eq!(interfaces(chosen(&["wwan0"], 0, None)), ["wwan0"]);
    }

    #[test]
    fn without_a_configuration_the_system_decides() {
        let (outward, ledger) = (networks(&["wwan0"]), Ledger::default());
        let situation =
            Situation { outward: &outward, ledger: &ledger, now: Moment::default(), minute: Some(0) };
        assert_eq!(choose(&[], situation), Choice::System);
        assert_eq!(choose(&backhauls(), Situation { outward: &[], ..situation }), Choice::System);
    }
}
