//! The demo's end: what arrived is compared with what was sent, and said in words or as one JSON object.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use waypost_config::printable;

use super::files::{is_readable, same, scan};
use super::ledger::{Entry, Ledger};
use super::paste;
use super::progress::{Count, Step};
use super::stage::{certificate, confirmations, inbox};
use crate::cli::output;

/// What the demo did and measured, as far as it came.
#[derive(Default)]
pub(super) struct Outcome {
    /// Where everything is.
    pub(super) work: Option<PathBuf>,
    pub(super) ledger: Ledger,
    /// What cannot be sent, and why.
    pub(super) skipped: Vec<(PathBuf, String)>,
    /// Documents that are still on the phone, where it can say.
    pub(super) left: Option<usize>,
    /// Frame bytes between phone and kiosk, both ways.
    pub(super) link_bytes: u64,
    /// Bytes over the backhaul, both ways.
    pub(super) upload_bytes: u64,
    /// Windows of the backhaul that closed in mid-upload: documents at the server by then, bytes over the backhaul.
    pub(super) windows: Vec<(usize, u64)>,
    pub(super) times: Times,
    /// What ended it early.
    pub(super) error: Option<anyhow::Error>,
}

/// How long each part of the way took.
#[derive(Debug, Default)]
pub(super) struct Times {
    pub(super) sealing: Duration,
    pub(super) to_kiosk: Duration,
    pub(super) upload: Duration,
    pub(super) confirmations: Duration,
    pub(super) total: Duration,
}

/// Files with the reason why they were passed over or did not arrive.
type Reasons = Vec<(PathBuf, String)>;

/// Compares, prints, and gives the exit status.
pub(super) fn report(mut outcome: Outcome, json: bool) -> anyhow::Result<ExitCode> {
    let Some(work) = outcome.work.clone() else { return nothing_done(outcome.error, json) };
    let error = outcome.error.as_ref().map(output::words);
    let mut failed = Reasons::new();
    for entry in &outcome.ledger.entries {
        if let Some(reason) = &entry.skipped {
            // What can be read should have been sealed: the phone's disk may be full.
            let unread = !is_readable(&outcome.ledger.folder.join(&entry.path));
            if unread { &mut outcome.skipped } else { &mut failed }
                .push((entry.path.clone(), reason.clone()));
        }
    }
    let (delivered, not_delivered) = compare(&outcome.ledger, &inbox(&work), error.as_deref());
    failed.extend(not_delivered);
    failed.sort();
    outcome.skipped.sort();
    let all_well = failed.is_empty() && outcome.error.is_none() && outcome.left == Some(0);
    match json {
        true => output::json(&object(&outcome, &work, delivered, &failed, error))?,
        false => words(&outcome, &work, delivered, &failed),
    }
    if let Some(error) = &outcome.error {
        output::error(error, false);
    }
    Ok(match (all_well, outcome.skipped.is_empty()) {
        (true, true) => ExitCode::SUCCESS,
        (true, false) => ExitCode::from(3),
        (false, _) => ExitCode::FAILURE,
    })
}

/// Where not even the folder could be made that everything is kept in.
fn nothing_done(error: Option<anyhow::Error>, json: bool) -> anyhow::Result<ExitCode> {
    let error = error.unwrap_or_else(|| anyhow::anyhow!("nothing was done"));
    if json {
        let outcome = Outcome::default();
        let said = Some(output::words(&error));
        output::json(&object(&outcome, Path::new(""), Count::default(), &Reasons::new(), said))?;
    }
    // With JSON too it is said on standard error: the object is the last line.
    output::error(&error, false);
    Ok(ExitCode::FAILURE)
}

/// What arrived byte for byte, and which documents did not, or are not proven to have.
fn compare(ledger: &Ledger, inbox: &Path, error: Option<&str>) -> (Count, Reasons) {
    let (mut delivered, mut failed) = (Count::default(), Reasons::new());
    for entry in ledger.entries.iter().filter(|entry| entry.skipped.is_none()) {
        let cause = entry.cause.as_deref().or(error);
        let reason = match same(&ledger.folder.join(&entry.path), &inbox.join(&entry.path)) {
            Ok(true) => {
                delivered.documents += 1;
                delivered.bytes += entry.bytes;
                match entry.has_reached(Step::Deleted) {
                    true => continue,
                    false => format!(
                        "arrived, but its copy is still on the phone: {}",
                        cause.unwrap_or("unconfirmed")
                    ),
                }
            }
            Ok(false) => "arrived with other bytes than it was sent with".to_owned(),
            Err(missing) => cause.map_or_else(|| not_there(entry, &missing), str::to_owned),
        };
        failed.push((entry.path.clone(), reason));
    }
    (delivered, failed)
}

fn not_there(entry: &Entry, error: &std::io::Error) -> String {
    let last = Step::ALL.iter().rev().find(|(step, _)| entry.has_reached(*step));
    let last = last.map_or("never sealed", |(_, name)| name);
    format!("did not arrive ({last}): {error}")
}

