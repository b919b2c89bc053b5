//! The way of the demo's documents: sealing, meeting the kiosk, uploading, each followed in the ledger.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::ledger::Ledger;
use super::processes::{Heard, bytes_read};
use super::progress::{Count, Progress, Step};
use super::stage::{COLLECTION, Stage};
use crate::admin::{Answer, Request, Status};

/// How often the gateway and the inbox are looked at.
const LOOK: Duration = Duration::from_millis(200);
/// When nothing has moved for so long, what the gateway complains of is shown.
const SOON: Duration = Duration::from_secs(5);

/// Documents on their way, shown as they go.
pub(super) struct Way<'a> {
    pub(super) stage: &'a mut Stage,
    pub(super) ledger: &'a mut Ledger,
    pub(super) progress: &'a Progress,
}

impl Way<'_> {
    /// Seals every file on the phone. Those that it could not read are noted.
    pub(super) fn seal(&mut self) -> anyhow::Result<()> {
        let Way { stage, ledger, progress } = self;
        let folder = ledger.folder.clone();
        let mut list = Vec::new();
        for entry in &ledger.entries {
            list.extend(folder.join(&entry.path).as_os_str().as_bytes());
            list.push(0);
        }
        let args = ["add", "--collection", COLLECTION, "--files-from", "-", "--base"].map(OsStr::new);
        let args = [&args[..], &[folder.as_os_str()]].concat();
        let home = stage.work.join("phone");
        stage
            .phone(&args, Some(list), |heard| match heard {
                Heard::Object(event) => {
                    ledger.phone_says(event);
                    progress.set(Step::Sealed, ledger.count(Step::Sealed));
                }
                Heard::Nothing(process) => {
                    let Count { documents, bytes } = ledger.count(Step::Sealed);
                    let bytes = bytes + bytes_read(process, &home).unwrap_or(0);
                    progress.set(Step::Sealed, Count { documents, bytes: bytes.min(ledger.total().bytes) });
                }
            })
            .and_then(|ended| match ended.last["event"].as_str() {
                // That it could seal none of them is no reason to end.
                Some("report") => Ok(()),
                _ => ended.done().map(|_| ()),
            })?;
        progress.set(Step::Sealed, ledger.count(Step::Sealed));
        progress.expect(ledger.total());
        Ok(())
    }

    /// The phone meets the gateway.
    pub(super) fn meet(&mut self) -> anyhow::Result<()> {
        let Way { stage, ledger, progress } = self;
        let ended = stage.phone(&["sync"], None, |heard| {
            if let Heard::Object(event) = heard
                && let Some(step) = ledger.phone_says(event)
            {
                progress.set(step, ledger.count(step));
            }
        })?;
        stage.count_link_bytes(&ended.last);
        ended.done().map(|_| ())
    }

    /// Waits until the gateway has nothing left to upload, or only what the destination does not take, or until the
    /// backhaul closes. Gives up when nothing moves for `patience`.
    pub(super) fn wait_for_uploads(&mut self, patience: Duration) -> anyhow::Result<()> {
        let mut moved = (Instant::now(), (0, 0, 0));
        let mut trouble = String::new();
        loop {
            let at_server = self.stage.at_server();
            let status = self.stage.status()?;
            let place = self.show(at_server, &status);
            if status.waiting == 0 || !self.stage.backhaul.is_open() || self.waits_in_vain(&status)? {
                return Ok(());
            }
            // Some bytes of a request that fails again and again are no movement.
            if (place.0, place.1) > (moved.1.0, moved.1.1) || place.2 > moved.1.2 {
                moved = (Instant::now(), place);
            }
            let said = status.destinations.iter().find_map(|one| one.trouble.clone()).unwrap_or_default();
            // What it says at first is of the time when the backhaul was cut.
            if said != trouble && moved.0.elapsed() > SOON {
                self.progress.say(&format!("the gateway says: {said}; it goes on trying"));
                trouble = said;
            }
            if moved.0.elapsed() > patience {
                let seconds = patience.as_secs();
                let why = if trouble.is_empty() { "it does not say why, see gateway.log" } else { &trouble };
                bail!(
                    "{} documents wait at the kiosk, and nothing has moved for {seconds} s: {why}",
                    status.waiting
                );
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Shows what the gateway has uploaded and what is at the server. Returns how far it is: documents with a verdict,
    /// documents uploaded, bytes of the request under way.
    fn show(&self, at_server: Count, status: &Status) -> (u64, u64, u64) {
        let Way { ledger, progress, .. } = self;
        let sum = |count: fn(&crate::admin::DestinationStatus) -> u64| {
            status.destinations.iter().map(count).sum::<u64>()
        };
        let under_way = sum(|one| one.progress.map_or(0, |(sent, _)| sent));
        let documents = sum(|one| one.uploaded);
        let uploaded = Count {
            documents: usize::try_from(documents).unwrap_or(usize::MAX),
            bytes: ledger.of_sealed(sum(|one| one.uploaded_bytes) + under_way),
        };
        // What is at the server has been uploaded, though the gateway may not have heard of it yet.
        let sealed = ledger.count(Step::Sealed);
        let uploaded = Count {
            documents: uploaded.documents.max(at_server.documents).min(sealed.documents),
            bytes: uploaded.bytes.max(at_server.bytes).min(sealed.bytes),
        };
        progress.set(Step::Uploaded, if uploaded.documents == sealed.documents { sealed } else { uploaded });
        progress.set(Step::AtServer, at_server);
        (status.opened + status.held + status.rejected, documents, under_way)
    }

    /// Whether all that waits is what the destination does not take. Notes why.
    fn waits_in_vain(&mut self, status: &Status) -> anyhow::Result<bool> {
        let set_aside: BTreeMap<String, &String> = status
            .destinations
            .iter()
            .flat_map(|one| &one.set_aside)
            .map(|(id, cause)| (id.to_string(), cause))
            .collect();
        for (id, cause) in &set_aside {
            self.ledger.note(id, &format!("it waits at the kiosk: {cause}"));
        }
        let mut after = None;
        while !set_aside.is_empty() {
            let Answer::Documents { documents, next } =
                self.stage.ask(&Request::Documents { waiting: true, after })?
            else {
                bail!("the gateway gave no list of its documents")
            };
            if documents.iter().any(|document| !set_aside.contains_key(&document.id.to_string())) {
                return Ok(false);
            }
            if next.is_none() {
                return Ok(true);
            }
            after = next;
        }
        Ok(false)
    }
}
