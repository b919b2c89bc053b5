//! What an admin is shown of each adapter, and the log lines when it changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// For so long it is remembered that an adapter was reset.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How an adapter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// There is none, or the Bluetooth service does not run.
    Missing,
    /// Switched off by rfkill or a hardware switch.
    Blocked,
    /// Switched off.
    Off,
    /// Being set up.
    Starting,
    /// Others can find it and connect.
    Ready,
    /// It does not answer; it is switched off and on again.
    Hung,
    /// Something else does not work; it is tried again.
    Failed,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            State::Missing => "missing",
            State::Blocked => "blocked",
            State::Off => "off",
            State::Starting => "starting",
            State::Ready => "ready",
            State::Hung => "hung",
            State::Failed => "failed",
        })
    }
}

/// An adapter, as `waypost status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterStatus {
    /// The kernel's name, such as `hci0`; empty where there is no adapter.
    pub name: String,
    /// Its address; empty where there is no adapter.
    pub address: String,
    /// How it is.
    pub state: State,
    /// What to do about it, or why it is so; empty where all is well.
    pub why: String,
    /// Links that are up.
    pub links: usize,
    /// How often it has stopped answering and was reset, in the last 24 hours.
    #[serde(default)]
    pub resets: usize,
}

impl AdapterStatus {
    pub(crate) fn none(why: &str) -> Self {
        let (name, address) = (String::new(), String::new());
        AdapterStatus { name, address, state: State::Missing, why: why.to_owned(), links: 0, resets: 0 }
    }
}

/// Where tasks write their adapter's state.
#[derive(Clone)]
pub(crate) struct Board {
    adapters: Arc<Mutex<BTreeMap<String, AdapterStatus>>>,
    /// When each was reset, also of those that come and go meanwhile.
    resets: Arc<Mutex<BTreeMap<String, Vec<Instant>>>>,
    changes: (watch::Sender<u64>, watch::Receiver<u64>),
}

impl Default for Board {
    fn default() -> Self {
        Board { adapters: Arc::default(), resets: Arc::default(), changes: watch::channel(0) }
    }
}

impl Board {
    /// States as they are.
    pub(crate) fn all(&self) -> Vec<AdapterStatus> {
        let mut resets = self.resets.lock().unwrap_or_else(PoisonError::into_inner);
        resets.values_mut().for_each(|times| times.retain(|time| time.elapsed() < DAY));
        let mut all: Vec<AdapterStatus> =
            self.adapters.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for one in &mut all {
            one.resets = resets.get(&one.name).map_or(0, Vec::len);
        }
        all
    }

    /// An adapter does not answer, and is reset.
    pub(crate) fn reset(&self, name: &str, address: &str, why: &str) {
        let mut resets = self.resets.lock().unwrap_or_else(PoisonError::into_inner);
        resets.entry(name.to_owned()).or_default().push(Instant::now());
        drop(resets);
        self.set(name, address, State::Hung, why);
    }

    pub(crate) async fn changed(&mut self) {
        // The board has a sender itself, so that this never fails.
        let _ = self.changes.1.changed().await;
    }

    /// An adapter is in a state; said in the log where that is new.
    pub(crate) fn set(&self, name: &str, address: &str, state: State, why: &str) {
        self.change(|all| {
            let mut now = AdapterStatus::none(why);
            (now.name, now.address, now.state) = (name.into(), address.into(), state);
            now.links = all.get(name).map_or(0, |one| one.links);
            let before = all.insert(name.to_owned(), now);
            if before.as_ref().is_some_and(|before| before.state == state && before.why == why) {
                return;
            }
            match state {
                State::Ready => {
                    log::info!(adapter = name, address; "Bluetooth adapter {name} is ready; phones can find it");
                }
                State::Starting => log::debug!(adapter = name; "Bluetooth adapter {name} is being set up"),
                _ => log::warn!(adapter = name, state:%, why; "Bluetooth adapter {name} is {state}: {why}"),
            }
        });
    }

    /// So many links are up on an adapter.
    pub(crate) fn links(&self, name: &str, count: usize) {
        self.change(|all| {
            if let Some(one) = all.get_mut(name) {
                one.links = count;
            }
        });
    }

    /// An adapter is not used any more.
    pub(crate) fn remove(&self, name: &str) {
        self.change(|all| {
            if all.remove(name).is_some() && !name.is_empty() {
                log::info!(adapter = name; "Bluetooth adapter {name} is not used any more");
            }
        });
    }

    /// An adapter that was missing is there, perhaps under another name.
    pub(crate) fn found(&self, name: &str) {
        self.change(|all| {
            if all.get(name).is_some_and(|one| one.state == State::Missing) {
                all.remove(name);
            }
        });
    }

    /// There is nothing but this.
    pub(crate) fn only(&self, status: AdapterStatus) {
        self.change(|all| *all = [(status.name.clone(), status)].into());
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, AdapterStatus>)) {
        change(&mut self.adapters.lock().unwrap_or_else(PoisonError::into_inner));
        self.changes.0.send_modify(|count| *count += 1);
    }
}
