//! One adapter's life: switched on, set up, served, and brought back when it is switched off, hangs or fails.

use std::sync::PoisonError;
use std::time::Duration;

use bluer::{Adapter, AdapterEvent, AdapterProperty, Session};
use futures_util::StreamExt;
use tokio::time::Instant;

use crate::adapter;
use crate::bluez::{BleError, call, is_blocked, set_blocked, within};
use crate::links::Links;
use crate::peripheral::Shared;
use crate::serve::{Service, Stopped};
use crate::status::State;

/// How often it is looked whether an adapter that is off or blocked may be used again.
const WAIT: Duration = Duration::from_secs(10);
/// The first pause after something has failed; each further one is twice as long.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// One that was ready for so long is well.
const LASTING: Duration = Duration::from_secs(20);
/// Switching an adapter off that does not answer takes the kernel a while.
const POWER: Duration = Duration::from_secs(30);
/// So often in a row the service may answer `Busy` where it is to switch an adapter on: it does while it does so itself, and for ever
/// where it waits for the kernel's answer to something before (seen with BlueZ 5.82, of an adapter that was blocked while it
/// advertised). It does nothing more then until it is started again.
const REFUSALS: u32 = 3;
/// A restart of the service is asked for at most so often: it costs the other adapters their links, and may help nothing.
const RESTARTS: Duration = Duration::from_secs(600);
/// How long an adapter stays off when it is switched off and on again.
const STAY_OFF: Duration = Duration::from_secs(1);

/// Why an adapter is attended no more.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It is not there.
    Gone,
    /// The service does not answer.
    Service(String),
}

/// Attends one adapter for as long as it is there.
pub(crate) async fn attend(name: String, shared: Shared) -> Ended {
    let mut life = Life {
        name,
        address: String::new(),
        shared,
        pause: PAUSE,
        failures: 0,
        refusals: 0,
        was_ready: false,
    };
    loop {
        // A connection of its own each time: what was registered over the last one goes with it, also if its answer
        // never came.
        let session = match call("reach the Bluetooth service", Session::new()).await {
            Ok(session) => session,
            Err(error) => return Ended::Service(error.to_string()),
        };
        let Ok(adapter) = session.adapter(&life.name) else { return Ended::Gone };
        let trouble = match life.once(&adapter).await {
            Ok(()) => continue,
            Err(trouble) => trouble,
        };
        match trouble {
            BleError::NoAdapter(_) => return Ended::Gone,
            BleError::NoService(why) => return Ended::Service(why),
            BleError::Off(_) if life.refusals >= REFUSALS => {
                let remedy =
                    "the Bluetooth service does not switch it on; restart that: systemctl restart bluetooth";
                // Before the request, so that whoever finds that can read why.
                life.set(State::Off, remedy);
                // Again where that was no time for it; a new service begins a new life.
                if life.refusals.is_multiple_of(REFUSALS) {
                    life.ask_for_restart();
                }
                life.wait(&adapter, State::Off, remedy).await;
            }
            BleError::Off(_) => life.wait(&adapter, State::Off, "switch it on: bluetoothctl power on").await,
            BleError::Blocked(_) => life.wait_blocked(&adapter).await,
            // Whatever has failed for that: bringing it back would undo what somebody has just done.
            _ if is_blocked(&life.name) => life.wait_blocked(&adapter).await,
            other => life.recover(&adapter, &other).await,
        }
    }
}

struct Life {
    name: String,
    address: String,
    shared: Shared,
    pause: Duration,
    /// Failures since it was ready.
    failures: u32,
    /// Times in a row that the service answered `Busy` in place of switching it on.
    refusals: u32,
    /// It was ready once.
    was_ready: bool,
}

/// Unblocks an adapter when it is dropped.
struct Unblock<'a>(&'a str);

impl Drop for Unblock<'_> {
    fn drop(&mut self) {
        if let Err(error) = set_blocked(self.0, false) {
            log::error!(adapter = self.0; "it stays blocked ({error}); unblock it: rfkill unblock bluetooth");
        }
    }
}

impl Life {
    /// From off to served, until something ends that. `Ok`: begin again at once.
    async fn once(&mut self, adapter: &Adapter) -> Result<(), BleError> {
        self.address = adapter::own_address(adapter).await?.0.to_string();
        self.switch_on(adapter).await?;
        self.set(State::Starting, "");
        let mut service = Service::start(adapter, &self.shared).await?;
        self.set(State::Ready, "");
        self.was_ready = true;
        let begun = Instant::now();
        let stopped = service.serve().await;
        if begun.elapsed() > LASTING {
            (self.pause, self.failures) = (PAUSE, 0);
        }
        match stopped? {
            Stopped::Off => Ok(()),
            Stopped::Gone => Err(BleError::NoAdapter(self.name.clone())),
            Stopped::Silent => {
                log::warn!(adapter = self.name.as_str(); "nothing is advertised any more; the adapter is set up again");
                Ok(())
            }
        }
    }

