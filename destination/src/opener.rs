//! Opening held documents where the decryption key is, and issuing their last verdicts.

use waypost_openpgp::SecretKey;
use waypost_protocol::confirmation::Verdict;

use crate::clock::now;
use crate::home::Home;
use crate::intake::{Intake, IntakeError};
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
            let found = intake.content().held(&held.id);
            let outcome = found.and_then(|(mut bytes, length)| judge.judge(&mut bytes, length));
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
        resolve(&intake, resolved, &mut report)?;
    }
    Ok(report)
}

/// In the order of [`crate::intake`]: flushed, committed, put in its place, signed; then the sealed bytes go.
fn resolve(
    intake: &Intake,
    resolved: Vec<(Held, NewDocument)>,
    report: &mut Opened,
) -> Result<(), IntakeError> {
    let content = intake.content();
    let files: Vec<_> = resolved.iter().map(|(_, document)| document.staged.as_deref()).collect();
    let faults = content.keep(&files);
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
    let moved = intake.store().resolve(&durable, intake.notifies(), now())?;
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
            (false, Some(file)) => content.discard(file),
            (false, None) => {}
        }
    }
    let placed = intake.place(&staged);
    intake.store().note_placed(&placed)?;
    intake.confirm(&rows, None)?;
    for (_, document) in durable.iter().filter(|(seq, _)| rows.contains(seq)) {
        content.forget_held(&document.id);
    }
    Ok(())
}
