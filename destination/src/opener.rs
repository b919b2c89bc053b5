//! Opening held documents where the decryption key is, and issuing their last verdicts.

use std::fs::File;
use std::io;

use waypost_openpgp::SecretKey;
use waypost_protocol::confirmation::Verdict;

use crate::durable::sync_folder;
use crate::home::Home;
use crate::intake::{Intake, IntakeError, sync_files};
use crate::judge::Outcome;
use crate::store::{Held, NewDocument, Staged};

/// Documents that share one commit.
const PAGE: u32 = 64;

/// What became of the held documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Opened {
    /// Now in the inbox.
    pub opened: u64,
    /// Rejected.
    pub rejected: u64,
    /// Could not be read or written; they stay held.
    pub failed: u64,
}

/// Opens what is held with `key`; the home's own key signs. The server may be running.
pub fn open_held(home: &Home, key: SecretKey) -> Result<Opened, IntakeError> {
    let intake = Intake::open(home)?;
    let judge = home.judge(key);
    let mut report = Opened::default();
    let mut after = 0;
    loop {
        let page = intake.store().held(after, PAGE)?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        let mut resolved = Vec::new();
        for held in page {
            let outcome =
                open_file(home, &held).and_then(|(mut file, length)| judge.judge(&mut file, length));
            match outcome {
                Ok(Outcome::Judged(document)) if document.id == held.id => resolved.push((held, document)),
                Ok(Outcome::Judged(document)) => {
                    document.staged.iter().for_each(|staged| judge.discard(staged));
                    log::error!("held document {}: its file has other bytes", held.id);
                    report.failed += 1;
                }
                Ok(Outcome::Failed(failed)) => {
                    log::error!("held document {}: {}", held.id, failed.detail);
                    report.failed += 1;
                }
                Err(error) => {
                    log::error!("held document {}: {error}", held.id);
                    report.failed += 1;
                }
            }
        }
        resolve(home, &intake, resolved, &mut report)?;
    }
    Ok(report)
}

fn open_file(home: &Home, held: &Held) -> io::Result<(File, u64)> {
    let file = File::open(home.held_file(&held.id))?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

/// In the order of [`crate::intake`]: flushed, committed, put in its place, signed; then the sealed bytes go.
fn resolve(
    home: &Home,
    intake: &Intake,
    resolved: Vec<(Held, NewDocument)>,
    report: &mut Opened,
) -> Result<(), IntakeError> {
    let folder = home.temporary_folder();
    let files: Vec<_> = resolved.iter().map(|(_, document)| document.staged.as_deref()).collect();
    let faults = sync_files(&folder, &files);
    sync_folder(&folder).map_err(|error| IntakeError::File { path: folder.clone(), error })?;
    let mut durable = Vec::new();
    for ((held, document), fault) in resolved.into_iter().zip(faults) {
        match fault {
            None => durable.push((held.seq, document)),
            Some(error) => {
                log::error!("held document {}: {error}", held.id);
                report.failed += 1;
            }
        }
    }
    let moved = intake.store().resolve(&durable)?;
    let mut staged = Vec::new();
    let mut rows = Vec::new();
    for ((seq, document), moved) in durable.iter().zip(moved) {
        match (moved, &document.staged) {
            (true, file) => {
                rows.push(*seq);
                match document.verdict {
                    Verdict::Opened => report.opened += 1,
                    _ => report.rejected += 1,
                }
                staged.extend(file.as_ref().map(|file| Staged {
                    seq: *seq,
                    id: document.id,
                    verdict: document.verdict,
                    collection: document.collection.clone().unwrap_or_default(),
                    name: document.name.clone(),
                    staged: file.clone(),
                }));
            }
            // Another process was faster.
            (false, Some(file)) => drop(std::fs::remove_file(folder.join(file))),
            (false, None) => {}
        }
    }
    let placed = intake.place(&staged);
    intake.store().note_placed(&placed)?;
    intake.confirm(&rows, None)?;
    for (_, document) in durable.iter().filter(|(seq, _)| rows.contains(seq)) {
        let _ = std::fs::remove_file(home.held_file(&document.id));
    }
    Ok(())
}
