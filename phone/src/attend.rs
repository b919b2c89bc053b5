//! Staying in the background: meets known kiosks when they appear, wakes up when documents are added, sleeps otherwise.

use std::io;
use std::os::unix::net::UnixDatagram as StdDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixDatagram;
use waypost_protocol::ids::PeerKey;
use waypost_store::{Filter, PeerClass};

use crate::Phone;
use crate::bluetooth::{Air, GLANCE, Who};
use crate::contact::{SyncError, SyncOptions};
use crate::gateway::Role;
use crate::moving::Wifi;
use crate::report::{Ending, SyncReport};
use crate::wifi_direct::WIFI_LOOK;

/// The first pause after something has changed; each further one is twice as long.
const SHORTEST: Duration = Duration::from_secs(2);
/// The longest pause while documents wait for somebody to hand them to: a kiosk in passing is not missed.
const LONGEST_AWAY: Duration = Duration::from_secs(60);
/// The longest pause otherwise, and so the longest that a confirmation is late.
const LONGEST: Duration = Duration::from_secs(600);
/// A contact for handing documents over lasts so much longer, in case the destination answers at once.
const STAY: Duration = Duration::from_secs(5);

/// By what kiosks are looked for besides known addresses and the local network.
#[derive(Debug, Clone, Default)]
pub struct Means {
    /// The Bluetooth adapter, by its name or address, or `best`.
    pub air: Option<String>,
    /// Wi-Fi Direct, and moving from Bluetooth to it.
    pub wifi: Option<Wifi>,
}

/// How long to sleep until the next look.
struct Schedule {
    pause: Duration,
}

/// What a look around has shown.
#[derive(Debug, Clone, Copy)]
struct Look {
    /// Something was handed over or came.
    moved: bool,
    /// Somebody answered, and will answer the same in a moment.
    settled: bool,
    /// Documents are here that no kiosk has.
    ready: bool,
    /// A kiosk serves others, and has said when to come again: earlier it would say the same, and later the turn is
    /// somebody else's.
    again: Option<Duration>,
}

impl Schedule {
    fn new() -> Self {
        Schedule { pause: SHORTEST }
    }

    /// Somebody added documents: now, and from there on as at the beginning.
    fn restart(&mut self) {
        self.pause = SHORTEST / 2;
    }

    fn after(&mut self, look: Look) -> Duration {
        let longest = if look.ready && !look.settled { LONGEST_AWAY } else { LONGEST };
        self.pause = if look.moved { SHORTEST } else { (self.pause * 2).min(longest) };
        look.again.unwrap_or(self.pause)
    }
}

/// Hears that documents were added by other processes of the same phone.
pub struct Bell {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Bell {
    /// Listens in the phone's folder; an error of kind `AddrInUse` says that another process does.
    pub fn hang(phone: &Phone) -> io::Result<Self> {
        let path = bell_path(phone.home());
        if StdDatagram::unbound()?.connect(&path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Bell { socket: UnixDatagram::bind(&path)?, path })
    }

    async fn heard(&self) {
        // An error cannot be told from a ring, and costs one contact more.
        let _ = self.socket.recv(&mut [0; 1]).await;
        while self.socket.try_recv(&mut [0; 1]).is_ok() {}
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        // A bell that stays behind is found dead by the next process.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn bell_path(home: &Path) -> PathBuf {
    home.join("run.sock")
}

fn ring_at(path: &Path) -> io::Result<()> {
    let socket = StdDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to(&[1], path).map(|_| ())
}

impl Phone {
    /// Tells a process that attends this phone, if there is one, that there is something new.
    pub fn ring(&self) {
        // Nobody there: nobody needs to know.
        let _ = ring_at(&bell_path(self.home()));
    }

