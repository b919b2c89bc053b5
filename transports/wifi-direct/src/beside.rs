//! Networks that the radio is to be in besides its group, such as the clinic's, by which it uploads.
//!
//! Where the radio can be on one channel only, and such a network is on another than the group, wpa_supplicant (seen with 2.10) does
//! not join it, but switches it off, and tells that (`CTRL-EVENT-FREQ-CONFLICT`) to its control interface alone: on the bus it says so of
//! its newest interface, the group's, which has no such network. Whoever else switches one off is heard, but for `wpa_cli set_network
//! N disabled 1`: a network that is off without that is one for which the group has to give way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use zbus::Message;
use zbus::zvariant::OwnedObjectPath;

use crate::error::WifiError;
use crate::said::{self, Said};
use crate::supplicant::{INTERFACE, PROPERTIES, Supplicant, member};

/// How long a network may take that the radio joins once the group has given way to it: wpa_supplicant waits for up to 10 s before
/// it looks around, and that takes some more on two bands.
const JOINING: Duration = Duration::from_secs(30);
/// The group gives way to a network of the same name again after so long at the earliest; twice as long after each time that it was
/// not joined, as with a wrong passphrase.
const PAUSE: Duration = Duration::from_secs(60);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// What is said of a network so soon after somebody wanted it is no wish: it may be off already as wpa_supplicant tells that it was
/// switched on.
const AT_ONCE: Duration = Duration::from_secs(1);

/// What becomes of the group.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It stays as it is.
    Nothing,
    /// It ends; then [`Beside::let_in`].
    GiveWay,
    /// It may be there again.
    Return,
}

/// The networks of one radio.
pub(crate) struct Beside {
    supplicant: Supplicant,
    /// wpa_supplicant's object of the radio.
    device: OwnedObjectPath,
    plan: Plan,
}

impl Beside {
    /// Those that are switched on now.
    pub(crate) async fn of(supplicant: &Supplicant, device: &OwnedObjectPath) -> Result<Self, WifiError> {
        let mut plan = Plan::default();
        for network in supplicant.networks(device).await? {
            if there(supplicant.is_enabled(&network).await)? == Some(true) {
                plan.switched(&network, true, Instant::now());
            }
        }
        Ok(Beside { supplicant: supplicant.clone(), device: device.clone(), plan })
    }

    /// Whether the group has given way to one that has not been joined yet.
    pub(crate) fn has_way(&self) -> bool {
        self.plan.way.is_some()
    }

    /// Whether there are networks that the radio is to be in, and is not, as of the last look.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.plan.wanted.is_empty() && !self.plan.is_joined
    }

    /// Somebody may have switched a network on or off, or removed it.
    pub(crate) fn heard(&mut self, message: &Message) {
        let header = message.header();
        match header.interface().map(|interface| interface.as_str()) {
            Some(PROPERTIES) => {
                let networks = format!("{}/Networks/", self.device.as_str());
                let Some(network) = header.path().filter(|path| path.starts_with(&networks)) else { return };
                let body = message.body();
                let Ok((_, said, _)) = body.deserialize::<(String, Said, Vec<String>)>() else { return };
                if let Some(is_on) = said::is_on(&said) {
                    self.plan.switched(network, is_on, Instant::now());
                }
            }
            Some(INTERFACE) if header.path().is_some_and(|path| *path == *self.device) => {
                let Ok(network) = message.body().deserialize::<OwnedObjectPath>() else { return };
                match member(message).as_str() {
                    "NetworkSelected" => self.plan.selected(&network, Instant::now()),
                    "NetworkRemoved" => self.plan.removed(&network),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// Looks whether the group keeps a network out. `has_group`: it is up; `is_joined`: the radio is in a network.
    pub(crate) async fn look(&mut self, has_group: bool, is_joined: bool) -> Result<Next, WifiError> {
        let off = self.off().await?;
        let (next, on) = self.plan.look(has_group, is_joined, &off, Instant::now());
        self.switch_on(on).await?;
        Ok(next)
    }

    /// The group has ended for a network's sake. Answers until when that may take to be joined.
    pub(crate) async fn let_in(&mut self) -> Result<Instant, WifiError> {
        let (until, on) = self.plan.let_in(Instant::now());
        self.switch_on(on).await?;
        Ok(until)
    }

    /// There will be no group any more.
    pub(crate) async fn let_all_in(&mut self) -> Result<(), WifiError> {
        let off = self.off().await?;
        self.switch_on(off.into_iter().map(|network| network.path).collect()).await
    }

    /// Those that are wanted, and are off.
    async fn off(&self) -> Result<Vec<Off>, WifiError> {
        let mut off = Vec::new();
        for path in &self.plan.wanted {
            let Ok(network) = OwnedObjectPath::try_from(path.as_str()) else { continue };
            if there(self.supplicant.is_enabled(&network).await)? == Some(false)
                && let Some(its) = there(self.supplicant.network(&network).await)?
            {
                let ssid = said::text(&its, "ssid").unwrap_or_default();
                off.push(Off { path: path.clone(), ssid: ssid.trim_matches('"').to_owned() });
            }
        }
        Ok(off)
    }

    async fn switch_on(&mut self, networks: BTreeSet<String>) -> Result<(), WifiError> {
        for path in networks {
            let Ok(network) = OwnedObjectPath::try_from(path.as_str()) else { continue };
            if there(self.supplicant.enable(&network).await)?.is_none() {
                self.plan.removed(&path);
            }
        }
        Ok(())
    }
}

/// What was answered about a network; `None` where that is gone meanwhile.
fn there<T>(answer: Result<T, WifiError>) -> Result<Option<T>, WifiError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error @ (WifiError::NoService(_) | WifiError::Hung(_))) => Err(error),
        Err(error) => {
            log::debug!("{error}");
            Ok(None)
        }
    }
}

