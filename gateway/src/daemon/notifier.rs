//! What the service manager is told: that the gateway is ready, how it is, and that its event loop still turns
//! (sd_notify(3)). Where no service manager started it, nobody is told anything.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::Instant;

/// How often it is told how the gateway is, where there is no watchdog that wants to hear more often.
const OFTEN: Duration = Duration::from_secs(30);

/// Tells the service manager, where one has started the gateway.
pub(super) struct Notifier {
    every: Duration,
    next: Instant,
    is_there: bool,
}

impl Notifier {
    pub(super) fn new() -> Self {
        // A third of its patience: one beat may come late.
        let every = sd_notify::watchdog_enabled().map_or(OFTEN, |limit| (limit / 3).min(OFTEN));
        let is_there = std::env::var_os("NOTIFY_SOCKET").is_some();
        Notifier { every, next: Instant::now() + every, is_there }
    }

    /// Waits until [`Notifier::beat`] is due; cancel-safe.
    pub(super) async fn due(&self) {
        match self.is_there {
            true => tokio::time::sleep_until(self.next).await,
            false => std::future::pending().await,
        }
    }

    /// The gateway serves; said again after the store was opened anew, which changes nothing.
    pub(super) fn ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// The event loop turns, and this is how the gateway is.
    pub(super) fn beat(&mut self, status: &str) {
        self.next = Instant::now() + self.every;
        self.tell(&[NotifyState::Watchdog, NotifyState::Status(status)]);
    }

    /// The gateway is about to end; it is killed if it does not.
    pub(super) fn stopping(&self) {
        self.tell(&[NotifyState::Stopping, NotifyState::Status("ending what is under way")]);
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(states) {
            log::debug!(error:%; "the service manager could not be told: {error}");
        }
    }
}