    /// Meets known kiosks whenever they are there, and destinations over the internet when no kiosk is, for ever.
    /// `contact` is told each contact that was one. `means`: by what else kiosks are looked for.
    pub async fn attend(
        &self,
        bell: Option<&Bell>,
        means: &Means,
        contact: &mut dyn FnMut(&SyncReport),
    ) -> Result<(), SyncError> {
        let mut schedule = Schedule::new();
        loop {
            let reports = self.round(means).await?;
            // Refusals alone are no news: they are repeated at each contact.
            let moved = reports.iter().any(SyncReport::moved);
            let settled = !reports.is_empty() && !reports.iter().any(SyncReport::is_passing);
            reports.iter().for_each(&mut *contact);
            if let Err(error) = self.tidy() {
                log::warn!("{error}");
            }
            let again = reports.iter().filter_map(SyncReport::comes_again).min();
            let pause = schedule.after(Look { moved, settled, ready: self.has_ready()?, again });
            let rung = async {
                match bell {
                    Some(bell) => bell.heard().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = rung => schedule.restart(),
            }
        }
    }

    /// Every known kiosk that is there; where none is, the destinations themselves.
    async fn round(&self, means: &Means) -> Result<Vec<SyncReport>, SyncError> {
        // Confirmations alone are worth a look, but not a link that is held open.
        let wait = if self.has_ready()? { STAY } else { Duration::ZERO };
        let options = SyncOptions { wait, wifi: means.wifi.as_ref(), ..SyncOptions::default() };
        let mut reports = self.sync_known(true, options, &mut |_| {}).await?;
        let is_met = |reports: &[SyncReport]| reports.iter().any(|report| report.key.is_some());
        if let (Some(adapter), false) = (&means.air, is_met(&reports)) {
            reports.push(self.glance(adapter, options).await?);
        }
        // Looking takes the radio for many seconds: only where there is something to hand over.
        if let (Some(wifi), false, true) = (&means.wifi, is_met(&reports), self.has_ready()?) {
            reports.push(self.look_by_wifi(wifi, options).await?);
        }
        reports.retain(|report| report.ending != Ending::NotReached);
        if reports.iter().any(|report| report.key.is_some()) || !self.has_waiting()? {
            return Ok(reports);
        }
        for destination in self.destinations()?.into_iter().filter(|one| one.url.is_some()) {
            let phone = self.clone();
            let delivery = tokio::task::spawn_blocking(move || phone.deliver(&destination, &mut |_| {}));
            match delivery.await {
                Ok(report) => reports.push(report?),
                Err(error) => log::error!("{error}"),
            }
        }
        reports.retain(|report| report.ending != Ending::NotReached);
        Ok(reports)
    }

    /// Listens for a known kiosk on Bluetooth for a moment, and meets it.
    async fn glance(&self, adapter: &str, options: SyncOptions<'_>) -> Result<SyncReport, SyncError> {
        let mut kiosks = self.gateways()?;
        kiosks.retain(|gateway| gateway.role == Role::Kiosk);
        if kiosks.is_empty() {
            return Ok(SyncReport::not_begun("", Ending::NotReached, ""));
        }
        match Air::open(adapter, false).await {
            Ok(air) => self.sync_over_air(&air, Who::Any(&kiosks), GLANCE, options, &mut |_| {}).await,
            Err(error) => {
                log::info!("{error}");
                Ok(SyncReport::not_begun("", Ending::NotReached, error.to_string()))
            }
        }
    }

    /// Looks for a known kiosk by Wi-Fi Direct, and meets it.
    async fn look_by_wifi(&self, wifi: &Wifi, options: SyncOptions<'_>) -> Result<SyncReport, SyncError> {
        let mut kiosks = self.gateways()?;
        kiosks.retain(|gateway| gateway.role == Role::Kiosk);
        if kiosks.is_empty() || matches!(wifi, Wifi::Joined) {
            return Ok(SyncReport::not_begun("", Ending::NotReached, ""));
        }
        self.sync_over_wifi(wifi, Who::Any(&kiosks), None, WIFI_LOOK, options, &mut |_| {}).await
    }

    /// Whether documents are here that no kiosk has: those that another phone carries may come by it or by this one.
    fn has_ready(&self) -> Result<bool, SyncError> {
        let phones: Vec<PeerKey> = self
            .store()
            .peers()?
            .iter()
            .filter(|peer| peer.class == PeerClass::Paired)
            .map(|peer| peer.key)
            .collect();
        let mut any = false;
        self.each_document(Filter::Waiting, |entry| {
            any |= entry.held_by.iter().all(|peer| phones.contains(peer));
        })?;
        Ok(any)
    }

    fn has_waiting(&self) -> Result<bool, SyncError> {
        Ok(!self.store().documents(&Filter::Waiting, None, 1)?.is_empty())
    }

    /// Clears away what is over: bodies of other phones' documents that have their verdict, expired documents.
    pub fn tidy(&self) -> Result<(), SyncError> {
        let mut done = Vec::new();
        self.each_document(Filter::Confirmed, |entry| {
            if entry.depositor.is_some() && entry.has_body {
                done.push(waypost_store::Change::FreeBody { id: entry.description.id });
            }
        })?;
        for outcome in self.store().apply(done) {
            if let Err(error) = outcome {
                log::warn!("{error}");
            }
        }
        while self.store().sweep(1_000)?.more {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Look = Look { moved: false, settled: true, ready: false, again: None };

    fn pauses(schedule: &mut Schedule, look: Look, count: usize) -> Vec<u64> {
        (0..count).map(|_| schedule.after(look).as_secs()).collect()
    }

    #[test]
    fn where_nothing_changes_looks_become_rarer_until_one_in_ten_minutes() {
        let mut schedule = Schedule::new();
        assert_eq!(
            pauses(&mut schedule, QUIET, 10),
            [4, 8, 16, 32, 64, 128, 256, 512, 600, 600],
            "only confirmations are awaited"
        );
        let refused = Look { ready: true, ..QUIET };
        assert_eq!(
            pauses(&mut schedule, refused, 2),
            [600, 600],
            "the kiosk that is there takes no more of it"
        );
        let day = |look: Look| {
            let (mut schedule, mut slept, mut looks) = (Schedule::new(), 0, 0);
            while slept < 86_400 {
                slept += schedule.after(look).as_secs();
                looks += 1;
            }
            looks
        };
        assert!(day(QUIET) < 160, "{} contacts in a day", day(QUIET));
    }

    #[test]
    fn a_kiosk_in_passing_is_not_missed_while_documents_wait_for_one() {
        let away = Look { settled: false, ready: true, ..QUIET };
        let mut schedule = Schedule::new();
        assert_eq!(pauses(&mut schedule, away, 7), [4, 8, 16, 32, 60, 60, 60]);
        let mut idle = Schedule { pause: LONGEST };
        assert_eq!(idle.after(away), LONGEST_AWAY);
    }

    #[test]
    fn a_kiosk_that_serves_others_is_met_again_when_it_says() {
        let mut schedule = Schedule::new();
        let again = Some(Duration::from_secs(20));
        let waits = Look { moved: true, settled: false, ready: true, again };
        assert_eq!(pauses(&mut schedule, waits, 3), [20, 20, 20]);
        assert_eq!(schedule.after(Look { again: None, ..waits }), SHORTEST);
    }

    #[test]
    fn what_moves_and_who_rings_bring_the_next_look_near() {
        let mut schedule = Schedule { pause: LONGEST };
        assert_eq!(schedule.after(Look { moved: true, ..QUIET }), SHORTEST);
        schedule.pause = LONGEST;
        schedule.restart();
        assert_eq!(schedule.after(QUIET), SHORTEST);
    }
}