/// A network that is off.
struct Off {
    path: String,
    ssid: String,
}

/// What the group has given way for: a network of this name, whatever object it has then.
#[derive(Debug)]
struct Way {
    ssid: String,
    until: Instant,
}

/// Which networks the radio is to be in, by wpa_supplicant's objects of them, and what is done for that.
#[derive(Debug, Default)]
struct Plan {
    wanted: BTreeSet<String>,
    /// The one that was wanted last, and when.
    selected: Option<(String, Instant)>,
    /// Those that were off at the last look, and the radio was in none. What is on its way from whoever has switched one off is here
    /// at the next one.
    seen: BTreeSet<String>,
    /// Those of `wanted` that the group has kept out.
    kept_out: BTreeSet<String>,
    had_group: bool,
    is_joined: bool,
    /// When the group may give way to a network of this name, and how long the next pause is.
    pauses: BTreeMap<String, (Instant, Duration)>,
    way: Option<Way>,
}

impl Plan {
    /// A network has been switched on or off by somebody.
    fn switched(&mut self, network: &str, is_on: bool, now: Instant) {
        let is_new = self.selected.as_ref().is_some_and(|(of, at)| of == network && now < *at + AT_ONCE);
        match is_on {
            true => {
                self.wanted.insert(network.to_owned());
            }
            false if is_new => {}
            false => self.removed(network),
        }
    }

    /// Somebody wants this network and none of the others.
    fn selected(&mut self, network: &str, now: Instant) {
        (self.wanted, self.seen, self.kept_out) = Default::default();
        self.selected = Some((network.to_owned(), now));
        self.switched(network, true, now);
    }

    /// A network is not there any more; another one may have its name later.
    fn removed(&mut self, network: &str) {
        for networks in [&mut self.wanted, &mut self.seen, &mut self.kept_out] {
            networks.remove(network);
        }
    }