    async fn switch_on(&mut self, adapter: &Adapter) -> Result<(), BleError> {
        if call("read the adapter's state", adapter.is_powered()).await? {
            self.refusals = 0;
            return Ok(());
        }
        if is_blocked(&self.name) {
            self.refusals = 0;
            return Err(BleError::Blocked(self.name.clone()));
        }
        match within(POWER, "switch the adapter on", adapter.set_powered(true)).await {
            Err(BleError::Failed { why, .. }) => {
                log::debug!("{}: {why}", self.name);
                self.refusals = if why.contains("Busy") { self.refusals + 1 } else { 0 };
                Err(BleError::Off(self.name.clone()))
            }
            done => done,
        }
    }

    fn set(&self, state: State, why: &str) {
        self.shared.board.set(&self.name, &self.address, state, why);
    }

    fn ask_for_restart(&self) {
        let Some(request) = &self.shared.options.restart_request else { return };
        let mut asked = self.shared.restart_asked.lock().unwrap_or_else(PoisonError::into_inner);
        let has_links = self.shared.board.all().iter().any(|one| one.links > 0);
        if has_links || asked.is_some_and(|at| at.elapsed() < RESTARTS) {
            return;
        }
        match std::fs::write(request, "") {
            Ok(()) => {
                *asked = Some(Instant::now());
                log::warn!(adapter = self.name.as_str(); "asked for a restart of the Bluetooth service");
            }
            Err(error) => {
                log::warn!(path:% = request.display(); "could not ask for a restart of the Bluetooth service: {error}")
            }
        }
    }

    async fn wait_blocked(&self, adapter: &Adapter) {
        self.wait(adapter, State::Blocked, "unblock it: rfkill unblock bluetooth").await;
    }

    /// Waits until it is switched on, or a while.
    async fn wait(&self, adapter: &Adapter, state: State, remedy: &str) {
        self.set(state, remedy);
        let on = async {
            let Ok(events) = adapter.events().await else { return };
            tokio::pin!(events);
            while let Some(event) = events.next().await {
                if matches!(event, AdapterEvent::PropertyChanged(AdapterProperty::Powered(true))) {
                    return;
                }
            }
        };
        // Whatever comes first: it is looked again.
        let _ = tokio::time::timeout(WAIT, on).await;
    }

    /// It does not do what it should. Where it answers nothing, or for the second time in a row and nobody has a link, it is
    /// switched off and on again.
    async fn recover(&mut self, adapter: &Adapter, trouble: &BleError) {
        self.failures += 1;
        let is_hung = matches!(trouble, BleError::Hung(_));
        if self.failures == 1 && !is_hung {
            log::debug!(adapter = self.name.as_str(); "{trouble}; it is tried once more");
            return tokio::time::sleep(PAUSE).await;
        }
        if !is_hung && (!self.was_ready || Links::of(&self.name).count() > 0) {
            // It never worked, or carries links: that is no adapter that has stopped answering.
            self.set(State::Failed, &format!("{trouble}; it is tried again"));
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            return;
        }
        let why = format!("{trouble}; it is switched off and on again");
        self.shared.board.reset(&self.name, &self.address, &why);
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        if let Err(error) = self.switch_by_rfkill(adapter).await {
            log::debug!(adapter = self.name.as_str(); "not switched by rfkill: {error}");
            // An adapter that hangs does not obey, others do.
            for (doing, on) in [("switch the adapter off", false), ("switch the adapter on", true)] {
                if let Err(error) = within(POWER, doing, adapter.set_powered(on)).await {
                    log::info!(adapter = self.name.as_str(); "{error}");
                }
                tokio::time::sleep(STAY_OFF).await;
            }
        }
    }

    /// Off and on by the switch that also resets what hangs. The service then switches it on by itself.
    async fn switch_by_rfkill(&self, adapter: &Adapter) -> std::io::Result<()> {
        set_blocked(&self.name, true)?;
        {
            // Unblocked also where this ends meanwhile.
            let _unblock = Unblock(&self.name);
            tokio::time::sleep(STAY_OFF).await;
        }
        for _ in 0..10 {
            tokio::time::sleep(STAY_OFF).await;
            if matches!(call("read the adapter's state", adapter.is_powered()).await, Ok(true)) {
                break;
            }
        }
        Ok(())
    }
}
