//! Staying in the background: meets known kiosks when they appear, wakes up when documents are added, sleeps otherwise.

use std::io;
use std::os::unix::net::UnixDatagram as StdDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixDatagram;
use waypost_store::Filter;

use crate::Phone;
use crate::contact::{SyncError, SyncOptions};
use crate::report::{Ending, SyncReport};

/// The first pause after something has changed; each further one is twice as long.
const SHORTEST: Duration = Duration::from_secs(2);
/// The longest pause while documents wait.
const LONGEST: Duration = Duration::from_secs(60);
/// The longest pause while nothing waits.
const LONGEST_IDLE: Duration = Duration::from_secs(600);
/// After a contact that moved something the phone stays so long, in case the kiosk has news.
const STAY: Duration = Duration::from_secs(5);

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
    /// `contact` is told each contact that was one.
    pub async fn attend(
        &self,
        bell: Option<&Bell>,
        contact: &mut dyn FnMut(&SyncReport),
    ) -> Result<(), SyncError> {
        let mut pause = SHORTEST;
        loop {
            let reports = self.round().await?;
            // Refusals alone are no news: they are repeated at each contact.
            let moved =
                reports.iter().any(|report| report.transferred + report.carried + report.confirmations > 0);
            reports.iter().for_each(&mut *contact);
            if let Err(error) = self.tidy() {
                log::warn!("{error}");
            }
            let longest = if self.has_waiting()? { LONGEST } else { LONGEST_IDLE };
            pause = if moved { SHORTEST } else { (pause * 2).min(longest) };
            let rung = async {
                match bell {
                    Some(bell) => bell.heard().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = rung => pause = SHORTEST / 2,
            }
        }
    }

    /// Every known kiosk that is there; where none is, the destinations themselves.
    async fn round(&self) -> Result<Vec<SyncReport>, SyncError> {
        let options = SyncOptions { wait: STAY, ..SyncOptions::default() };
        let mut reports = self.sync_known(true, options, &mut |_| {}).await?;
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