    /// What follows for the group, and which networks are switched on, where of those that are wanted these are `off`.
    fn look(
        &mut self,
        has_group: bool,
        is_joined: bool,
        off: &[Off],
        now: Instant,
    ) -> (Next, BTreeSet<String>) {
        let paths = |off: &[&Off]| off.iter().map(|network| network.path.clone()).collect::<BTreeSet<_>>();
        let off: Vec<&Off> = off.iter().filter(|network| self.wanted.contains(&network.path)).collect();
        // A group that has ended since the last look may have done it.
        if has_group || self.had_group {
            self.kept_out.extend(paths(&off));
        }
        (self.had_group, self.is_joined) = (has_group, is_joined);
        let seen = if is_joined { BTreeSet::new() } else { paths(&off) };
        let before = std::mem::replace(&mut self.seen, seen);
        let twice: Vec<&Off> = off.into_iter().filter(|network| before.contains(&network.path)).collect();
        let is_over = |way: &mut Way| is_joined || self.wanted.is_empty() || way.until <= now;
        if let Some(way) = self.way.take_if(is_over) {
            if !is_joined {
                log::warn!(network = way.ssid.as_str(); "the network {} was not joined, although the Wi-Fi Direct group gave way to it; see wpa_supplicant's log", way.ssid);
            }
            let pause =
                if is_joined { PAUSE } else { self.pauses.get(&way.ssid).map_or(PAUSE, |(_, next)| *next) };
            let next = if is_joined { PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
            self.pauses.insert(way.ssid, (now + pause, next));
            return (Next::Return, BTreeSet::new());
        }
        if !has_group {
            let on = paths(&twice).intersection(&self.kept_out).cloned().collect();
            return (Next::Nothing, on);
        }
        let is_worth = |ssid: &str| self.pauses.get(ssid).is_none_or(|(not_before, _)| *not_before <= now);
        match twice.into_iter().find(|network| !is_joined && self.way.is_none() && is_worth(&network.ssid)) {
            Some(Off { ssid, .. }) => {
                self.way = Some(Way { ssid: ssid.clone(), until: now + JOINING });
                (Next::GiveWay, BTreeSet::new())
            }
            None => (Next::Nothing, BTreeSet::new()),
        }
    }

    /// The group has ended: until when it stays away, and which networks are switched on, those that nobody has switched off meanwhile.
    fn let_in(&mut self, now: Instant) -> (Instant, BTreeSet<String>) {
        let until = now + JOINING;
        if let Some(way) = &mut self.way {
            way.until = until;
        }
        (until, self.kept_out.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn off(paths: &[&str]) -> Vec<Off> {
        let of = |path: &&str| Off { path: (*path).to_owned(), ssid: format!("network {path}") };
        paths.iter().map(of).collect()
    }

    fn these(paths: &[&str]) -> BTreeSet<String> {
        paths.iter().map(|path| (*path).to_owned()).collect()
    }

    const NONE: BTreeSet<String> = BTreeSet::new();

    /// A plan with these networks, and when it was made.
    fn plan(wanted: &[&str]) -> (Plan, Instant) {
        let (mut plan, now) = (Plan::default(), Instant::now());
        wanted.iter().for_each(|network| plan.switched(network, true, now));
        (plan, now)
    }

    /// Two looks at a group that is up and a radio that is in no network; what the second one comes to.
    fn twice(plan: &mut Plan, paths: &[&str], now: Instant) -> Next {
        assert_eq!(plan.look(true, false, &off(paths), now), (Next::Nothing, NONE));
        plan.look(true, false, &off(paths), now).0
    }

    #[test]
    fn a_group_gives_way_to_a_network_that_it_keeps_out_and_returns_once_that_is_joined() {
        let (mut plan, now) = plan(&["/0"]);
        assert_eq!(plan.look(true, false, &[], now), (Next::Nothing, NONE), "it is looked for");
        assert_eq!(twice(&mut plan, &["/0"], now), Next::GiveWay);
        assert_eq!(plan.let_in(now), (now + JOINING, these(&["/0"])));
        assert_eq!(plan.look(false, false, &[], now), (Next::Nothing, NONE));
        assert_eq!(plan.look(false, true, &[], now), (Next::Return, NONE));
        // Its access point changes channels again and again.
        assert_eq!(twice(&mut plan, &["/0"], now + PAUSE - Duration::from_secs(1)), Next::Nothing);
        assert_eq!(plan.look(true, false, &off(&["/0"]), now + PAUSE).0, Next::GiveWay);
    }

    #[test]
    fn what_is_in_vain_is_tried_more_and_more_rarely_whatever_object_the_network_has() {
        let (mut plan, mut now) = plan(&[]);
        for pause in [60, 120, 240, 480, 600, 600] {
            plan.switched("/0", true, now);
            assert_eq!(twice(&mut plan, &["/0"], now), Next::GiveWay);
            plan.let_in(now);
            // A network manager adds it anew each time, and removes it before its time is over, or does not.
            if pause < 200 {
                plan.removed("/0");
            } else {
                now += JOINING;
            }
            assert_eq!(plan.look(false, false, &[], now), (Next::Return, NONE));
            now += Duration::from_secs(pause - 1);
            plan.switched("/0", true, now);
            for _ in 0..3 {
                assert_eq!(plan.look(true, false, &off(&["/0"]), now).0, Next::Nothing);
            }
            plan.removed("/0");
            now += Duration::from_secs(1);
        }
        plan.switched("/1", true, now);
        assert_eq!(twice(&mut plan, &["/1"], now), Next::GiveWay, "another network");
    }

    #[test]
    fn a_way_is_the_radios_whatever_becomes_of_the_network() {
        let (mut plan, now) = plan(&["/0"]);
        assert_eq!(twice(&mut plan, &["/0"], now), Next::GiveWay);
        // A network manager tries it anew, as another object, while the group is ending.
        plan.removed("/0");
        plan.selected("/1", now);
        assert_eq!(plan.let_in(now), (now + JOINING, NONE));
        assert_eq!(
            plan.look(false, false, &[], now),
            (Next::Nothing, NONE),
            "the group does not come into the middle of it"
        );
        assert_eq!(plan.look(false, true, &[], now), (Next::Return, NONE));
    }

    #[test]
    fn a_radio_that_is_in_a_network_is_not_taken_to_another() {
        let (mut plan, now) = plan(&["/0", "/1"]);
        for _ in 0..3 {
            assert_eq!(plan.look(true, true, &off(&["/1"]), now), (Next::Nothing, NONE));
        }
        assert_eq!(
            plan.look(true, false, &off(&["/1"]), now).0,
            Next::Nothing,
            "it may only be on another access point"
        );
        assert_eq!(plan.look(true, false, &off(&["/1"]), now).0, Next::GiveWay);
        assert_eq!(plan.let_in(now).1, these(&["/1"]));
    }

    #[test]
    fn what_somebody_switches_off_stays_off() {
        let (mut plan, now) = plan(&["/0", "/1"]);
        // What is said of it comes between two looks.
        plan.look(true, false, &off(&["/0"]), now);
        plan.switched("/0", false, now);
        assert_eq!(plan.look(true, false, &off(&["/0"]), now), (Next::Nothing, NONE));
        assert_eq!(plan.look(false, false, &off(&["/0"]), now), (Next::Nothing, NONE));
        // While the group ends for it.
        assert_eq!(twice(&mut plan, &["/1"], now), Next::GiveWay);
        plan.switched("/1", false, now);
        assert_eq!(plan.let_in(now).1, NONE);
        assert_eq!(plan.look(false, false, &[], now), (Next::Return, NONE));
        assert!(plan.wanted.is_empty() && plan.kept_out.is_empty() && plan.seen.is_empty());
    }

    #[test]
    fn a_network_that_is_off_as_it_is_told_to_be_on_is_wanted() {
        let (mut plan, now) = plan(&["/0"]);
        plan.selected("/1", now);
        // It was found at once, where the group is not.
        plan.switched("/1", false, now);
        assert_eq!(twice(&mut plan, &["/1"], now), Next::GiveWay);
        plan.switched("/1", false, now + AT_ONCE);
        assert!(plan.wanted.is_empty(), "/0 was switched off by that");
    }

    #[test]
    fn a_network_that_was_kept_out_is_let_in_once_there_is_no_group() {
        let (mut plan, now) = plan(&["/0", "/1"]);
        assert_eq!(twice(&mut plan, &["/0"], now), Next::GiveWay);
        plan.let_in(now);
        // A phone has had wpa_supplicant begin the group meanwhile, which has switched it off again.
        plan.look(false, false, &off(&["/0"]), now);
        assert_eq!(plan.look(false, false, &off(&["/0"]), now), (Next::Nothing, these(&["/0"])));
        assert_eq!(plan.look(false, false, &[], now + JOINING).0, Next::Return);
        // In vain, and kept out again, until the group ends; the other one just before it does.
        assert_eq!(twice(&mut plan, &["/0"], now + JOINING), Next::Nothing);
        assert_eq!(plan.look(false, false, &off(&["/0", "/1"]), now), (Next::Nothing, these(&["/0"])));
        assert_eq!(plan.look(false, false, &off(&["/1"]), now), (Next::Nothing, these(&["/1"])));
        // Off, but not by the group: nobody knows why.
        plan.switched("/2", true, now);
        plan.look(false, false, &off(&["/2"]), now);
        assert_eq!(plan.look(false, false, &off(&["/2"]), now), (Next::Nothing, NONE));
    }
}