fn object(
    outcome: &Outcome,
    work: &Path,
    delivered: Count,
    failed: &Reasons,
    error: Option<String>,
) -> Value {
    let Outcome { ledger, skipped, left, link_bytes, upload_bytes, windows, times, .. } = outcome;
    let window = |(documents, bytes): &(usize, u64)| json!({ "documents": documents, "upload_bytes": bytes });
    let seconds = |time: &Duration| (time.as_secs_f64() * 1000.0).round() / 1000.0;
    let list = |reasons: &Reasons| -> Vec<Value> {
        let one =
            |(path, reason): &(PathBuf, String)| json!({ "path": path.to_string_lossy(), "reason": reason });
        reasons.iter().map(one).collect()
    };
    let place = |path: PathBuf| (!work.as_os_str().is_empty()).then(|| path.to_string_lossy().into_owned());
    json!({
        "documents": ledger.count(Step::Sealed).documents,
        "delivered": delivered.documents,
        "skipped": list(skipped),
        "failed": list(failed),
        "left_on_phone": left,
        "document_bytes": delivered.bytes,
        "link_bytes": link_bytes,
        "upload_bytes": upload_bytes,
        "closed_windows": windows.iter().map(window).collect::<Vec<_>>(),
        "inbox": place(inbox(work)),
        "confirmations": place(confirmations(work)),
        "destination_certificate": place(certificate(work)),
        "times": {
            "sealing": seconds(&times.sealing),
            "to_kiosk": seconds(&times.to_kiosk),
            "upload": seconds(&times.upload),
            "confirmations": seconds(&times.confirmations),
        },
        "seconds": seconds(&times.total),
        "error": error,
    })
}

fn words(outcome: &Outcome, work: &Path, delivered: Count, failed: &Reasons) {
    let Outcome { ledger, skipped, left, link_bytes, upload_bytes, windows, times, .. } = outcome;
    output::line("");
    let sealed = ledger.count(Step::Sealed).documents;
    let content = output::bytes(delivered.bytes);
    output::line(&format!(
        "{} of {sealed} documents arrived byte for byte, {content} of content",
        delivered.documents
    ));
    output::line(&format!(
        "{} over the link to the phone, {} over the backhaul in {}",
        output::bytes(*link_bytes),
        output::bytes(*upload_bytes),
        if windows.is_empty() { "one window".to_owned() } else { format!("{} windows", windows.len() + 1) }
    ));
    let Times { sealing, to_kiosk, upload, confirmations: confirming, total } = times;
    output::line(&format!(
        "sealing {:.1} s, to the kiosk {:.1} s, upload {:.1} s, confirmations {:.1} s; {:.1} s in all",
        sealing.as_secs_f64(),
        to_kiosk.as_secs_f64(),
        upload.as_secs_f64(),
        confirming.as_secs_f64(),
        total.as_secs_f64()
    ));
    if let Some(left) = left {
        output::line(&format!("{left} documents are left on the phone"));
    }
    output::line(&format!("inbox:         {}", inbox(work).display()));
    output::line(&format!("confirmations: {}", confirmations(work).display()));
    for (word, reasons) in [("skipped", skipped), ("FAILED", failed)] {
        for (path, reason) in reasons {
            output::line(&format!("{word}: {}: {}", printable(&path.to_string_lossy()), printable(reason)));
        }
    }
    let folder = confirmations(work);
    let signed =
        scan(&folder).files.into_iter().find(|file| file.extension().is_some_and(|end| end == "txt"));
    if let Some(text) = signed {
        let (text, signature) = (folder.join(&text), folder.join(&text).with_extension("txt.asc"));
        output::line("\nCheck a confirmation yourself:");
        output::line(&format!("  {}", paste::verify(&certificate(work), &text, &signature)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_arrive_or_arrived_different_is_named_with_its_cause() {
        let place = tempfile::tempdir().unwrap();
        let (folder, inbox) = (place.path().join("folder"), place.path().join("inbox"));
        let names = ["well", "other", "absent", "refused", "kept"];
        for at in [&folder, &inbox] {
            std::fs::create_dir(at).unwrap();
            names.iter().for_each(|name| std::fs::write(at.join(name), name).unwrap());
        }
        std::fs::write(inbox.join("other"), "OTHER").unwrap();
        std::fs::remove_file(inbox.join("absent")).unwrap();
        std::fs::remove_file(inbox.join("refused")).unwrap();
        let mut ledger = Ledger::new(&folder, names.map(PathBuf::from).to_vec());
        for name in names {
            ledger.phone_says(&json!({ "event": "added", "id": name, "path": folder.join(name), "size": 9 }));
            if name != "kept" {
                ledger.phone_says(&json!({ "event": "confirmed", "id": name, "verdict": "opened" }));
            }
        }
        ledger.phone_says(&json!({ "event": "refused", "id": "refused", "reason": "too large" }));
        let (delivered, failed) = compare(&ledger, &inbox, None);
        assert_eq!(delivered, Count { documents: 2, bytes: 8 });
        let reason = |name: &str| &failed.iter().find(|(path, _)| path == Path::new(name)).unwrap().1;
        assert_eq!(failed.len(), 4, "{failed:?}");
        assert!(reason("other").contains("other bytes"));
        assert!(reason("absent").contains("did not arrive"));
        assert!(reason("refused").contains("too large"));
        assert!(reason("kept").contains("still on the phone"));
        let (_, failed) = compare(&ledger, &inbox, Some("no room"));
        assert!(failed.iter().any(|(path, why)| path == Path::new("absent") && why == "no room"));
    }
}
