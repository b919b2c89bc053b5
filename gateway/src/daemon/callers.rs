//! Calling phones: looks around in short windows for paired phones that advertise, and opens links to them.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use waypost_ble::{Bearer, Radio, Sighting, Which};
use waypost_link::Link;
use waypost_protocol::advertising::Advertisement;
use waypost_protocol::ids::PeerKey;
use waypost_store::Store;

/// A phone that was called is left alone for so long, whatever came of it.
const AGAIN: Duration = Duration::from_secs(120);
/// Where there is no adapter, it is looked for again after so long.
const NO_ADAPTER: Duration = Duration::from_secs(60);

/// How phones are looked for.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    pub(super) adapter: Which,
    pub(super) interval: Duration,
    pub(super) window: Duration,
}

/// A link to a phone that was called.
pub(super) struct Called {
    pub(super) link: Link,
    pub(super) peer: PeerKey,
}

/// Calls phones until it is dropped.
pub(super) struct Caller(JoinHandle<()>);

impl Caller {
    /// Begins.
    pub(super) fn start(schedule: Schedule, store: Store, called: mpsc::Sender<Called>) -> Self {
        Caller(tokio::spawn(look_around(schedule, store, called)))
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn look_around(schedule: Schedule, store: Store, called: mpsc::Sender<Called>) {
    let mut last: HashMap<PeerKey, Instant> = HashMap::new();
    loop {
        tokio::time::sleep(schedule.interval).await;
        last.retain(|_, at| at.elapsed() < AGAIN);
        let radio = match Radio::open(&schedule.adapter).await {
            Ok(radio) => radio,
            Err(error) => {
                log::debug!("no phones are looked for: {error}");
                tokio::time::sleep(NO_ADAPTER).await;
                continue;
            }
        };
        // One phone each time: the scan has ended when it is called, and what else was heard will be heard again.
        let found = match look(&radio, &schedule, &store, &last).await {
            Ok(found) => found,
            Err(error) => {
                log::info!("phones could not be looked for: {error}");
                continue;
            }
        };
        let Some((peer, sighting)) = found else { continue };
        last.insert(peer, Instant::now());
        match radio.call(&sighting, Bearer::Any, None).await {
            Ok(call) => {
                log::info!(peer:%, address = sighting.address.as_str(); "calling a phone that waits");
                if called.send(Called { link: call.link, peer }).await.is_err() {
                    return;
                }
            }
            Err(error) => log::info!(peer:%, error:%; "a phone that waits could not be called: {error}"),
        }
    }
}

/// Listens for a window; the first paired phone that has not been called just now.
async fn look(
    radio: &Radio,
    schedule: &Schedule,
    store: &Store,
    last: &HashMap<PeerKey, Instant>,
) -> Result<Option<(PeerKey, Sighting)>, String> {
    let keys = store.advertising_keys().map_err(|error| error.to_string())?;
    let mut found = None;
    let mut seen = |sighting: Sighting| {
        let Ok(said) = Advertisement::parse(&sighting.data) else { return ControlFlow::Continue(()) };
        let is_known = |(peer, key): &&(PeerKey, _)| said.identifier.is_of(key) && !last.contains_key(peer);
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
