//! Where a group may be in the spectrum, and in which order that is tried.

use std::time::Duration;

/// The first pause after every frequency was refused; each further one is twice as long.
const PAUSE: Duration = Duration::from_secs(2);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The middle of a channel, in MHz.
pub type Megahertz = u16;

/// 5 GHz without radar: what most countries allow a group indoors, then what some do (channels 36 to 48, 149 to 161).
const FIVE: [Megahertz; 8] = [5180, 5200, 5220, 5240, 5745, 5765, 5785, 5805];
/// 2.4 GHz: channels 6, 1 and 11, which do not disturb each other and which every country allows. They are the social
/// channels, on which phones look first.
const TWO: [Megahertz; 3] = [2437, 2412, 2462];

/// Which channels a group may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Channels {
    /// 5 GHz where the regulatory domain allows it, else 2.4 GHz.
    Auto,
    /// 5 GHz only.
    FiveGigahertz,
    /// 2.4 GHz only.
    TwoGigahertz,
    /// One of these, the first that is allowed.
    These(Vec<Megahertz>),
}

impl Channels {
    /// Whether a group may be there: not only those that are tried, where the choice is not the admin's.
    pub(crate) fn allow(&self, frequency: Megahertz) -> bool {
        match self {
            Channels::Auto => true,
            Channels::FiveGigahertz => (5_150..5_900).contains(&frequency),
            Channels::TwoGigahertz => (2_400..2_500).contains(&frequency),
            Channels::These(these) => these.contains(&frequency),
        }
    }

    /// Frequencies in the order in which they are tried. Where the radio is in another network already, that one's comes
    /// first if it is among them, or if the choice is ours: a radio that has to be on two channels hears half on each.
    fn candidates(&self, shared: Option<Megahertz>) -> Vec<Megahertz> {
        let mut all: Vec<Megahertz> = match self {
            Channels::Auto => FIVE.into_iter().chain(TWO).collect(),
            Channels::FiveGigahertz => FIVE.to_vec(),
            Channels::TwoGigahertz => TWO.to_vec(),
            Channels::These(these) => these.clone(),
        };
        if let Some(shared) = shared
            && (*self == Channels::Auto || all.contains(&shared))
        {
            all.retain(|one| *one != shared);
            all.insert(0, shared);
        }
        all
    }
}

/// Number of a channel in the bands of 2.4 and 5 GHz (IEEE 802.11-2020, Annex E), the other way round.
pub fn channel(frequency: Megahertz) -> Option<u16> {
    match frequency {
        2484 => Some(14),
        2412..=2472 if (frequency - 2407).is_multiple_of(5) => Some((frequency - 2407) / 5),
        5160..=5885 if (frequency - 5000).is_multiple_of(5) => Some((frequency - 5000) / 5),
        _ => None,
    }
}

/// The frequency of a channel, in MHz. Numbers up to 14 are of 2.4 GHz.
pub fn frequency(channel: u16) -> Option<Megahertz> {
    match channel {
        14 => Some(2484),
        1..=13 => Some(2407 + 5 * channel),
        32..=177 => Some(5000 + 5 * channel),
        _ => None,
    }
}

/// What is tried next, and how long is waited once everything was refused.
#[derive(Debug)]
pub(crate) struct Tries {
    channels: Channels,
    left: Vec<Megahertz>,
    pause: Duration,
}

impl Tries {
    pub(crate) fn new(channels: Channels) -> Self {
        Tries { channels, left: Vec::new(), pause: PAUSE }
    }

    /// Another round, with a radio that is on `shared` already.
    pub(crate) fn begin(&mut self, shared: Option<Megahertz>) {
        self.left = self.channels.candidates(shared);
        self.left.reverse();
    }

    /// The next frequency of this round.
    pub(crate) fn next(&mut self) -> Option<Megahertz> {
        self.left.pop()
    }

    /// Nothing of this round was allowed, or the group has ended by itself: how long until the next one.
    pub(crate) fn failed(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        pause
    }

    /// The group has lasted.
    pub(crate) fn lasted(&mut self) {
        self.pause = PAUSE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_and_its_frequency_name_each_other() {
        for number in (1..=14).chain(32..=177) {
            assert_eq!(frequency(number).and_then(channel), Some(number));
        }
        assert_eq!((frequency(6), frequency(36), frequency(165)), (Some(2437), Some(5180), Some(5825)));
        for number in [0, 15, 31, 178] {
            assert_eq!(frequency(number), None);
        }
        assert_eq!((channel(2413), channel(2411), channel(5161), channel(60_480)), (None, None, None, None));
    }

    #[test]
    fn five_gigahertz_come_first_and_a_network_that_the_radio_is_in_before_that() {
        let mut tries = Tries::new(Channels::Auto);
        tries.begin(None);
        let order: Vec<Megahertz> = std::iter::from_fn(|| tries.next()).collect();
        assert_eq!(order, [&FIVE[..], &TWO[..]].concat());
        tries.begin(Some(2462));
        assert_eq!((tries.next(), tries.next()), (Some(2462), Some(5180)));
        assert!(!std::iter::from_fn(|| tries.next()).any(|one| one == 2462), "it is tried once");
    }

    #[test]
    fn a_group_may_be_where_the_admin_has_said() {
        let (five, two) = (Channels::FiveGigahertz, Channels::TwoGigahertz);
        assert!(five.allow(5180) && !five.allow(2437) && two.allow(2472) && !two.allow(5180));
        let these = Channels::These(vec![5180]);
        assert!(these.allow(5180) && !these.allow(5200) && !these.allow(2437));
        assert!(Channels::Auto.allow(2437) && Channels::Auto.allow(5180));
    }

    #[test]
    fn a_network_elsewhere_changes_nothing_where_the_admin_has_chosen() {
        let mut tries = Tries::new(Channels::These(vec![2437, 2462]));
        tries.begin(Some(5180));
        assert_eq!((tries.next(), tries.next(), tries.next()), (Some(2437), Some(2462), None));
        tries.begin(Some(2462));
        assert_eq!((tries.next(), tries.next(), tries.next()), (Some(2462), Some(2437), None));
        let mut tries = Tries::new(Channels::TwoGigahertz);
        tries.begin(Some(5180));
        assert_eq!(tries.next(), Some(2437));
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_begin_anew_after_a_group_that_lasted() {
        let mut tries = Tries::new(Channels::Auto);
        let pauses: Vec<u64> = (0..7).map(|_| tries.failed().as_secs()).collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60]);
        tries.lasted();
        assert_eq!(tries.failed(), PAUSE);
    }
}
