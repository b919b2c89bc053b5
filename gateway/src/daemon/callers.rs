//! Calling phones: looks around in short windows for paired phones that advertise, and opens links to them.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use waypost_ble::{Bearer, Radio, Sighting, Which};
use waypost_link::Link;
use waypost_protocol::advertising::Advertisement;
use waypost_protocol::ids::PeerKey;
use waypost_store::Store;

/// A phone that was called is left alone for so long at that address, whatever came of it, but for one second try: anybody
/// can repeat what a phone advertises, but from elsewhere.
const AGAIN: Duration = Duration::from_secs(120);
/// One that could not be called has a second try after so long: mostly that is the radio's fault.
const SECOND_TRY: Duration = Duration::from_secs(10);
/// Where there is no adapter, it is looked for again after so long.
const NO_ADAPTER: Duration = Duration::from_secs(60);

/// How phones are looked for.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    pub(super) adapter: Which,
    pub(super) interval: Duration,
    pub(super) window: Duration,
}

/// What a caller has to say.
pub(super) enum Calling {
    /// It is about to call this phone, and asks whether to.
    May(PeerKey, oneshot::Sender<bool>),
    /// A link to a phone that was called.
    Called(Box<Link>, PeerKey),
}

/// Phones that were called, and where.
#[derive(Default)]
struct Recent(HashMap<(PeerKey, String), Attempt>);

struct Attempt {
    at: Instant,
    /// For how long it is left alone from then on.
    pause: Duration,
    is_second: bool,
}

impl Recent {
    fn called(&mut self, peer: PeerKey, address: &str, now: Instant) {
        self.0.retain(|_, last| now.duration_since(last.at) < AGAIN);
        let key = (peer, address.to_owned());
        let is_second = self.0.get(&key).is_some_and(|last| last.pause == SECOND_TRY);
        self.0.insert(key, Attempt { at: now, pause: AGAIN, is_second });
    }

    /// The call that was made last came to nothing.
    fn failed(&mut self, peer: PeerKey, address: &str, now: Instant) {
        if let Some(last) = self.0.get_mut(&(peer, address.to_owned()))
            && !last.is_second
        {
            (last.at, last.pause) = (now, SECOND_TRY);
        }
    }

    fn may_call(&self, peer: PeerKey, address: &str, now: Instant) -> bool {
        self.0.get(&(peer, address.to_owned())).is_none_or(|last| now.duration_since(last.at) >= last.pause)
    }
}

/// Calls phones until it is dropped.
pub(super) struct Caller(JoinHandle<()>);

impl Caller {
    /// Begins.
    pub(super) fn start(schedule: Schedule, store: Store, calling: mpsc::Sender<Calling>) -> Self {
        Caller(tokio::spawn(look_around(schedule, store, calling)))
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn look_around(schedule: Schedule, store: Store, calling: mpsc::Sender<Calling>) {
    let mut recent = Recent::default();
    loop {
        tokio::time::sleep(schedule.interval).await;
        let radio = match Radio::open(&schedule.adapter).await {
            Ok(radio) => radio.forgetting(),
            Err(error) => {
                log::debug!("no phones are looked for: {error}");
                tokio::time::sleep(NO_ADAPTER).await;
                continue;
            }
        };
        // One phone each time: the scan has ended when it is called, and what else was heard will be heard again.
        let found = match look(&radio, &schedule, &store, &recent).await {
            Ok(found) => found,
            Err(error) => {
                log::info!("phones could not be looked for: {error}");
                continue;
            }
        };
        let Some((peer, sighting)) = found else {
            log::debug!("no phone waits to be called");
            continue;
        };
        recent.called(peer, &sighting.address, Instant::now());
        // One that is here by another way has no need.
        let (answer, may) = oneshot::channel();
        if calling.send(Calling::May(peer, answer)).await.is_err() {
            return;
        }
        if !may.await.unwrap_or(false) {
            continue;
        }
        match radio.call(&sighting, Bearer::Any, None).await {
            Ok(call) => {
                log::info!(peer:%, address = sighting.address.as_str(); "calling a phone that waits");
                if calling.send(Calling::Called(Box::new(call.link), peer)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                log::info!(peer:%, error:%; "a phone that waits could not be called: {error}");
                recent.failed(peer, &sighting.address, Instant::now());
            }
        }
    }
}

/// Listens for a window; the first paired phone that has not been called just now.
async fn look(
    radio: &Radio,
    schedule: &Schedule,
    store: &Store,
    recent: &Recent,
) -> Result<Option<(PeerKey, Sighting)>, String> {
    let keys = store.advertising_keys().map_err(|error| error.to_string())?;
    let mut found = None;
    let mut seen = |sighting: Sighting| {
        let Ok(said) = Advertisement::parse(&sighting.data) else { return ControlFlow::Continue(()) };
        let is_known = |(peer, key): &&(PeerKey, _)| {
            said.identifier.is_of(key)
                && recent.may_call(*peer, &sighting.address, Instant::now())
                // Whoever that is: to call it would end its link.
                && !radio.has_link(&sighting)
        };
        match keys.iter().find(is_known).filter(|_| !said.is_gateway) {
            Some((peer, _)) => {
                found = Some((*peer, sighting));
                ControlFlow::Break(())
            }
            None => ControlFlow::Continue(()),
        }
    };
    radio.scan(schedule.window, &mut seen).await.map_err(|error| error.to_string())?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_repeats_what_a_phone_advertises_keeps_nobody_from_calling_it() {
        let (phone, other) = (PeerKey([1; 32]), PeerKey([2; 32]));
        let (here, there, now) = ("00:00:00:00:00:01", "00:00:00:00:00:02", Instant::now());
        let mut recent = Recent::default();
        recent.called(phone, here, now);
        assert!(!recent.may_call(phone, here, now + AGAIN / 2));
        assert!(recent.may_call(phone, there, now) && recent.may_call(other, here, now));
        assert!(recent.may_call(phone, here, now + AGAIN));
        recent.called(other, here, now + AGAIN);
        assert_eq!(recent.0.len(), 1, "what is over is forgotten");
    }

    #[test]
    fn one_that_could_not_be_called_has_a_second_try_soon_and_no_third() {
        let (phone, here, now) = (PeerKey([1; 32]), "00:00:00:00:00:01", Instant::now());
        let mut recent = Recent::default();
        recent.called(phone, here, now);
        let failed = now + Duration::from_secs(20);
        recent.failed(phone, here, failed);
        assert!(!recent.may_call(phone, here, failed + SECOND_TRY / 2));
        let second = failed + SECOND_TRY;
        assert!(recent.may_call(phone, here, second));
        recent.called(phone, here, second);
        recent.failed(phone, here, second);
        assert!(!recent.may_call(phone, here, second + AGAIN / 2));
        let third = second + AGAIN;
        assert!(recent.may_call(phone, here, third));
        recent.called(phone, here, third);
        recent.failed(phone, here, third);
        assert!(recent.may_call(phone, here, third + SECOND_TRY), "all that is long ago");
    }
}
